"""How many threads a stage or a command works with: torch's, those of BLAS, and those of its child
processes.

OpenMP's waiting threads spin. Beside other work on the machine two of them took six to ten times
the CPU time of one to score the same test rows, so nothing takes a library's default (all cores).

# Note [whose number counts]
In a stage the recipe's (`execution.threads`, 1 unless set), whatever the environment says: as in
the training, whose key it is part of, since the number of threads can move the last bits of a sum.
In a command that has no recipe (predict, promote, rollback) 1, unless the user has set
OMP_NUM_THREADS. The tokenizers' own pool (Rayon) is left alone: its threads sleep while they wait,
and two of them take the CPU time of one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# Read when a library is loaded, so for what is loaded later and for children.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# For a moment only: OpenMP's default starves a machine that has other work (an epoch took ten times
# longer beside two busy processes), no spinning at all wakes them too late (16.5 s against 11.1 s).
SPIN = ("GOMP_SPINCOUNT", "10000")


def environment(number: int) -> dict[str, str]:
    """Variables for a child process that is to work with so many threads."""
    name, count = SPIN
    return {**dict.fromkeys(VARIABLES, str(number)), name: os.environ.get(name, count)}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Inside the block, what is loaded, what will be and each child process work with `number`
    threads.
    """
    wanted = environment(number)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    with ExitStack() as opened:
        opened.callback(_restore, before)
        if "numpy" in sys.modules:
            from threadpoolctl import threadpool_limits

            opened.enter_context(threadpool_limits(number))
        if (torch := sys.modules.get("torch")) is not None:
            opened.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(number)
        yield


@contextmanager
def threads_of_a_command() -> Iterator[None]:
    """One thread, or what the user has set. See Note [whose number counts]."""
    if os.environ.get("OMP_NUM_THREADS"):
        yield
        return
    with threads(1):
        yield


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
