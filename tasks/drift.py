"""Whether rows have moved: for each signal a two-sample test and the population stability index.

Numbers are tested by Kolmogorov and Smirnov's test, which takes ties to be no evidence and so errs
towards silence; categories by chi-squared of two rows, values that are rare together. Over all
signals Holm's procedure (1979) keeps the chance of one false alarm to alpha. The population
stability index

    PSI = sum over bins (q - p) log(q / p)

is taken over deciles of the reference, or its values; half a row is added to each bin, so that an
empty one is no infinity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from data_contracts.artifacts import SignalDrift
from tasks.profiles import Profile, Signals, rounded

_BINS = 10
_FEWEST = 5.0  # expected rows of a value, below which it is taken together with others
_OTHERS = "(others)"


def compare(profile: Profile, now: Signals, alpha: float, min_psi: float) -> list[SignalDrift]:
    """The signals that both have, the one that has moved most first.

    Args:
        alpha: chance of any alarm where nothing has moved.
        min_psi: from which a change that the test finds is an alarm.
    """
    found: list[tuple[str, float, float, str, str]] = []
    for name, values in now.numbers.items():
        if before := profile.numbers.get(name):
            reference = np.array(before)
            tested: Any = stats.ks_2samp(reference, rounded(values), method="asymp")
            p = float(tested.pvalue)
            psi = stability(*_binned(reference, rounded(values)))
            found.append((name, psi, p, _of_numbers(reference), _of_numbers(values)))
    for name, told in now.categories.items():
        if counts := profile.categories.get(name):
            old, new = _pooled(counts, Counter(told))
            p = _chi_squared(old, new)
            found.append(
                (name, stability(old, new), p, _of_counts(counts), _of_counts(Counter(told)))
            )
    adjusted = holm([p for _, _, p, _, _ in found])
    drifts = [
        SignalDrift(
            signal=name, psi=psi, p=p, adjusted_p=over_all, before=before, now=after,
            drifted=over_all < alpha and psi >= min_psi,
        )
        for (name, psi, p, before, after), over_all in zip(found, adjusted, strict=True)
    ]  # fmt: skip
    return sorted(drifts, key=lambda one: (not one.drifted, -one.psi))


def stability(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """The population stability index of counts (B,) in the same bins."""
    p = (before + 0.5) / (before.sum() + 0.5 * len(before))
    q = (now + 0.5) / (now.sum() + 0.5 * len(now))
    return float(((q - p) * np.log(q / p)).sum())


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values: each below alpha says so over all of them together."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    highest = 0.0
    for place, which in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[which]))
        adjusted[which] = highest
    return [float(one) for one in adjusted]


def _binned(
    reference: NDArray[np.float64], now: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cuts = np.unique(np.quantile(reference, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = len(cuts) + 1

    def counted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(np.searchsorted(cuts, values, side="left"), minlength=bins).astype(float)

    return counted(reference), counted(now)


def _pooled(
    before: Mapping[str, int], now: Mapping[str, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts of the same values, those that are rare in either taken together."""
    rows = sum(before.values()) + sum(now.values())
    smaller = min(sum(before.values()), sum(now.values()))
    old: Counter[str] = Counter()
    new: Counter[str] = Counter()
    for value in {*before, *now}:
        both = before.get(value, 0) + now.get(value, 0)
        key = value if both * smaller / rows >= _FEWEST else _OTHERS
        old[key] += before.get(value, 0)
        new[key] += now.get(value, 0)
    values = sorted(old)
    return np.array([old[v] for v in values], float), np.array([new[v] for v in values], float)


def _chi_squared(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    if len(before) < 2:
        return 1.0
    tested: Any = stats.chi2_contingency(np.stack([before, now]), correction=False)
    return float(tested.pvalue)


def _of_numbers(values: NDArray[np.float64]) -> str:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"


def _of_counts(counts: Mapping[str, int]) -> str:
    rows = sum(counts.values())
    commonest = Counter(counts).most_common(4)
    return ", ".join(f"{value} {count / rows:.0%}" for value, count in commonest)
