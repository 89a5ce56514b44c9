"""Moves by a person: promote, roll back, and the history in which no move is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.errors import NoisefoldError
from data_contracts.results import PromotionDecision
from tasks import promote
from tasks.evaluate import log_evaluation
from tasks.operate.releases import history, promote_version, rollback
from tasks.serving.check import Served, Unservable, check_served
from tasks.tracking.aliases import Aliases
from tests.pipeline.conftest import REPOSITORY, clean_environment
from tests.stages import promote_model
from tests.tasks.registry import gone_after

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]


def night(world: World, *, checked: bool = False, **model: float) -> PromotionDecision:
    """Evaluate, register and promote, as a retrain does; the check that takes seconds only where it
    is in question.
    """
    trained = world.model(**model)
    report = world.evaluate(trained)
    log_evaluation(report, world.recipe.task, world.store, world.tracker)
    with pytest.MonkeyPatch.context() as patch:
        if not checked:
            patch.setattr(promote, "check_served", lambda *_: Served(200, 1.5, 0.5))
        return promote_model(
            world.register(trained, report),
            trained,
            report,
            world.tokens,
            world.corpus,
            recipe=world.recipe,
            store=world.store,
            tracker=world.tracker,
            ledger=world.settings.ledger,
        )


def aliases(world: World) -> dict[str, str]:
    return history(world.settings, world.recipe.model_name).aliases


def champions(world: World) -> list[tuple[str, str | None, str | None]]:
    found = history(world.settings, world.recipe.model_name).moves
    return [(move.by, move.before, move.after) for move in found if move.alias == "champion"]


def test_rollback_goes_back_once_and_no_night_undoes_it(world: World) -> None:
    name = world.recipe.model_name
    night(world)
    night(world, nudge=0.5)
    assert aliases(world) == {"champion": "2", "previous": "1"}
    done = rollback(world.settings, name, "complaints since midnight")
    assert (done.champion, done.before, done.moved) == ("1", "2", True)
    assert aliases(world) == {"champion": "1"}
    again = rollback(world.settings, name, "complaints since midnight")
    assert (again.champion, again.moved) == ("1", False)
    assert "since the rollback from 2" in again.note
    assert aliases(world) == {"champion": "1"}

    decision = night(world, nudge=0.5)
    assert decision.outcome == "not_promoted"
    assert (
        "rolled back" in decision.reasons[0] and "complaints since midnight" in decision.reasons[0]
    )
    assert aliases(world) == {"champion": "1"}
    assert night(world, nudge=0.6).promoted, "another model is judged as ever"
    assert champions(world) == [
        ("retrain", None, "1"),
        ("retrain", "1", "2"),
        ("rollback", "2", "1"),
        ("retrain", "1", "3"),
    ]


def test_a_person_may_bring_back_what_was_rolled_back(world: World) -> None:
    name = world.recipe.model_name
    night(world)
    night(world, nudge=0.5)
    rollback(world.settings, name, "a false alarm")
    done = promote_version(world.settings, name, "2", "it was a false alarm")
    assert (done.champion, done.before, done.moved) == ("2", "1", True)
    assert "a fresh process gives" in done.note
    assert aliases(world) == {"champion": "2", "previous": "1"}
    assert not promote_version(world.settings, name, "champion", "once more").moved
    last = history(world.settings, name).moves[-1]
    assert (last.by, last.alias, last.before, last.after) == ("promote", "champion", "1", "2")
    assert last.why.startswith("it was a false alarm") and last.who and last.run_id
    assert rollback(world.settings, name, "it was none").champion == "1"


@pytest.mark.parametrize("moves_before_the_crash", [0, 1])
def test_rollback_that_died_is_ended_by_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch, moves_before_the_crash: int
) -> None:
    from mlflow import MlflowClient

    name = world.recipe.model_name
    night(world)
    night(world, nudge=0.5)
    with monkeypatch.context() as patch:
        gone_after(patch, MlflowClient, moves_before_the_crash)
        with pytest.raises(ConnectionError):
            rollback(world.settings, name, "bad")
    assert aliases(world)["champion"] in ("1", "2")
    rollback(world.settings, name, "bad")
    rollback(world.settings, name, "bad")
    assert aliases(world) == {"champion": "1"}
    assert night(world, nudge=0.5).outcome == "not_promoted"


def test_nothing_to_go_back_to_says_what_can_be_done(world: World) -> None:
    with pytest.raises(NoisefoldError, match=f"no model named {world.recipe.model_name}"):
        rollback(world.settings, world.recipe.model_name, "bad")
    night(world)
    with pytest.raises(NoisefoldError, match="no previous champion") as caught:
        rollback(world.settings, world.recipe.model_name, "bad")
    assert "noisefold promote VERSION" in caught.value.remedy
    with pytest.raises(NoisefoldError, match=r"has no version 7\. Its newest versions: 1"):
        promote_version(world.settings, world.recipe.model_name, "7", "because")
    with pytest.raises(NoisefoldError, match=r"has no version \.\./1"):
        promote_version(world.settings, world.recipe.model_name, "../1", "because")
    assert aliases(world) == {"champion": "1"}


def files_of(world: World, version: str) -> Path:
    found = world.tracker.client.get_model_version_download_uri(world.recipe.model_name, version)
    return Path(found.removeprefix("file://"))


def test_version_that_no_longer_loads_goes_nowhere_unless_a_person_insists(world: World) -> None:
    name = world.recipe.model_name
    night(world)
    night(world, nudge=0.5)
    weights = files_of(world, "1") / "artifacts" / "bundle" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(
        NoisefoldError, match=r"version 1 does not serve: a fresh process"
    ) as caught:
        rollback(world.settings, name, "bad")
    assert "--unchecked" in caught.value.remedy
    assert aliases(world) == {"champion": "2", "previous": "1"}
    assert rollback(world.settings, name, "bad", checked=False).champion == "1"
    assert history(world.settings, name).moves[-2].why == "bad (unchecked)"


def test_challenger_that_the_registry_hands_out_otherwise_is_not_promoted(world: World) -> None:
    """What was measured is in the store; what would serve is in the registry."""
    night(world)
    trained = world.model(nudge=0.5)
    report = world.evaluate(trained)
    registered = world.register(trained, report)
    served = files_of(world, registered.version) / "artifacts" / "bundle" / "bundle.json"
    served.write_text(json.dumps({**json.loads(served.read_text()), "temperature": 3.0}))
    decision = night(world, checked=True, nudge=0.5)
    assert decision.outcome == "not_promoted"
    assert "does not serve" in decision.reasons[0]
    assert decision.difference is not None, "the comparison is made and shown in any case"
    assert aliases(world) == {"champion": "1", "challenger": "2"}


def test_served_probabilities_are_compared_row_by_row(world: World, tmp_path: Path) -> None:
    night(world)
    client, name = world.tracker.client, world.recipe.model_name
    original = world.store.open(world.evaluate(world.model())) / "predictions.parquet"
    served = check_served(client, name, "1", original)
    assert served.rows == 200 and served.milliseconds_per_text > 0
    bundle = files_of(world, "1") / "artifacts" / "bundle"
    assert served.megabytes == sum(file.stat().st_size for file in bundle.iterdir()) / 1e6
    table = pq.read_table(original)
    column = table.column_names.index("probabilities")
    proba = np.stack(table["probabilities"].to_numpy())
    proba[0] = np.roll(proba[0], 1)
    changed = table.set_column(
        column, "probabilities", pa.FixedSizeListArray.from_arrays(proba.ravel(), 3)
    )
    pq.write_table(
        changed.replace_schema_metadata(table.schema.metadata), tmp_path / "changed.parquet"
    )
    with pytest.raises(Unservable, match=f"^1 of 200 rows .*{table['text'][0].as_py()[:20]}"):
        check_served(client, name, "1", tmp_path / "changed.parquet")


def test_moves_made_at_once_all_stand_in_the_ledger(world: World) -> None:
    night(world)
    night(world, nudge=0.5)
    name = world.recipe.model_name
    before = len(history(world.settings, name).moves)

    def flip(number: int) -> None:
        Aliases(world.tracker.client, name, world.settings.ledger, "promote").move(
            f"alias-{number}", "1", f"number {number}"
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(flip, range(16)))
    moves = history(world.settings, name).moves[before:]
    assert sorted(move.why for move in moves) == sorted(f"number {n}" for n in range(16))
    local = [json.loads(line) for line in world.settings.ledger.read_text().splitlines()]
    assert {f"number {n}" for n in range(16)} <= {
        line["why"] for line in local if line["model"] == name
    }


def command(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "flows.cli.main",
            *arguments,
            "--model",
            world.recipe.model_name,
        ],
        env={
            **clean_environment(),
            "NOISEFOLD_HOME": str(world.settings.home),
            "PYTHONPATH": str(REPOSITORY),
        },
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
def test_commands_say_what_was_done(world: World) -> None:
    night(world)
    night(world, nudge=0.5)
    done = command(world, "rollback", "--why", "三点钟的投诉 [bold]\x1b[31m")
    assert done.returncode == 0, done.stderr
    assert "champion is version 1, which was 2." in done.stdout
    assert command(world, "rollback").returncode == 0
    shown = command(world, "history")
    assert f"{world.recipe.model_name}: champion 1" in shown.stdout
    assert "三点钟的投诉" in shown.stdout.replace("\n", "") and "\x1b[31m" not in shown.stdout
    lines = [json.loads(line) for line in command(world, "history", "--json").stdout.splitlines()]
    assert [
        (line["alias"], line["from"], line["to"]) for line in lines if line["by"] == "rollback"
    ] == [
        ("champion", "2", "1"),
        ("previous", "1", None),
    ]
    empty = command(world, "promote", "2", "--why", " ")
    assert empty.returncode == 1 and "--why is empty" in empty.stderr
