"""Figures of a single-label classifier as functions of column sums, one definition of each.

Validation during training, the report, the gate and a comparison all go through `evidence`.

Shapes: N rows, C classes, S resamples, K columns of evidence, B bins of confidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from lightning_modules.evidence import Evidence, Floats, one_hot

Ints = NDArray[np.int64]
_CHUNK = 4_000_000  # simulated hits held at once: 32 MB
# T between 0.05 and 20; beyond that the model, not its temperature, is at fault
_LOG_TEMPERATURE = (-3.0, 3.0)
_AT_BOUND = 0.01  # of log T: how near to an end of the search its optimum counts as the end itself
_FLAT = 1e-9  # nats of the mean NLL that are rounding
FEWEST_ROWS = 30  # to fit a temperature on: with fewer, a single row decides it


@dataclass(frozen=True)
class Temperature:
    """What `fit_temperature` found.

    Where it found none, `value` is 1 and `why_not` says why, as half a sentence.
    """

    value: float
    why_not: str | None = None


@dataclass(frozen=True)
class Reliability:
    """Per bin of confidence: rows, mean confidence and accuracy (NaN where a bin is empty)."""

    edges: Floats
    count: Ints
    confidence: Floats
    accuracy: Floats


def evidence(
    labels: NDArray,
    log_proba: NDArray,
    *,
    parts: Sequence[str] | None = None,
    bins: int = 15,
    beside: Mapping[str, NDArray] | None = None,
) -> Evidence:
    """What each row adds to the figures of probabilities.

    - accuracy; precision, recall and F1 (0/0 = 0), weighted by support, and macro: the mean over
      the classes that occur among the labels;
    - nll: mean of -log p(label), in nats;
    - brier: mean of sum_c (p_c - [c = label])^2, between 0 and 2 (Brier 1950);
    - ece: sum_b n_b / N |accuracy_b - confidence_b| over equal-width bins of the top probability
      (Guo 2017, https://arxiv.org/abs/1706.04599, eq. 3). It is biased upwards in small samples,
      and its interval with it.

    Args:
        labels: (N,) class numbers.
        log_proba: (N, C) natural logarithms of probabilities.
        parts: (C,) names under which precision, recall and F1 of each class are figures too,
            `f1/<name>`, unless no row has the class; null: they are none.
        beside: log-probabilities of the same answers at another temperature, by name; their nll,
            brier and ece are `<name>/nll` and so on.
    """
    rows, classes = log_proba.shape
    if rows == 0 or labels.shape != (rows,):
        raise ValueError(
            "expected one label per row and at least one row, "
            f"got {labels.shape} and {log_proba.shape}"
        )
    beside = beside or {}
    columns = [
        _counted(labels, np.argmax(log_proba, axis=1), classes),
        *(_losses(labels, each, bins) for each in (log_proba, *beside.values())),
    ]
    prefixes = ("", *(f"{name}/" for name in beside))
    return _evidence(labels, columns, classes, parts=parts, bins=bins, prefixes=prefixes)


def answers(labels: NDArray, predicted: NDArray, classes: int) -> Evidence:
    """What each row adds to the figures of one class number for each row, without probabilities.

    Args:
        labels, predicted: (N,) class numbers below `classes`.
    """
    return _evidence(labels, [_counted(labels, predicted, classes)], classes)


def figures(labels: NDArray, log_proba: NDArray, *, bins: int = 15) -> dict[str, float]:
    """The figures of `evidence` without intervals and without those of each class."""
    return evidence(labels, log_proba, bins=bins).point()


def part_names(labels: Sequence[str]) -> list[str]:
    """Label names as MLflow allows them in a metric, each another one.

    Letters of any script, digits, `_ - . :` and spaces.
    """
    names: dict[str, None] = {}
    for number, label in enumerate(labels):
        name = re.sub(r"[^\w.\-: ]", "_", label).strip(". ")[:150] or f"class_{number}"
        names[f"{name}_{number}" if name in names else name] = None
    return list(names)


def ece_floor(log_proba: NDArray, *, bins: int = 15, draws: int = 200, seed: int = 0) -> float:
    """The ECE that a calibrated model with these confidences is expected to show on so few rows.

    E[ECE] under hit_n ~ Bernoulli(confidence_n), the mean over `draws` simulations (Vaicenavicius
    2019, https://arxiv.org/abs/1902.06977: the estimate's bias under the null hypothesis of
    calibration).
    """
    confidence, _, index = _confidence(np.zeros(len(log_proba), np.int64), log_proba, bins)
    by_bin, rng, gaps = sparse.csr_matrix(one_hot(index, bins).T), np.random.default_rng(seed), []
    step = max(1, _CHUNK // len(confidence))
    for start in range(0, draws, step):
        hits = rng.random((min(step, draws - start), len(confidence))) < confidence
        gaps.append(np.abs(by_bin @ (hits - confidence).T).sum(axis=0) / len(confidence))
    return float(np.concatenate(gaps).mean())


def fit_temperature(log_proba: NDArray, labels: NDArray) -> Temperature:
    """argmin_T of the mean NLL of softmax(log p / T) (Guo 2017, section 4.2).

    One number for all rows, so accuracy stays.

    There may be no such T: where every row is right the NLL falls without end as T falls, and each
    answer would be given with probability 1. So it is looked for where the rows can tell it, and
    never taken from an end of the search.
    """

    def nll(log_temperature: float) -> float:
        return -float(
            _of_label(apply_temperature(log_proba, float(np.exp(log_temperature))), labels).mean()
        )

    rows = len(labels)
    if rows < FEWEST_ROWS:
        return Temperature(1.0, f"{rows:,} rows are too few to fit one on (at least {FEWEST_ROWS})")
    if len(np.unique(labels)) < 2:
        return Temperature(1.0, "the rows are all of one class")
    if (np.argmax(log_proba, axis=1) == labels).all():
        return Temperature(
            1.0,
            f"the model has all {rows:,} rows right, "
            "so the likelihood rises without end as it falls",
        )
    found: Any = minimize_scalar(nll, bounds=_LOG_TEMPERATURE, method="bounded")
    best = float(found.x)
    low, high = _LOG_TEMPERATURE
    if nll(low) - nll(best) < _FLAT and nll(high) - nll(best) < _FLAT:
        return Temperature(1.0, "the likelihood is the same at every temperature")
    if not low + _AT_BOUND < best < high - _AT_BOUND:
        end = np.exp(low if best < 0 else high)
        return Temperature(1.0, f"the best one lies at or beyond {end:.3g}, the end of the search")
    return Temperature(float(np.exp(best)))


def apply_temperature(log_proba: NDArray, temperature: float) -> Floats:
    """log softmax(log p / T): logits are log p up to a constant per row, which softmax drops."""
    return log_softmax(np.asarray(log_proba, np.float64) / temperature, axis=1)


def confusion_matrix(labels: NDArray, predicted: NDArray, classes: int) -> Ints:
    """(C, C) counts: row true, column predicted."""
    return np.bincount(
        np.asarray(labels, np.int64) * classes + predicted, minlength=classes**2
    ).reshape(classes, classes)


def reliability(labels: NDArray, log_proba: NDArray, *, bins: int = 15) -> Reliability:
    """The bins behind the ECE."""
    confidence, correct, index = _confidence(labels, log_proba, bins)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [
            np.bincount(index, weights=v, minlength=bins) / count for v in (confidence, correct)
        ]
    return Reliability(np.linspace(0, 1, bins + 1), count, means[0], means[1])


# --- columns of evidence, and figures of their sums ---------------------------------------------


def _evidence(
    labels: NDArray,
    columns: Sequence[sparse.csr_matrix],
    classes: int,
    *,
    parts: Sequence[str] | None = None,
    bins: int = 0,
    prefixes: Sequence[str] = (),
) -> Evidence:
    support = np.bincount(labels, minlength=classes)
    share = np.count_nonzero(support) / classes
    macro = ("macro_precision", "macro_recall", "macro_f1")
    held = {c: part for c, part in enumerate(parts or ()) if support[c]}
    return Evidence(
        sparse.csr_matrix(sparse.hstack(columns)),
        partial(_figures, classes=classes, bins=bins, prefixes=prefixes, held=held),
        dict.fromkeys(macro, share) if share < 1 else {},
    )


def _counted(labels: NDArray, predicted: NDArray, classes: int) -> sparse.csr_matrix:
    """(N, 3 C): true class, predicted class, hit in class."""
    true = one_hot(labels, classes)
    said = one_hot(predicted, classes)
    return sparse.csr_matrix(sparse.hstack([true, said, true.multiply(said)]))


def _losses(labels: NDArray, log_proba: NDArray, bins: int) -> sparse.csr_matrix:
    """(N, 2 + 2 B): NLL and Brier; confidence and hit, each in the column of its bin."""
    log_p = np.asarray(log_proba, np.float64)
    proba = np.exp(log_p)
    of_label = _of_label(log_p, labels)
    # sum_c (p_c - y_c)^2 = sum_c p_c^2 - 2 p_label + 1
    brier = np.einsum("nc,nc->n", proba, proba) - 2 * np.exp(of_label) + 1
    confidence, correct, index = _confidence(labels, log_proba, bins)
    by_bin = one_hot(index, bins)
    losses = sparse.csr_matrix(np.column_stack([-of_label, brier]))
    binned = [sparse.diags(values) @ by_bin for values in (confidence, correct)]
    return sparse.csr_matrix(sparse.hstack([losses, *binned]))


def _figures(
    sums: Floats, *, classes: int, bins: int, prefixes: Sequence[str], held: Mapping[int, str]
) -> dict[str, Floats]:
    """Column sums (S, K) to figures (S,); NaN for a class that a resample does not hold."""
    support, said, hits = (sums[:, k * classes : (k + 1) * classes] for k in range(3))
    rows = support.sum(axis=1)
    per_class = {
        "precision": _ratio(hits, said),
        "recall": _ratio(hits, support),
        "f1": _f1(hits, said, support),
    }
    found = {"accuracy": hits.sum(axis=1) / rows}
    for name, values in per_class.items():
        found[f"macro_{name}"] = _macro(values, support)
        found[f"weighted_{name}"] = (values * support).sum(axis=1) / rows
    for number, prefix in enumerate(prefixes):
        first = 3 * classes + number * (2 + 2 * bins)
        confidence = sums[:, first + 2 : first + 2 + bins]
        correct = sums[:, first + 2 + bins : first + 2 + 2 * bins]
        found[f"{prefix}nll"] = sums[:, first] / rows
        found[f"{prefix}brier"] = sums[:, first + 1] / rows
        found[f"{prefix}ece"] = np.abs(confidence - correct).sum(axis=1) / rows
    for name, values in per_class.items() if held else ():
        known = np.where(support > 0, values, np.nan)
        found |= {f"{name}/{part}": known[:, c] for c, part in held.items()}
    return found


def _confidence(labels: NDArray, log_proba: NDArray, bins: int) -> tuple[Floats, Floats, Ints]:
    """Top probability, whether it hits, and its bin: (b / B, (b + 1) / B]."""
    confidence = np.exp(np.max(np.asarray(log_proba, np.float64), axis=1))
    correct = (np.argmax(log_proba, axis=1) == labels).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return confidence, correct, index


def _of_label(log_proba: NDArray, labels: NDArray) -> Floats:
    log_p = np.asarray(log_proba, np.float64)
    return np.take_along_axis(log_p, np.asarray(labels, np.int64)[:, None], axis=1)[:, 0]


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(hits: Floats, said: Floats, support: Floats) -> Floats:
    """2 TP / (2 TP + FP + FN), and TP + FP = said, TP + FN = support."""
    return _ratio(2 * hits, said + support)


def _macro(values: Floats, support: Floats) -> Floats:
    present = support > 0
    return (values * present).sum(axis=1) / present.sum(axis=1)
