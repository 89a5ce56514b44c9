"""Figures of a single-label classifier, and how far they may be off because the test split is finite.

Every figure is a function of column sums over rows (rows per class, hits per class, summed NLL, ...). So one sparse
matrix `evidence_NK` holds all of them, and a bootstrap resample is one row of counts times that matrix: a thousand
resamples of ten thousand rows take about a second.

Shapes: N rows, C classes, S resamples, K columns of evidence, B bins of confidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from data_contracts.artifacts import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_CHUNK = 4_000_000  # drawn row numbers held at once: 32 MB
_LOG_TEMPERATURE = (
    -3.0,
    3.0,
)  # T between 0.05 and 20; beyond that the model, not its temperature, is at fault
_AT_BOUND = 0.01  # of log T: how near to an end of the search its optimum counts as the end itself
_FLAT = 1e-9  # nats of the mean NLL that are rounding
FEWEST_ROWS = 30  # to fit a temperature on: with fewer, a single row decides it


@dataclass(frozen=True)
class Scores:
    """`overall` by name (accuracy, macro_f1, nll, ...); `per_class` holds C intervals for precision, recall and f1, and
    None for a class without a row, of which nothing is known."""

    overall: dict[str, Interval]
    per_class: dict[str, list[Interval | None]]
    support: Ints


@dataclass(frozen=True)
class Temperature:
    """What `fit_temperature` found; where it found none, `value` is 1 and `why_not` says why, as half a sentence."""

    value: float
    why_not: str | None = None


@dataclass(frozen=True)
class Reliability:
    """Per bin of confidence: rows, their mean confidence and their accuracy (NaN where a bin is empty)."""

    edges: Floats
    count: Ints
    confidence: Floats
    accuracy: Floats


def figures(labels: NDArray, log_proba: NDArray, *, bins: int = 15) -> dict[str, float]:
    """The overall figures of `score` without intervals, for test and validation alike."""
    evidence = _evidence(labels, log_proba, bins)
    overall, _ = _figures(np.asarray(evidence.sum(axis=0)), log_proba.shape[1])
    return {name: float(values[0]) for name, values in overall.items()}


def score(
    labels: NDArray,
    log_proba: NDArray,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    bins: int = 15,
) -> Scores:
    """All figures with percentile bootstrap intervals (Efron 1979); the same seed gives the same bits.

    - accuracy; precision, recall and F1 per class (0/0 = 0), weighted by support, and macro: the mean over the classes
      that occur among the labels. Of a class without a row nothing is known, so it is no part of the value, and the
      interval of a macro figure reaches from what it would be with 0 for all such classes to what it would be with 1
      (the bounds of Manski 1990, "Nonparametric Bounds on Treatment Effects");
    - nll: mean of -log p(label), in nats;
    - brier: mean of sum_c (p_c - [c = label])^2, between 0 and 2 (Brier 1950);
    - ece: sum_b n_b / N |accuracy_b - confidence_b| over equal-width bins of the top probability (Guo 2017,
      https://arxiv.org/abs/1706.04599, eq. 3). It is biased upwards in small samples, and its interval with it.

    Args:
        labels: (N,) class numbers.
        log_proba: (N, C) natural logarithms of probabilities.
    """
    classes = log_proba.shape[1]
    evidence = _evidence(labels, log_proba, bins)
    value, value_per_class = _figures(np.asarray(evidence.sum(axis=0)), classes)
    drawn, drawn_per_class = _figures(_resample(evidence, samples, seed), classes)
    support = np.bincount(labels, minlength=classes)
    measured = np.count_nonzero(support) / classes
    overall = {name: _interval(float(value[name][0]), drawn[name], confidence) for name in value}
    if measured < 1:
        macro = {name: interval for name, interval in overall.items() if name.startswith("macro_")}
        overall |= {
            name: _whatever_the_rest(interval, measured) for name, interval in macro.items()
        }
    per_class = {
        name: [
            _interval(float(v), drawn_per_class[name][:, c], confidence) if support[c] else None
            for c, v in enumerate(value_per_class[name][0])
        ]
        for name in value_per_class
    }
    return Scores(overall, per_class, support)


def paired_macro_f1_difference(
    labels: NDArray,
    challenger: NDArray,
    champion: NDArray,
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Macro-F1 of the challenger minus that of the champion, both on the same rows of each resample.

    Drawing the rows jointly keeps the correlation of the two models, which makes the interval of their difference far
    narrower than the difference of their intervals (paired bootstrap; Koehn 2004).

    Args:
        labels, challenger, champion: (N,) class numbers: true, and as each model predicts them.
    """
    classes = int(max(labels.max(), challenger.max(), champion.max())) + 1
    true, one, two = (_one_hot(v, classes) for v in (labels, challenger, champion))
    evidence = sparse.csr_matrix(
        sparse.hstack([true, one, true.multiply(one), two, true.multiply(two)])
    )

    def difference(sums: Floats) -> Floats:
        support, said_one, hits_one, said_two, hits_two = np.split(sums, 5, axis=1)
        macro_one, macro_two = (
            _macro(_f1(hits, said, support), support)
            for hits, said in ((hits_one, said_one), (hits_two, said_two))
        )
        return macro_one - macro_two

    value = difference(np.asarray(evidence.sum(axis=0)).reshape(1, -1))
    return _interval(float(value[0]), difference(_resample(evidence, samples, seed)), confidence)


def macro_f1(labels: NDArray, predicted: NDArray) -> float:
    """The macro-F1 of `score`, of class numbers (N,) alone."""
    classes = int(max(labels.max(), predicted.max())) + 1
    support, said, hits = (
        np.bincount(v, minlength=classes).astype(np.float64)[None]
        for v in (labels, predicted, labels[labels == predicted])
    )
    return float(_macro(_f1(hits, said, support), support)[0])


def resampled(
    labels: NDArray, log_proba: NDArray, *, samples: int, seed: int = 0, bins: int = 15
) -> dict[str, Floats]:
    """accuracy, macro_f1, nll, brier and ece on the rows as they are (place 0), then on each of `samples` resamples.

    The same seed draws the same rows whatever the model, so that what two models show is paired place by place.

    Returns:
        (1 + S,) by name.
    """
    evidence, classes = _evidence(labels, log_proba, bins), log_proba.shape[1]
    value, _ = _figures(np.asarray(evidence.sum(axis=0)), classes)
    drawn, _ = _figures(_resample(evidence, samples, seed), classes)
    return {
        name: np.append(value[name], drawn[name])
        for name in ("accuracy", "macro_f1", "nll", "brier", "ece")
    }


def paired_difference(
    one: Sequence[Floats], other: Sequence[Floats], confidence: float = 0.95
) -> Interval:
    """Mean over the runs of `one` minus mean over those of `other`, each run (1 + S,) from `resampled`.

    Averaging over runs (seeds) within each resample leaves the spread between test sets; that between seeds is told
    beside it (paired bootstrap; Koehn 2004).
    """
    difference = np.mean(one, axis=0) - np.mean(other, axis=0)
    return _interval(float(difference[0]), difference[1:], confidence)


def ece_floor(log_proba: NDArray, *, bins: int = 15, draws: int = 200, seed: int = 0) -> float:
    """The ECE that a perfectly calibrated model with these very confidences is expected to show on so few rows.

    E[ECE] under hit_n ~ Bernoulli(confidence_n), the mean over `draws` simulations (Vaicenavicius 2019,
    https://arxiv.org/abs/1902.06977: the estimate's bias under the null hypothesis of calibration).
    """
    confidence, _, index = _confidence(np.zeros(len(log_proba), np.int64), log_proba, bins)
    by_bin, rng, gaps = sparse.csr_matrix(_one_hot(index, bins).T), np.random.default_rng(seed), []
    step = max(1, _CHUNK // len(confidence))
    for start in range(0, draws, step):
        hits = rng.random((min(step, draws - start), len(confidence))) < confidence
        gaps.append(np.abs(by_bin @ (hits - confidence).T).sum(axis=0) / len(confidence))
    return float(np.concatenate(gaps).mean())


def fit_temperature(log_proba: NDArray, labels: NDArray) -> Temperature:
    """argmin_T of the mean NLL of softmax(log p / T) (Guo 2017, section 4.2); one number, so accuracy stays.

    There may be no such T: where every row is right the NLL falls without end as T falls, and each answer would be
    given with probability 1. So it is looked for where the rows can tell it, and never taken from an end of the search.
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
            f"the model has all {rows:,} rows right, so the likelihood rises without end as it falls",
        )
    best = float(minimize_scalar(nll, bounds=_LOG_TEMPERATURE, method="bounded").x)
    low, high = _LOG_TEMPERATURE
    if nll(low) - nll(best) < _FLAT and nll(high) - nll(best) < _FLAT:
        return Temperature(1.0, "the likelihood is the same at every temperature")
    if not low + _AT_BOUND < best < high - _AT_BOUND:
        end = np.exp(low if best < 0 else high)
        return Temperature(1.0, f"the best one lies at or beyond {end:.3g}, the end of the search")
    return Temperature(float(np.exp(best)))


def apply_temperature(log_proba: NDArray, temperature: float) -> Floats:
    """log softmax(log p / T): logits are log-probabilities up to a constant per row, which softmax drops."""
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


# --- evidence ---------------------------------------------------------------------------------------------------------


def _evidence(labels: NDArray, log_proba: NDArray, bins: int) -> sparse.csr_matrix:
    """(N, 3 C + 2 + 2 B): true class, predicted class, hit in class; NLL, Brier; confidence and hit by bin."""
    rows, classes = log_proba.shape
    if rows == 0 or labels.shape != (rows,):
        raise ValueError(
            f"expected one label per row and at least one row, got {labels.shape} and {log_proba.shape}"
        )
    true, said = _one_hot(labels, classes), _one_hot(np.argmax(log_proba, axis=1), classes)
    log_p = np.asarray(log_proba, np.float64)
    proba = np.exp(log_p)
    of_label = _of_label(log_p, labels)
    # sum_c (p_c - y_c)^2 = sum_c p_c^2 - 2 p_label + 1
    brier = np.einsum("nc,nc->n", proba, proba) - 2 * np.exp(of_label) + 1
    confidence, correct, index = _confidence(labels, log_proba, bins)
    by_bin = _one_hot(index, bins)
    losses = sparse.csr_matrix(np.column_stack([-of_label, brier]))
    binned = [sparse.diags(v) @ by_bin for v in (confidence, correct)]
    return sparse.csr_matrix(sparse.hstack([true, said, true.multiply(said), losses, *binned]))


def _figures(sums: Floats, classes: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Column sums (S, K) to figures: (S,) each, and (S, C) per class. NaN: a class that a resample does not hold."""
    sums = sums.reshape(-1, sums.shape[-1])
    support, said, hits, losses, binned = np.split(
        sums, np.cumsum([classes, classes, classes, 2]), axis=1
    )
    rows = support.sum(axis=1)
    confidence, correct = np.split(binned, 2, axis=1)
    per_class = {
        "precision": _ratio(hits, said),
        "recall": _ratio(hits, support),
        "f1": _f1(hits, said, support),
    }
    overall = {"accuracy": hits.sum(axis=1) / rows}
    for name, values in per_class.items():
        overall[f"macro_{name}"] = _macro(values, support)
        overall[f"weighted_{name}"] = (values * support).sum(axis=1) / rows
    overall |= {
        "nll": losses[:, 0] / rows,
        "brier": losses[:, 1] / rows,
        "ece": np.abs(confidence - correct).sum(axis=1) / rows,
    }
    return overall, {
        name: np.where(support > 0, values, np.nan) for name, values in per_class.items()
    }


def _resample(evidence: sparse.csr_matrix, samples: int, seed: int) -> Floats:
    """(S, K) column sums of `samples` draws of N rows with replacement."""
    rows, _ = evidence.get_shape()
    transposed = sparse.csr_matrix(evidence.T)
    return np.concatenate([(transposed @ counts.T).T for counts in _counts(rows, samples, seed)])


def _counts(rows: int, samples: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn, for some resamples at a time (s, N)."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // rows)
    for start in range(0, samples, step):
        size = min(step, samples - start)
        drawn = rng.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield (
            np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        )


def _whatever_the_rest(mean: Interval, measured: float) -> Interval:
    """Bounds of a mean over all classes: the share `measured` of them has this mean, the rest anything from 0 to 1."""
    return Interval(value=mean.value, low=measured * mean.low, high=1 - measured * (1 - mean.high))


def _interval(value: float, drawn: Floats, confidence: float) -> Interval:
    """Percentile interval over the resamples that hold the class; where none does, one that says nothing: 0 to 1."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value=value, low=0.0, high=1.0)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def _one_hot(index: NDArray, columns: int) -> sparse.csr_matrix:
    rows = len(index)
    return sparse.csr_matrix(
        (np.ones(rows), np.asarray(index, np.int64), np.arange(rows + 1)), shape=(rows, columns)
    )


def _confidence(labels: NDArray, log_proba: NDArray, bins: int) -> tuple[Floats, Floats, Ints]:
    """Top probability, whether it hits, and its bin: (b / B, (b + 1) / B]."""
    confidence = np.exp(np.max(np.asarray(log_proba, np.float64), axis=1))
    correct = (np.argmax(log_proba, axis=1) == labels).astype(np.float64)
    return (
        confidence,
        correct,
        np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1),
    )


def _of_label(log_proba: NDArray, labels: NDArray) -> Floats:
    return np.take_along_axis(
        np.asarray(log_proba, np.float64), np.asarray(labels, np.int64)[:, None], axis=1
    )[:, 0]


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(hits: Floats, said: Floats, support: Floats) -> Floats:
    """2 TP / (2 TP + FP + FN), and TP + FP = said, TP + FN = support."""
    return _ratio(2 * hits, said + support)


def _macro(values: Floats, support: Floats) -> Floats:
    present = support > 0
    return (values * present).sum(axis=1) / present.sum(axis=1)
