"""Figures with intervals from sums over rows: one bootstrap for every kind of task.

A figure is a function of column sums over rows: hits and rows for accuracy, nats and tokens for
perplexity, matched and said n-grams for BLEU. So a resample of the rows is one row of counts times
a matrix, and a thousand resamples of ten thousand rows take about a second. What is no function of
sums (an area under a curve) has no place here.

Shapes: N rows, K columns of evidence, S resamples, G slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from data_contracts.kinds.base import Metric
from data_contracts.results import Interval

Floats = NDArray[np.float64]
_CHUNK = 4_000_000  # drawn row numbers, or sums of slices, held at once: 32 MB


@dataclass(frozen=True)
class Evidence:
    """What each row adds to a kind's figures, and how these follow from sums of it."""

    values: Floats | sparse.csr_matrix  # (N, K); sparse where a thousand columns are mostly 0
    figures: Callable[[Floats], dict[str, Floats]]  # sums (S, K) -> (S,) by name
    # Of a figure that is a mean over parts between 0 and 1 (classes, languages), the share of the
    # parts that have rows; a figure that is absent here has them all.
    measured: Mapping[str, float] = field(default_factory=dict)
    # (N,) numbers, the same for rows that belong together (the questions of a text): a resample
    # draws whole groups, since rows of one are right or wrong together. None: rows by themselves.
    groups: NDArray[np.int64] | None = None
    unit: str = "rows"  # what is drawn, in words

    @property
    def rows(self) -> int:
        return self.values.shape[0]  # pyright: ignore[reportOptionalSubscript]

    def point(self) -> dict[str, float]:
        """Each figure on the rows as they are."""
        return {name: float(values[0]) for name, values in self.figures(self._sums()).items()}

    @property
    def sampled(self) -> Floats | sparse.csr_matrix:
        """(G, K) what is drawn from: the rows, or the sums of their groups."""
        if self.groups is None:
            return self.values
        _, group = np.unique(self.groups, return_inverse=True)
        members = sparse.csr_matrix(one_hot(group, int(group.max(initial=-1)) + 1).T)
        return members @ self.values

    def _sums(self) -> Floats:
        return np.asarray(self.values.sum(axis=0)).reshape(1, -1)


def figures(
    evidence: Evidence, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Every figure with its percentile bootstrap interval (Efron 1979).

    The same seed gives the same bits.

    Of a part without a row nothing is known. It has no share in the value of a mean over parts, and
    the interval reaches from what the mean would be with 0 for all such parts to what it would be
    with 1 (the bounds of Manski 1990, "Nonparametric Bounds on Treatment Effects").
    """
    found = {
        name: interval(values, confidence)
        for name, values in drawn(evidence, samples, seed).items()
    }
    for name, share in evidence.measured.items():
        found[name] = _whatever_the_rest(found[name], share)
    return found


def drawn(evidence: Evidence, samples: int, seed: int = 0) -> dict[str, Floats]:
    """Each figure on the rows as they are (place 0), then on each of S resamples of them.

    A resample is N rows drawn with replacement, or as many groups as there are (the bootstrap of
    clusters; Davison & Hinkley 1997, section 3.8).

    The same seed draws the same rows whatever the model, so that what two models show is paired
    place by place.

    Returns:
        (1 + S,) by name.
    """
    value = evidence.figures(evidence._sums())
    resampled = evidence.figures(_resample(evidence.sampled, samples, seed))
    return {name: np.append(value[name], resampled[name]) for name in value}


def difference(
    one: Sequence[Floats], other: Sequence[Floats], confidence: float = 0.95
) -> Interval:
    """Mean over the runs of `one` minus mean over those of `other`, each run (1 + S,) from `drawn`.

    Averaging over runs (seeds) within each resample leaves the spread between test sets; that
    between seeds is told beside it (paired bootstrap; Koehn 2004).
    """
    return interval(np.mean(one, axis=0) - np.mean(other, axis=0), confidence)


def paired(
    one: Evidence,
    other: Evidence,
    metric: Metric,
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The metric of `one` minus that of `other`, both on the same rows of each resample.

    Drawing the rows jointly keeps the correlation of the two models, which makes the interval of
    their difference far narrower than the difference of their intervals (paired bootstrap; Koehn
    2004).
    """
    if one.rows != other.rows:
        raise ValueError(f"the same rows are needed for both: {one.rows:,} and {other.rows:,}")
    sides = [drawn(evidence, samples, seed)[metric.name] for evidence in (one, other)]
    return difference(sides[:1], sides[1:], confidence)


def by_slice(
    evidence: Evidence, slice_of_row: Sequence[str | None], metric: Metric
) -> dict[str | None, tuple[float, int]]:
    """The metric and the number of rows of each slice, by name; last the rows that belong to none.

    Args:
        slice_of_row: (N,) names, None where a row has no value.
    """
    if len(slice_of_row) != evidence.rows:
        raise ValueError(f"{len(slice_of_row):,} slices for {evidence.rows:,} rows")
    names = sorted(set(slice_of_row), key=lambda name: (name is None, name or ""))
    place = {name: number for number, name in enumerate(names)}
    slices = np.fromiter((place[name] for name in slice_of_row), np.int64, len(slice_of_row))
    members = sparse.csr_matrix(one_hot(slices, len(names)).T)  # (G, N)
    counts = np.bincount(slices, minlength=len(names))
    step = max(1, _CHUNK // evidence.values.shape[1])  # pyright: ignore[reportOptionalSubscript]
    found: list[float] = []
    for first in range(0, len(names), step):
        sums = members[first : first + step] @ evidence.values
        dense = sums.toarray() if sparse.issparse(sums) else sums
        found += evidence.figures(dense)[metric.name].tolist()
    return {
        name: (value, int(rows)) for name, value, rows in zip(names, found, counts, strict=True)
    }


def interval(values: Floats, confidence: float) -> Interval:
    """Percentile interval of what `drawn` gives.

    Over the resamples that can tell the figure (no NaN). Where none can, one that says nothing of
    a share: 0 to 1.
    """
    value, resampled = float(values[0]), values[1:]
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return Interval(value=value, low=0.0, high=1.0)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def one_hot(index: NDArray[np.integer], columns: int) -> sparse.csr_matrix:
    """(N, columns) with a 1 in each row, at its index."""
    rows = len(index)
    return sparse.csr_matrix(
        (np.ones(rows), np.asarray(index, np.int64), np.arange(rows + 1)), shape=(rows, columns)
    )


def _resample(values: Floats | sparse.csr_matrix, samples: int, seed: int) -> Floats:
    """(S, K) column sums of `samples` draws of N rows with replacement."""
    rows = values.shape[0]  # pyright: ignore[reportOptionalSubscript]
    transposed = sparse.csr_matrix(values.T) if sparse.issparse(values) else values.T
    return np.concatenate([(transposed @ counts.T).T for counts in _counts(rows, samples, seed)])


def _counts(rows: int, samples: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn, for some resamples at a time (s, N)."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // rows)
    for start in range(0, samples, step):
        size = min(step, samples - start)
        # Row numbers of the s-th resample are moved by s N, so that one count serves them all.
        numbers = rng.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        counts = np.bincount(numbers.ravel(), minlength=size * rows)
        yield counts.reshape(size, rows).astype(np.float64)


def _whatever_the_rest(mean: Interval, share: float) -> Interval:
    """Bounds of a mean over all parts: `share` of them have this mean, the rest 0 to 1."""
    return Interval(value=mean.value, low=share * mean.low, high=1 - share * (1 - mean.high))
