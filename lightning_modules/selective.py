"""Answers that are given and answers that are kept back: thresholds, and what they cost.

Shapes: N answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import beta

from lightning_modules.evidence import Floats


def threshold_of(
    probability_N: Floats,
    right_N: np.ndarray,
    precision: float,
    *,
    never: float,
    weights_N: Floats | None = None,
    spare: float = 0.0,
) -> float:
    """The lowest probability at which the surest answers keep a precision; `never`: none does.

    A set of answers of weight w, of which r is right, keeps it where r / (w + spare) does.

    Args:
        weights_N: of each answer; None: 1.
        spare: weight of wrong answers that are thought of beside them: 1, an answer more, and that
            one wrong.
    """
    order = np.argsort(-probability_N, kind="stable")
    proba, right = probability_N[order], np.asarray(right_N, np.float64)[order]
    weights = np.ones(len(order)) if weights_N is None else weights_N[order]
    kept = np.cumsum(weights * right) / (np.cumsum(weights) + spare)
    # Answers of one probability are given together.
    last = np.append(proba[1:] != proba[:-1], True)[: len(proba)]
    places = np.flatnonzero((kept >= precision) & last)
    return float(proba[places[-1]]) if len(places) else never


class RiskCoverage(NamedTuple):
    """The error among the surest answers, for each share of them that is given.

    risk: (N,) among the surest n, n from 1 to N; among answers that are as sure as each other, as
        if each came first as often.
    area: its mean, AURC (Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500).
    best: the area where every right answer was surer than every wrong one.
    """

    risk: Floats
    area: float
    best: float


def risk_coverage(confidence_N: Floats, right_N: np.ndarray) -> RiskCoverage:
    """Of one answer or more."""
    order = np.argsort(-confidence_N, kind="stable")
    wrong = 1 - np.asarray(right_N, np.float64)[order]
    _, place, counts = np.unique(-confidence_N[order], return_inverse=True, return_counts=True)
    wrong = (np.bincount(place, weights=wrong) / counts)[place]
    count = np.arange(1, len(wrong) + 1)
    risk = np.cumsum(wrong) / count
    errors = round(float(wrong.sum()))
    ideal = np.maximum(count - (len(wrong) - errors), 0) / count
    return RiskCoverage(risk, float(risk.mean()), float(ideal.mean()))


def exact_interval(hits: int, rows: int, confidence: float) -> tuple[float, float]:
    """Of a share, from one row or more (Clopper & Pearson 1934)."""
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, rows - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, rows - hits)) if hits < rows else 1.0
    return low, high
