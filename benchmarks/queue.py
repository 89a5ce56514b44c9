"""What a queue saves: macro-F1 against labels, where the rows to label are chosen in several ways.

    taskset -c 1 python -m benchmarks.queue [trec thucnews] [--seeds 0,1,2,3,4] [--results FOLDER]
    taskset -c 1 python -m benchmarks.queue trec --noise [--seeds 0,1,2]

A pool of train rows (6,000 at most) is without labels but for 100 at random, the same for each way.
A model is trained on what is labelled; it chooses 100 more, whose labels are then looked up; and so
on to 700. `queue` is what `noisefold queue` does (margin, then clusters of the documents' vectors),
`margin` the same without clusters, `random` at random. With --noise every model is trained under
multiplicative noise on its weights, and `bald` stands in place of `queue`: mutual information by 20
draws, without clusters; the table is a file of its own, queue_noise.md. 100 further train rows tell
the best epoch, for each way the same. Every model is trained from scratch: word tokens of the pool's texts, tanh
encoder of 64 units, 20 epochs. Measured on the test split (2,000 rows at most). A seed draws the
first rows, the random ones and the weights. Labels needed: where the mean curve, between its points
a line, first has what random choice has with all of its labels.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import f1_score

from data_contracts.artifacts import WindowingFacts
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import ExecutionConfig, TrainingConfig
from data_contracts.recipe.tokenizer import WordTokenizer
from lightning_modules.bundle import Bundle
from lightning_modules.doubting import diverse, doubting_of, pool_of
from lightning_modules.kinds.base import objective_of
from lightning_modules.network.windows import Windowing
from lightning_modules.reparameterizations.noise_left import drawn, load_noise
from lightning_modules.reparameterizations.seeds import mix
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
from tasks.measure import one_thread
from tasks.vocabulary import train_tokenizer

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
WAYS = ("queue", "margin", "random")
OF_NOISE = ("bald", "margin", "random")
DRAWS = 20
FIRST, STEP, LAST, VALID, MOST, TESTED = 100, 100, 700, 100, 6000, 2000
MODEL = {
    "embedding": {"size": 64},
    "encoder": {"kind": "tanh", "hidden_size": 64},
    "dropout": 0.3,
}
WINDOWING = Windowing(64, 8)


def read(name: str, split: str, most: int) -> tuple[list[str], list[str]]:
    """Texts and labels, evenly spread over the file."""
    [file] = (DATA / name).glob(f"{split}.csv*")
    content = file.read_bytes()
    text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8")
    records = csv.DictReader(io.StringIO(text, newline=""))
    rows = {row["text"]: row["label"] for row in records if row["text"].strip()}
    texts = list(rows)
    order = np.random.default_rng(0).permutation(len(texts))[:most]
    return [texts[one] for one in order], [rows[texts[one]] for one in order]


class World:
    """A pool, tokenized once, and what is measured on."""

    def __init__(self, name: str, folder: Path, method: str) -> None:
        self.model = {**MODEL, "reparameterization": {"kind": method}}
        self.texts, self.labels = read(name, "train", MOST)
        self.tested = read(name, "test", TESTED)
        self.folder = folder
        self.facts = {"labels": sorted({*self.labels, *self.tested[1]})}
        options = WordTokenizer(vocab_size=20_000, min_frequency=1)
        self.tokenizer = train_tokenizer(options, lambda: iter([self.texts]))
        objective = objective_of(Classify(), self.facts)
        ids = [str(number) for number in range(len(self.texts))]
        table = pa.table({"id": ids, "text": self.texts, "label": self.labels})
        self.encoded = objective.encode(table, self.tokenizer, WINDOWING)
        (folder / "tokens").mkdir()
        (folder / "tokens" / "tokenizer.json").write_text(self.tokenizer.to_str())

    def trained(self, labelled: np.ndarray, valid: np.ndarray, seed: int) -> Bundle:
        number = self.encoded["id"].to_numpy(zero_copy_only=False).astype(int)
        for split, rows in (("train", labelled), ("valid", valid)):
            some = self.encoded.filter(pa.array(np.isin(number, rows)))
            pq.write_table(some, self.folder / "tokens" / f"{split}.parquet")
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            job = TrainingJob(
                tokens=self.folder / "tokens",
                facts=self.facts,
                vocab_size=self.tokenizer.get_vocab_size(),
                windowing=WindowingFacts.model_validate(WINDOWING),
                task=Classify(),
                model=ModelConfig.model_validate(self.model),
                training=TrainingConfig(
                    max_epochs=20, patience=20, batch_size=32, learning_rate=0.005, seed=seed
                ),
                execution=ExecutionConfig(accelerator="cpu"),
                work=Path(scratch) / "work",
                out=Path(scratch) / "out",
            )
            fit(job, lambda event: None)
            bundle = Bundle.load(Path(scratch) / "out" / "bundle")
            bundle.noise = load_noise(Path(scratch) / "out")
            return bundle

    def f1(self, bundle: Bundle) -> float:
        texts, labels = self.tested
        said = bundle.predict({"text": texts})["label"]
        return float(f1_score(labels, said, average="macro"))

    def curve(self, way: str, seed: int) -> list[float]:
        """Macro-F1 with FIRST, FIRST + STEP, ... labels."""
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(self.texts))
        valid, labelled = order[:VALID], order[VALID : VALID + FIRST]
        found = []
        while True:
            bundle = self.trained(labelled, valid, seed)
            found.append(self.f1(bundle))
            print(way, seed, len(labelled), f"{found[-1]:.3f}", flush=True)
            if len(labelled) >= LAST:
                return found
            rest = np.setdiff1d(order[VALID:], labelled)
            labelled = np.concatenate([labelled, self.choice(way, bundle, rest, generator)])

    def choice(
        self, way: str, bundle: Bundle, rest: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        if way == "random":
            return generator.choice(rest, STEP, replace=False)
        texts = {"text": [self.texts[one] for one in rest]}
        doubting, answers = doubting_of(bundle), bundle.predict(texts)
        if way == "bald":
            answers |= Classify.certainty(answers, [*draws(bundle, texts)])
        measure = "bald" if way == "bald" else "margin"
        doubt = doubting.of(bundle, answers, measure).doubt
        pool = pool_of(doubt, STEP)
        if way != "queue":
            return rest[pool[:STEP]]
        vectors = doubting.vectors(bundle, {"text": [texts["text"][one] for one in pool]})
        return rest[pool[diverse(doubt[pool], vectors, STEP)]]


def draws(bundle: Bundle, texts: dict[str, list[str]]) -> Iterator[dict[str, list[Any]]]:
    """The answers under draws of the noise, as `noisefold score` makes them."""
    for number in range(DRAWS):
        with drawn(bundle.network, bundle.noise, mix(0, number)):
            yield bundle.predict(texts)


def needed(curve: np.ndarray, wanted: float) -> str:
    """Labels at which a curve first has a figure."""
    counts = np.arange(FIRST, LAST + 1, STEP)
    for place in range(1, len(curve)):
        low, high = curve[place - 1], curve[place]
        if high >= wanted:
            part = 1.0 if high == low else max(0.0, (wanted - low) / (high - low))
            return f"{counts[place - 1] + part * STEP:.0f}"
    return f"more than {LAST}"


def table(name: str, seeds: str, curves: dict[str, np.ndarray]) -> list[str]:
    counts = range(FIRST, LAST + 1, STEP)
    wanted = curves["random"].mean(axis=0)[-1]
    lines = [
        f"## {name}, seeds {seeds}",
        "",
        f"| rows chosen | {' | '.join(map(str, counts))} | labels needed for {100 * wanted:.1f} |",
        f"|---|{'--:|' * len(counts)}--:|",
    ]
    for way, curve in curves.items():
        mean, spread = curve.mean(axis=0), curve.std(axis=0, ddof=1)
        cells = [f"{100 * a:.1f} ± {100 * b:.1f}" for a, b in zip(mean, spread, strict=True)]
        lines.append(f"| {way} | {' | '.join(cells)} | {needed(mean, wanted)} |")
    return [*lines, ""]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["trec", "thucnews"], metavar="NAME")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--noise", action="store_true", help="Under noise on the weights.")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args(words)
    seeds = [int(one) for one in options.seeds.split(",")]
    lines = [
        f"# What a queue saves{', under noise on the weights' if options.noise else ''}",
        "",
        f"`python -m benchmarks.queue NAME{' --noise' if options.noise else ''} --seeds …`: macro-F1 "
        "of the test split (points, mean and standard deviation over seeds) against the number of "
        "labelled rows.",
        "",
    ]
    method, ways, file = "none", WAYS, "queue.md"
    if options.noise:
        method, ways, file = "multiplicative_noise", OF_NOISE, "queue_noise.md"
    for name in options.names:
        with one_thread(), tempfile.TemporaryDirectory() as folder:
            world = World(name, Path(folder), method)
            curves = {way: np.array([world.curve(way, one) for one in seeds]) for way in ways}
        lines += table(name, options.seeds, curves)
        (options.results / file).write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines), end="")


if __name__ == "__main__":
    main()
