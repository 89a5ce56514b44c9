"""Sets of labels that hold the true one as often as was promised: split conformal prediction.

    S(x) = {c: s(x, c) <= q},  q the ceil((n + 1) coverage)-th lowest of s(x_i, y_i), i = 1 .. n

over n rows that the model was not trained on (Vovk 2005). s is 1 - p(c) (`lac`: Sadinle 2019,
https://arxiv.org/abs/1609.00451, the smallest sets) or the probability of all labels at least as
likely as c (`aps`: Romano 2020, https://arxiv.org/abs/2006.02544, without its random part: sets
that adapt to how hard a text is). The likeliest label is in every set.

Shapes: N texts, C classes.
This file is shipped inside the registered model: it imports numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

METHODS = ("lac", "aps")
EVERY = 2.0  # a threshold that every label's score is below


def scores(proba_NC: np.ndarray, method: str) -> np.ndarray:
    """(N, C) from 0, of the likeliest labels, to 1."""
    if method == "lac":
        return 1 - proba_NC
    order = np.argsort(-proba_NC, axis=1, kind="stable")
    cumulated = np.take_along_axis(proba_NC, order, axis=1).cumsum(axis=1)
    found = np.empty_like(cumulated)
    np.put_along_axis(found, order, cumulated, axis=1)
    return found


def threshold_of(scores_N: np.ndarray, coverage: float) -> float:
    """q, of the true labels' scores; `EVERY` where the rows are too few to promise anything."""
    place = math.ceil((len(scores_N) + 1) * coverage)
    return float(np.sort(scores_N)[place - 1]) if place <= len(scores_N) else EVERY


def members(proba_NC: np.ndarray, conformal: Mapping[str, Any]) -> np.ndarray:
    """(N, C) whether each label is in its set.

    Args:
        conformal: `method` and `threshold`.
    """
    inside = scores(proba_NC, conformal["method"]) <= conformal["threshold"]
    inside[np.arange(len(proba_NC)), proba_NC.argmax(axis=1)] = True
    return inside


def label_sets(
    proba_NC: np.ndarray, labels: Sequence[str], conformal: Mapping[str, Any]
) -> list[list[str]]:
    """The labels of each set, the likeliest first."""
    inside = members(proba_NC, conformal)
    order = np.argsort(-proba_NC, axis=1, kind="stable")
    found: list[list[str]] = []
    for places, row in zip(order, inside, strict=True):
        found.append([labels[int(place)] for place in places if row[place]])
    return found


def fault(given: Any) -> bool:
    """Whether this is no `conformal` of a bundle."""
    if not isinstance(given, Mapping) or given.get("method") not in METHODS:
        return True
    threshold: Any = given.get("threshold")
    return type(threshold) not in (int, float) or not 0 <= threshold <= EVERY
