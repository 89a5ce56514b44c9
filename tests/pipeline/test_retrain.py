"""A whole retrain as a user meets it: terminal, MLflow run, Prefect run, champion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_contracts.sample.generator import dirty_rows
from tasks.tracking.bookkeeping import lineage_of, of_run
from tests.pipeline.conftest import (
    REPOSITORY,
    TINY,
    clean_environment,
    environment,
    mlflow_client,
    told,
    with_artifacts_of,
)


@pytest.fixture(scope="module")
def run(undisturbed):
    result, home = undisturbed
    client = mlflow_client(home)
    return client, client.get_run(result["run_id"]), result, home


def artifact_names(client, run_id: str, path: str | None = None) -> set[str]:
    found = client.list_artifacts(run_id, path)
    return {
        name
        for f in found
        for name in (artifact_names(client, run_id, f.path) if f.is_dir else {f.path})
    }


def test_result_has_every_stage_with_its_rows(run):
    _, _, result, _ = run
    assert [stage["name"] for stage in result["stages"]] == [
        *("ingest", "validate", "tokenize", "train", "evaluate", "register", "promote")
    ]
    rows = {stage["name"]: (stage["rows_in"], stage["rows_out"]) for stage in result["stages"]}
    clean = 600 - sum(dirty_rows(600).values())
    assert rows["ingest"] == (600, 600)
    assert rows["validate"] == (600, clean)
    assert rows["tokenize"][0] == clean


def test_quarantine_holds_exactly_the_planted_rows(run):
    _, _, result, _ = run
    quarantine = pq.read_table(Path(result["artifacts"]["validate"]) / "quarantine.parquet")
    counts: dict[str, int] = {}
    for reason in quarantine["reason"].to_pylist():
        counts[reason] = counts.get(reason, 0) + 1
    assert counts == dirty_rows(600)


def test_mlflow_run_shows_curves_figures_and_reports(run):
    client, mlflow_run, result, _ = run
    assert mlflow_run.info.status == "FINISHED"
    for name in (
        "train/loss",
        "train/kl",
        "train/gradient_norm",
        "train/noise_alpha",
        "train/tokens_per_second",
    ):
        history = client.get_metric_history(result["run_id"], name)
        assert len(history) > 1, name
        assert [m.step for m in history] == sorted({m.step for m in history}), name
    assert (
        len(client.get_metric_history(result["run_id"], "val/macro_f1"))
        == TINY["training"]["max_epochs"]
    )
    metrics = mlflow_run.data.metrics
    assert {name.partition("/")[0] for name in metrics} == {
        "train",
        "val",
        "test",
        "epoch",
        "system",
    }
    for name in ("macro_f1", "accuracy", "macro_recall", "nll", "brier", "ece"):
        value = result["metrics"][f"test/{name}"]["value"]
        assert metrics[f"test/{name}"] == pytest.approx(value)
    assert len([name for name in metrics if name.startswith("test/")]) == 6
    names = artifact_names(client, result["run_id"])
    for wanted in ("recipe.yaml", "summary.md", "report.html", "validation/report.html", "validation/quarantine.json",
                   "evaluation/report.html", "evaluation/figures.json", "evaluation/predictions.parquet"):  # fmt: skip
        assert wanted in names
    contexts = {}
    for one in mlflow_run.inputs.dataset_inputs:
        profile, schema = json.loads(one.dataset.profile), json.loads(one.dataset.schema)
        contexts[one.tags[0].value] = (one.dataset.name, profile["num_rows"])
        assert profile["quarantined"] == sum(dirty_rows(600).values())
        assert "text" in {column["name"] for column in schema["mlflow_colspec"]}
    assert list(contexts) == ["training", "validation", "evaluation"]
    assert contexts["evaluation"][0] == "sample test"
    assert of_run(mlflow_run)["noisefold.flow_run_id"] == result["flow_run_id"]
    assert mlflow_run.data.tags["noisefold.outcome"] == "promoted"
    told = mlflow_run.data.tags["mlflow.note.content"]
    assert told.startswith("**Promoted**: noisefold-tiny version 1")
    assert f"/runs/flow-run/{result['flow_run_id']}" in told
    assert "workflowType=machine_learning" in told


def test_logged_model_has_the_test_figures_and_their_data_set(run):
    client, _, result, _ = run
    (model,) = client.search_logged_models([result["experiment_id"]])
    figures = {metric.key: metric for metric in model.metrics}
    assert figures["test/macro_f1"].value == pytest.approx(
        result["metrics"]["test/macro_f1"]["value"]
    )
    assert figures["test/macro_f1"].dataset_name == "sample test"
    assert len(client.get_metric_history(result["run_id"], "test/macro_f1")) == 1


def test_registered_version_is_champion_and_carries_its_lineage(run):
    client, _, result, _ = run
    version = client.get_model_version_by_alias("noisefold-tiny", "champion")
    assert f"models:/noisefold-tiny/{version.version}" == result["model_uri"]
    made_from = lineage_of(version)
    assert made_from["flow_run_id"] == result["flow_run_id"]
    assert {"data_digest", "contract", "git_commit", "bundle_digest"} <= made_from.keys()
    assert version.description.startswith("Champion since ")


def test_prefect_run_shows_each_stage_and_the_summary(run, prefect_api):
    import asyncio

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterKey,
        FlowRunFilter,
        FlowRunFilterId,
    )

    _, _, result, _ = run

    async def read():
        async with PrefectClient(prefect_api.url) as client:
            flow_filter = FlowRunFilter(id=FlowRunFilterId(any_=[result["flow_run_id"]]))
            flow_run = await client.read_flow_run(result["flow_run_id"])
            tasks = await client.read_task_runs(flow_run_filter=flow_filter)
            keys = ArtifactFilterKey(any_=["retrain-summary", "validation-report"])
            artifacts = await client.read_artifacts(artifact_filter=ArtifactFilter(key=keys))
            return (
                flow_run,
                tasks,
                {a.key: a.data for a in artifacts if str(a.flow_run_id) == result["flow_run_id"]},
            )

    flow_run, tasks, artifacts = asyncio.run(read())
    assert flow_run.state_name == "Completed"
    assert {task.name.split("-")[0] for task in tasks} >= {
        stage["name"] for stage in result["stages"]
    }
    assert "| train |" in artifacts["retrain-summary"]
    assert "/artifacts/validation" in artifacts["validation-report"]


def test_predict_labels_text_in_both_languages(run, prefect_api):
    _, _, _, home = run
    texts = ["The screen is not bad at all.", "屏幕一点也不差。"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", "predict", "--model", "noisefold-tiny", "--json", *texts],
        env=environment(prefect_api, home), cwd=home, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == texts
    assert all(sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-4) for line in lines)
    assert done.stderr == ""


def test_a_challenger_starts_from_the_champion_and_is_compared_on_the_same_rows(
    undisturbed, here, tiny_recipe, tmp_path
):
    home = with_artifacts_of(undisturbed[1], tmp_path / "home")
    first = told(here(home, "retrain", tiny_recipe, "--json"))
    command = ("retrain", tiny_recipe, "--json", "--set", "training.warm_start=champion", "--set", "training.seed=7",
               "--set", "promotion.margin=0.5")  # fmt: skip
    second = told(here(home, *command))
    manifest = json.loads((Path(second["artifacts"]["train"]) / "manifest.json").read_text())
    assert manifest["warm_started_from"]
    decision = second["decision"]
    assert decision["champion_before"] == first["model_uri"].rsplit("/", 1)[1]
    assert decision["rows_compared"] > 0
    assert (
        decision["difference"]["low"]
        <= decision["difference"]["value"]
        <= decision["difference"]["high"]
    )
    assert decision["outcome"] == "promoted"
    model = mlflow_client(home).get_registered_model("noisefold-tiny")
    assert {a: str(v) for a, v in model.aliases.items()} == {
        "champion": decision["version"],
        "previous": "1",
    }
    moves = [json.loads(line) for line in (home / "ledger.jsonl").read_text().splitlines()]
    assert [(m["alias"], m["to"]) for m in moves] == [
        ("champion", "1"),
        ("previous", "1"),
        ("champion", "2"),
    ]
    # Run again, it starts from the same champion, not from itself: the rerun of a run is the same
    # run.
    again = told(here(home, *command))
    assert again["decision"]["outcome"] == "already_champion"
    assert {stage["state"] for stage in again["stages"][:6]} == {"cached"}


@pytest.mark.slow
def test_terminal_summary_is_readable_and_nothing_else_is_printed(tmp_path, tiny_recipe):
    """With embedded defaults: Prefect's temporary server, SQLite, local files; stdout is no
    terminal here.
    """
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", "retrain", str(tiny_recipe)],
        env={**clean_environment(), "NOISEFOLD_HOME": str(home)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for wanted in (
        "rows in",
        "test/macro_f1",
        "noisefold-tiny/1 is champion",
        "/runs/flow-run/",
        "noisefold ui",
    ):
        assert wanted in done.stdout
    assert not any(word in done.stdout for word in ("WARNING", "Traceback", "INFO"))
