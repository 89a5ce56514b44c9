"""Figures against scikit-learn and torchmetrics; intervals against what they promise."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from data_contracts.kinds.classify import Classify
from data_contracts.results import Interval
from lightning_modules import evidence as ev
from lightning_modules.kinds.classify import figures as m

MACRO_F1 = Classify.metric("macro_f1")


def score(labels: np.ndarray, log_proba: np.ndarray, **options: Any) -> dict[str, Interval]:
    """All figures with intervals; those of class 3 are precision/3, recall/3 and f1/3."""
    parts = [str(c) for c in range(log_proba.shape[1])]
    return ev.figures(m.evidence(labels, log_proba, parts=parts), **options)


def simulated(
    rows: int, classes: int, seed: int, sharpness: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and log-probabilities that favour the right class by `sharpness` logits."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, rows, p=rng.dirichlet(np.full(classes, 5.0)))
    logits = rng.normal(size=(rows, classes)) + sharpness * np.eye(classes)[labels]
    return labels, log_softmax(logits, axis=1)


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (50, 2), (777, 5), (300, 40)])
def test_figures_equal_those_of_scikit_learn(rows: int, classes: int) -> None:
    labels, log_proba = simulated(rows, classes, seed=rows)
    predicted, proba = log_proba.argmax(axis=1), np.exp(log_proba)
    ours = score(labels, log_proba, samples=50)
    overall = {name: interval.value for name, interval in ours.items() if "/" not in name}
    everything, occurring = list(range(classes)), list(np.unique(labels))
    expected = {"accuracy": sk.accuracy_score(labels, predicted)}
    for average, which in (("macro", occurring), ("weighted", everything)):
        values = sk.precision_recall_fscore_support(
            labels, predicted, labels=which, average=average, zero_division=0
        )
        expected |= dict(
            zip(
                (f"{average}_precision", f"{average}_recall", f"{average}_f1"), values, strict=False
            )
        )
    expected["nll"] = sk.log_loss(labels, proba, labels=everything)
    expected["brier"] = float(((proba - np.eye(classes)[labels]) ** 2).sum(axis=1).mean())
    for name, value in expected.items():
        assert overall[name] == pytest.approx(value, abs=1e-9), name
    per_class = sk.precision_recall_fscore_support(
        labels, predicted, labels=everything, zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1"), per_class, strict=False):
        each = [ours.get(f"{name}/{c}") for c in everything]
        found = [None if interval is None else interval.value for interval in each]
        assert found == pytest.approx(
            [v if rows else None for v, rows in zip(values, per_class[3], strict=True)]
        )
    assert (
        m.confusion_matrix(labels, predicted, classes)
        == sk.confusion_matrix(labels, predicted, labels=everything)
    ).all()
    plain = m.figures(labels, log_proba)
    assert plain == pytest.approx(overall)


def test_brier_of_two_classes_is_twice_that_of_scikit_learn() -> None:
    labels, log_proba = simulated(400, 2, seed=3)
    assert m.figures(labels, log_proba)["brier"] == pytest.approx(
        2 * sk.brier_score_loss(labels, np.exp(log_proba[:, 1]))
    )


@pytest.mark.parametrize("bins", [2, 15, 40])
def test_calibration_error_equals_that_of_torchmetrics(bins: int) -> None:
    labels, log_proba = simulated(900, 4, seed=1, sharpness=1.0)
    reference = multiclass_calibration_error(
        torch.from_numpy(np.exp(log_proba)),
        torch.from_numpy(labels),
        num_classes=4,
        n_bins=bins,
        norm="l1",
    )
    assert m.figures(labels, log_proba, bins=bins)["ece"] == pytest.approx(
        float(reference), abs=1e-6
    )
    table = m.reliability(labels, log_proba, bins=bins)
    held = table.count > 0
    gap = np.abs(table.accuracy[held] - table.confidence[held])
    assert (table.count[held] * gap).sum() / 900 == pytest.approx(float(reference), abs=1e-6)


def test_resampled_figures_equal_figures_of_the_resampled_rows() -> None:
    """The column-sum shortcut against the plain definition: draw rows, compute the figure."""
    labels, log_proba = simulated(60, 3, seed=5)
    rng = np.random.default_rng(11)
    rows = rng.integers(0, 60, size=(1, 60))[0]  # what `_counts` draws first from the same seed
    drawn = ev.drawn(m.evidence(labels, log_proba), 1, seed=11)
    expected = m.figures(labels[rows], log_proba[rows])
    assert {name: values[1] for name, values in drawn.items()} == pytest.approx(expected)


def test_same_seed_same_bits_another_seed_other_bits() -> None:
    labels, log_proba = simulated(500, 4, seed=0)
    first, again, other = (score(labels, log_proba, samples=200, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first["macro_f1"] != other["macro_f1"]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """95 % intervals of accuracy and macro-F1 over 200 test splits, each drawn from one large
    population.
    """
    labels, log_proba = simulated(200_000, 3, seed=9, sharpness=1.5)
    truth = m.figures(labels, log_proba)
    rng = np.random.default_rng(0)
    covered = {"accuracy": 0, "macro_f1": 0, "nll": 0}
    for trial in range(200):
        rows = rng.integers(0, len(labels), 400)
        scores = score(labels[rows], log_proba[rows], samples=200, seed=trial)
        for name in covered:
            covered[name] += scores[name].low <= truth[name] <= scores[name].high
    # 200 trials at .95: a binomial standard error of .015; the percentile interval is known to run
    # a little short.
    assert all(0.90 <= hits / 200 <= 0.99 for hits in covered.values()), covered


def test_paired_difference_covers_zero_for_equal_models_and_not_for_a_worse_one() -> None:
    labels, log_proba = simulated(2000, 4, seed=2)
    predicted = log_proba.argmax(axis=1)
    champion = m.answers(labels, predicted, 4)
    same = ev.paired(champion, champion, MACRO_F1)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    rng = np.random.default_rng(0)
    worse = np.where(rng.random(2000) < 0.1, rng.integers(0, 4, 2000), predicted)
    difference = ev.paired(m.answers(labels, worse, 4), champion, MACRO_F1)
    expected = sk.f1_score(labels, worse, average="macro") - sk.f1_score(
        labels, predicted, average="macro"
    )
    assert difference.value == pytest.approx(expected)
    assert difference.high < 0
    alone = score(labels, log_proba)["macro_f1"]
    assert difference.high - difference.low < alone.high - alone.low, (
        "pairing must narrow the interval"
    )


def test_temperature_is_found_again_and_keeps_the_ranking() -> None:
    rng = np.random.default_rng(4)
    log_proba = log_softmax(2 * rng.normal(size=(20_000, 3)), axis=1)
    labels = (
        (rng.random(20_000)[:, None] > np.exp(log_proba).cumsum(axis=1)).sum(axis=1).clip(0, 2)
    )  # calibrated
    for factor in (0.4, 1.0, 3.0):
        found = m.fit_temperature(log_softmax(log_proba * factor, axis=1), labels)  # over-confident
        assert found.value == pytest.approx(factor, rel=0.05)
        assert found.why_not is None
    cooled = m.apply_temperature(log_proba, 2.5)
    assert np.allclose(np.exp(cooled).sum(axis=1), 1)
    assert (cooled.argmax(axis=1) == log_proba.argmax(axis=1)).all()
    assert np.allclose(m.apply_temperature(log_proba, 1.0), log_proba)


def nearly_right(rows: int, wrong: int, margin: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes in turns, each row right by `margin` logits but the first `wrong` ones, which are
    as far off.
    """
    labels = np.arange(rows) % 2
    says = np.where(np.arange(rows) < wrong, 1 - labels, labels)
    return log_softmax(margin * np.eye(2)[says], axis=1), labels


