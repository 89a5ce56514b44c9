"""Faults of what the pipeline stands on, one by one, in real parts: each ends as documented, and nothing is lost."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.pipeline.conftest import TINY, mlflow_client
from tests.pipeline.world import Retrain, World, compare, facts_of, leftovers, manifests
from tests.servers import prefect_server

as_root = pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/mount").exists(), reason="needs root to mount a tmpfs")
PATIENT = ("--set", "execution.retries=8", "--set", "execution.retry_delay_seconds=1")


@pytest.fixture
def world(prefect_api, tmp_path) -> Iterator[World]:
    made = World(tmp_path / "world", prefect_api)
    yield made
    made.mlflow.stop()


def states(run: Retrain) -> dict[str, str]:
    assert run.wait() == 0, run.errors[-3000:]
    return {stage["name"]: stage["state"] for stage in run.result["stages"]}


def refused(run: Retrain, *words: str) -> None:
    """It ends by itself, with one clear message."""
    assert run.wait() == 1, run.output[-500:] + run.errors[-500:]
    assert "Traceback" not in run.errors
    message = run.errors[run.errors.index("error: ") :]
    assert len(message.splitlines()) >= 2, "no remedy is given"
    for word in words:
        assert word in message


def until(run: Retrain, ready: Callable[[], object]) -> None:
    while not ready():
        assert run.process.poll() is None, run.errors
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mlflow_server_that_goes_away_in_training_and_at_registration_loses_nothing(world, tmp_path):
    """In one run: training goes on and every point arrives once and in order; register is retried."""
    longer = ("--set", "training.max_epochs=20", "--set", "training.patience=99")
    run = Retrain(world, tmp_path, "served", *longer, *PATIENT, store="server")
    until(run, lambda: any(f.stat().st_size for f in tmp_path.glob("state/work/train-*/metrics.jsonl")))
    world.mlflow.stop()
    time.sleep(1)
    assert run.process.poll() is None
    world.mlflow.start()
    until(run, run.ended["evaluate"].is_set)
    world.mlflow.stop()
    time.sleep(1)
    world.mlflow.start()
    assert states(run)["register"] in ("retried", "ran")
    client, result = world.client(tmp_path, "server"), run.result
    (file,) = tmp_path.glob("state/artifacts/train/*/metrics.jsonl")
    points: dict[str, list[tuple[int, float]]] = {}
    for line in file.read_text().splitlines():
        point = json.loads(line)
        points.setdefault(point["key"], []).append((point["step"], point["value"]))
    assert len(points["train/loss"]) > 20
    for key, expected in points.items():
        assert [(m.step, m.value) for m in client.get_metric_history(result["run_id"], key)] == expected, key
    assert len(client.search_model_versions("name = 'noisefold-served'")) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mlflow_server_that_is_down_ends_the_run_and_the_rerun_does_not_train_again(world, tmp_path):
    run = Retrain(world, tmp_path, "served", store="server")
    until(run, run.ended["evaluate"].is_set)
    world.mlflow.stop()
    refused(run, "MlflowException")
    trained = manifests(tmp_path)["train"]
    again = Retrain(world, tmp_path, "served", store="stopped server")
    refused(again, "does not answer", "MLFLOW_TRACKING_URI")
    last = states(Retrain(world, tmp_path, "served", store="server"))
    assert last["train"] == last["evaluate"] == "cached"
    assert manifests(tmp_path)["train"] == trained
    client = world.client(tmp_path, "server")
    assert len(client.search_model_versions("name = 'noisefold-served'")) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_prefect_server_that_is_killed_and_started_again_does_not_end_the_run(tmp_path):
    own = prefect_server(tmp_path).start()
    try:
        run = Retrain(World(tmp_path / "world", own), tmp_path, TINY["name"], *PATIENT)
        until(run, run.ended["tokenize"].is_set)
        own.stop()
        own.start()
        assert states(run)["promote"] == "ran"
    finally:
        own.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_that_segfaults_is_healed_within_the_same_flow(world, undisturbed, tmp_path):
    """And the MLflow store locked by another process for some seconds is waited for."""
    run = Retrain(world, tmp_path, TINY["name"], "--set", "execution.retries=1", fault="checkpoint_replace#2:segfault")
    until(run, run.ended["validate"].is_set)
    with locked(tmp_path / "state" / "mlflow.db"):
        time.sleep(3)
    assert {stage for stage, state in states(run).items() if state == "retried"} == {"train"}
    expected, other = undisturbed
    found = facts_of(mlflow_client(tmp_path / "state"), tmp_path / "state", run.result)
    assert not compare(facts_of(mlflow_client(other), other, expected), found)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_recipes_at_once_both_succeed_and_a_store_locked_for_long_is_told(world, tmp_path):
    """From nothing, on one state folder: they share its database, its artifacts and its locks."""
    runs = [Retrain(world, tmp_path, name) for name in ("one", "other")]
    for run in runs:
        assert set(states(run)) > {"train", "promote"}
    client = mlflow_client(tmp_path / "state")
    assert {m.name: dict(m.aliases) for m in client.search_registered_models()} == {
        "noisefold-one": {"champion": "1"},
        "noisefold-other": {"champion": "1"},
    }
    assert len(list(tmp_path.glob("state/artifacts/train/*"))) == 1, "the same training was done once"
    assert not leftovers(tmp_path / "state")
    with locked(tmp_path / "state" / "mlflow.db"):
        refused(Retrain(world, tmp_path, "one"), "locked")
    assert states(Retrain(world, tmp_path, "one"))["train"] == "cached"


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here ({mounted.stderr.decode().strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError:
                continue
    return file


@as_root
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_disk_that_is_full_from_a_stage_on_is_told_and_the_rerun_goes_on(world, undisturbed, tmp_path):
    with small_disk(tmp_path / "state", "size=64m"):
        for stage in ("ingest", "tokenize", "evaluate"):  # what follows them runs out of space
            run = Retrain(world, tmp_path, TINY["name"])
            until(run, run.ended[stage].is_set)
            filler = fill(tmp_path / "state")
            refused(run, "space")
            filler.unlink()
        last = Retrain(world, tmp_path, TINY["name"])
        assert states(last)["train"] == "cached"
        expected, other = undisturbed
        found = facts_of(mlflow_client(tmp_path / "state"), tmp_path / "state", last.result)
        assert not compare(facts_of(mlflow_client(other), other, expected), found)
        assert not leftovers(tmp_path / "state")


@as_root
def test_read_only_state_folder_is_told(world, tmp_path):
    with small_disk(tmp_path / "state", "size=1m,ro"):
        refused(Retrain(world, tmp_path, "read-only"), "cannot be written", "NOISEFOLD_HOME")


@pytest.fixture
def here(prefect_api, tmp_path, monkeypatch) -> Iterator[Path]:
    """Flows in this process, on the session's server and a state folder of their own."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("NOISEFOLD_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logging.disable(logging.CRITICAL)
    with temporary_settings({PREFECT_API_URL: prefect_api.url}):
        yield tmp_path / "state"
    logging.disable(logging.NOTSET)


