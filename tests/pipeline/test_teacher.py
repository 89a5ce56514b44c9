"""A registered model teaches a smaller one, as a user meets it: one more stage, one more line of
lineage.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tasks.tracking.bookkeeping import lineage_of, of_run
from tests.pipeline.conftest import TINY, mlflow_client, refused, told, with_artifacts_of

MODEL = {"embedding": {"size": 8}, "encoder": {"kind": "tanh", "hidden_size": 8}}
STUDENT = {
    **TINY,
    "name": "student",
    "model": MODEL,
    "distillation": {"teacher": "noisefold-tiny", "augmentations": 2},
}


@pytest.fixture(scope="module")
def taught(undisturbed, tmp_path_factory) -> Path:
    """A state folder with a copy of the tiny recipe's artifacts, to be made its champion."""
    return with_artifacts_of(undisturbed[1], tmp_path_factory.mktemp("taught") / "home")


@pytest.fixture
def student(tmp_path) -> Path:
    return written(tmp_path / "student.yaml", STUDENT)


def written(file: Path, content: dict) -> Path:
    file.write_text(yaml.safe_dump(content))
    return file


def test_a_student_learns_from_the_champion_of_another_recipe(taught, here, tiny_recipe, student):
    refused(
        here(taught, "retrain", student), "no champion of noisefold-tiny", "Train the teacher first"
    )
    told(here(taught, "retrain", tiny_recipe, "--json"))
    first = told(here(taught, "retrain", student, "--json"))
    rows = {stage["name"]: stage for stage in first["stages"]}
    assert list(rows)[:6] == [
        "ingest",
        "validate",
        "tokenize",
        "teach",
        "distill",
        "train",
    ]
    assert rows["teach"]["rows_out"] == 3 * rows["teach"]["rows_in"], (
        "each train text and two made from it"
    )
    lessons = pq.read_table(Path(first["artifacts"]["teach"]) / "lessons.parquet")
    assert lessons.num_rows == rows["teach"]["rows_out"]

    client = mlflow_client(taught)
    run = client.get_run(first["run_id"])
    assert of_run(run)["noisefold.teacher"] == "noisefold-tiny/1"
    assert run.data.params["distillation.teacher"] == "noisefold-tiny"
    assert run.data.metrics["teach/texts"] == rows["teach"]["rows_out"]
    assert (
        0 < run.data.metrics["teach/agreement"] <= 1
        and run.data.metrics["teach/seen_test_rows"] == 0
    )
    version = client.get_model_version("noisefold-student", first["decision"]["version"])
    assert (
        lineage_of(version)["teacher"] == "noisefold-tiny/1"
        and "noisefold-tiny/1" in version.description
    )
    trained = json.loads((Path(first["artifacts"]["train"]) / "manifest.json").read_text())
    manifest = json.loads((Path(first["artifacts"]["teach"]) / "manifest.json").read_text())
    assert trained["taught_by"] == manifest["teacher"]

    again = told(here(taught, "retrain", student, "--json"))
    assert {stage["state"] for stage in again["stages"][:7]} == {"cached"}
    other = told(here(taught, "retrain", student, "--json", "--set", "distillation.weight=0.9"))
    states = {stage["name"]: stage["state"] for stage in other["stages"]}
    assert (states["teach"], states["train"]) == ("cached", "ran"), (
        "what was asked stands, however it is weighed"
    )


def test_variants_of_a_comparison_may_have_a_teacher(taught, here, tiny_recipe, tmp_path):
    told(here(taught, "retrain", tiny_recipe, "--json"))
    teacher = {"teacher": "noisefold-tiny", "version": 1, "augmentations": 1}
    grid = {
        "name": "taught",
        "recipe": {**TINY, "model": MODEL},
        "seeds": [0, 1],
        "variants": {
            "labels": {},
            "taught": {"distillation": teacher},
            "by nobody": {"distillation": {**teacher, "version": 9}},
        },
        "baseline": "labels",
    }
    file = written(tmp_path / "grid.yaml", grid)
    table = json.loads(here(taught, "compare", file, "--json").stdout)
    table = table.get("table", table)
    finished = {row["variant"]: (row["finished"], row["failed"]) for row in table["rows"]}
    assert finished == {"labels": (2, 0), "taught": (2, 0), "by nobody": (0, 2)}
    causes = {cell["cause"] for cell in table["cells"] if cell["variant"] == "by nobody"}
    assert all("version 9 cannot be read" in cause for cause in causes)
    read = json.loads(here(taught, "compare", file, "--report", "--json").stdout)
    read = read.get("table", read)
    assert read["rows"][1] == table["rows"][1], (
        "the teacher's answers are found without the registry"
    )

    grid["variants"] = {"labels": {}, "taught": {"distillation": {"teacher": "noisefold-tiny"}}}
    refused(here(taught, "compare", written(file, grid)), "distillation.version must be a number")