@pytest.mark.parametrize(
    ("rows", "wrong", "margin", "why"),
    [
        (200, 0, 1.0, "all 200 rows right"),
        (200, 200, 1.0, "at or beyond 20.1"),
        (200, 1, 0.01, "at or beyond 0.0498"),
        (29, 3, 1.0, "too few"),
        (200, 40, 0.0, "the same at every temperature"),
    ],
)
def test_temperature_that_the_rows_cannot_tell_is_none(
    rows: int, wrong: int, margin: float, why: str
) -> None:
    log_proba, labels = nearly_right(rows, wrong, margin)
    found = m.fit_temperature(log_proba, labels)
    assert found.value == 1.0
    assert found.why_not is not None and why in found.why_not


def test_temperature_needs_rows_of_two_classes() -> None:
    log_proba, labels = nearly_right(200, 40)
    assert m.fit_temperature(log_proba, labels).value == pytest.approx(1 / np.log(4), rel=1e-3), (
        "p = 0.8"
    )
    assert m.fit_temperature(log_proba, np.zeros_like(labels)) == m.Temperature(
        1.0, "the rows are all of one class"
    )


def test_of_a_class_without_rows_nothing_is_known() -> None:
    labels, log_proba = simulated(100, 2, seed=0)
    wide = np.column_stack([log_proba, np.full((100, 2), -30.0)])
    plain, scores = score(labels, log_proba, samples=100), score(labels, wide, samples=100)
    for name in ("precision", "recall", "f1"):
        assert not {f"{name}/2", f"{name}/3"} & scores.keys()
        for known in (f"{name}/0", f"{name}/1"):
            assert scores[known] == plain[known]
        measured, found = plain[f"macro_{name}"], scores[f"macro_{name}"]
        assert found.value == pytest.approx(measured.value), (
            "the mean over the classes that were measured"
        )
        assert found.low == pytest.approx(measured.low / 2), "as if the other two of four had 0"
        assert found.high == pytest.approx(measured.high / 2 + 0.5), "as if they had 1"
    assert scores["macro_f1"].value == pytest.approx(
        sk.f1_score(labels, log_proba.argmax(1), average="macro")
    )
    for name in ("accuracy", "weighted_f1"):
        assert scores[name] == plain[name], "they count rows"


