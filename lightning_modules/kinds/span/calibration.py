"""What the valid split decides: how probable it is that an answer is right, and which are given.

    p(right) = sigmoid(b + w . x),  x the signals of a question's best span

by logistic regression with a small quadratic penalty on the weights of standardized signals, to
Platt's targets (1999): (n+ + 1) / (n+ + 2) for right and 1 / (n- + 2) for wrong ones, so that few
rows, or such as are all right, promise no certainty.

Shapes: N questions, K signals.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from lightning_modules.evidence import Floats

_PENALTY = 1.0
NEVER = 2.0  # a threshold that no probability reaches


def logistic(signals_NK: Floats, right_N: np.ndarray) -> tuple[float, ...]:
    """Intercept and weights (1 + K) in the logit of being right."""
    right = np.asarray(right_N, bool)
    positive, negative = int(right.sum()), int((~right).sum())
    target = np.where(right, (positive + 1) / (positive + 2), 1 / (negative + 2))
    mean, spread = signals_NK.mean(axis=0), signals_NK.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    x = np.column_stack([np.ones(len(right)), (signals_NK - mean) / spread])

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = x @ weights
        nats = np.logaddexp(0, logits) - target * logits
        slopes = np.append(0.0, weights[1:])
        gradient = x.T @ (1 / (1 + np.exp(-logits)) - target) + _PENALTY * slopes
        return float(nats.sum() + _PENALTY * (slopes**2).sum() / 2), gradient

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    weights = found[1:] / spread
    return (float(found[0] - weights @ mean), *(float(one) for one in weights))


def least_answerable(proba_N: Floats, f1_N: Floats, answerable_N: np.ndarray) -> float:
    """The probability of an answer below which to say that there is none, by the highest mean F1.

    Args:
        f1_N: of the best span of each question; one without an answer has 1 where it gets none.
    """
    order = np.argsort(-proba_N, kind="stable")
    proba = proba_N[order]
    none = (~np.asarray(answerable_N, bool)).astype(np.float64)[order]
    answered = np.append(0.0, np.cumsum(f1_N[order]))
    total = answered + none.sum() - np.append(0.0, np.cumsum(none))
    # Between two questions that are told apart, or beyond the last one.
    edges = np.concatenate([[1.0], (proba[:-1] + proba[1:]) / 2, [0.0]])
    apart = np.concatenate([[True], proba[:-1] > proba[1:], [True]])
    best = total[apart].max(initial=0.0)
    among = edges[apart & (total >= best - 1e-9)]
    return float(among[np.argmin(np.abs(among - 0.5))]) if len(among) else 0.5
