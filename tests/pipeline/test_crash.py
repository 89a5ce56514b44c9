"""Five seeded points of the crash matrix, struck in one run and its reruns; `make crash` runs all,
one by one.
"""

from __future__ import annotations

import random
import re
import signal

import pytest

from tests.pipeline.conftest import TINY, mlflow_client, told
from tests.pipeline.crash_points import CALLS, STAGES, points
from tests.pipeline.world import (
    Retrain,
    World,
    compare,
    facts_of,
    leftovers,
    open_in_prefect,
    survivors,
    watched,
)

# In the order of the stages: the fault, with how often an undisturbed run makes that call up to
# there.
STRIKES = [
    "schema#330:before",  # MLflow's first migrations
    "_appear#2:after",  # ingest or validate is committed, its work not yet tidied away
    # The training process alone, by a segmentation fault between two checkpoints: healed within its
    # flow, which is killed in its turn once the registry has the version.
    "checkpoint_replace#2:segfault+create_model_version#1:after",
    "append_line#1:half",  # the ledger
]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_five_points_in_turn_it_ends_as_if_undisturbed(
    prefect_api, undisturbed, here, tmp_path
):
    expected, other = undisturbed
    world, rng = World(tmp_path / "world", prefect_api), random.Random(1)
    retried = ("--set", "execution.retries=1")
    for strike in STRIKES:
        (tmp_path / "struck").unlink(missing_ok=True)
        fault = re.sub(r"#(\d+)", lambda most: f"#{rng.randint(1, int(most[1]))}", strike)
        run = Retrain(world, tmp_path, TINY["name"], *retried, fault=fault)
        family = watched(run)
        assert run.wait() == -signal.SIGKILL, run.errors[-2000:]
        assert (tmp_path / "struck").exists()
        assert not survivors(family, seconds=30)
        if "segfault" in strike:
            assert re.search(r"^train +retried", run.errors, re.M), run.errors
    state = tmp_path / "state"
    last = told(here(state, "retrain", tmp_path / "recipe.yaml", "--json"))
    found = facts_of(mlflow_client(state), state, last)
    assert not compare(facts_of(mlflow_client(other), other, expected), found)
    assert not open_in_prefect(world, TINY["name"])
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
