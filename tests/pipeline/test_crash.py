"""Five points of the crash matrix, each struck in the rerun of the one before; `make crash` runs all, one by one."""

from __future__ import annotations

import random
import signal

import pytest

from tests.pipeline.conftest import TINY, mlflow_client
from tests.pipeline.crash_points import CALLS, STAGES, points
from tests.pipeline.world import Retrain, World, compare, facts_of, leftovers, survivors, watched

# In the order of the stages: call, how often an undisturbed run makes it up to there, when, exit status of the run.
STRIKES = [
    ("schema", 330, "before", -signal.SIGKILL),  # MLflow's first migrations
    ("_appear", 2, "after", -signal.SIGKILL),  # ingest or validate is committed, its work not yet tidied away
    ("checkpoint_replace", 2, "before", 1),  # the training process alone; no retries, so its flow fails
    ("create_model_version", 1, "after", -signal.SIGKILL),
    ("append_line", 1, "half", -signal.SIGKILL),  # the ledger
]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_five_points_in_turn_it_ends_as_if_undisturbed(prefect_api, undisturbed, tmp_path):
    expected, other = undisturbed
    world, rng = World(tmp_path / "world", prefect_api), random.Random(1)
    for call, most, when, status in STRIKES:
        (tmp_path / "struck").unlink(missing_ok=True)
        run = Retrain(world, tmp_path, TINY["name"], fault=f"{call}#{rng.randint(1, most)}:{when}")
        family = watched(run)
        assert run.wait() == status, run.errors[-2000:]
        assert (tmp_path / "struck").exists()
        assert not survivors(family, seconds=15)
    last = Retrain(world, tmp_path, TINY["name"])
    assert last.wait() == 0, last.errors[-2000:]
    state = tmp_path / "state"
    found = facts_of(mlflow_client(state), state, last.result)
    assert not compare(facts_of(mlflow_client(other), other, expected), found)
    assert not leftovers(state)
    assert not list((tmp_path / "tmp").iterdir()), "temporary files stay in the state folder"


def test_every_stage_and_every_kind_of_write_is_struck_in_the_matrix():
    made = dict.fromkeys((name for name, _ in CALLS), 5)
    drawn = points(0, made)
    assert len(drawn) >= 30
    assert [point.number for point in drawn] == list(range(1, len(drawn) + 1))
    assert drawn == points(0, made) != points(1, made)
    assert {point.stage for point in drawn if point.stage} == set(STAGES)
    assert sum(point.victim == "training" for point in drawn) >= 5
