"""Crash matrix: kill a retrain at any instant, run it again, compare with a run that nobody
disturbed.

    python -m tests.pipeline.crash --out docs/crash-matrix.md # all points; resumes where it was
    stopped

Each point runs `noisefold retrain` on a state folder of its own against a real Prefect server and a
real MLflow store (SQLite, or `mlflow server`), sends SIGKILL where the point says, and runs the
same command again. A point is either an instant, given as a share of a stage's time in the
undisturbed run, or a call: the n-th of its kind, before it, after it or half way through
(tests/pipeline/faulty.py). Both are drawn from the seed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
import uuid
from dataclasses import asdict
from multiprocessing.pool import ThreadPool
from pathlib import Path

from tests.pipeline.crash_points import STAGES, Point, Struck, points
from tests.pipeline.crash_table import table
from tests.pipeline.world import (
    Retrain,
    World,
    commit,
    compare,
    facts_of,
    family_of,
    leftovers,
    manifests,
    name_of,
    open_in_prefect,
    survivors,
    watched,
)

BEFORE = dict(
    zip(STAGES[2:], STAGES[1:], strict=False)
)  # the stage whose end is this one's beginning
GRACE_SECONDS = 15.0


def strike(world: World, point: Point) -> Struck:
    """Carry out one point: kill, look, run again, compare."""
    started, struck = time.monotonic(), Struck(point, commit=commit())
    home = world.folder / f"point-{point.number}"
    # What strikes the training process alone has to be healed by the flow itself.
    options = ("--set", "execution.retries=1") if point.victim == "training" else ()
    for attempt in range(4):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        # Both servers know those of earlier attempts.
        name = f"crash-{point.number}-{uuid.uuid4().hex[:6]}"
        first = Retrain(world, home, name, *options, store=point.store, fault=point.fault)
        family = kill(world, first, point, 0.5**attempt) if not point.fault else watched(first)
        struck.first = first.wait()
        if family is not None:
            # Otherwise the run was faster than the undisturbed one, and over before its instant.
            break
    family = family or set()
    struck.finished = first.finished
    struck.stage = next((stage for stage in STAGES[1:] if stage not in first.finished), "end")
    if struck.stage == "ingest" and not (home / "state" / "artifacts").exists():
        struck.stage = "start"
    if point.victim == "flow" and struck.first != -signal.SIGKILL:
        struck.faults.append(
            f"the kill did not strike: exit status {struck.first}: {first.errors[-300:]}"
        )
    if point.victim == "training":
        struck.stage = "train"
        states = (
            {s["name"]: s["state"] for s in first.result["stages"]} if struck.first == 0 else {}
        )
        if states.get("train") != "retried":
            struck.faults.append(
                f"training was not healed within its flow: {states or first.errors[-300:]}"
            )
    if orphans := survivors(family, GRACE_SECONDS):
        struck.faults.append(f"processes outlive the run: {orphans}")
    committed = manifests(home)
    rerun = Retrain(world, home, name, store=point.store)
    if rerun.wait() != 0:
        struck.faults.append(f"the rerun failed: {rerun.errors[-600:]}")
    else:
        result = rerun.result
        struck.rerun = {stage["name"]: stage["state"] for stage in result["stages"]}
        with world.alone:
            struck.faults += compare(
                world.expected["facts"],
                facts_of(world.client(home, point.store), home / "state", result),
            )
        struck.faults += repeated(home, committed, struck)
        struck.faults += leftovers(home / "state")
        struck.faults += [
            f"left behind in TMPDIR: {path.name}" for path in (home / "tmp").iterdir()
        ]
        struck.faults += open_in_prefect(world, name)
    struck.seconds = round(time.monotonic() - started, 1)
    if struck.healed:
        shutil.rmtree(home)
    return struck


def kill(world: World, run: Retrain, point: Point, hurry: float) -> set[int] | None:
    """Wait for the point's instant and send SIGKILL; returns the processes that the run had, None
    where it was over.
    """
    begun = run.ended[BEFORE[point.stage]] if point.stage in BEFORE else None
    delay = hurry * point.share * world.expected["seconds"][point.stage]
    if point.stage == "ingest":  # it begins when the MLflow run is there, which no line tells
        begun, delay = None, hurry * world.expected["seconds"]["start"] + delay
    deadline = time.monotonic() + 300
    while (
        begun is not None
        and not begun.wait(0.05)
        and run.process.poll() is None
        and time.monotonic() < deadline
    ):
        pass
    time.sleep(delay)
    family = family_of(run.process.pid)
    if run.process.poll() is not None:
        return None
    if point.victim == "flow":
        run.process.kill()
        return family
    child = [pid for pid in family if name_of(pid) == "noisefold-train"]
    for pid in child:
        os.kill(pid, signal.SIGKILL)
    return family if child else None


def repeated(home: Path, committed: dict[str, int], struck: Struck) -> list[str]:
    """Stages that were finished before the kill and were carried out again."""
    faults = []
    after = manifests(home)
    for stage, written in committed.items():
        if after.get(stage) != written or struck.rerun.get(stage) != "cached":
            faults.append(f"{stage} was finished and was repeated ({struck.rerun.get(stage)})")
    if "register" in struck.finished and struck.rerun["register"] != "cached":
        faults.append("register was finished and was repeated")
    return faults


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, default=Path(".noisefold/crash"), help="State of all points."
    )
    parser.add_argument("--out", type=Path, help="Table, as Markdown.")
    parser.add_argument("--workers", type=int, default=1, help="Points at a time.")
    parser.add_argument("--only", help="Numbers of points, for example 3,17.")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    with World(folder) as world:
        chosen = drawn = points(given.seed, world.expected["made"])
        if given.only:
            chosen = [point for point in drawn if str(point.number) in given.only.split(",")]
        kept = folder / "points.jsonl"
        lines = kept.read_text().splitlines() if kept.exists() else []
        results = {
            r["point"]["number"]: Struck(**{**r, "point": Point(**r["point"])})
            for r in map(json.loads, lines)
        }
        known = {number for number, one in results.items() if one.healed and one.point in chosen}
        left = [point for point in chosen if point.number not in known]
        for one in ThreadPool(given.workers).imap_unordered(
            lambda point: strike(world, point), left
        ):
            point, results[one.point.number] = one.point, one
            with kept.open("a") as stream:
                stream.write(json.dumps(asdict(one)) + "\n")
            told = "as if undisturbed" if one.healed else "; ".join(one.faults)
            where = f"{point.victim:8s} {point.store:6s} {point!s:34s} {one.stage:9s}"
            print(f"{point.number:3d} {where} {one.seconds:5.0f} s  {told}", flush=True)
            if given.out is not None:
                given.out.write_text(
                    table(given.seed, list(results.values()), world.expected, len(drawn))
                )
    return 0 if all(one.healed for one in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
