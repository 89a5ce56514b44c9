"""Faults of what the pipeline stands on, one by one, in real parts: each ends as documented, and
nothing is lost.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.pipeline.conftest import TINY, mlflow_client, refused, told, with_artifacts_of
from tests.pipeline.world import compare, facts_of, leftovers
from tests.servers import Server, mlflow_server

as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/bin/mount").exists(), reason="needs root to mount a tmpfs"
)
PATIENT = ("--set", "execution.retries=8", "--set", "execution.retry_delay_seconds=1")
# So long that a server can be stopped meanwhile, also on a busy machine.
LONGER = ("--set", "training.batch_size=4")
DATA = ("ingest", "validate", "tokenize")


def states(result: dict) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in result["stages"]}


@pytest.fixture
def planned(monkeypatch) -> dict[str, Callable[[], object]]:
    """What happens once, by its moment: "register" when that stage begins, "register again" when an
    attempt failed.
    """
    from flows.running import job

    plan: dict[str, Callable[[], object]] = {}
    carry_out, healing = job.Job.carry_out, job.healing

    def at(moment: str) -> None:
        if moment in plan:
            plan.pop(moment)()

    def moment_then(self, step, *inputs):
        at(step.name)
        return carry_out(self, step, *inputs)

    def healing_then(failed_attempts):
        condition = healing(failed_attempts)

        def heals(task, task_run, state) -> bool:
            answer = condition(task, task_run, state)
            at(f"{task.name} again")
            return answer

        return heals

    monkeypatch.setattr(job.Job, "carry_out", moment_then)
    monkeypatch.setattr(job, "healing", healing_then)
    return plan


@contextmanager
def aside(*steps: Callable[[], object]) -> Iterator[None]:
    """In a thread, one after the other; all done, or their fault raised, when the block is left."""
    faults: list[BaseException] = []

    def walk() -> None:
        try:
            for step in steps:
                step()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=walk)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        assert not faults, faults


def until(ready: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def written(home: Path) -> int:
    """Bytes of metric points that the training process has written."""
    return sum(file.stat().st_size for file in home.glob("work/train-*/metrics.jsonl"))


@pytest.fixture
def mlflow(tmp_path) -> Iterator[Server]:
    server = mlflow_server(tmp_path).start()
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mlflow_server_that_goes_away(here, planned, mlflow, undisturbed, tiny_recipe, tmp_path):
    """In training: it goes on, and every point arrives once and in order. At registration: retried,
    or the rerun registers without training again. At the start: told within seconds.
    """
    from mlflow import MlflowClient

    home = with_artifacts_of(undisturbed[1], tmp_path / "home", *DATA)
    command = ("retrain", tiny_recipe, "--json", *LONGER)
    address = {"MLFLOW_TRACKING_URI": mlflow.url}
    planned["register"], planned["register again"] = mlflow.stop, mlflow.start
    down: list[int] = []
    with aside(
        lambda: until(lambda: written(home)),
        mlflow.stop,
        lambda: down.append(written(home)),
        lambda: until(lambda: written(home) > down[0]),  # training goes on
        mlflow.start,
    ):
        result = told(here(home, *command, *PATIENT, **address))
    assert states(result)["register"] == "retried"
    client = MlflowClient(mlflow.url, registry_uri=mlflow.url)
    points: dict[str, list[tuple[int, float]]] = {}
    for line in (Path(result["artifacts"]["train"]) / "metrics.jsonl").read_text().splitlines():
        point = json.loads(line)
        points.setdefault(point["key"], []).append((point["step"], point["value"]))
    assert "train/loss" in points and "val/macro_f1" in points
    for key, expected in points.items():
        assert [
            (m.step, m.value) for m in client.get_metric_history(result["run_id"], key)
        ] == expected, key
    assert len(client.search_model_versions("name = 'noisefold-tiny'")) == 1

    planned["register"] = mlflow.stop
    second = ("--set", "name=second")
    refused(here(home, *command, *second, **address), "MlflowException")
    refused(here(home, *command, *second, **address), "does not answer", "MLFLOW_TRACKING_URI")
    mlflow.start()
    last = states(told(here(home, *command, *second, **address)))
    assert last.pop("promote") == last.pop("register") == "ran" and set(last.values()) == {"cached"}
    assert len(client.search_model_versions("name = 'noisefold-second'")) == 1


@pytest.mark.timeout(600)
def test_prefect_server_that_is_started_anew_does_not_end_the_run(
    here, planned, prefect_api, undisturbed, tiny_recipe, tmp_path
):
    home = with_artifacts_of(undisturbed[1], tmp_path / "home", "ingest", "train")
    gone = threading.Event()

    def stop() -> None:
        prefect_api.stop()
        gone.set()

    planned["validate"] = stop  # which has an artifact for Prefect
    with aside(lambda: gone.wait(120), lambda: time.sleep(1), prefect_api.start):
        result = told(here(home, "retrain", tiny_recipe, "--json", *PATIENT))
    assert result["decision"]["outcome"] == "promoted"
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(prefect_api.url) as client:
        assert client.read_flow_run(result["flow_run_id"]).state_name == "Completed"


@contextmanager
def locked(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(
        sqlite3.connect(database, timeout=60, isolation_level=None, check_same_thread=False)
    ) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@pytest.mark.timeout(600)
def test_store_that_another_process_locks_is_waited_for_and_told(here, undisturbed, tiny_recipe):
    _, home = undisturbed
    with (
        locked(home / "mlflow.db") as connection,
        aside(lambda: time.sleep(2), lambda: connection.execute("ROLLBACK")),
    ):
        assert (
            told(here(home, "retrain", tiny_recipe, "--json"))["decision"]["outcome"]
            == "already_champion"
        )
    with locked(home / "mlflow.db"):
        refused(here(home, "retrain", tiny_recipe), "locked")
    assert states(told(here(home, "retrain", tiny_recipe, "--json")))["train"] == "cached"


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here ({mounted.stderr.decode().strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave no byte."""
    with (disk / "filler").open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError:
                continue


