"""What people train for Multi30k, German to English, at the same CPU time as noisefold's.

    .venv/bin/python -m benchmarks.peers.translation marian [--seeds 0,1,2] [--seconds 600]
    .venv/bin/python -m benchmarks.peers.translation table

`marian`: transformers' Marian from a fresh config (3 + 3 layers, 256 wide), joint BPE by
tokenizers, as its Trainer trains one: AdamW, warm-up and a linear decay that ends with the time,
label smoothing, batches of like length, dropout .1, gradients clipped; beam 4 by `generate`.
`plain`: torch's nn.Transformer of the sizes and settings of a tutorial on these pairs
(bentrevett/pytorch-seq2seq, "Attention is All You Need": 3 + 3 layers, 256 wide, Adam at 5e-4
without a schedule, batches of 128, words that are seen twice, greedy), but in mixed case, which is
what is measured, and with words by a rule where it has spaCy's.

One core. CPU seconds are all of training from the texts on: the tokenizer, its encoding and the
import of transformers' Marian with it; no step starts after `--seconds` of them. Decoding comes after, and is told beside. The
weights that are judged are the last ones; `--on valid` is for choosing a rate. `table` has the
figures of each file that lies there.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before torch reads it
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse  # noqa: E402
import csv  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import re  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from dataclasses import asdict, dataclass, replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Protocol  # noqa: E402

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from benchmarks.peers.data import FACTS, SEARCH, Facts, predictions_file  # noqa: E402

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "multi30k_de_en"
RESULTS = Path(__file__).resolve().parents[1] / "results"
NAME = "multi30k"
PAD, BOS, EOS, UNK = range(4)
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
WIDTH, LAYERS, HIDDEN = 256, 3, 512
POOL = 50  # batches' worth of pairs that are sorted by length together
COMMAND = (
    ".venv/bin/python -m benchmarks.peers.translation {peer} --seeds {seed} --seconds {budget:g}"
)


@dataclass(frozen=True)
class Pairs:
    ids: list[str]
    sources: list[str]
    targets: list[str]


def read_pairs(file: Path) -> Pairs:
    """A split, with the ids that noisefold gives its rows."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [*csv.DictReader(lines)]
    ids = [f"{file.name}#{at}" for at in range(1, len(rows) + 1)]
    return Pairs(ids, [row["source"] for row in rows], [row["target"] for row in rows])


# --- what texts become


class Reader(Protocol):
    """Texts of each side as ids from 4 on, and back."""

    sizes: tuple[int, int]
    bytes: int

    def sources(self, texts: Sequence[str]) -> list[list[int]]: ...
    def targets(self, texts: Sequence[str]) -> list[list[int]]: ...
    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]: ...


