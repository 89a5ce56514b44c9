"""One number of threads, for what is loaded, what is loaded later, and what is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# In a process of its own: what a library takes from the environment, it takes when it is loaded.
SEEN = """
import json, subprocess, sys, threading
CHILD = "import json, torch; print(json.dumps(torch.get_num_threads()))"
early, block = sys.argv[1] == "early", sys.argv[2]
if early:
    import numpy, torch
    torch.set_num_threads(2)
from tasks.engines.threads import threads, threads_of_a_command
from contextlib import nullcontext

def seen():
    import numpy, torch
    from threadpoolctl import threadpool_info
    pools = {pool["num_threads"] for pool in threadpool_info()}
    found = [torch.get_num_threads()]
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    child = json.loads(subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True).stdout)
    return {"pools": sorted(pools), "here": found[0], "thread": found[1], "child": child}

with {"two": threads(2), "one": threads(1), "command": threads_of_a_command()}[block]:
    inside = seen()
import torch
print(json.dumps({**inside, "after": torch.get_num_threads()}))
"""


def seen(when: str, block: str, **variables: str) -> dict:
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", SEEN, when, block],
        env={**kept, "PYTHONPATH": str(REPOSITORY), **variables}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("when", ["early", "late"])
def test_torch_blas_and_children_have_the_recipes_number_whatever_the_environment_says(
    when: str,
) -> None:
    found = seen(when, "one", OMP_NUM_THREADS="2")
    assert (found["pools"], found["here"], found["thread"], found["child"]) == ([1], 1, 1, 1)
    assert found["after"] == (2 if when == "early" else 1), (
        "what was loaded before has its own number back"
    )


def test_a_recipe_may_ask_for_more() -> None:
    found = seen("early", "two", OMP_NUM_THREADS="1")
    assert (found["pools"], found["here"], found["child"]) == ([2], 2, 2)


def test_a_command_takes_one_unless_the_user_has_said_otherwise() -> None:
    assert seen("late", "command")["here"] == 1
    assert seen("late", "command", OMP_NUM_THREADS="2")["here"] == 2
