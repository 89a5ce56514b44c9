"""Answers are counted as the official programs count them, and what is promised of them is kept."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from data_contracts.contract.rows import Rows
from data_contracts.errors import RecipeError, SourceError
from data_contracts.kinds.span import Span
from data_contracts.kinds.span_contract import SpanContract
from data_contracts.recipe.sections import StatisticsConfig
from lightning_modules.evidence import Evidence, figures
from lightning_modules.kinds.span.calibration import (
    NEVER,
    least_answerable,
    logistic,
)
from lightning_modules.kinds.span.choosing import Decision
from lightning_modules.kinds.span.floor import best_sentences, sentences
from lightning_modules.kinds.span.judge import SpanJudge
from lightning_modules.kinds.span.measured import Measured, auroc
from lightning_modules.kinds.span.scores import Scores, counts, officials
from lightning_modules.selective import threshold_of

FACTS = {"script": "Latin", "unanswerable": False}


@pytest.mark.parametrize(
    ("said", "right", "exact", "f1"),
    [
        ("The Denver Broncos!", "denver broncos", 1, 1),
        ("Denver", "Denver Broncos", 0, 2 / 3),
        ("the", "a", 1, 1),
        ("Denver", "", 0, 0),
        ("", "", 1, 1),
        ("New New York", "New York", 0, 0.8),
        ("in 1,998", "1998", 0, 2 / 3),
    ],
)
def test_a_text_with_spaces_is_counted_as_squad_does(
    said: str, right: str, exact: float, f1: float
) -> None:
    assert Scores("Latin").of(said, right) == pytest.approx((exact, f1))


@pytest.mark.parametrize(
    ("said", "right", "exact", "f1"),
    [
        ("光荣和ω-force。", "光荣和ω-force", 1, 1),
        ("光荣", "光荣和光", 0, 2 * 2 / 6),
        # The longest run that both have, and not all that they share.
        ("光和荣", "光荣和", 0, 2 * 1 / 6),
        ("《三国志》", "三国志", 1, 1),
        ("1998年", "1998", 0, 2 / 3),
        ("Nokia 手机", "nokia手机", 0, 1),
        ("", "光荣", 0, 0),
    ],
)
def test_a_text_without_spaces_is_counted_as_cmrc_does(
    said: str, right: str, exact: float, f1: float
) -> None:
    assert Scores("Han").of(said, right) == pytest.approx((exact, f1))


def test_of_several_right_answers_the_best_counts() -> None:
    found = counts(["Denver", None], [["Broncos", "Denver"], ["x", ""]], ["In Denver.", "Here."])
    assert found.tolist() == [[1, 1], [1, 1]]


def test_each_context_is_counted_as_its_script_asks() -> None:
    found = counts(["三国志", "三国志"], [["国志"], ["国志"]], ["他看三国志。", "He reads it."])
    assert found[:, 1].tolist() == [0.8, 0]
    assert officials(["他看三国志。", "He reads it."]) == "CMRC 2018 and SQuAD 1.1"


def test_sentences_end_where_they_end() -> None:
    text = "Mr. Fox ran 3.5 km.  Then he slept!\n\nHe said: “No.” 他来了。她走了！"
    found = [text[start:end] for start, end in sentences(text)]
    assert found == [
        "Mr.",
        "Fox ran 3.5 km.",
        "Then he slept!",
        "He said: “No.”",
        "他来了。",
        "她走了！",
    ]
    assert sentences(" \n ") == []


def test_the_floor_is_the_sentence_with_the_rarest_words_of_the_question() -> None:
    context = "The dog sleeps. The cat eats the fish. The dog sees the cat."
    chosen = best_sentences(["What does the cat eat? fish", ""], [context, ""])
    assert chosen == ["The cat eats the fish.", ""]
    chinese = "小狗睡觉。小猫吃鱼。小狗看见小猫。"
    assert best_sentences(["谁吃鱼？"], [chinese]) == ["小猫吃鱼。"]


def test_contexts_are_drawn_whole() -> None:
    """Ten copies of each question tell no more than one: intervals stay as wide."""
    draw = np.random.default_rng(0)
    exact = draw.integers(0, 2, 60).astype(float)
    once = Measured(np.stack([exact, exact], axis=1), exact > 0, [str(n) for n in range(60)])
    copies = np.repeat(exact, 10)
    names = np.repeat([str(n) for n in range(60)], 10).tolist()
    many = Measured(np.stack([copies, copies], axis=1), copies > 0, names)
    one, other = figures(once.evidence()), figures(many.evidence())
    assert one["f1"] == pytest.approx(other["f1"])
    rows = Evidence(many.evidence().values, many.figures)
    alone = figures(rows)["f1"]
    assert alone.high - alone.low < 0.5 * (one["f1"].high - one["f1"].low)


def test_the_surest_are_a_share_of_all_questions() -> None:
    counts = np.array([[1, 1], [0, 0.5], [0, 0], [1, 1], [0, 0]], float)
    measured = Measured(
        counts,
        np.array([True, True, True, True, False]),
        list("abcde"),
        np.array([0.9, 0.8, 0.1, 0.7, 0.6]),
        counts[::-1],
    )
    point = measured.evidence().point()
    assert point["f1"] == point["sentence_f1"] == pytest.approx(0.5)
    assert point["f1_at_80"] == pytest.approx(2.5 / 4)
    assert point["answered"] == 0.8 and point["right_of_answered"] == 0.5


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    scores, positive = np.array([3.0, 1.0, 2.0, 2.0]), np.array([1, 0, 1, 0])
    assert auroc(scores, positive) == pytest.approx(3.5 / 4)
    assert auroc(scores, np.ones(4)) is None


def test_probabilities_are_fitted_to_what_was_right() -> None:
    draw = np.random.default_rng(1)
    signals = draw.normal(size=(4000, 3)) * [1, 5, 0.1] + [0, 20, 0]
    truth = 1 / (1 + np.exp(-(0.5 + signals[:, 0] - 3 * signals[:, 2])))
    right = draw.random(4000) < truth
    weights = logistic(signals, right)
    decision = Decision((weights[0], weights[1], weights[2], weights[3]))
    assert np.abs(decision.proba_right(signals) - truth).mean() < 0.03


def test_few_rows_promise_no_certainty() -> None:
    signals = np.array([[0.0, 1, 0], [0.1, 2, 0]])
    weights = logistic(signals, np.ones(2))
    proba = Decision((weights[0], weights[1], weights[2], weights[3])).proba_right(signals)
    assert (proba < 0.9).all() and np.isfinite(weights).all()


def test_a_threshold_keeps_the_precision_it_is_asked_for() -> None:
    probability = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5])
    right = np.array([1, 1, 1, 0, 1, 0])
    # 3 of 3, and one more that is wrong.
    assert threshold_of(probability, right, 0.75, never=NEVER, spare=1.0) == 0.8
    assert threshold_of(probability, right, 0.6, never=NEVER, spare=1.0) == 0.6
    assert threshold_of(probability, right, 0.95, never=NEVER, spare=1.0) == NEVER
    assert threshold_of(np.zeros(0), np.zeros(0), 0.5, never=NEVER) == NEVER


def test_whether_there_is_an_answer_is_cut_where_f1_is_highest() -> None:
    proba = np.array([0.9, 0.8, 0.3, 0.2])
    there = np.array([True, True, False, False])
    assert least_answerable(proba, np.array([1.0, 0.5, 0, 0]), there) == pytest.approx(0.55)
    # Where all have one, none is told that it has not.
    assert least_answerable(proba, np.ones(4), np.ones(4, bool)) < 0.2


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"right": [0, 1, 2], "answerable": [0, 1], "least_answerable": 0, "threshold": 0},
        {"right": [0, 1, 2, "x"], "answerable": [0, 1], "least_answerable": 0, "threshold": 0},
        {"right": [0, 1, 2, 3], "answerable": [0, 1], "least_answerable": 0, "threshold": 1e999},
    ],
)
def test_a_decision_that_is_none_is_refused(given: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Decision.of(given)


def test_a_decision_is_the_same_from_json() -> None:
    decision = Decision((0.1, 1.0, 2.0, 3.0), (0.5, 2.0), 0.4, 0.7)
    assert Decision.of(json.loads(json.dumps(decision.as_json()))) == decision


# --- answers of another program ---


def judge() -> SpanJudge:
    return SpanJudge(FACTS, Span(), StatisticsConfig())


def test_answers_of_another_program_are_counted_alike() -> None:
    rows = pa.table(
        {
            "id": ["a", "b", "c"],
            "context": ["One.", "Two.", "Three."],
            "answer": ["One", "Two", ""],
            "answer_start": [0.0, 0.0, -1.0],
            "answers": ['["One", "One."]', None, ""],
        }
    )
    said = pa.table({"id": ["a", "b", "c"], "answer": ["one.", "three", None]})
    point = judge().evidence(rows, judge().predictions(said)).point()
    assert point["f1"] == pytest.approx(2 / 3) and "f1_at_80" not in point
    sure = said.append_column("probability", pa.array([0.9, 0.2, 0.5]))
    assert judge().evidence(rows, judge().predictions(sure)).point()["f1_at_80"] == 1


def test_a_file_without_answers_is_refused_in_a_sentence() -> None:
    with pytest.raises(SourceError, match="no column predicted, but id, said"):
        judge().predictions(pa.table({"id": ["a"], "said": ["x"]}))
    with pytest.raises(SourceError, match="holds int64, and not texts"):
        judge().predictions(pa.table({"id": ["a"], "answer": [3]}))


# --- what is suggested ---


def suggested(texts: list[str], backbone: str | None = None) -> dict[str, dict[str, object]]:
    rows = Rows(
        columns={"question": ["?"] * len(texts), "context": list(texts)},
        splits=[None] * len(texts),
    )
    contract = SpanContract(kind="span", name="qa")
    head, choices = Span.suggest(rows, contract, backbone, None)
    assert f"{len(texts):,} questions" in head
    assert all(choice.reason.endswith(".") for choice in choices)
    return {choice.section: choice.fields for choice in choices}


def test_characters_are_suggested_where_there_are_no_spaces() -> None:
    chinese = suggested(["《战国无双3》是由光荣和ω-force开发的。" * 20] * 40)
    assert chinese["tokenizer"] == {"kind": "character"}
    assert chinese["window"] == {"max_length": 512, "overlap": 128}
    english = suggested(["The village lies on a river. " * 20] * 40)
    assert english["tokenizer"]["kind"] == "bpe" and english["window"]["max_length"] == 256
    many = suggested(["The village lies on a river."] * 20_000)
    assert many["tokenizer"]["kind"] == "word" and many["training"]["max_epochs"] == 3


def test_a_backbone_is_suggested_with_low_rank() -> None:
    found = suggested(["The village lies on a river."] * 40, "models/minilm")
    assert found["model"]["encoder"] == {"kind": "pretrained", "path": "models/minilm"}
    assert found["model"]["reparameterization"]["kind"] == "low_rank"


def test_rows_without_a_context_suggest_nothing() -> None:
    with pytest.raises(RecipeError, match="no context to look for answers in"):
        suggested([" "])
