"""A whole comparison as a user meets it: one table, one MLflow parent run, and whatever happens,
nothing twice.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lightning_modules.kinds.classify.predictions import write_predictions
from tests.pipeline.conftest import REPOSITORY, TINY, environment, mlflow_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MODEL = {"embedding": {"size": 8}, "encoder": {"kind": "tanh", "hidden_size": 8}}
GRID = {
    "name": "tiny",
    "recipe": {**TINY, "source": {"kind": "sample", "rows": 300, "seed": 1}, "model": MODEL}
    | {"training": {"max_epochs": 1, "batch_size": 32}, "statistics": {"samples": 200}},
    "seeds": [0, 1],
    "variants": {"noise": {}, "plain": {"model.reparameterization": {"kind": "none"}}},
    "baseline": "plain",
}
# `noisefold compare`, killed when the second training of this process is done and not yet
# committed.
KILLED = """
import os, signal
from tasks.artifacts.store import ArtifactStore
commit, trained = ArtifactStore._commit, []
def killing(self, manifest, out):
    trained.extend([manifest] if manifest.stage == "train" else [])
    if len(trained) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, manifest, out)
ArtifactStore._commit = killing
from flows.cli.main import main
main()
"""
# As a shell starts it: one that runs in the background has its children ignore Ctrl-C.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from flows.cli.main import main
main()
"""


def command(grid: Path, *options: str, code: str | None = None) -> list[str]:
    start = [sys.executable, "-P", *(("-c", code) if code else ("-m", "flows.cli.main"))]
    return [
        *start,
        "compare",
        str(grid),
        "--json",
        "--out",
        str(grid.with_name("table.md")),
        *options,
    ]


def compare(prefect_api, home: Path, grid: Path, *options: str, code: str | None = None):
    return subprocess.run(
        command(grid, *options, code=code),
        env={**environment(prefect_api, home), "PYTHONPATH": str(REPOSITORY)},
        cwd=grid.parent,
        capture_output=True,
        text=True,
        timeout=500,
    )


def table_of(done) -> dict:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout)


def write_grid(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "grid.yaml").write_text(yaml.safe_dump({**GRID, **changes}, sort_keys=False))
    return folder / "grid.yaml"


def without_costs(table: dict) -> dict:
    """What does not depend on how busy the machine was."""
    cells = [{k: v for k, v in cell.items() if k != "facts"} for cell in table["cells"]]
    rows = [{k: v for k, v in row.items() if k != "facts"} for row in table["rows"]]
    return {**table, "cells": cells, "rows": rows}


def runs(home: Path) -> tuple[list, list]:
    """Parent runs and their children, in the comparison's experiment."""
    client = mlflow_client(home)
    found = client.search_runs(
        [client.get_experiment_by_name("noisefold-compare-tiny").experiment_id]
    )
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in found if run not in parents]


@pytest.fixture(scope="module")
def whole(prefect_api, tmp_path_factory) -> tuple[dict, Path, Path]:
    """The table of a comparison that nothing disturbs, its state folder and its grid."""
    folder = tmp_path_factory.mktemp("compare")
    grid = write_grid(folder)
    return table_of(compare(prefect_api, folder / "home", grid)), folder / "home", grid


def test_every_cell_has_its_figures_and_the_table_says_how_it_was_made(whole):
    table, _, grid = whole
    assert [(c["variant"], c["seed"], c["state"]) for c in table["cells"]] == [
        (variant, seed, "finished") for seed in (0, 1) for variant in ("noise", "plain")
    ]
    assert len({cell["config"] for cell in table["cells"]}) == 4
    for cell in table["cells"]:
        assert set(cell["figures"]) == {
            "accuracy",
            "macro_f1",
            "nll",
            "brier",
            "ece",
            "ece_floor",
            "valid_macro_f1",
        }
        assert set(cell["facts"]) == {
            "parameters",
            "bytes",
            "cpu_seconds_train",
            "texts_per_second",
        }
        assert all(value > 0 for value in cell["facts"].values())
    noise, plain = table["rows"]
    assert (
        set(noise["differences"]) == {"accuracy", "macro_f1", "nll", "brier", "ece"}
        and not plain["differences"]
    )
    page = grid.with_name("table.md").read_text()
    assert "`noisefold compare grid.yaml --out table.md`" in page
    assert "not run" not in page.lower()
    assert json.loads(grid.with_name("table.json").read_text()) == table
    assert str(grid.parent) not in page + grid.with_name("table.json").read_text()