@as_root
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_disk_that_is_full_in_any_stage_is_told_and_the_rerun_goes_on(
    here, planned, undisturbed, tiny_recipe, tmp_path
):
    expected, other = undisturbed
    stages = [stage["name"] for stage in expected["stages"]]
    with small_disk(tmp_path / "state", "size=64m") as home:
        for number, stage in enumerate(stages):
            planned[stage] = lambda: fill(home)
            refused(here(home, "retrain", tiny_recipe), "pace")
            (home / "filler").unlink()
            finished = {
                file.parent.parent.name for file in home.glob("artifacts/*/*/manifest.json")
            }
            assert finished == set(stages[: min(number, 5)])
        last = told(here(home, "retrain", tiny_recipe, "--json"))
        assert set(list(states(last).values())[:5]) == {"cached"}
        found = facts_of(mlflow_client(home), home, last)
        assert not compare(facts_of(mlflow_client(other), other, expected), found)
        assert not leftovers(home)


@as_root
def test_read_only_state_folder_is_told(here, tiny_recipe, tmp_path):
    with small_disk(tmp_path / "state", "size=1m,ro") as home:
        refused(here(home, "retrain", tiny_recipe), "cannot be written", "NOISEFOLD_HOME")


# Prefect ends an attempt with SIGALRM, unless somebody else uses it: pytest-timeout does, unless it
# is told otherwise.
@pytest.mark.timeout(600, method="thread")
def test_stage_that_hangs_is_ended_and_tried_again(here, tmp_path, monkeypatch):
    """A failed attempt like any other: retried where retries are left, else the end, with stage and
    field named.
    """
    from prefect import flow

    from data_contracts.recipe.reading import parse_recipe
    from data_contracts.results import PromotionDecision
    from flows.running.due import by_machine
    from flows.running.run import Run
    from tasks.retries import Interrupted
    from tasks.stage import RunContext, step

    home, hung = tmp_path / "home", list[float]()
    monkeypatch.setenv("NOISEFOLD_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    @step
    def evaluate(_: RunContext, times: int) -> PromotionDecision:
        hung.append(time.monotonic())
        if len(hung) <= times:
            time.sleep(60)
        return PromotionDecision(
            promoted=False,
            outcome="not_promoted",
            reasons=(),
            name="m",
            version="1",
            champion_before=None,
        )

    @flow
    def one_stage(times: int, retries: int):
        recipe = parse_recipe(TINY, origin="test")
        with Run(recipe, by_machine()) as run:
            limits = {
                "limits": recipe.execution.limits.model_copy(update={"stage": 4.0}),
                "retries": retries,
                "retry_delay_seconds": 0.0,
            }
            run.recipe = recipe.model_copy(
                update={"execution": recipe.execution.model_copy(update=limits)}
            )
            evaluate(run, times)
            return [(stage.name, stage.state) for stage in run.stages], run.tracker.run_id

    with pytest.raises(
        Interrupted,
        match=r"evaluate was ended at its limit of 4 s \(execution\.limits\.stage\)",
    ):
        one_stage(times=9, retries=0)
    assert len(hung) == 1
    client = mlflow_client(home)
    (failed,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert failed.info.status == "FAILED"
    hung.clear()
    stages, run_id = one_stage(times=1, retries=1)
    assert (len(hung), stages) == (2, [("evaluate", "retried")])
    assert (run_id, client.get_run(run_id).info.status) == (failed.info.run_id, "FINISHED")