class Pieces:
    """BPE of both sides together; punctuation stands by itself."""

    def __init__(self, pairs: Pairs, size: int = 8000) -> None:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        self.bpe = Tokenizer(models.BPE(unk_token="<unk>"))
        self.bpe.normalizer = normalizers.NFC()
        cut = [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
        self.bpe.pre_tokenizer = pre_tokenizers.Sequence(cut)
        self.bpe.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
        self.bpe.train_from_iterator([*pairs.sources, *pairs.targets], trainer)
        self.sizes = (self.bpe.get_vocab_size(),) * 2
        self.bytes = len(self.bpe.to_str().encode())

    def sources(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self.bpe.encode_batch([*texts])]

    targets = sources

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return self.bpe.decode_batch([[*one] for one in ids])


class Words:
    """Words and marks of each side that are seen twice; the tutorial's, in mixed case."""

    def __init__(self, pairs: Pairs) -> None:
        self.vocabularies = [self._vocabulary(one) for one in (pairs.sources, pairs.targets)]
        self.sizes = (len(self.vocabularies[0]), len(self.vocabularies[1]))
        self.numbers = [{word: at for at, word in enumerate(one)} for one in self.vocabularies]
        self.bytes = len(json.dumps(self.vocabularies, ensure_ascii=False).encode())

    @staticmethod
    def cut(text: str) -> list[str]:
        return re.findall(r"\w+(?:['’]\w+)?|[^\w\s]", text)

    def _vocabulary(self, texts: Sequence[str]) -> list[str]:
        seen = Counter(word for text in texts for word in self.cut(text))
        return SPECIAL + [word for word, count in seen.most_common() if count > 1]

    def _ids(self, side: int, texts: Sequence[str]) -> list[list[int]]:
        return [[self.numbers[side].get(word, UNK) for word in self.cut(text)] for text in texts]

    def sources(self, texts: Sequence[str]) -> list[list[int]]:
        return self._ids(0, texts)

    def targets(self, texts: Sequence[str]) -> list[list[int]]:
        return self._ids(1, texts)

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Joined as English is printed; what is unknown is left out."""
        words = self.vocabularies[1]
        said = (" ".join(words[at] for at in one if at > UNK) for one in ids)
        return [re.sub(r" ([.,;:!?)%])|(\() | ?(-) ?", r"\1\2\3", one) for one in said]


# --- networks. B pairs, T places, V words


class Network(Protocol):
    def logits(self, source: Tensor, target: Tensor) -> Tensor: ...
    def translate(self, source: Tensor) -> Tensor: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


class Marian(nn.Module):
    def __init__(self, sizes: tuple[int, int]) -> None:
        from transformers import MarianConfig, MarianMTModel

        super().__init__()
        sides = {f"{side}_layers": LAYERS for side in ("encoder", "decoder")}
        sides |= {f"{side}_attention_heads": 4 for side in ("encoder", "decoder")}
        sides |= {f"{side}_ffn_dim": HIDDEN for side in ("encoder", "decoder")}
        marks = {"pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": BOS}
        config = MarianConfig(
            vocab_size=sizes[0], d_model=WIDTH, max_position_embeddings=256, dropout=0.1,
            activation_function="swish", scale_embedding=True, decoder_start_token_id=BOS,
            forced_eos_token_id=None, **sides, **marks,
        )  # fmt: skip
        self.model = MarianMTModel(config)

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        mask = (source != PAD).long()
        return self.model(
            input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False
        ).logits

    def translate(self, source: Tensor) -> Tensor:
        model: Any = self.model
        return model.generate(
            input_ids=source, attention_mask=(source != PAD).long(), num_beams=4,
            early_stopping=True, max_new_tokens=longest(source), bad_words_ids=[[PAD], [BOS]],
        )[:, 1:]  # fmt: skip


class Plain(nn.Module):
    def __init__(self, sizes: tuple[int, int]) -> None:
        super().__init__()
        self.words = nn.ModuleList(nn.Embedding(size, WIDTH) for size in sizes)
        self.places = nn.ModuleList(nn.Embedding(256, WIDTH) for _ in sizes)
        self.dropout = nn.Dropout(0.1)
        self.model = nn.Transformer(WIDTH, 8, LAYERS, LAYERS, HIDDEN, 0.1, batch_first=True)
        self.model.encoder.use_nested_tensor = False  # a prototype, which warns
        self.out = nn.Linear(WIDTH, sizes[1])
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)

    def _embed(self, side: int, ids: Tensor) -> Tensor:
        places = self.places[side](torch.arange(ids.shape[1]))
        return self.dropout(self.words[side](ids) * math.sqrt(WIDTH) + places)

    def _encode(self, source: Tensor) -> Tensor:
        return self.model.encoder(self._embed(0, source), src_key_padding_mask=source == PAD)

    def _decode(self, source: Tensor, memory: Tensor, target: Tensor) -> Tensor:
        many = target.shape[1]
        later = torch.ones(many, many, dtype=torch.bool).triu(1)
        return self.model.decoder(
            self._embed(1, target), memory, tgt_mask=later, tgt_is_causal=True,
            memory_key_padding_mask=source == PAD,
        )  # fmt: skip

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        return self.out(self._decode(source, self._encode(source), target))

    def translate(self, source: Tensor) -> Tensor:
        memory, said = self._encode(source), torch.full((len(source), 1), BOS)
        for _ in range(longest(source)):
            best = self.out(self._decode(source, memory, said)[:, -1]).argmax(-1)
            said = torch.cat([said, best[:, None]], dim=1)
            if (said == EOS).any(dim=1).all():
                break
        return said[:, 1:]


def longest(source: Tensor) -> int:
    """Places that a translation may take."""
    return int(1.6 * source.shape[1]) + 8


@dataclass(frozen=True)
class Way:
    """How a peer trains."""

    reader: type[Pieces] | type[Words]
    network: type[Marian] | type[Plain]
    rate: float
    batch: int  # pairs
    warm_up: int  # steps; 0: the rate stays as it is
    smoothing: float
    betas: tuple[float, float]
    decay: float
    told: str


WAYS = {
    "marian": Way(
        Pieces,
        Marian,
        2e-3,
        32,
        200,
        0.1,
        (0.9, 0.98),
        0.01,
        "warm-up of 200 steps, linear decay, beam 4",
    ),
    "plain": Way(Words, Plain, 5e-4, 128, 0, 0.0, (0.9, 0.999), 0.0, "constant, greedy"),
}


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD
    )


def batches(lengths: Sequence[int], size: int, generator: torch.Generator) -> list[list[int]]:
    """An epoch: pairs in any order, those of like length together."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    found = []
    for at in range(0, len(order), POOL * size):
        pool = sorted(order[at : at + POOL * size], key=lambda row: lengths[row])
        found += [pool[first : first + size] for first in range(0, len(pool), size)]
    return [found[at] for at in torch.randperm(len(found), generator=generator).tolist()]


@dataclass(frozen=True)
class Trained:
    reader: Reader
    network: Network
    seconds: float
    steps: int
    epochs: float


def train(way: Way, pairs: Pairs, seed: int, seconds: float) -> Trained:
    """From texts to weights within so many CPU seconds."""
    started = time.process_time()
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    reader = way.reader(pairs)
    sources = [[*ids, EOS] for ids in reader.sources(pairs.sources)]
    targets = [[BOS, *ids, EOS] for ids in reader.targets(pairs.targets)]
    lengths = [len(one) + len(other) for one, other in zip(sources, targets, strict=True)]
    network = way.network(reader.sizes).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=way.rate, betas=way.betas, weight_decay=way.decay
    )
    before = time.process_time() - started  # the decay is over what is left
    step, epoch, left = 0, [], 0
    while (spent := time.process_time() - started) < seconds:
        if not left:
            epoch = batches(lengths, way.batch, order)
            left = len(epoch)
        rows, left = epoch[-left], left - 1
        if way.warm_up:
            share = 1 - (spent - before) / max(seconds - before, 1e-9)
            for group in optimizer.param_groups:
                group["lr"] = way.rate * min(1.0, (step + 1) / way.warm_up) * share
        target = padded([targets[row] for row in rows])
        logits = network.logits(padded([sources[row] for row in rows]), target[:, :-1])
        loss = F.cross_entropy(
            logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD,
            label_smoothing=way.smoothing,
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print(f"step {step} {spent:.0f} s loss {loss.item():.3f}", flush=True)
    epochs = step / math.ceil(len(lengths) / way.batch)
    return Trained(reader, network.eval(), time.process_time() - started, step, epochs)


def translate(trained: Trained, texts: Sequence[str], size: int = 50) -> list[str]:
    """In batches of like length."""
    ids = [[*one, EOS] for one in trained.reader.sources(texts)]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    said: list[list[int]] = [[] for _ in ids]
    with torch.inference_mode():
        for at in range(0, len(order), size):
            rows = order[at : at + size]
            found = trained.network.translate(padded([ids[row] for row in rows])).tolist()
            for row, one in zip(rows, found, strict=True):
                said[row] = one[: one.index(EOS)] if EOS in one else one
    return trained.reader.texts(said)


# --- what is left behind


def figures(said: Sequence[str], wanted: Sequence[str]) -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    bleu, chrf = BLEU(), CHRF()
    found: dict[str, Any] = {
        "bleu": round(bleu.corpus_score([*said], [[*wanted]]).score, 2),
        "chrf": round(chrf.corpus_score([*said], [[*wanted]]).score, 2),
    }
    return found | {"signatures": [str(one.get_signature()) for one in (bleu, chrf)]}


def measure(
    peer: str, seed: int, budget: float, train_pairs: Pairs, test: Pairs, rate: float | None = None
) -> tuple[list[str], Facts, dict[str, Any]]:
    """Translations of the test pairs; facts; all that the table has."""
    import transformers

    way = WAYS[peer] if rate is None else replace(WAYS[peer], rate=rate)
    trained = train(way, train_pairs, seed, budget)
    started = time.process_time()
    said = translate(trained, test.sources)
    decoding = time.process_time() - started
    count = sum(one.numel() for one in trained.network.parameters())
    chosen = f"rate {way.rate:g}, batch {way.batch}, {way.told}"
    facts = Facts(
        count, 4 * count + trained.reader.bytes, round(trained.seconds, 1),
        round(len(said) / max(decoding, 1e-9), 1), chosen,
    )  # fmt: skip
    told: dict[str, Any] = {"peer": peer, "seed": seed, "budget": budget, **asdict(facts)}
    told |= figures(said, test.targets) | {"cpu_seconds_decode": round(decoding, 1)}
    told |= {"steps": trained.steps, "epochs": round(trained.epochs, 2)}
    told |= {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    return said, facts, told


def write(path: Path, test: Pairs, said: Sequence[str], facts: Facts, told: Any) -> None:
    """As `noisefold compare` reads translations of another program: id, translation."""
    table = pa.table({"id": pa.array(test.ids), "translation": pa.array([*said], pa.string())})
    metadata = {FACTS: json.dumps(asdict(facts)), SEARCH: json.dumps(told)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def as_markdown(cells: Sequence[dict[str, Any]]) -> str:
    """A line of each run, with what repeats it."""
    header = (
        "peer", "seed", "BLEU", "chrF2", "budget CPU s", "train CPU s", "steps", "epochs",
        "decode CPU s", "sentences/s", "parameters", "MB", "settings", "command",
    )  # fmt: skip
    lines = [f"| {' | '.join(header)} |", "|---|--:|" + "--:|" * 10 + "---|---|"]
    for one in cells:
        row = [one["peer"], one["seed"], f"{one['bleu']:.1f}", f"{one['chrf']:.1f}"]
        row += [f"{one['budget']:g}", f"{one['cpu_seconds_train']:.1f}", one["steps"]]
        row += [one["epochs"], one["cpu_seconds_decode"], one["texts_per_second"]]
        row += [f"{one['parameters']:,}", f"{one['bytes'] / 1e6:.1f}", one["chosen"]]
        row += [f"`{COMMAND.format(**one)}`"]
        lines.append(f"| {' | '.join(map(str, row))} |")
    signatures = sorted({f"`{one}`" for cell in cells for one in cell["signatures"]})
    return "\n".join([*lines, "", f"sacrebleu: {', '.join(signatures)}", ""])


def told_of(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*.parquet"))
    return [json.loads(pq.read_schema(one).metadata[SEARCH.encode()]) for one in files]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=[*WAYS, "table"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--on", choices=["test", "valid"], default="test")
    parser.add_argument("--rate", type=float, help="To choose one with --on valid.")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    if options.peer == "table":
        text = as_markdown(told_of(predictions_file(NAME, "any", 0).parent))
        (RESULTS / "peers_multi30k.md").write_text(text)
        print(text, end="")
        return
    torch.set_num_threads(1)
    pairs, judged = (read_pairs(options.data / f"{one}.csv") for one in ("train", options.on))
    for seed in map(int, options.seeds.split(",")):
        said, facts, told = measure(
            options.peer, seed, options.seconds, pairs, judged, options.rate
        )
        print(json.dumps(told), flush=True)
        if options.on == "test":
            write(predictions_file(NAME, options.peer, seed), judged, said, facts, told)


if __name__ == "__main__":
    main()
