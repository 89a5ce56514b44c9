"""What the recipes read, made anew for every run in a scratch folder.

    SCRATCH/NAME.yaml            copies, so that the relative paths in them start here
    SCRATCH/rows/DATA/SPLIT.csv  some rows of each file in ../shared/data
    SCRATCH/backbone/            a BERT of random weights and its tokenizer
    SCRATCH/home/                the state of the retrains

Nothing of the data sets is kept in the repository.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "data"

# In the order in which they run: `distilled` learns from what `trec` has registered.
RECIPES = ("sample", "textbook", "trec", "thucnews", "sst2_sparse", "low_rank", "distilled")
TEACHERS = {"distilled": "trec"}
DATA = {
    "trec": "trec",
    "thucnews": "thucnews",
    "sst2_sparse": "sst2",
    "low_rank": "sst2",
    "distilled": "trec",
}
ROWS = {
    "trec": {"train": 1500, "test": 300},
    "thucnews": {"train": 2000, "valid": 400, "test": 400},
    "sst2": {"train": 1500, "valid": 400, "test": 400},
}


def with_teachers(names: list[str]) -> list[str]:
    """These recipes and those they learn from, in the order in which they run."""
    wanted = {*names, *(TEACHERS[name] for name in names if name in TEACHERS)}
    return [name for name in RECIPES if name in wanted]


def absent(name: str, shared: Path = SHARED) -> str | None:
    """Why a recipe cannot run here; None where it can."""
    data = DATA.get(name)
    if data is None:
        return None
    files = [shared / data / f"{split}.csv" for split in ROWS[data]]
    missing = [file for file in files if not file.is_file()]
    return f"../shared/data/{data}/{missing[0].name} is absent" if missing else None


def make_world(scratch: Path, names: list[str]) -> None:
    """Write all that these recipes read."""
    for name in names:
        shutil.copyfile(HERE / f"{name}.yaml", scratch / f"{name}.yaml")
    for data in dict.fromkeys(DATA[name] for name in names if name in DATA):
        for split, count in ROWS[data].items():
            file = scratch / "rows" / data / f"{split}.csv"
            copy_some_rows(SHARED / data / f"{split}.csv", file, count)
    if "low_rank" in names:
        make_backbone(scratch / "backbone", texts_of(scratch / "rows" / "sst2" / "train.csv"))


def copy_some_rows(source: Path, target: Path, count: int) -> None:
    """The header and `count` rows from all over a CSV file, which may be sorted by label."""
    with source.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    chosen = [rows[len(rows) * number // count] for number in range(count)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *chosen])


def texts_of(file: Path) -> list[str]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)]


def make_backbone(folder: Path, texts: Iterable[str]) -> None:
    """A BERT of 2 layers of 32 and its tokenizer, which knows these texts' commonest words.

    Its weights are a function of a seed: nothing is downloaded, and nothing has been learnt.
    """
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    seen = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text.lower()))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(word for word, _ in seen.most_common(1500))]
    known = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, known[name]) for name in ("[CLS]", "[SEP]")],
    )
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
        initializer_range=0.1,  # at BERT's own 0.02 so small a network hardly tells two texts apart
    )
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
