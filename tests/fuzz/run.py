"""`python -m tests.fuzz.run --cases N --seed S`: N cases shared out over every door for data from
outside.

For each case a reader gives a valid result or its documented error, whose text is a sentence.
Anything else is a crash, and so is a case that writes, connects, starts a process, unpickles, takes
five seconds of CPU time or 300 MB.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hypothesis.errors import HypothesisException

from tests.fuzz.configuration import CONFIGURATION, grids
from tests.fuzz.models import model_targets
from tests.fuzz.questions import QUESTIONS
from tests.fuzz.shown import SHOWN
from tests.fuzz.tables import TABLES, files
from tests.fuzz.target import Target
from tests.fuzz.watch import LastCase, watch

RESULTS = Path(__file__).with_name("RESULTS.md")
ROUND = 50_000  # cases
PACKAGES = (
    "pyarrow",
    "pydantic",
    "pyyaml",
    "tokenizers",
    "safetensors",
    "torch",
    "zstandard",
    "mlflow",
    "hypothesis",
)


@dataclass
class Crash:
    """Where it came out, and the first case that led there."""

    place: str
    case: Any
    trace: str
    times: int = 1


@dataclass
class Outcome:
    target: Target
    cases: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    crashes: dict[str, Crash] = field(default_factory=dict)


def targets(folder: Path) -> list[Target]:
    """Every target; those that read a file have it in `folder`."""
    return [
        *TABLES,
        *QUESTIONS,
        *files(folder),
        *CONFIGURATION,
        grids(folder),
        *model_targets(folder),
        *SHOWN,
    ]


def fuzz(
    chosen: Sequence[Target],
    cases: int,
    seed: int,
    last: LastCase,
    so_far: Callable[[list[Outcome]], None] = lambda _: None,
) -> list[Outcome]:
    """Share `cases` out over the targets, in rounds over all of them, so that a run may be stopped
    at any time.

    Args:
        so_far: called after each round.
    """
    shares, outcomes = (
        sum(target.share for target in chosen),
        [Outcome(target) for target in chosen],
    )
    for target in chosen:
        for case in [*target.seeds, *target.warm]:
            prepare(target, case)
            target.check(case)
    left, number = cases, seed * 1_000_003
    while left > 0:
        for outcome in outcomes:
            one_round(
                outcome, math.ceil(min(left, ROUND) * outcome.target.share / shares), number, last
            )
        left, number = left - ROUND, number + 10_007
        so_far(outcomes)
    return outcomes


def one_round(outcome: Outcome, cases: int, seed: int, last: LastCase) -> None:
    started = time.process_time()
    with watch() as run:
        outcome.target.drive(
            cases, seed, lambda case: one_case(outcome.target, case, outcome, run, last)
        )
    outcome.seconds += time.process_time() - started


def prepare(target: Target, case: Any) -> None:
    if (write := getattr(target.check, "prepare", None)) is not None:
        write(case)


def one_case(target: Target, case: Any, outcome: Outcome, run: Any, last: LastCase) -> None:
    prepare(target, case)
    last.note(target.name, case)
    outcome.cases += 1
    started = time.process_time()
    try:
        outcome.accepted += run(target.check, case)
    except (KeyboardInterrupt, HypothesisException):
        raise
    except BaseException as error:  # a panic of a Rust library is no Exception
        place = f"{type(error).__name__} at {where(error)}"
        known = outcome.crashes.setdefault(
            place, Crash(place, case, "".join(traceback.format_exception(error)), 0)
        )
        known.times += 1
    outcome.slowest = max(outcome.slowest, time.process_time() - started)


def where(error: BaseException) -> str:
    """The innermost line of this repository, and what a check of ours missed: crashes of one place
    are one crash.
    """
    frames = traceback.extract_tb(error.__traceback__)
    root = str(Path(__file__).resolve().parents[2])
    ours = [f for f in frames if f.filename.startswith(root) and "site-packages" not in f.filename]
    inner = (ours or frames)[-1]
    told = "" if type(error) is AssertionError else re.sub(r"[^A-Za-z ]+", "·", str(error))[:40]
    return f"{Path(inner.filename).name}:{inner.lineno} ({told})"


# --- what is said ---------------------------------------------------------------------------------

HEADER = ("target", "what", "cases", "taken", "CPU s", "ms a case", "slowest s", "crashes")


def cells(outcome: Outcome) -> tuple[str, ...]:
    each = 1000 * outcome.seconds / max(1, outcome.cases)
    taken = f"{outcome.accepted / max(1, outcome.cases):.0%}"
    return (
        outcome.target.name, outcome.target.what, f"{outcome.cases:,}", taken, f"{outcome.seconds:.1f}", f"{each:.2f}",
        f"{outcome.slowest:.2f}", str(len(outcome.crashes)),
    )  # fmt: skip


def line(outcome: Outcome) -> str:
    name, _, cases, taken, seconds, each, slowest, crashes = cells(outcome)
    return f"{name:<13} {cases:>9} cases {taken:>5} taken {seconds:>7} s {each:>6} ms {slowest:>5} s {crashes:>3} crashes"


def page(outcomes: list[Outcome], seed: int, cases: int) -> str:
    """The committed record of a run."""
    total, seconds = sum(o.cases for o in outcomes), sum(o.seconds for o in outcomes)
    crashes = sum(len(outcome.crashes) for outcome in outcomes)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    rows = [cells(outcome) for outcome in outcomes]
    return "\n".join(
        [
            "# Fuzzing",
            "",
            f"`python -m tests.fuzz.run --cases {cases} --seed {seed} --write` ran {total:,} cases "
            f"in {seconds:,.0f} s "
            f"of CPU time on one core{'' if total >= cases else ' and was stopped there'}, with "
            f"{crashes} crashes. The "
            "others were taken (a valid result) or refused with the documented error, whose text "
            "is a sentence. A "
            "crash is any other exception, a result that does not hold what it promises, a write, "
            "a connection, a "
            "process, an unpickled object, 5 s of CPU time or 300 MB for one case.",
            "",
            f"Python {platform.python_version()}, {versions}.",
            "",
            "| " + " | ".join(HEADER) + " |",
            "|" + " --- |" * 2 + " --: |" * (len(HEADER) - 2),
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", help="this one alone; may be given repeatedly")
    parser.add_argument(
        "--write", action="store_true", help=f"write {RESULTS.name} after each round"
    )
    parser.add_argument("--last", type=Path, help="keep the case in hand in this file")
    given = parser.parse_args(arguments)
    last = LastCase(given.last)
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    def so_far(outcomes: list[Outcome]) -> None:
        done = sum(outcome.cases for outcome in outcomes)
        print(
            f"{done:,} of {given.cases:,} cases, {sum(len(o.crashes) for o in outcomes)} crashes",
            flush=True,
        )
        if given.write:
            RESULTS.write_text(page(outcomes, given.seed, given.cases), encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="noisefold-fuzz-", dir=place) as folder:
        chosen = [
            one for one in targets(Path(folder)) if not given.target or one.name in given.target
        ]
        outcomes = fuzz(chosen, given.cases, given.seed, last, so_far)
    last.close()
    print("\n".join(map(line, outcomes)))
    total, seconds = sum(o.cases for o in outcomes), sum(o.seconds for o in outcomes)
    found = [
        (outcome.target.name, crash) for outcome in outcomes for crash in outcome.crashes.values()
    ]
    for name, crash in found:
        told = f"\n--- {name}: {crash.place}, {crash.times} times\n{crash.trace}\ncase: {crash.case!r:.2000}"
        print(told.encode("utf-8", "backslashreplace").decode())
    print(f"\n{total:,} cases, {seconds:,.1f} s of CPU time, {len(found)} crashes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
