"""A rare label whose rows were all drawn into train: nobody can say how well it is told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import EvaluationReport, TrainedModel
from data_contracts.recipe.tokenizer import WindowConfig, WordTokenizer
from tasks import promote
from tasks.serving.check import Served
from tests.stages import promote_model, tokenize_corpus

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]

TEXTS = {"配送": "包裹 没有 送到", "billing": "the bill is wrong", "退款": "请 退款 给 我"}
TOLD = "No test row has the label billing, so nothing is known of it"


def rows(labels: dict[str, tuple[str, ...]]) -> pa.Table:
    """Forty rows of each label, in the splits that it is given in turns."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("id", "text", "label", "split", "language")
    }
    for label, splits in labels.items():
        for number in range(40 * len(splits)):
            columns["id"].append(f"{label}-{number}")
            columns["text"].append(f"{TEXTS[label]} {number}")
            columns["label"].append(label)
            columns["split"].append(splits[number % len(splits)])
            columns["language"].append("en")
    return pa.table(columns)


EVERYWHERE = ("train", "valid", "test")


def evaluated(
    world: World, table: pa.Table, name: str
) -> tuple[World, TrainedModel, EvaluationReport]:
    from tests.tasks.mlflow_fixtures import make_corpus

    corpus = make_corpus(world.store, table, name)
    config = WordTokenizer(vocab_size=80, min_frequency=4)
    window = WindowConfig(max_length=16, overlap=4)
    tokens = tokenize_corpus(corpus, config, world.store, window).manifest
    here = replace(world, corpus=corpus, tokens=tokens)
    model = here.model()
    return here, model, here.evaluate(model)


def test_two_labels_of_which_one_was_tested_are_not_all_right(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promote, "check_served", lambda *_: Served(200, 1.5, 0.5))
    here, model, report = evaluated(
        world, rows({"配送": EVERYWHERE, "billing": ("train",)}), "two-labels"
    )
    macro = report.metrics["test/macro_f1"]
    assert (macro.value, macro.low, macro.high) == (1.0, 0.5, 1.0)
    assert report.without_rows == {"test": ("billing",), "valid": ("billing",)}
    assert TOLD in report.warnings[0] and "1 of 2 labels" in report.warnings[0]
    registered = here.register(model, report)
    decision = promote_model(
        registered, model, report, here.tokens, here.corpus, recipe=here.recipe, store=here.store,
        tracker=here.tracker, ledger=tmp_path / "ledger.jsonl",
    )  # fmt: skip
    assert not decision.promoted, "on rows of one label the constant answer is as good"
    assert any(TOLD in reason for reason in decision.reasons)
    card = here.tracker.client.get_model_version(registered.name, registered.version).description
    assert TOLD in card and "| billing |" not in card


def test_third_label_widens_the_macro_figures_and_has_none_of_its_own(world: World) -> None:
    from tasks.evaluate import log_evaluation

    here, _, report = evaluated(
        world,
        rows({"配送": EVERYWHERE, "billing": ("train", "valid"), "退款": EVERYWHERE}),
        "three-labels",
    )
    assert report.without_rows == {"test": ("billing",)}
    macro = report.metrics["test/macro_f1"]
    assert macro.high - macro.low >= 1 / 3
    assert "test/f1/billing" not in report.metrics and "test/f1/退款" in report.metrics
    folder = here.store.open(report)
    page = (folder / "report.html").read_text(encoding="utf-8")
    cells = re.sub(r"<[^>]+>", "|", page.partition(">billing</td>")[2].partition("</tr>")[0])
    assert TOLD in page and cells.replace("|", " ").split() == ["0", "–", "–", "–"]
    content = json.loads(
        (folder / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
    )
    assert [row["f1"] for row in content["per_class"] if row["label"] == "billing"] == [None]
    assert "billing,0,,,,,,,,," in (folder / "per_class.csv").read_text(encoding="utf-8-sig")
    log_evaluation(report, here.recipe.task, here.store, here.tracker)
    logged = here.tracker.client.get_run(here.tracker.run_id).data.metrics
    assert not any("billing" in name for name in logged)
    assert pq.read_table(folder / "predictions.parquet").num_rows == 80


def test_label_without_train_or_valid_rows_is_named(world: World) -> None:
    *_, report = evaluated(
        world, rows({"配送": EVERYWHERE, "billing": EVERYWHERE, "退款": ("test",)}), "no-train-row"
    )
    assert report.without_rows == {"train": ("退款",), "valid": ("退款",)}
    assert "No valid row has the label 退款" in report.warnings[0]
    assert "No train row has the label 退款, so the model has not learnt it." in report.warnings[1]
    assert report.metrics["test/f1/退款"].value == 0, "it was measured, and it is never said"


def test_where_all_labels_have_rows_nothing_is_said(world: World) -> None:
    report = world.evaluate(world.model())
    assert report.warnings == () and report.without_rows == {}
