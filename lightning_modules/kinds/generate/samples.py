"""What a model writes, beside what people wrote: repetition, and what it knows by heart."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.kinds.generate import Generate
from data_contracts.tables.take import evenly
from lightning_modules.kinds.generate.head import GenerateHead, beginning, style_of
from lightning_modules.kinds.generate.writing import Style, Written
from lightning_modules.network.windows import encoded

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

SERVED_ROWS = 200  # of which a served version is asked; see `tasks.serving.check`
REPEATED, MEMORISED = 4, 50  # tokens of a run
LOOPING = 0.2  # share of repeated runs above the test texts' own from which a person is told


@dataclass(frozen=True)
class Sample:
    """A prompt and what is written after it."""

    prompt: str
    served: Written  # as the served model writes
    plain: Written  # at temperature 1, of as many tokens as the text of the row goes on


@dataclass(frozen=True)
class Runs:
    """Shares of runs of tokens, and of how many."""

    repeated: float  # of 4 that stood in the same text before
    memorised: float  # of 50 that stand in the train split; nan: no text is that long

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], train: np.ndarray) -> Runs:
        return cls(_repeated(texts), _memorised(texts, train))


@dataclass(frozen=True)
class Samples:
    """What was written after the beginnings of some test rows."""

    by_row: dict[int, Sample]
    own: Runs  # of what the model wrote at temperature 1
    people: Runs  # of the same rows' texts
    per_second: float  # characters

    def figures(self) -> dict[str, float]:
        told = {
            "repeated_4grams": self.own.repeated,
            "repeated_4grams_of_test": self.people.repeated,
            "memorised_50grams": self.own.memorised,
            "memorised_50grams_of_test": self.people.memorised,
            "characters_per_second": self.per_second,
        }
        return {name: value for name, value in told.items() if not np.isnan(value)}

    def warnings(self) -> list[str]:
        if self.own.repeated <= self.people.repeated + LOOPING:
            return []
        return [
            f"What it writes at temperature 1 repeats itself: {self.own.repeated:.0%} of its runs "
            f"of {REPEATED} tokens stood in the same text before, {self.people.repeated:.0%} of "
            "those of the test texts."
        ]


def write_samples(
    bundle: Bundle, rows: pa.Table, tokens: Path, column: str, task: Generate
) -> Samples:
    """Write after the beginnings of some rows, spread evenly.

    Args:
        column: of the texts, or of the prompts, which are asked whole.
        tokens: the folder of token tables, whose train split tells what was read.
    """
    served = style_of(bundle, {})
    prompts = rows[column].to_pylist()
    chosen = rows_of(len(rows), task.samples)
    by_row, own, people = {}, [], []
    characters, seconds = 0, 0.0
    tokenizer = bundle.lossless_tokenizer
    for row in chosen:
        whole = prompts[row]
        prompt = beginning(whole) if column == "text" else whole
        rest = whole[len(prompt) :] if column == "text" else rows["completion"][row].as_py()
        given = encoded(tokenizer, [rest])[0]
        plain = Style(max_tokens=max(1, min(len(given) + 1, 1000)), seed=served.seed)
        started = time.process_time()
        sample = Sample(
            prompt,
            GenerateHead.complete(bundle, prompt, served),
            GenerateHead.complete(bundle, prompt, plain),
        )
        seconds += time.process_time() - started
        characters += len(sample.served.text) + len(sample.plain.text)
        by_row[row] = sample
        own.append(encoded(tokenizer, [sample.plain.text])[0])
        people.append(given[: plain.max_tokens])
    train = _runs(tokens / "train.parquet")
    speed = characters / seconds if seconds else 0.0
    return Samples(by_row, Runs.of(own, train), Runs.of(people, train), speed)


def rows_of(rows: int, samples: int) -> list[int]:
    """Of the rows that a served version is asked, some, spread evenly."""
    served = evenly(rows, SERVED_ROWS)
    return sorted({int(row) for row in served[evenly(len(served), samples)]})


def _repeated(texts: Sequence[Sequence[int]]) -> float:
    again, total = 0, 0
    for ids in texts:
        runs = Counter(zip(*(ids[at:] for at in range(REPEATED)), strict=False))
        total += runs.total()
        again += runs.total() - len(runs)
    return again / total if total else 0.0


def _memorised(texts: Sequence[Sequence[int]], train: np.ndarray) -> float:
    hashes = np.concatenate([_hashed(np.asarray(ids, np.int64)) for ids in texts])
    return float(np.isin(hashes, train).mean()) if len(hashes) else float("nan")


def _runs(path: Path) -> np.ndarray:
    """Hashes of every run of the train split, window by window."""
    column = pq.read_table(path, columns=["input_ids"])["input_ids"]
    found = [np.empty(0, np.uint64)]
    for chunk in column.chunks:
        flat = chunk.flatten().to_numpy().astype(np.int64)
        hashes = _hashed(flat)
        # A run that goes over the border of two rows is none.
        ends = np.cumsum(np.diff(chunk.offsets.to_numpy()))
        inside = np.ones(len(hashes), bool)
        for back in range(1, MEMORISED):
            at = ends[:-1] - back
            inside[at[(at >= 0) & (at < len(hashes))]] = False
        found.append(hashes[inside])
    return np.unique(np.concatenate(found))


def _hashed(ids: np.ndarray) -> np.ndarray:
    """(n - 49,) a polynomial of each run of 50 ids, modulo 2^64."""
    count = len(ids) - MEMORISED + 1
    if count < 1:
        return np.empty(0, np.uint64)
    base = np.uint64(0x9E3779B97F4A7C15)
    values = ids.astype(np.uint64) + np.uint64(1)
    total = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for at in range(MEMORISED):
            total = total * base + values[at : at + count]
    return total
