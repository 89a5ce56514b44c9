"""A language model's report as blocks: figures, calibration, the hardest texts, what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_contracts.kinds.generate import Generate
from data_contracts.results import Block, Cell, Curve, Interval, Table, Text
from lightning_modules.kinds.generate.samples import MEMORISED, REPEATED, Samples

_HARDEST = 10
_SHOWN = 500  # characters of a text

_WORDS = {
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity per token",
    "accuracy": "next-token accuracy",
    "ece": "calibration error (ECE)",
}


@dataclass(frozen=True)
class Judged:
    """What was measured of the test split."""

    found: Mapping[str, Interval]
    sums: np.ndarray  # (K,) of the evidence
    per_row: np.ndarray  # (N,) bits per byte
    over: str  # what the intervals resample: documents or blocks
    samples: Samples | None


def report_of(task: Generate, judged: Judged, texts: pa.Table) -> list[Block]:
    """The blocks in their order.

    Args:
        texts: (N,) the columns of text, the last of which is what was predicted.
    """
    nats, tokens, size = judged.sums[:3]
    rows = tuple((_WORDS[name], interval) for name, interval in judged.found.items())
    blocks: list[Block] = [
        Text(
            f"{tokens:,.0f} tokens of {size:,.0f} bytes cost {nats:,.0f} nats, the end of each "
            f"text included; every document is read whole. Intervals are over {judged.over}."
        ),
        Table(("figure", "value"), rows),
        _calibration(task.ece_bins, judged.sums, judged.found["ece"]),
    ]
    if judged.samples is not None:
        blocks += _written(judged.samples)
    hardest = np.argsort(-judged.per_row, kind="stable")[:_HARDEST]
    column = texts[texts.column_names[-1]]
    shown = tuple(
        (float(judged.per_row[row]), column[int(row)].as_py()[:_SHOWN]) for row in hardest
    )
    return [
        *blocks,
        Text("Hardest texts", "heading"),
        Table(("bits_per_byte", "text"), shown, name="hardest", headings=("bits per byte", "text")),
    ]


def _written(samples: Samples) -> list[Block]:
    own, people = samples.own, samples.people

    def share(value: float) -> Cell:
        return None if np.isnan(value) else float(value)

    runs = (
        (
            f"runs of {REPEATED} tokens that stood in the same text before",
            share(own.repeated),
            share(people.repeated),
        ),
        (
            f"runs of {MEMORISED} tokens that stand in the train split",
            share(own.memorised),
            share(people.memorised),
        ),
    )
    written = [
        (sample.prompt[-_SHOWN:], sample.served.text[:_SHOWN], sample.served.finish_reason)
        for sample in samples.by_row.values()
    ]
    return [
        Text("What it writes", "heading"),
        Text(
            f"After the beginnings of {len(written)} test texts, with the parameters that it is "
            f"served with; {samples.per_second:,.0f} characters a second of CPU time."
        ),
        Table(("prompt", "completion", "ended by"), tuple(written), name="samples"),
        Text("Shares of runs in what it writes at temperature 1, beside the test texts' own:"),
        Table(("share of", "written", "test texts"), runs, name="runs"),
    ]


def _calibration(bins: int, sums: np.ndarray, ece: Interval) -> Curve:
    count = sums[4 : 4 + bins]
    some = np.maximum(count, 1)
    sure = sums[4 + bins : 4 + 2 * bins] / some
    right = sums[4 + 2 * bins : 4 + 3 * bins] / some
    known = [
        (float(x), float(y)) if n else (None, None)
        for x, y, n in zip(sure, right, count, strict=True)
    ]
    return Curve(
        name="reliability_diagram",
        title="Reliability of the next token",
        x_words="confidence",
        y_words="accuracy",
        edges=tuple(np.linspace(0, 1, bins + 1).tolist()),
        rows=tuple(count.astype(int).tolist()),
        x=tuple(x for x, _ in known),
        y=tuple(y for _, y in known),
        note=f"expected calibration error {ece.value:.3f} ({ece.low:.3f} to {ece.high:.3f}); "
        "dashed: perfectly calibrated",
        diagonal=True,
    )
