"""A reader's report as blocks: figures beside a sentence's, how sure and how right, answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_contracts.results import Block, Cell, Curve, Interval, Table, Text
from data_contracts.tables.take import evenly
from lightning_modules.evidence import Floats
from lightning_modules.kinds.span.calibration import NEVER
from lightning_modules.kinds.span.choosing import (
    ABSTAINED,
    ANSWERED,
    UNANSWERABLE,
    Answer,
    Decision,
)
from lightning_modules.kinds.span.measured import Measured, auroc

_WORST, _ORDINARY = 15, 8
_SHOWN = 300  # characters of a text
_STEPS = 10  # of the coverage
_PROMISES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_LENGTHS = (("answers", (0, 5, 10, 20, 50)), ("contexts", (0, 250, 500, 1000, 2000)))
_WORDS = {
    "f1": "F1",
    "exact_match": "exact match",
    "answered": "share of questions answered",
    "right_of_answered": "share of the answers that are right (exact match)",
    "f1_at_80": "F1 of the surest 80 %",
}


@dataclass(frozen=True)
class Judged:
    """What was measured of the test split.

    right: (N,) every right answer of each question; empty: there is none.
    answerable: (N,) the probability that there is an answer; None: there always is.
    """

    measured: Measured
    found: Mapping[str, Interval]
    answers: Sequence[Answer]
    right: Sequence[list[str]]
    answerable: Floats | None
    decision: Decision
    precision: float | None
    official: str

    @property
    def probability(self) -> Floats:
        return np.array([one.probability for one in self.answers])

    @property
    def answered(self) -> np.ndarray:
        return self.measured.answered


def report_of(judged: Judged, rows: pa.Table) -> list[Block]:
    """The blocks in their order.

    Args:
        rows: (N,) question and context.
    """
    every = np.arange(len(judged.answers))
    return [
        *_figures(judged),
        *_outcomes(judged),
        *_sure(judged),
        *_lengths(judged, rows),
        *_worst(judged, rows),
        Text("Ordinary answers", "heading"),
        Text("Evenly spread over the test split."),
        _shown(judged, rows, every[evenly(len(every), _ORDINARY)], "samples"),
    ]


def _figures(judged: Judged) -> list[Block]:
    found = judged.found
    rows: list[tuple[Cell, ...]] = []
    for name, words in _WORDS.items():
        if name in found:
            rows.append((words, found[name], found.get(f"sentence_{name}")))
    contexts = len(set(judged.measured.contexts))
    return [
        Text(
            f"F1 and exact match count as the program of {judged.official} does, as shares. "
            f"The {len(judged.answers):,} questions are about {contexts:,} contexts, which are "
            "drawn whole: questions of one are easy or hard together."
        ),
        Text(
            "The sentence is that of the context which has most of the question's words, by how "
            "rare they are: what is above it is more than words."
        ),
        Table(
            ("figure", "value", "sentence"),
            tuple(rows),
            headings=("figure", "this model", "the best matching sentence"),
        ),
    ]


def _outcomes(judged: Judged) -> list[Block]:
    """What was said where there is an answer, and where there is none."""
    outcomes = np.array([one.outcome for one in judged.answers])
    there = np.array([any(texts) for texts in judged.right])
    exact, f1 = judged.measured.counts.T
    rows: list[tuple[Cell, ...]] = []
    for words, some in (("there is an answer", there), ("there is none", ~there)):
        if not some.any():
            continue
        counts = [int((outcomes[some] == one).sum()) for one in (ANSWERED, UNANSWERABLE, ABSTAINED)]
        means = (float(exact[some].mean()), float(f1[some].mean()))
        rows.append((words, int(some.sum()), *counts, *means))
    blocks: list[Block] = [
        Text("What was said", "heading"),
        Table(
            ("truth", "questions", "answered", "unanswerable", "abstained", "exact_match", "f1"),
            tuple(rows),
            name="outcomes",
            headings=("", "questions", "answered", "said: no answer", "kept back", "EM", "F1"),
        ),
    ]
    if judged.answerable is not None and (area := auroc(judged.answerable, there)) is not None:
        told = (
            f"Area under the ROC curve of telling questions with an answer from those without: "
            f"{area:.3f}. It has no interval and gates nothing."
        )
        blocks.append(Text(told))
    return blocks


def _sure(judged: Judged) -> list[Block]:
    """How right the surest are, and what a promise of precision would keep."""
    order = np.argsort(-judged.probability, kind="stable")
    f1, exact = judged.measured.counts[order, 1], judged.measured.counts[order, 0]
    count = len(order)
    ends = np.unique(np.maximum(1, np.arange(1, _STEPS + 1) * count // _STEPS))
    curve = Curve(
        name="coverage",
        title="F1 of the surest answers",
        x_words="share of the questions, the surest first",
        y_words="F1",
        edges=tuple(np.concatenate([[0], ends]) / count),
        rows=tuple(np.diff(np.concatenate([[0], ends])).tolist()),
        x=tuple((ends / count).tolist()),
        y=tuple((np.cumsum(f1)[ends - 1] / ends).tolist()),
        note="Each point has all questions up to it: what remains right where the rest is left "
        "to people.",
    )
    return [
        Text("How sure it is, and how right", "heading"),
        Text(
            "The probability that an answer is right is fitted on the valid split. "
            + _precision(judged)
        ),
        curve,
        _promises(judged, exact),
    ]


def _precision(judged: Judged) -> str:
    if judged.precision is None:
        return "No precision is promised (task.precision), so that no answer is kept back."
    if judged.decision.threshold >= NEVER:
        return (
            f"None of the valid split was sure enough for task.precision {judged.precision:g}, so "
            "that none is given."
        )
    said = int(judged.answered.sum())
    exact = judged.measured.counts[judged.answered, 0]
    kept = f"{exact.mean():.3f} of {said:,} are right" if said else "none is given"
    return (
        f"task.precision {judged.precision:g} asks for a probability of "
        f"{judged.decision.threshold:.3f} or more: of the answers here, {kept}."
    )


def _promises(judged: Judged, exact: Floats) -> Table:
    """What would be answered at probabilities from which on answers are given."""
    probability = np.sort(judged.probability)[::-1]
    rows: list[tuple[Cell, ...]] = []
    for bound in _PROMISES:
        kept = int((probability >= bound).sum())
        right = float(exact[:kept].mean()) if kept else None
        rows.append((bound, kept / len(probability), right))
    return Table(
        ("least_probability", "answered", "right"),
        tuple(rows),
        name="promises",
        headings=("probability at least", "share answered", "of these, right"),
    )


def _lengths(judged: Judged, rows: pa.Table) -> list[Block]:
    answers = np.array([max(map(len, texts)) for texts in judged.right])
    contexts = np.array([len(text) for text in rows["context"].to_pylist()])
    found: list[tuple[Cell, ...]] = []
    for (what, edges), lengths in zip(_LENGTHS, (answers, contexts), strict=True):
        for low, high in zip(edges, (*edges[1:], None), strict=True):
            some = (lengths > low) & (lengths <= (high or lengths.max(initial=0)))
            if some.any():
                exact, f1 = judged.measured.counts[some].mean(axis=0).tolist()
                band = f"over {low:,}" if high is None else f"{low + 1:,} to {high:,}"
                found.append((what, band, int(some.sum()), exact, f1))
    return [
        Text("By length", "heading"),
        Table(
            ("of", "characters", "questions", "exact_match", "f1"),
            tuple(found),
            name="lengths",
            headings=("of", "characters", "questions", "EM", "F1"),
        ),
    ]


def worst_answers(f1: Floats, probability: Floats, answered: np.ndarray) -> np.ndarray:
    """Numbers of the questions whose answers share least with the right ones, of those the surest
    first.
    """
    order = np.lexsort((-probability, f1))
    return order[answered[order] & (f1[order] < 1)][:_WORST]


def _worst(judged: Judged, rows: pa.Table) -> list[Block]:
    """Those that it was surest of and that share nothing with what is right."""
    order = worst_answers(judged.measured.counts[:, 1], judged.probability, judged.answered)
    return [
        Text("Worst answers", "heading"),
        Text(
            "Those that share least with the right one, the surest of them first; another good "
            "answer may be among them."
        ),
        _shown(judged, rows, order, "worst"),
    ]


def _shown(judged: Judged, rows: pa.Table, places: np.ndarray, name: str) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for place in places.tolist():
        answer = judged.answers[place]
        said = answer.outcome if answer.answer is None else answer.answer
        cells.append(
            (
                rows["question"][place].as_py()[:_SHOWN],
                " / ".join(judged.right[place])[:_SHOWN] or "(none)",
                said[:_SHOWN],
                answer.probability,
                float(judged.measured.counts[place, 1]),
            )
        )
    return Table(
        ("question", "answer", "predicted", "probability", "f1"),
        tuple(cells),
        name=name,
        headings=("question", "right", "said", "probability", "F1"),
    )
