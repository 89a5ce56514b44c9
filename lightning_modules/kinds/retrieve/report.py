"""A report on found answers as blocks: figures beside BM25's, when it abstains, what was missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_contracts.kinds.retrieve import AbstainConfig
from data_contracts.results import Block, Curve, Interval, Table, Text
from data_contracts.tables.take import evenly
from lightning_modules.kinds.retrieve.abstention import (
    Asked,
    precision_of,
    probabilities,
    told_apart,
)

_WORST, _ORDINARY, _SHOWN = 15, 8, 400
_BINS = 10
_WORDS = {
    "mrr": "mean reciprocal rank, 0 beyond the tenth",
    "recall_at_1": "right answer first (recall at 1)",
    "recall_at_5": "among the first five",
    "recall_at_10": "among the first ten",
    "precision": "right among the answers that are given",
    "answered": "questions that are answered",
}


@dataclass(frozen=True)
class Judged:
    """What was measured of the test split."""

    found: Mapping[str, Interval]
    choices: int  # answers to choose from
    options: AbstainConfig
    abstention: Mapping[str, Any]
    asked: Asked
    rank: np.ndarray  # (N,)


def report_of(judged: Judged, texts: pa.Table) -> list[Block]:
    """The blocks in their order.

    Args:
        texts: (N,) question, answer and found.
    """
    return [
        *_figures(judged),
        *_abstention(judged),
        *_missed(judged, texts),
        Text("Ordinary questions", "heading"),
        Text("Evenly spread over the test split."),
        _shown(judged, texts, evenly(len(texts), _ORDINARY), "samples"),
    ]


def _figures(judged: Judged) -> list[Block]:
    found = judged.found
    floor = "bm25_mrr" in found
    rows = tuple(
        (words, found[name], found.get(f"bm25_{name}"))[: 3 if floor else 2]
        for name, words in _WORDS.items()
        if name in found
    )
    columns = ("figure", "value", "bm25")[: 3 if floor else 2]
    headings = ("figure", "this model", "BM25 over the answers' words")[: len(columns)]
    absent = int((judged.rank == 0).sum())
    lost = f" Of {absent:,} questions no right answer is among them." if absent else ""
    return [
        Text(
            f"Each test question among all {judged.choices:,} answers of the corpus. Of two that "
            f"are as good the wrong one counts as first.{lost}"
        ),
        Table(columns, rows, headings=headings),
    ]


def _abstention(judged: Judged) -> list[Block]:
    decided, options = judged.abstention, judged.options
    if not decided["weights"]:
        return []
    weights = decided["weights"]
    sure = probabilities(judged.asked.features, weights)
    without = probabilities(judged.asked.features_without, weights)
    precision, answered = precision_of(judged.asked, decided, options.unanswered)
    promised = "none promised" if options.precision is None else f"{options.precision:.0%} promised"
    rows = (
        ("threshold of the probability", float(decided["threshold"])),
        (
            f"precision, {options.unanswered:.0%} of the questions without an answer ({promised})",
            None if np.isnan(precision) else precision,
        ),
        ("share of these that is answered", answered),
        ("telling a question that nobody has answered (AUROC)", told_apart(sure, without)),
    )
    features, right, _ = judged.asked.together(0.5)
    return [
        Text("When nobody has answered", "heading"),
        Text(
            "Each question is asked twice: among all answers, and without those that are right to "
            "it. Probability and threshold are those of the valid split."
        ),
        Table(("figure", "value"), rows),
        _curve(probabilities(features, weights), right, options.unanswered, judged.asked),
    ]


def _curve(sure: np.ndarray, right: np.ndarray, unanswered: float, asked: Asked) -> Curve:
    """How often answers of a probability are right."""
    _, _, weights = asked.together(unanswered)
    if len(weights) != len(sure):  # no question is expected to have none
        sure, right = sure[: len(weights)], right[: len(weights)]
    edges = np.linspace(0, 1, _BINS + 1)
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    total = np.bincount(place, weights, _BINS)
    hits, told = (np.bincount(place, weights * one, _BINS) for one in (right, sure))

    def mean(sums: np.ndarray) -> tuple[float | None, ...]:
        return tuple(
            float(one / all_of) if all_of else None for one, all_of in zip(sums, total, strict=True)
        )

    return Curve(
        "reliability",
        "How often an answer of a probability is right",
        "probability",
        "share that is right",
        tuple(edges.tolist()),
        tuple(np.bincount(place, minlength=_BINS).tolist()),
        mean(told),
        mean(hits),
        f"With {unanswered:.0%} of the questions unanswered.",
        diagonal=True,
    )


def surest_wrong(asked: Asked, abstention: Mapping[str, Any]) -> np.ndarray:
    """Numbers of the questions that get another answer than theirs, the surest first."""
    sure = probabilities(asked.features, abstention["weights"])
    wrong = np.flatnonzero(~asked.right)
    return wrong[np.argsort(-sure[wrong], kind="stable")][:_WORST]


def _missed(judged: Judged, texts: pa.Table) -> list[Block]:
    """Those that were surest and wrong."""
    wrong = np.flatnonzero(~judged.asked.right)
    worst = surest_wrong(judged.asked, judged.abstention)
    if not len(worst):
        return []
    return [
        Text("Wrong answers, the surest first", "heading"),
        Text(
            f"{len(wrong):,} of {len(texts):,} questions get another answer than theirs; another "
            "right one may be among them."
        ),
        _shown(judged, texts, worst, "worst"),
    ]


def _shown(judged: Judged, texts: pa.Table, rows: np.ndarray, name: str) -> Table:
    sure = probabilities(judged.asked.features, judged.abstention["weights"])
    cells = tuple(
        (
            int(judged.rank[row]),
            round(float(sure[row]), 3),
            *(texts[column][int(row)].as_py()[:_SHOWN] for column in texts.column_names),
        )
        for row in rows
    )
    headings = ("rank", "probability", "question", "its answer", "found")
    return Table(("rank", "probability", *texts.column_names), cells, name=name, headings=headings)
