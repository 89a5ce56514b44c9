"""Promises of precision and of coverage, and the risk among the surest, counted as the papers do."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import log_softmax
from scipy.stats import binomtest

from data_contracts.kinds.classify import Classify
from data_contracts.recipe.sections import StatisticsConfig
from lightning_modules.kinds.classify import sets
from lightning_modules.kinds.classify.answering import NEVER
from lightning_modules.kinds.classify.head import ClassifyHead
from lightning_modules.kinds.classify.judge import ClassifyJudge
from lightning_modules.selective import exact_interval, risk_coverage, threshold_of

LABELS = ("no", "yes", "perhaps", "never")
BOTH = Classify.model_validate({"abstain": {"precision": 0.8}, "conformal": {"coverage": 0.9}})


def drawn(rows: int, seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (N, C) of a model that is too sure, and labels (N,)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, classes))
    labels = np.array([generator.choice(classes, p=p) for p in np.exp(log_softmax(logits, axis=1))])
    return log_softmax(3 * logits, axis=1), labels


def test_the_area_is_the_mean_of_the_risks() -> None:
    """Against the definition, in fractions, over every order of answers that are as sure."""
    found = risk_coverage(np.array([0.9, 0.5, 0.7, 0.7]), np.array([True, False, False, True]))
    risks = [Fraction(0), Fraction(1, 4), Fraction(1, 3), Fraction(2, 4)]
    assert found.risk.tolist() == pytest.approx([float(one) for one in risks])
    assert found.area == pytest.approx(float(sum(risks) / 4))
    assert found.best == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert risk_coverage(np.ones(3), np.zeros(3, bool)).risk.tolist() == [1, 1, 1]


def test_a_threshold_keeps_its_precision_with_an_answer_more_that_is_wrong() -> None:
    sure = np.array([0.9, 0.8, 0.8, 0.6])
    right = np.array([True, True, True, False])
    kept = threshold_of(sure, right, 0.75, never=NEVER, spare=1.0)
    assert kept == 0.8
    assert threshold_of(sure, right, 0.76, never=NEVER, spare=1.0) == NEVER
    # Answers of one probability are given together or not at all.
    assert threshold_of(sure, np.array([1, 1, 0, 0]), 0.99, never=NEVER) == 0.9


def test_a_share_has_the_interval_of_an_exact_test() -> None:
    for hits, rows in ((0, 5), (5, 5), (3, 17), (180, 200)):
        known = binomtest(hits, rows).proportion_ci(0.95, method="exact")
        assert exact_interval(hits, rows, 0.95) == pytest.approx((known.low, known.high))


@pytest.mark.parametrize("method", sets.METHODS)
def test_sets_hold_the_true_label_as_often_as_was_promised(method: str) -> None:
    """The mean over valid splits, which is what the theorem is of: 0.9 to 0.9 + 1 / (n + 1)."""
    shares, sizes = [], []
    for seed in range(60):
        log_proba, labels = drawn(600, seed)
        proba = np.exp(log_proba)
        own = sets.scores(proba[:200], method)[np.arange(200), labels[:200]]
        conformal = {"method": method, "threshold": sets.threshold_of(own, 0.9)}
        inside = sets.members(proba[200:], conformal)
        shares.append(inside[np.arange(400), labels[200:]].mean())
        sizes.append(inside.sum(axis=1).mean())
    assert 0.885 < np.mean(shares) < (0.915 if method == "lac" else 0.96)
    assert 1 < np.mean(sizes) < 4


def test_sets_are_as_the_papers_have_them() -> None:
    proba = np.array([[0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]])
    assert sets.scores(proba, "lac").round(2).tolist()[0] == [0.5, 0.7, 0.85, 0.95]
    assert sets.scores(proba, "aps").round(2).tolist()[0] == [0.5, 0.8, 0.95, 1.0]
    found = sets.label_sets(proba, LABELS, {"method": "lac", "threshold": 0.7})
    assert found == [["no", "yes"], ["no"]], "the likeliest label is in every set"
    # ceil(11 * .9) = 10 of 10; of 8 rows no threshold promises it.
    assert sets.threshold_of(np.arange(10.0), 0.9) == 9
    assert sets.threshold_of(np.arange(8.0), 0.9) == sets.EVERY


def judged(task: Classify) -> tuple[ClassifyJudge, pa.Table, pa.Table]:
    """A judge that has seen a valid split, and the rows of a test split."""
    tables = []
    for seed in (1, 2):
        log_proba, labels = drawn(500, seed)
        ids = [f"{seed}-{number}" for number in range(len(labels))]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(log_proba.ravel()), len(LABELS))
        rows = {"id": ids, "text": ids, "label": [LABELS[one] for one in labels]}
        tables.append((pa.table(rows), pa.table({"id": ids, "log_proba": lists})))
    judge = ClassifyJudge({"labels": LABELS}, task, StatisticsConfig())
    return (judge.fitted(*tables[0]), *tables[1])


def test_what_is_measured_is_what_is_served_and_counted() -> None:
    judge, rows, scored = judged(BOTH)
    answers = judge.answers(rows, scored)
    found = judge.evidence(rows, scored).point()
    given = ~np.array(answers["abstain"].to_pylist())
    right = np.array(answers["correct"].to_pylist())
    assert 0 < given.sum() < len(given)
    assert found["answered"] == pytest.approx(given.mean())
    assert found["selective_accuracy"] == pytest.approx(right[given].mean())
    assert found["selective_accuracy"] > right.mean() + 0.1
    inside = [
        label in some
        for label, some in zip(
            answers["label"].to_pylist(), answers["label_set"].to_pylist(), strict=True
        )
    ]
    assert found["set_coverage"] == pytest.approx(np.mean(inside))
    facts = {"labels": [*LABELS], **BOTH.served_facts(judge.facts())}
    assert ClassifyHead.fault(facts) is None
    assert set(facts) == {"labels", "temperature", "abstain_below", "conformal"}
    plain, _, _ = judged(Classify())
    assert plain.decided == plain.temperature.value, "the digest of before there was any of it"
    assert "abstain" not in plain.answers(rows, scored).column_names
    assert "answered" not in plain.evidence(rows, scored).point()


def test_a_promise_that_cannot_be_kept_is_told() -> None:
    never = Classify.model_validate({"abstain": {"precision": 0.999}})
    judge, rows, scored = judged(never)
    assert judge.facts()["abstain_below"] == NEVER
    assert any("abstains from every answer" in one for one in judge.warnings({}))
    found = judge.evidence(rows, scored).point()
    assert found["answered"] == 0 and "selective_accuracy" not in found
    few = Classify.model_validate({"conformal": {"coverage": 0.999}})
    assert any("too few rows for label sets" in one for one in judged(few)[0].warnings({}))


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("abstain_below", "0.5"), ("abstain_below", -1), ("abstain_below", True),
        ("conformal", {"method": "lac"}), ("conformal", {"method": "x", "threshold": 0.5}),
        ("conformal", {"method": "aps", "threshold": float("nan")}),
    ],
)  # fmt: skip
def test_a_bundle_whose_decisions_cannot_be_is_refused(fact: str, value: object) -> None:
    assert ClassifyHead.fault({"labels": [*LABELS], "temperature": 1.0, fact: value}) == fact
