"""What is measured of answers, as columns of evidence and the figures that follow from sums.

Rows of one context are drawn together: its questions are easy or hard together.

Shapes: N questions, S sums, K columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_modules.evidence import Evidence, Floats

COVERED = 0.8  # share of the questions, the surest, of which a figure is told


@dataclass(frozen=True)
class Measured:
    """N answers beside what is known of them.

    counts: (N, 2) exact match and F1 of what was said.
    answered: (N,) whether anything was.
    contexts: of each question.
    probability: (N,) that it is right; None: nobody told.
    floor: (N, 2) of the best matching sentence.
    """

    counts: Floats
    answered: np.ndarray
    contexts: Sequence[str]
    probability: Floats | None = None
    floor: Floats | None = None

    def evidence(self) -> Evidence:
        exact, f1 = self.counts.T
        answered = self.answered.astype(np.float64)
        columns = [np.ones_like(f1), exact, f1, answered, exact * answered]
        if self.probability is not None:
            surest = kept(self.probability).astype(np.float64)
            columns += [surest, f1 * surest]
        if self.floor is not None:
            columns += [*self.floor.T]
        number = {context: place for place, context in enumerate(dict.fromkeys(self.contexts))}
        groups = np.array([number[context] for context in self.contexts], np.int64)
        return Evidence(np.stack(columns, axis=1), self.figures, groups=groups, unit="contexts")

    def figures(self, sums: Floats) -> dict[str, Floats]:
        """(S,) each, of sums (S, K)."""
        rows, exact, f1, answered, right = sums[:, :5].T
        rows = np.maximum(rows, 1)
        found = {
            "f1": f1 / rows,
            "exact_match": exact / rows,
            "answered": answered / rows,
            "right_of_answered": _share(right, answered),
        }
        rest = sums[:, 5:]
        if self.probability is not None:
            found["f1_at_80"] = _share(rest[:, 1], rest[:, 0])
            rest = rest[:, 2:]
        if self.floor is not None:
            found["sentence_f1"] = rest[:, 1] / rows
            found["sentence_exact_match"] = rest[:, 0] / rows
        return found


def kept(probability: Floats) -> np.ndarray:
    """(N,) whether a question is one of the surest `COVERED`."""
    found = np.zeros(len(probability), bool)
    order = np.argsort(-probability, kind="stable")
    found[order[: round(COVERED * len(order))]] = True
    return found


def auroc(scores: Floats, positive: np.ndarray) -> float | None:
    """The probability that one of the positive has a higher score than one of the others, ties
    counted half; None: there are none of either.
    """
    from scipy.stats import rankdata

    positive = np.asarray(positive, bool)
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return None
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def _share(part: Floats, whole: Floats) -> Floats:
    """NaN where the whole is nothing."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
