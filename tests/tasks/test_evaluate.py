"""The evaluation stage: what it writes is complete, right, safe to open, and the same twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from data_contracts.errors import NoisefoldError
from data_contracts.results import Bars, Interval, Matrix
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.kinds.classify.figures import part_names
from tasks.evaluate import log_evaluation
from tasks.reports.blocks import load
from tasks.reports.html import render
from tasks.reports.readable import csv_cell, markdown, markdown_table
from tests.stages import evaluate_model

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]


def test_report_agrees_with_scikit_learn_on_its_own_predictions(world: World) -> None:
    report = world.evaluate(world.model())
    folder = world.store.open(report)
    table = pq.read_table(folder / "predictions.parquet")
    labels = json.loads(table.schema.metadata[b"noisefold.labels"])
    true, said = table["label"].to_pylist(), table["predicted"].to_pylist()
    proba = np.array(table["probabilities"].to_pylist())
    assert table.num_rows == world.tokens.splits["test"] == report.rows_out
    assert report.metrics["test/accuracy"].value == pytest.approx(accuracy_score(true, said))
    assert report.metrics["test/macro_f1"].value == pytest.approx(
        f1_score(true, said, average="macro")
    )
    assert report.metrics["test/nll"].value == pytest.approx(log_loss(true, proba, labels=labels))
    for interval in report.metrics.values():
        assert interval.low <= interval.high
    content = json.loads((folder / "report.json").read_text())
    assert content["confusion_matrix"] == confusion_matrix(true, said, labels=labels).tolist()
    assert 0.8 < report.metrics["test/accuracy"].value < 1, (
        "the toy problem should be learnable but not perfect"
    )


def test_predictions_are_those_of_the_bundle_on_the_raw_text(world: World) -> None:
    """Token Parquet and raw text lead to the same probabilities, long documents included."""
    model = world.model()
    table = pq.read_table(world.store.open(world.evaluate(model)) / "predictions.parquet")
    texts = table["text"].to_pylist()
    direct = predict_proba(Bundle.load(world.store.open(model) / "bundle"), texts)
    assert max(map(len, texts)) > 2 * world.tokens.windowing.max_length, (
        "some document should need several windows"
    )
    assert np.abs(direct - np.array(table["probabilities"].to_pylist())).max() < 1e-6
    assert set(table["language"].to_pylist()) == {"en", "zh"}, "slices are joined by id"
    corpus = pq.read_table(world.store.open(world.corpus) / "corpus").to_pylist()
    by_id = {row["id"]: row for row in corpus}
    assert all(by_id[i]["text"] == t for i, t in zip(table["id"].to_pylist(), texts, strict=True))


def test_second_evaluation_is_cached_and_a_fresh_one_is_equal(world: World, store) -> None:
    model = world.model()
    first = evaluate_model(model, world.tokens, world.corpus, world.store)
    again = evaluate_model(model, world.tokens, world.corpus, world.store)
    assert again.cached
    assert again.manifest == first.manifest
    fresh = evaluate_model(model, world.tokens, world.corpus, store)
    assert not fresh.cached
    assert fresh.manifest.digest == first.manifest.digest
    assert fresh.manifest.files == first.manifest.files, "the same bytes, plots included"


def test_temperature_is_reported_always_and_applied_on_request(world: World) -> None:
    model = world.model(quality=3.0)  # over-confident on noisy labels
    plain, scaled = world.evaluate(model), world.evaluate(model, calibrate=True)
    assert plain.facts["temperature"] == scaled.facts["temperature"] > 1.5
    assert [each.facts["temperature_applied"] for each in (plain, scaled)] == [False, True]
    assert scaled.metrics["test/nll"] == plain.metrics["test/calibrated/nll"]
    assert plain.metrics["test/nll"] == scaled.metrics["test/uncalibrated/nll"]
    assert scaled.metrics["test/nll"].value < plain.metrics["test/nll"].value
    assert scaled.metrics["test/accuracy"] == plain.metrics["test/accuracy"]
    confidence = {
        r.key: np.mean(
            pq.read_table(world.store.open(r) / "predictions.parquet")["confidence"].to_pylist()
        )
        for r in (plain, scaled)
    }
    assert confidence[scaled.key] < confidence[plain.key]


def test_files_open_and_the_surest_errors_lead(world: World) -> None:
    report = world.evaluate(world.model(), worst_errors=5)
    folder = world.store.open(report)
    with (folder / "errors.csv").open(encoding="utf-8-sig", newline="") as stream:
        errors = list(csv.DictReader(stream))
    sure = [float(error["confidence"]) for error in errors]
    assert len(errors) == 5
    assert sure == sorted(sure, reverse=True)
    assert all(error["label"] != error["predicted"] and error["text"] for error in errors)
    with (folder / "per_class.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert {row["label"] for row in csv.DictReader(stream)} == set(world.tokens.facts["labels"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    for wanted in ("没有意见", "Most confident errors", "Confusion matrix", "Reliability", "<svg"):
        assert wanted in page
    again = load((folder / "blocks.json").read_text(encoding="utf-8"))
    assert render("evaluation.html.j2", title="Evaluation", content=again) == page


def test_logged_evaluation_shows_headlines_as_metrics_and_the_rest_as_tables(world: World) -> None:
    report = world.evaluate(world.model())
    for _ in range(2):
        log_evaluation(report, world.recipe.task, world.store, world.tracker)
    client, run_id = world.tracker.client, world.tracker.run_id
    metrics = {k: v for k, v in client.get_run(run_id).data.metrics.items() if k.startswith("test")}
    names = ("macro_f1", "accuracy", "macro_recall", "nll", "brier", "ece")
    assert metrics == {
        f"test/{name}": pytest.approx(report.metrics[f"test/{name}"].value) for name in names
    }, "neither bounds nor single classes stand among the charts"
    assert len(client.get_metric_history(run_id, "test/accuracy")) == 1
    figures = world.tracker.client.load_table(
        world.tracker.experiment_id, "evaluation/figures.json", [run_id]
    )
    of_class = figures.set_index("figure").loc["test/f1/没有意见"]
    interval = report.metrics["test/f1/没有意见"]
    assert [*of_class] == pytest.approx([interval.value, interval.low, interval.high])
    answers = client.load_table(
        world.tracker.experiment_id, "evaluation/predictions.json", [run_id]
    )
    assert len(answers) == min(200, report.rows_out)
    found = {item.path for item in client.list_artifacts(run_id, "evaluation")}
    assert {"evaluation/report.html", "evaluation/predictions.parquet"} <= found


def test_empty_test_split_names_the_split(world: World, store) -> None:
    model = world.model()
    path = world.store.open(world.tokens) / "test.parquet"
    empty = world.tokens.model_copy(update={"uri": str(store.work / "tokens"), "digest": "other"})
    Path(empty.uri).mkdir(parents=True)
    for split in ("valid", "test"):
        table = pq.read_table(path.with_name(f"{split}.parquet"))
        pq.write_table(
            table.slice(0, 0) if split == "test" else table, Path(empty.uri) / f"{split}.parquet"
        )
    model = model.model_copy(update={"uri": str(world.store.open(model))})
    with pytest.raises(NoisefoldError, match="test split has no rows"):
        evaluate_model(model, empty, world.corpus, store)


def test_cells_cannot_be_formulas_and_text_cannot_be_markup() -> None:
    for cell in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\x00=1"):
        assert csv_cell(cell) == "'" + cell
    assert csv_cell("plain") == "plain"
    assert csv_cell(-0.5) == -0.5
    hostile = "<script>x</script> | [a](javascript:b) `c` **d** https://example.org\n# e"
    shown = markdown(hostile)
    assert "\n" not in shown
    assert "://" not in shown
    for mark in ("<", "|", "[", "`", "*"):
        assert all(shown[i - 1] == "\\" for i, c in enumerate(shown) if c == mark), mark
    assert markdown("# a_b _c_") == r"\# a_b \_c\_"
    assert len(markdown_table(["a"], [("x\n| y",)]).splitlines()) == 3


def test_class_metric_names_are_legal_and_distinct() -> None:
    from mlflow.utils.validation import _validate_metric_name

    labels = ["a/b", "a|b", "a?b", "../..", "", "没有 意见", "x" * 400, "=1", "a_b", "."]
    names = [f"test/f1/{name}" for name in part_names(labels)]
    assert len(set(names)) == len(labels)
    for name in names:
        _validate_metric_name(name)
        assert len(name + "_high") <= 250


def page_of(labels: list[str], counts: np.ndarray, values: list[Interval]) -> str:
    parts = tuple(labels)
    matrix = Matrix("a", "Confusion matrix", parts, tuple(map(tuple, counts.tolist())))
    rows = tuple(counts.sum(axis=1).tolist())
    bars = Bars("b", "F1 by class", "F1", parts, tuple(values), rows)
    return render("evaluation.html.j2", title="Evaluation", content=[matrix, bars])


def test_labels_of_any_script_stand_as_text_and_none_is_markup() -> None:
    labels = ["负面", "$x$ and $y", "\U00012000\U0001f600", "a\nb\x07", "", "<b>" + "x" * 200]
    counts = np.random.default_rng(0).integers(0, 50, (6, 6))
    f1 = [Interval(value=c / 6, low=c / 7, high=min(1, c / 5)) for c in range(6)]
    page = page_of(labels, counts, f1)
    assert page.count("负面") == 3, "of the matrix twice, and of the bars"
    assert "&lt;b&gt;xxx" in page
    assert "<b>xxx" not in page
    assert "\x07" not in page


def test_hundreds_of_classes_still_make_a_page() -> None:
    labels = [f"class number {c}" for c in range(300)]
    counts = np.random.default_rng(0).integers(0, 3, (300, 300))
    page = page_of(labels, counts, [Interval(value=0.5, low=0.4, high=0.6)] * 300)
    assert len(page) < 1_000_000
    assert "the 60 of 300 with most rows" in page
    assert "the 60 of 300 with the lowest" in page
