"""A translator's report as blocks: figures beside the dictionary's, sentences to read, how sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_contracts.results import Block, Cell, Interval, Table, Text
from data_contracts.tables.take import evenly
from lightning_modules.kinds.translate import scores
from lightning_modules.kinds.translate.measured import Measured

_WORST, _ORDINARY = 15, 8
_FIFTHS = ("least sure fifth", "second", "third", "fourth", "surest fifth")
_SURE = {"": "by itself", "_drawn": "under noise"}
_SHOWN = 500  # characters of a text
_SIDES = ("source", "target", "translation")
_COLUMNS = ("chrf", *_SIDES)
_HEADINGS = ("chrF", "source", "reference", "translation")
_WORDS = {
    "chrf": "chrF",
    "bleu": "BLEU",
    "nll": "negative log-likelihood per target token, nats",
    "length_ratio": "words for each word of the references",
}


@dataclass(frozen=True)
class Judged:
    """What was measured of the test split."""

    measured: Measured
    found: Mapping[str, Interval]
    signatures: Mapping[str, str]


def report_of(judged: Judged, texts: pa.Table) -> list[Block]:
    """The blocks in their order.

    Args:
        texts: (N,) source, target and translation.
    """
    return [
        *_figures(judged),
        *_worst(judged.measured, texts),
        Text("Ordinary sentences", "heading"),
        Text("Evenly spread over the test split."),
        _sentences(judged.measured, texts, evenly(len(texts), _ORDINARY), "samples"),
        *_sure(judged),
    ]


def _figures(judged: Judged) -> list[Block]:
    found, floor = judged.found, judged.measured.floor is not None
    rows = tuple(
        (words, found[name], found.get(f"dictionary_{name}"))[: 3 if floor else 2]
        for name, words in _WORDS.items()
        if name in found
    )
    columns = ("figure", "value", "dictionary")[: 3 if floor else 2]
    headings = ("figure", "this model", "a dictionary, word by word")[: len(columns)]
    told = (
        " The dictionary is counted from the train split and translates each word by itself: what "
        "is above it is more than words."
    )
    return [
        Text(
            "chrF and BLEU are sacrebleu's, of the whole split, as shares: 0.5 is its 50."
            + (told if floor else "")
        ),
        Table(columns, rows, headings=headings),
        Text(f"chrF: {judged.signatures['chrf']}"),
        Text(f"BLEU: {judged.signatures['bleu']}"),
    ]


def _worst(measured: Measured, texts: pa.Table) -> list[Block]:
    """Of sentences that are not short: a single word that is another one says little."""
    wanted = measured.counts[:, scores.WANTED]
    long_enough = np.flatnonzero(wanted >= np.median(wanted) / 2)
    order = long_enough[np.argsort(measured.chrf[long_enough], kind="stable")]
    first: dict[tuple[str, ...], int] = {}  # what stands there several times is read once
    for row in order:
        first.setdefault(tuple(texts[side][int(row)].as_py() for side in _SIDES), int(row))
        if len(first) == _WORST:
            break
    rows = np.array([*first.values()], np.int64)
    empty = sum(not (text or "").strip() for text in texts["translation"].to_pylist())
    nothing = f" {empty:,} translations are empty." if empty else ""
    return [
        Text("Worst sentences", "heading"),
        Text(
            "Those that share least with their reference, of all that are at least half as long "
            f"as the median; another good translation may be among them.{nothing}"
        ),
        _sentences(measured, texts, rows, "worst"),
    ]


def _sentences(measured: Measured, texts: pa.Table, rows: np.ndarray, name: str) -> Table:
    own = measured.chrf
    cells = tuple(
        (float(own[row]), *(texts[side][int(row)].as_py()[:_SHOWN] for side in _SIDES))
        for row in rows
    )
    return Table(_COLUMNS, cells, name=name, headings=_HEADINGS)


def _sure(judged: Judged) -> list[Block]:
    measured, found = judged.measured, judged.found
    if not measured.sure:
        return []
    told = [name for name in _SURE if name in measured.sure]
    rows: list[tuple[Cell, ...]] = [
        (words, *(found[f"{figure}{name}"] for name in told))
        for figure, words in (
            ("sure_and_right", "correlation with the sentence's chrF (Pearson)"),
            ("chrf_without_least_sure", "chrF without the least sure tenth"),
        )
    ]
    rows.append(("chrF of all", *(found["chrf"] for _ in told)))
    least = measured.sure[told[0]]
    fifths = np.array_split(np.argsort(least, kind="stable"), len(_FIFTHS))
    sums = np.stack([measured.counts[places].sum(axis=0) for places in fifths])
    by_fifth = tuple(zip(_FIFTHS, scores.chrf(sums).tolist(), strict=True))
    return [
        Text("How sure it is, and how right", "heading"),
        Text(
            "A translation's log-probability per token, which a served model answers too"
            + (
                "; and the mean of what draws of the weights' noise say of the same translation."
                if len(told) > 1
                else "."
            )
        ),
        Table(
            ("figure", *(f"value{name}" for name in told)),
            tuple(rows),
            headings=("figure", *(_SURE[name] for name in told)),
        ),
        Table(("sure", "chrf"), by_fifth, name="sure", headings=("by how sure it is", "chrF")),
    ]
