"""Drift is found where rows have moved, and told of rows that have not as rarely as is said."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.drift import compare, holm, stability
from tasks.profiles import Profile, Signals


def rows_like(rng: np.random.Generator, rows: int, moved: float = 0.0) -> Signals:
    """Signals of each shape that there is: continuous, counts with ties, mostly nought, values."""
    numbers = {
        "surprisal": rng.normal(6 + moved, 1, rows),
        "tokens": rng.poisson(12, rows).astype(float),
        "unknown_share": np.where(rng.random(rows) < 0.9, 0.0, rng.random(rows)),
        "entropy": rng.beta(1, 5, rows),
    }
    values = rng.choice(["good", "bad", "rare"], rows, p=[0.6, 0.38, 0.02])
    return Signals(numbers, {"label": [str(value) for value in values]})


def profile_like(seen: Signals) -> Profile:
    return Profile.of(seen, {}, 0, 1)


def test_a_false_alarm_is_as_rare_as_alpha() -> None:
    """Of 400 comparisons of like rows, each with another reference, at most what the binomial
    allows at its 99.9 % point; PSI is asked for nothing, so that the test alone decides.
    """
    rng, alarms, tries, alpha = np.random.default_rng(0), 0, 400, 0.05
    for _ in range(tries):
        reference, now = rows_like(rng, 300), rows_like(rng, 200)
        found = compare(profile_like(reference), now, alpha, 0.0)
        alarms += any(one.drifted for one in found)
    assert alarms <= 36  # scipy.stats.binom.ppf(.999, 400, .05) = 35
    # It is no test that never speaks.
    assert alarms > 0


@pytest.mark.parametrize("rows", [100, 2000])
def test_a_move_of_half_a_deviation_is_found_and_named(rows: int) -> None:
    rng = np.random.default_rng(1)
    found = compare(profile_like(rows_like(rng, 1000)), rows_like(rng, rows, 0.6), 0.01, 0.1)
    assert [one.signal for one in found if one.drifted] == ["surprisal"]


def test_other_shares_of_the_answers_and_answers_that_were_never_given_are_found() -> None:
    rng = np.random.default_rng(2)
    reference = profile_like(rows_like(rng, 1000))
    now = rows_like(rng, 500)
    swapped = {"good": "bad", "bad": "good", "rare": "rare"}
    for changed in (
        [swapped[value] for value in now.categories["label"]],
        ["new" if n % 4 == 0 else value for n, value in enumerate(now.categories["label"])],
    ):
        found = compare(reference, Signals(now.numbers, {"label": changed}), 0.01, 0.1)
        assert [one.signal for one in found if one.drifted] == ["label"]


def test_a_difference_that_is_certain_and_small_is_no_alarm() -> None:
    rng = np.random.default_rng(3)
    found = compare(profile_like(rows_like(rng, 20_000)), rows_like(rng, 20_000, 0.1), 0.01, 0.1)
    moved = next(one for one in found if one.signal == "surprisal")
    assert moved.adjusted_p < 1e-6 and moved.psi < 0.1 and not moved.drifted


def test_the_index_is_nought_for_the_same_shares_and_as_defined_for_others() -> None:
    assert stability(np.array([50.0, 50.0]), np.array([500.0, 500.0])) == pytest.approx(0)
    big = stability(np.array([5e6, 5e6]), np.array([8e6, 2e6]))
    assert big == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4), rel=1e-4)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