# Prefect ends an attempt with SIGALRM, unless somebody else uses it: pytest-timeout does, unless it is told otherwise.
@pytest.mark.timeout(600, method="thread")
def test_stage_that_hangs_is_ended_and_tried_again(here):
    """A failed attempt like any other: retried where retries are left, else the end, with stage and field named."""
    from prefect import flow, task

    from data_contracts.artifacts import PromotionDecision
    from data_contracts.recipe import parse_recipe
    from flows.run import Run
    from tasks.stage import STAGE, Interrupted

    hung: list[float] = []

    @task(name="evaluate", **STAGE)
    def hangs(times: int) -> PromotionDecision:
        hung.append(time.monotonic())
        if len(hung) <= times:
            time.sleep(600)
        return PromotionDecision(
            promoted=False, outcome="not_promoted", reasons=(), name="m", version="1", champion_before=None
        )

    @flow
    def one_stage(times: int, retries: int):
        recipe = parse_recipe(TINY, origin="test")
        with Run(recipe) as run:
            limits = {"stage_timeout_seconds": 1.0, "retries": retries, "retry_delay_seconds": 0.0}
            run.recipe = recipe.model_copy(update={"execution": recipe.execution.model_copy(update=limits)})
            run(hangs, times)
            return [(stage.name, stage.state) for stage in run.stages], run.tracker.run_id

    stages, run_id = one_stage(times=1, retries=1)
    assert (len(hung), stages) == (2, [("evaluate", "retried")])
    assert mlflow_client(here).get_run(run_id).info.status == "FINISHED"
    hung.clear()
    with pytest.raises(
        Interrupted, match=r"evaluate was ended at its limit of 1 s \(execution\.stage_timeout_seconds\)"
    ):
        one_stage(times=9, retries=2)
    assert len(hung) == 3
    assert mlflow_client(here).get_run(run_id).info.status == "FAILED"
