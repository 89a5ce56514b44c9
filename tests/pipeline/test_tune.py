"""A whole search as a user meets it: trials, the best few with further seeds, a recipe that trains;
and whatever happens, nothing twice.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_contracts.recipe.reading import load_recipe
from tests.pipeline.conftest import (
    REPOSITORY,
    TINY,
    environment,
    mlflow_client,
    refused,
    told,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TANH = {"kind": "tanh", "hidden_size": 8}
HEADS = {"kind": "transformer", "num_layers": 1, "num_heads": 4}
SEARCH = {
    "name": "tiny",
    "recipe": {
        **TINY,
        "source": {"kind": "sample", "rows": 300, "seed": 1},
        "model": {"embedding": {"size": 8}, "encoder": TANH},
    },
    # Four heads do not divide nine: no recipe, though each is one alone.
    "space": {
        "model.encoder": [HEADS, TANH],
        "model.embedding.size": [9, 8],
        "training.learning_rate": [0.02, 0.00001],
    },
    "sampler": "grid",
    "startup": 1,
    "metric": "val/nll",
    "trials": 5,
    "seeds": [0, 1],
    "finalists": 2,
    "budget": "5m",
}
# `noisefold tune`, killed when its first training is done and not yet committed.
KILLED = """
import os, signal
from tasks.artifacts.store import ArtifactStore
commit, trained = ArtifactStore._commit, []
def killing(self, manifest, out):
    trained.extend([manifest] if manifest.stage == "train" else [])
    if trained:
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, manifest, out)
ArtifactStore._commit = killing
from flows.cli.main import main
main()
"""


def written(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump({**SEARCH, **changes}, sort_keys=False))
    return file


def without_cost(found: dict) -> list[dict]:
    return [{**one, "cpu_seconds": 0} for one in found["trials"]]


def test_a_search_ends_in_a_recipe_and_goes_on_where_it_was_killed(here, prefect_api, tmp_path):
    home, out, file = tmp_path / "home", tmp_path / "winner.yaml", written(tmp_path / "a")
    found = told(here(home, "tune", file, "--json", "--out", out))
    states = [one["state"] for one in found["trials"]]
    assert states == ["failed", "failed", "finished", "pruned", "finished"]
    assert "num_heads (4) does not divide embedding.size (9)" in found["trials"][0]["cause"]
    assert found["trials"][3]["epochs"] == 1 < found["trials"][2]["epochs"] == 2
    assert found["seeds"] == [0, 1]
    assert [set(one["values"]) for one in found["finalists"]] == [{"0", "1"}] * 2
    best, other = found["finalists"]
    assert best["mean"] <= other["mean"] and found["winner"] == best["number"]
    winner = load_recipe(out)
    changed = found["trials"][found["winner"]]["overrides"]
    assert winner.model.encoder.kind == changed["model.encoder"]["kind"]
    assert winner.training.learning_rate == 0.02
    assert out.read_text().startswith("# Found by `noisefold tune ")
    shown_in_mlflow(home, found)

    # What is finished is found; the winner is not written over.
    again = here(home, "tune", file, "--json", "--out", out)
    refused(again, "is there already", "--force")
    done = here(home, "tune", file, "--json", "--out", out, "--force")
    assert told(done) == found and " ran " not in done.stderr
    assert told(here(home, "tune", file, "--json", "--report"))["finalists"] == found["finalists"]

    killed_then_again(here, prefect_api, tmp_path / "killed", found)


def shown_in_mlflow(home: Path, found: dict) -> None:
    client = mlflow_client(home)
    experiment = client.get_experiment_by_name("noisefold-tune-tiny").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    (parent,) = [run for run in runs.values() if "mlflow.parentRunId" not in run.data.tags]
    trainings = {name for name in runs if name.startswith("trial")}
    numbers = [one["number"] for one in found["finalists"]]
    assert trainings == {"trial 2", "trial 3", "trial 4", *(f"trial {n} · seed 1" for n in numbers)}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["trial 3"].data.tags["noisefold.trial_state"] == "pruned"
    assert runs["trial 2"].data.metrics["tune/value"] == found["trials"][2]["value"]
    assert parent.data.metrics["tune/best"] == min(found["trials"][n]["value"] for n in (2, 4))
    files = {one.path for one in client.list_artifacts(parent.info.run_id)}
    assert {"search.md", "search.json", "report.html", "trials.json", "winner.yaml"} <= files


def killed_then_again(here, prefect_api, folder: Path, whole: dict) -> None:
    home, file = folder / "home", written(folder, seeds=[0], trials=4)
    done = subprocess.run(
        [sys.executable, "-P", "-c", KILLED, "tune", str(file), "--json"],
        env={**environment(prefect_api, home), "PYTHONPATH": str(REPOSITORY)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    assert not (home / "artifacts" / "train").exists()
    found = told(here(home, "tune", file, "--json"))
    assert without_cost(found) == without_cost(whole)[:4] and found["winner"] == 2
    runs = mlflow_client(home).search_runs(
        [mlflow_client(home).get_experiment_by_name("noisefold-tune-tiny").experiment_id]
    )
    assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 3


def test_what_cannot_be_searched_is_refused_and_leaves_nothing(here, tmp_path):
    home, out = tmp_path / "home", tmp_path / "winner.yaml"
    space = {"training.learning_rate": {"low": 0.01, "high": 99}}
    done = here(home, "tune", written(tmp_path, space=space, sampler="tpe"), "--out", out)
    refused(done, "search.yaml", "space: training.learning_rate: 99", "at most 10")
    refused(here(home, "tune", written(tmp_path), "--budget", "1s"), "budget: 1s is too short")
    refused(here(home, "tune", written(tmp_path), "--out", tmp_path / "winner.md"), ".yaml")
    refused(here(home, "tune", "nobody"), "no deployment named nobody", "search")
    refused(here(home, "tune", written(tmp_path), "--report"), "has not run on these rows")
    assert not out.exists() and not (home / "optuna.db").exists()


def test_a_suggestion_is_measured_on_its_own_rows(here, tmp_path):
    rows = [
        json.dumps({"text": f"{word} {number} {word}", "label": label})
        for number in range(250)
        for label, word in (("good", "fine"), ("bad", "awful"), ("mixed", "so so"))
    ]
    (tmp_path / "mails.jsonl").write_text("\n".join(rows))
    out = tmp_path / "mails.yaml"
    suggest = ("recipe", "suggest", tmp_path / "mails.jsonl", "-o", out)
    done = here(tmp_path / "home", *suggest, "--measure", "10s")
    assert done.exit_code == 0, (done.output[-3000:], done.exception)
    text = out.read_text()
    assert "# Measured within 10s on " in text and "as suggested" in text
    assert load_recipe(out).name == "mails"
    assert "as suggested" in done.stderr and "is best: valid macro-F1" in done.stderr
    refused(here(tmp_path / "home", *suggest, "--measure", "10s"), "is there already")