def test_mlflow_shows_one_parent_with_a_run_per_cell(whole):
    table, home, _ = whole
    (parent,), children = runs(home)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    names = {"noise · seed 0", "noise · seed 1", "plain · seed 0", "plain · seed 1"}
    assert {run.info.run_name for run in children} == names
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert (
        parent.data.params["baseline"] == "plain"
        and parent.data.params["recipe.training.max_epochs"] == "1"
    )
    client = mlflow_client(home)
    assert {"comparison.md", "comparison.json"} <= {
        f.path for f in client.list_artifacts(parent.info.run_id)
    }
    for run in children:
        assert run.data.params["training.seed"] == run.data.tags["noisefold.seed"]
        assert {"test/accuracy", "val/macro_f1", "train/loss", "cost/texts_per_second"} <= set(
            run.data.metrics
        )
    chosen_by = {
        f"{c['variant']} · seed {c['seed']}": c["figures"]["valid_macro_f1"] for c in table["cells"]
    }
    assert chosen_by == {
        run.info.run_name: run.data.metrics["val/macro_f1"] for run in children
    }  # one epoch each


def test_rerun_finds_every_cell_and_reads_predictions_of_other_programs(whole, prefect_api):
    table, home, grid = whole
    before = {path: path.stat().st_mtime_ns for path in (home / "artifacts").rglob("manifest.json")}
    (corpus,) = (home / "artifacts" / "validate").iterdir()
    rows = pq.read_table(corpus / "corpus", filters=[("split", "==", "test")])
    labels = sorted(set(rows["label"].to_pylist()))
    right = np.array([[label == name for name in labels] for label in rows["label"].to_pylist()])
    log_proba = np.log(np.where(right, 0.91, 0.09 / (len(labels) - 1)))
    write_predictions(
        grid.with_name("oracle-0.parquet"),
        rows["id"].to_pylist(),
        log_proba,
        labels,
        {"chosen": "all"},
    )
    write_grid(
        grid.parent, predictions={"oracle": "oracle-*.parquet", "absent": "absent-*.parquet"}
    )
    done = compare(prefect_api, home, grid)
    again = table_of(done)
    assert (
        done.stderr.count(" cached ") == 6 and " ran " not in done.stderr
    )  # ingest, validate, four cells
    assert {
        path: path.stat().st_mtime_ns for path in (home / "artifacts").rglob("manifest.json")
    } == before
    assert again["rows"][:2] == table["rows"] and again["cells"][:4] == table["cells"]
    oracle, absent = again["rows"][2:]
    assert (
        oracle["figures"]["accuracy"]["mean"] == 1 and oracle["differences"]["accuracy"]["low"] > 0
    )
    assert oracle["figures"]["ece"]["mean"] == pytest.approx(0.09)
    assert (absent["finished"], absent["planned"]) == (0, 0)
    parents, children = runs(home)
    assert (len(parents), len(children)) == (1, 4)
    page = grid.with_name("table.md").read_text()
    assert "| absent | 0/0 | not run |" in page and "Not run: absent (no predictions file)." in page
    assert "oracle: all." in page
    report = table_of(compare(prefect_api, home, grid, "--report"))
    assert report == again
    elsewhere = table_of(compare(prefect_api, grid.parent / "empty", grid, "--report"))
    assert elsewhere == again, "a state folder that holds no cell takes no figure from the table"


def test_interrupted_then_killed_the_rerun_ends_as_if_undisturbed(whole, prefect_api, tmp_path):
    home, grid = tmp_path / "home", write_grid(tmp_path)
    out = grid.with_name("table.md")
    child = subprocess.Popen(
        command(grid, code=INTERRUPTIBLE),
        env={**environment(prefect_api, home), "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not out.exists() and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 130 and "goes on from there" in said, said[-3000:]
    assert (
        "| noise | 1/2 |" in out.read_text()
        and "Not run: noise (seeds 1); plain (seeds 0, 1)." in out.read_text()
    )

    done = compare(prefect_api, home, grid, code=KILLED)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    assert "| plain | 1/2 |" in out.read_text()

    expected, _, _ = whole
    last = compare(prefect_api, home, grid)
    assert without_costs(table_of(last)) == without_costs(expected)
    assert [line.split()[1] for line in last.stderr.splitlines() if "/4 " in line] == [
        "cached",
        "cached",
        "ran",
        "ran",
    ]
    (_,), children = runs(home)
    assert [run.info.status for run in children] == ["FINISHED"] * 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="the fault is that there is no CUDA device")
def test_a_cell_that_cannot_train_is_told_with_its_cause_and_the_others_go_on(whole, prefect_api):
    _, home, grid = whole
    grid = write_grid(
        grid.parent,
        variants={"broken": {"execution.accelerator": "cuda"}, **GRID["variants"]},
        seeds=[0],
    )
    done = compare(prefect_api, home, grid)
    table = table_of(done)
    assert [(c["variant"], c["state"]) for c in table["cells"]] == [
        *(("broken", "failed"), ("noise", "finished"), ("plain", "finished"))
    ]
    page = grid.with_name("table.md").read_text()
    assert (
        "| broken | 0/1 | failed |" in page
        and "Failed: broken, seed 0: The recipe asks for CUDA" in page
    )
    assert table_of(compare(prefect_api, home, grid, "--report")) == table
    failed = [run for run in runs(home)[1] if run.info.status == "FAILED"]
    assert ["CUDA" in run.data.tags["noisefold.error"] for run in failed] == [True]