def test_all_right_on_one_of_two_classes_is_not_all_right() -> None:
    labels = np.zeros(50, np.int64)
    found = score(labels, np.log(np.tile([0.9, 0.1], (50, 1))), samples=50)["macro_f1"]
    assert (found.value, found.low, found.high) == (1.0, 0.5, 1.0)


def test_macro_f1_is_the_mean_over_the_classes_that_occur() -> None:
    labels, says = np.array([0, 0, 1]), np.array([0, 2, 1])
    log_proba = np.log(np.full((3, 3), 0.1) + 0.7 * np.eye(3)[says])
    assert m.answers(labels, says, 3).point()["macro_f1"] == pytest.approx(5 / 6)
    assert m.figures(labels, log_proba)["macro_f1"] == pytest.approx(5 / 6)
    assert score(labels, log_proba, samples=50)["macro_f1"].value == pytest.approx(5 / 6)


def test_thousand_resamples_of_ten_thousand_rows_take_seconds() -> None:
    labels, log_proba = simulated(10_000, 10, seed=0)
    started = time.process_time()
    score(labels, log_proba, samples=1000)
    assert time.process_time() - started < 8  # about 1 s on an idle core


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        m.figures(np.zeros(0, np.int64), np.zeros((0, 3)))


def test_figures_at_another_temperature_stand_beside_and_change_none() -> None:
    labels, log_proba = simulated(300, 3, seed=6)
    cooled = m.apply_temperature(log_proba, 2.0)
    both = ev.figures(m.evidence(labels, log_proba, beside={"cooled": cooled}), 100)
    alone = ev.figures(m.evidence(labels, log_proba), 100)
    other = ev.figures(m.evidence(labels, cooled), 100)
    assert {name: both[name] for name in alone} == alone
    for name in ("nll", "brier", "ece"):
        assert both[f"cooled/{name}"] == other[name]
    assert len(both) == len(alone) + 3


def test_part_names_are_distinct_without_a_look_at_the_others() -> None:
    assert m.part_names(["a/b", "a|b", "", "没有 意见", "."]) == [
        "a_b",
        "a_b_1",
        "class_2",
        "没有 意见",
        "class_4",
    ]
