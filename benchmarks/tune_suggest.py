"""What `recipe suggest --measure` is worth: beside the suggestion by rule, and beside TF-IDF with
logistic regression, on rows that no rule of the suggestion was made on.

    python -m benchmarks.tune_suggest rows                 # tables below .noisefold/benchmarks
    python -m benchmarks.tune_suggest recipes NAME --budget 3m
    python -m benchmarks.tune_suggest export NAME          # the validated rows
    .venv-peers/bin/python -m benchmarks.tune_suggest peers NAME
    noisefold compare .noisefold/benchmarks/tune/NAME/grid.yaml --out NAME.md

NAME: `answers` (MedQuAD, the type of question that an answer is to; 13 types), `sources` (MedQuAD,
the source that a question is from; 8 of them) and `speakers` (Tiny Shakespeare, who speaks; 10). Of
MedQuAD's train split the first 4,000 rows that are kept; its own valid and test splits. Of the
speeches every fifth is a test row, and the contract draws the valid split.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.peers.data import HOME

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FOLDER = HOME / "tune"
NAMES = ("answers", "sources", "speakers")
TRAINED, RARE, SPEAKERS = 4_000, 150, 10
Pairs = list[tuple[str, str]]


def rows() -> None:
    """Write `train.csv`, `valid.csv` and `test.csv` of each, columns text and label."""
    splits = {split: list(_medquad(split)) for split in ("train", "valid", "test")}
    for name, text, label in (
        ("answers", "answer", "question_type"),
        ("sources", "question", "source"),
    ):
        counts = Counter(row[label] for row in splits["train"])
        known = {one for one, count in counts.items() if count >= RARE and one != "CDC"}
        for split, found in splits.items():
            pairs = [(row[text], row[label]) for row in found if row[label] in known]
            _write(name, split, pairs[:: max(1, len(pairs) // TRAINED)][:TRAINED])
    speeches = list(_speeches())
    for split, kept in (("train", lambda at: at % 5 > 0), ("test", lambda at: at % 5 == 0)):
        _write("speakers", split, [one for at, one in enumerate(speeches) if kept(at)])


def _medquad(split: str) -> Iterator[dict[str, str]]:
    path = DATA / "medquad" / f"{split}.csv"
    packed = path.with_name(f"{path.name}.gz")
    text = (
        path.read_text("utf-8")
        if path.exists()
        else gzip.decompress(packed.read_bytes()).decode("utf-8")
    )
    yield from csv.DictReader(io.StringIO(text, newline=""))


def _speeches() -> Iterator[tuple[str, str]]:
    """What the ten who speak most say, in the order of the plays."""
    blocks = (DATA / "tiny_shakespeare" / "input.txt").read_text().strip().split("\n\n")
    pairs = [block.split(":\n", 1) for block in blocks]
    said = [(pair[1].replace("\n", " "), pair[0]) for pair in pairs if len(pair) == 2]
    known = dict(Counter(who for _, who in said).most_common(SPEAKERS))
    yield from (one for one in said if one[1] in known)


def _write(name: str, split: str, pairs: Pairs) -> None:
    path = FOLDER / name / f"{split}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        writer.writerows(pairs)
    print(name, split, len(pairs))


def recipes(name: str, budget: str) -> None:
    """The suggestion, the measured one, and the grid that compares them."""
    folder = FOLDER / name
    files = [part for split in ("train", "valid", "test") for part in _option(folder, split)]
    for file, more in (("suggested.yaml", []), ("measured.yaml", ["--measure", budget])):
        (folder / file).unlink(missing_ok=True)
        command = ["recipe", "suggest", *files, "--name", name, *more, "-o", str(folder / file)]
        subprocess.run([sys.executable, "-m", "flows.cli.main", *command], check=True)
    suggested, measured = (
        yaml.safe_load((folder / file).read_text()) for file in ("suggested.yaml", "measured.yaml")
    )
    sections = ("task", "tokenizer", "window", "model", "training")
    change = {one: measured[one] for one in sections if measured.get(one) != suggested.get(one)}
    grid = {
        "name": f"tune-{name}",
        "recipe": "suggested.yaml",
        "seeds": [0, 1, 2],
        "variants": {"suggested": {}, "measured": change},
        "predictions": {"TF-IDF + LR": "tfidf-*.parquet", "with characters": "both-*.parquet"},
        "baseline": "TF-IDF + LR",
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))


def _option(folder: Path, split: str) -> list[str]:
    path = folder / f"{split}.csv"
    return [f"--{split}", str(path)] if path.exists() else []


def peers(name: str) -> None:
    """TF-IDF with logistic regression, its C and features chosen on the valid split."""
    from benchmarks.peers.data import Facts, Search, read_corpus, write_predictions
    from benchmarks.peers.tfidf import fit, fit_both

    folder = FOLDER / name
    corpus = read_corpus(name, folder / "corpus.parquet")
    for peer, fitting in (("tfidf", fit), ("both", fit_both)):
        found = fitting(corpus, 0)
        write_predictions(
            folder / f"{peer}-0.parquet",
            corpus.test.ids,
            found.log_proba(corpus.test.texts),
            corpus.labels,
            Facts(found.parameters, found.bytes, found.cpu_seconds_train, 0.0, found.chosen),
            Search(0.0, {}),
        )
        print(name, peer, found.chosen, flush=True)


def export(name: str) -> None:
    """The validated rows of the suggested recipe, as the peers read them."""
    from benchmarks.peers.corpus import export_recipe

    folder = FOLDER / name
    print(name, export_recipe(folder / "suggested.yaml", folder / "corpus.parquet"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("rows", "recipes", "export", "peers"))
    parser.add_argument("names", nargs="*", choices=(*NAMES, []), default=[])
    parser.add_argument("--budget", default="10m")
    asked = parser.parse_args()
    if asked.step == "rows":
        rows()
    for name in asked.names:
        {
            "recipes": lambda one: recipes(one, asked.budget),
            "export": export,
            "peers": peers,
        }[asked.step](name)


if __name__ == "__main__":
    main()
