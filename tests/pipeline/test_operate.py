"""What an operator relies on: one retrain at a time, and no run that shows as running when nobody works on it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from tasks.lease import Leases
from tests.pipeline.conftest import REPOSITORY, TINY, environment, mlflow_client, result_of, retrain_process


def flow_runs(prefect_api, *ids: str) -> list:
    with SyncPrefectClient(prefect_api.url) as client:
        return [client.read_flow_run(flow_run_id) for flow_run_id in ids]


def open_task_runs(prefect_api, flow_run_id: str) -> list[str]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with SyncPrefectClient(prefect_api.url) as client:
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        return [run.name for run in client.read_task_runs(flow_run_filter=mine) if not run.state.is_final()]


def start(prefect_api, home: Path, recipe: Path, *options: str) -> subprocess.Popen[str]:
    """`noisefold retrain` that is under way when this returns: it holds its lease."""
    before = set(Leases(home).all())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.cli", "retrain", str(recipe), "--json", *options],
        env=environment(prefect_api, home),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not set(Leases(home).all()) - before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return process


def result(process: subprocess.Popen[str]) -> dict:
    stdout, stderr = process.communicate(timeout=300)
    return result_of(subprocess.CompletedProcess([], process.returncode, stdout, stderr))


@pytest.fixture(scope="module")
def killed(prefect_api, tiny_recipe, tmp_path_factory) -> tuple[Path, str, str]:
    """A run that was killed in training: its state folder, its Prefect run and its MLflow run."""
    home = tmp_path_factory.mktemp("killed") / "home"
    done = retrain_process(prefect_api, home, tiny_recipe, fault="train:kill")
    assert done.returncode == -9, done.stderr[-2000:]
    (lease,) = Leases(home).all().values()
    return home, lease.owner.flow_run_id, lease.owner.run_id


@pytest.mark.timeout(600)
def test_after_a_kill_the_next_run_closes_what_the_dead_one_left(prefect_api, tiny_recipe, killed):
    home, flow_run_id, run_id = killed
    (run,) = flow_runs(prefect_api, flow_run_id)
    assert run.state_name == "Running" and mlflow_client(home).get_run(run_id).info.status == "RUNNING"
    assert open_task_runs(prefect_api, flow_run_id)
    # Another seed is another MLflow run: the dead one is not opened again.
    again = result_of(retrain_process(prefect_api, home, tiny_recipe, "--set", "training.seed=7"))
    assert again["run_id"] != run_id
    (run,) = flow_runs(prefect_api, flow_run_id)
    assert run.state_name == "Crashed" and "is gone" in run.state.message
    assert open_task_runs(prefect_api, flow_run_id) == []
    left = mlflow_client(home).get_run(run_id)
    assert left.info.status == "KILLED" and "is gone" in left.data.tags["noisefold.error"]
    assert Leases(home).all() == {}


@pytest.mark.timeout(600)
def test_two_recipes_run_at_once_and_two_of_one_do_not(prefect_api, tiny_recipe, tmp_path):
    home, other = tmp_path / "home", tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**TINY, "name": "other"}))
    processes = [start(prefect_api, home, recipe) for recipe in (tiny_recipe, other)]
    refused = retrain_process(prefect_api, home, tiny_recipe)
    assert refused.returncode == 1
    assert "retrain tiny is under way" in refused.stderr and f"process {processes[0].pid}" in refused.stderr
    results = [result(process) for process in processes]
    assert {r["decision"]["outcome"] for r in results} == {"promoted"}
    assert [run.state_name for run in flow_runs(prefect_api, *(r["flow_run_id"] for r in results))] == ["Completed"] * 2
    assert {run.info.status for r in results for run in mlflow_client(home).search_runs([r["experiment_id"]])} == {
        "FINISHED"
    }
