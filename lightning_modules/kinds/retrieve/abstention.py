"""How sure an answer has to be to be given: a logistic function of what its score is made of, and
the threshold of a promised precision, both from the valid split.

Each question is looked at twice, once among all answers and once without those that are right to
it, as if nobody had answered it; the shares of both in what is fitted are those that the recipe
expects (task.abstain.unanswered).

Shapes: N questions, K features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lightning_modules.evidence import Floats
from lightning_modules.selective import threshold_of


@dataclass(frozen=True)
class Asked:
    """What was found for questions, with their right answers there and without.

    features, features_without: (N, K) of the best answer.
    right: (N,) whether it is right, where the right ones are there.
    """

    features: Floats
    features_without: Floats
    right: np.ndarray

    def together(self, unanswered: float) -> tuple[Floats, np.ndarray, Floats]:
        """(2 N, K) features, whether each is right, and its weight; the weights' sum is 1."""
        count = len(self.right)
        right = np.concatenate([self.right, np.zeros(count, bool)])
        weights = np.repeat([(1 - unanswered) / count, unanswered / count], count)
        some = weights > 0
        features = np.concatenate([self.features, self.features_without])
        return features[some], right[some], weights[some]


def fitted(asked: Asked, unanswered: float, precision: float | None) -> dict[str, Any]:
    """`weights` of the features and last what is added (none where nothing tells right from wrong),
    and the `threshold`.
    """
    features, right, weights = asked.together(unanswered)
    if right.all() or not right.any():
        return {"weights": [], "threshold": 0.0}
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread == 0] = 1.0
    model = LogisticRegression(max_iter=1000)
    model.fit((features - mean) / spread, right, sample_weight=weights * len(right))
    own = np.asarray(model.coef_)[0] / spread
    found = [*own.tolist(), float(np.asarray(model.intercept_)[0] - own @ mean)]
    sure = probabilities(features, found)
    threshold = (
        0.0
        if precision is None
        else threshold_of(sure, right, precision, weights_N=weights, never=1.0)
    )
    return {"weights": found, "threshold": threshold}


def probabilities(features: Floats, weights: list[float]) -> Floats:
    """(N,) that an answer of these features is right; 1 where nothing tells."""
    if not weights:
        return np.ones(len(features))
    x = features @ np.array(weights[:-1]) + weights[-1]
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def told_apart(sure: Floats, sure_without: Floats) -> float | None:
    """Area under the ROC curve of telling, by the probability, a question whose answer is there
    from one that nobody has answered.
    """
    if not len(sure):
        return None
    there = np.repeat([1, 0], [len(sure), len(sure_without)])
    return float(roc_auc_score(there, np.concatenate([sure, sure_without])))


def precision_of(
    asked: Asked, decided: Mapping[str, Any], unanswered: float
) -> tuple[float, float]:
    """The share of right ones among the answers that are given, and the share of questions that are
    answered, where so many have none.
    """
    features, right, weights = asked.together(unanswered)
    given = probabilities(features, decided["weights"]) >= decided["threshold"]
    total = float(weights[given].sum())
    return float((weights * right)[given].sum() / total) if total else float("nan"), total
