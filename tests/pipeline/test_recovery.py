"""Each stage is retryable on its own: after a fault the rerun repeats nothing and ends as if
undisturbed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.operate.retention import collect
from tasks.settings import Settings
from tests.pipeline.conftest import TINY, mlflow_client, refused, told
from tests.pipeline.faulty import plant_in_stage

STAGES = ["ingest", "validate", "tokenize", "train", "evaluate", "register", "promote"]


def digests(home: Path) -> dict[str, str]:
    """Content digest of every artifact in the store, by stage."""
    manifests = (home / "artifacts").glob("*/*/manifest.json")
    return {path.parent.parent.name: json.loads(path.read_text())["digest"] for path in manifests}


def states(result: dict) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in result["stages"]}


def runs_and_versions(home: Path, result: dict) -> tuple[list[str], int]:
    client = mlflow_client(home)
    runs = client.search_runs([result["experiment_id"]])
    return [run.info.status for run in runs], len(
        client.search_model_versions("name = 'noisefold-tiny'")
    )


def assert_as_if_undisturbed(home: Path, result: dict, undisturbed: tuple[dict, Path]) -> None:
    expected, other = undisturbed
    assert digests(home) == digests(other)
    assert result["metrics"] == expected["metrics"]
    assert result["decision"]["outcome"] in ("promoted", "already_champion")
    assert runs_and_versions(home, result) == (["FINISHED"], 1)
    leftovers = [
        path
        for path in (home / "work").iterdir()
        if path.name not in ("locks", "fetched", "scratch")
    ]
    assert (
        leftovers
        + list((home / "work" / "scratch").iterdir())
        + list((home / "leases").glob("*.json"))
        == []
    )


@pytest.mark.timeout(900)
def test_an_io_error_ends_the_run_and_later_ones_are_healed_by_the_stages_own_retries(
    here, tiny_recipe, undisturbed, tmp_path, monkeypatch
):
    home = tmp_path / "home"
    with monkeypatch.context() as planted:
        plant_in_stage("tokenize:io", planted.setattr)
        refused(here(home, "retrain", tiny_recipe), "planted I/O error")
    assert sorted(digests(home)) == ["ingest", "validate"]
    with monkeypatch.context() as planted:
        plant_in_stage("every:io", planted.setattr)
        result = told(here(home, "retrain", tiny_recipe, "--json", "--set", "execution.retries=1"))
    assert states(result) == dict.fromkeys(STAGES[:2], "cached") | dict.fromkeys(
        STAGES[2:], "retried"
    )
    assert_as_if_undisturbed(home, result, undisturbed)


def test_second_run_is_cached_throughout_and_says_the_same(here, tiny_recipe, undisturbed):
    expected, home = undisturbed
    # `here` points Prefect at its server. gc leaves what the newest run of a recipe needs.
    assert not any(thing.goes for thing in collect(Settings(home=home), keep=1, older_than_days=0))
    again = told(here(home, "retrain", tiny_recipe, "--json"))
    assert set(list(states(again).values())[:6]) == {"cached"}
    assert again["metrics"] == expected["metrics"]
    assert again["run_id"] == expected["run_id"]
    assert again["model_uri"] == expected["model_uri"]
    assert again["decision"]["outcome"] == "already_champion"
    assert runs_and_versions(home, again) == (["FINISHED"], 1)


def test_damaged_artifacts_are_computed_again_and_the_rest_stays(here, tiny_recipe, undisturbed):
    """Truncated, a flipped bit, deleted, without its manifest: all at once, and each is found."""
    expected, home = undisturbed
    before = digests(home)
    folders = {stage: Path(folder) for stage, folder in expected["artifacts"].items()}
    truncated, (flipped,) = (
        folders["tokenize"] / "valid.parquet",
        folders["validate"].glob("corpus/*.parquet"),
    )
    truncated.write_bytes(truncated.read_bytes()[:-1])
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    (folders["evaluate"] / "predictions.parquet").unlink()
    (folders["ingest"] / "manifest.json").unlink()
    again = told(here(home, "retrain", tiny_recipe, "--json"))
    assert states(again) == dict.fromkeys(
        ("ingest", "validate", "tokenize", "evaluate", "promote"), "ran"
    ) | (dict.fromkeys(("train", "register"), "cached"))
    assert digests(home) == before
    assert_as_if_undisturbed(home, again, undisturbed)


assert TINY["execution"]["retries"] == 0  # a planted fault must end the run, not be healed
