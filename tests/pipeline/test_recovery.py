"""Each stage is retryable on its own: after a fault or a kill the rerun repeats nothing and ends as if undisturbed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.retention import collect
from tasks.settings import Settings
from tests.pipeline.conftest import TINY, mlflow_client, result_of, retrain_process

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
    return [run.info.status for run in runs], len(client.search_model_versions("name = 'noisefold-tiny'"))


def assert_as_if_undisturbed(home: Path, result: dict, undisturbed: tuple[dict, Path]) -> None:
    expected, other = undisturbed
    assert digests(home) == digests(other)
    assert result["metrics"] == expected["metrics"]
    assert result["decision"]["outcome"] in ("promoted", "already_champion")
    assert runs_and_versions(home, result) == (["FINISHED"], 1)
    leftovers = [path for path in (home / "work").iterdir() if path.name not in ("locks", "fetched")]
    assert not leftovers


@pytest.mark.timeout(900)
def test_a_run_that_is_killed_in_every_stage_in_turn_ends_as_if_undisturbed(
    prefect_api, tiny_recipe, undisturbed, tmp_path
):
    home = tmp_path / "home"
    for number, stage in enumerate(STAGES):
        done = retrain_process(prefect_api, home, tiny_recipe, fault=f"{stage}:kill")
        assert done.returncode == -9, done.stderr[-2000:]
        assert sorted(digests(home)) == sorted(STAGES[:5][:number]), "committed though killed, or lost"
    result = result_of(retrain_process(prefect_api, home, tiny_recipe))
    assert {name for name, state in states(result).items() if state == "cached"} >= set(STAGES[:5])
    assert_as_if_undisturbed(home, result, undisturbed)


def test_an_io_error_ends_the_run_and_the_rerun_repeats_nothing(prefect_api, tiny_recipe, undisturbed, tmp_path):
    home = tmp_path / "home"
    done = retrain_process(prefect_api, home, tiny_recipe, fault="evaluate:io")
    assert done.returncode == 1
    assert "planted I/O error" in done.stderr and "Traceback" not in done.stderr
    result = result_of(retrain_process(prefect_api, home, tiny_recipe))
    assert [name for name, state in states(result).items() if state == "cached"] == STAGES[:4]
    assert_as_if_undisturbed(home, result, undisturbed)


def test_an_io_error_in_every_stage_is_healed_by_the_stages_own_retries(
    prefect_api, tiny_recipe, undisturbed, tmp_path
):
    home = tmp_path / "home"
    done = retrain_process(prefect_api, home, tiny_recipe, "--set", "execution.retries=1", fault="every:io")
    result = result_of(done)
    assert states(result) == dict.fromkeys(STAGES, "retried")
    assert_as_if_undisturbed(home, result, undisturbed)


def test_second_run_is_cached_throughout_and_says_the_same(prefect_api, tiny_recipe, undisturbed):
    expected, home = undisturbed
    with temporary_settings({PREFECT_API_URL: prefect_api.url}):  # gc leaves what the newest run of a recipe needs
        assert not any(thing.goes for thing in collect(Settings(home=home), keep=1, older_than_days=0))
    again = result_of(retrain_process(prefect_api, home, tiny_recipe))
    assert set(list(states(again).values())[:6]) == {"cached"}
    assert again["metrics"] == expected["metrics"]
    assert again["run_id"] == expected["run_id"]
    assert again["model_uri"] == expected["model_uri"]
    assert again["decision"]["outcome"] == "already_champion"
    assert runs_and_versions(home, again) == (["FINISHED"], 1)


def test_damaged_artifact_is_computed_again_and_the_rest_stays(prefect_api, tiny_recipe, undisturbed):
    expected, home = undisturbed
    file = Path(expected["artifacts"]["tokenize"]) / "valid.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    again = result_of(retrain_process(prefect_api, home, tiny_recipe))
    assert states(again)["tokenize"] == "ran"
    assert {states(again)[name] for name in ("ingest", "validate", "train", "evaluate", "register")} == {"cached"}


assert TINY["execution"]["retries"] == 0  # a planted fault must end the run, not be healed
