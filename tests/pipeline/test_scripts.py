"""What scripts and schedules rely on: JSON and nothing else on standard output, and runs that keep
their own story.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_modules.bundle import Bundle
from tasks.engines.fork_server import ForkServer
from tasks.tracking.bookkeeping import STATE, of_run
from tests.pipeline.conftest import REPOSITORY, environment, told, with_artifacts_of
from tests.servers import mlflow_server


@pytest.fixture
def tracking(tmp_path: Path):
    server = mlflow_server(tmp_path).start()
    yield server
    server.stop()


@pytest.mark.slow
def test_json_is_json_on_a_real_server_and_the_next_night_leaves_the_run_closed(
    prefect_api, tracking, undisturbed, tiny_recipe, here, tmp_path
):
    from mlflow import MlflowClient

    home = with_artifacts_of(undisturbed[1], tmp_path / "home")
    # Loud: a user who wants MLflow's own lines has them on standard error.
    loud = {"MLFLOW_TRACKING_URI": tracking.url, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "false"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", "retrain", str(tiny_recipe), "--json"],
        env=environment(prefect_api, home, **loud), cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first = json.loads(done.stdout)
    assert "View run" in done.stderr
    client = MlflowClient(tracking.url, registry_uri=tracking.url)
    before = client.get_run(first["run_id"])
    assert before.info.status == "FINISHED"

    second = told(here(home, "retrain", tiny_recipe, "--json", **loud))
    after = client.get_run(second["run_id"])
    assert second["run_id"] == first["run_id"] and second["flow_run_id"] != first["flow_run_id"]
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    known = of_run(before)
    changed = {name for name, text in of_run(after).items() if known.get(name) != text}
    assert changed - {STATE} == {
        f"noisefold.last_seen{more}" for more in ("", "_flow_run_id", "_flow_run_name")
    }
    assert of_run(after)["noisefold.flow_run_id"] == first["flow_run_id"]
    assert of_run(after)["noisefold.last_seen_flow_run_id"] == second["flow_run_id"]
    assert after.data.metrics == before.data.metrics
    summary = Path(
        client.download_artifacts(first["run_id"], "summary.md", str(tmp_path))
    ).read_text()
    assert "| register | ran |" in summary, "that of the night which did the work"

    assert json.loads(here(home, "doctor", "--json", **loud).stdout)["lines"]
    assert told(here(home, "reconcile", "--json", **loud))["dead"] == []
    assert told(here(home, "gc", "--json", **loud))["applied"] is False
    lines = here(home, "history", "--model", "noisefold-tiny", "--json", **loud).stdout.splitlines()
    assert [json.loads(line)["to"] for line in lines] == ["1"]


def test_every_stage_works_with_the_recipes_threads(
    undisturbed, here, tiny_recipe, tmp_path, monkeypatch
):
    """What scores in evaluate and promote, and what the served version is given."""
    home = with_artifacts_of(
        undisturbed[1], tmp_path / "home", "ingest", "validate", "tokenize", "train"
    )
    seen, given, before = [], [], torch.get_num_threads()
    score, start = Bundle.run, ForkServer.spawn

    def scored(self, *arguments):
        seen.append(torch.get_num_threads())
        return score(self, *arguments)

    def started(server, request, **files):
        given.append(request.environment["OMP_NUM_THREADS"])
        return start(server, request, **files)

    monkeypatch.setattr(Bundle, "run", scored)
    monkeypatch.setattr(ForkServer, "spawn", started)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    try:
        stages = told(here(home, "retrain", tiny_recipe, "--json"))["stages"]
        assert torch.get_num_threads() == 2, "what a run sets, it takes back"
    finally:
        torch.set_num_threads(before)
    assert [stage["state"] for stage in stages] == ["cached"] * 4 + ["ran"] * 3
    assert set(seen) == {1} and set(given) == {"1"}


@pytest.mark.slow
def test_a_rerun_with_nothing_to_do_loads_no_network_and_no_plots(
    undisturbed, prefect_api, tiny_recipe, tmp_path
):
    """Every night of a schedule on data that did not change."""
    home = tmp_path / "home"
    shutil.copytree(undisturbed[1], home)
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-m", "flows.cli.main", "retrain", str(tiny_recipe), "--json"],
        env=environment(prefect_api, home), cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    stages = [stage["state"] for stage in json.loads(done.stdout)["stages"]]
    assert stages == ["cached"] * 6 + ["ran"], "promote looks at the champion each time"
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "prefect" in loaded
    assert not loaded & {
        "torch",
        "lightning",
        "pytorch_lightning",
        "matplotlib",
        "scipy.stats",
        "sklearn",
    }
