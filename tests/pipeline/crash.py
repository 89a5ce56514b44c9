"""Crash matrix: kill a retrain at any instant, run it again, compare with a run that nobody disturbed.

    python -m tests.pipeline.crash --out docs/crash-matrix.md     # all points; resumes where it was stopped

Each point runs `noisefold retrain` on a state folder of its own against a real Prefect server and a real MLflow store
(SQLite, or `mlflow server`), sends SIGKILL where the point says, and runs the same command again. A point is either an
instant, given as a share of a stage's time in the undisturbed run, or a call: the n-th of its kind, before it, after
it or half way through (tests/pipeline/faulty.py). Both are drawn from the seed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import yaml

from tests.pipeline.conftest import REPOSITORY, TINY, environment
from tests.servers import Server, mlflow_server, prefect_server

STAGES = ("start", "ingest", "validate", "tokenize", "train", "evaluate", "register", "promote")
BEFORE = dict(zip(STAGES[2:], STAGES[1:], strict=False))  # the stage whose end is this one's beginning
CLOCK = {"metrics.jsonl"}  # holds wall-clock times
CLOCK_METRICS = {"train/tokens_per_second"}
GRACE_SECONDS = 15.0
# A killed process cannot close its flow run; whether the next one does is checked where this is true.
PREFECT_RUNS_ARE_CLOSED = False


@dataclass(frozen=True)
class Point:
    """Where to strike: `stage` and `share` of its time, or the call `fault` (see faulty.py)."""

    number: int
    victim: str  # flow | training
    stage: str = ""
    share: float = 0.0
    fault: str = ""
    store: str = "sqlite"  # sqlite | server

    def __str__(self) -> str:
        return self.fault.replace(":", " ").replace("#", " no. ") if self.fault else f"{self.share:.0%} of {self.stage}"


@dataclass
class Struck:
    """What became of a point."""

    point: Point
    stage: str = ""
    finished: list[str] = field(default_factory=list)
    first: int | None = None
    rerun: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def healed(self) -> bool:
        return not self.faults


# Instants per stage (of the flow, of the training process), and calls with how many there are of them to draw from.
INSTANTS = {
    "start": 2,
    "ingest": 1,
    "validate": 2,
    "tokenize": 1,
    "train": 5,
    "evaluate": 2,
    "register": 2,
    "promote": 3,
}
CHILD_INSTANTS = 4
CALLS = [
    ("schema", "before"), ("schema", "before"),
    ("rows", "before"), ("rows", "before"), ("rows", "before"), ("rows", "before"),
    ("write_durably", "half"), ("write_durably", "half"), ("write_durably", "before"),
    ("_appear", "before"), ("_appear", "after"), ("_appear", "after"), ("rmtree", "before"),
    ("create_run", "after"), ("log_batch", "before"), ("log_inputs", "before"), ("log_artifacts", "after"),
    ("create_logged_model", "after"), ("log_model_artifacts", "after"), ("finalize_logged_model", "after"),
    ("create_registered_model", "after"), ("create_model_version", "before"), ("create_model_version", "after"),
    ("append_line", "half"), ("set_registered_model_tag", "after"),
    ("set_registered_model_alias", "before"), ("set_registered_model_alias", "after"),
    ("set_model_version_tag", "before"), ("set_terminated", "before"),
]  # fmt: skip
CHILD_CALLS = [("save_checkpoint", "half", 6), ("checkpoint_replace", "before", 6), ("checkpoint_replace", "after", 6),
               ("metrics_write", "half", 8), ("save_bundle", "after", 1)]  # fmt: skip


def points(seed: int, made: dict[str, int]) -> list[Point]:
    """The matrix: every point by its number, the kinds mixed so that any first part is spread over all stages.

    Args:
        made: how often an undisturbed run makes each call.
    """
    rng = random.Random(seed)
    drawn: list[dict[str, Any]] = []
    for stage, count in INSTANTS.items():
        drawn += [{"victim": "flow", "stage": stage, "share": round(rng.random(), 3)} for _ in range(count)]
    drawn += [
        {"victim": "training", "stage": "train", "share": round(rng.uniform(0.05, 0.95), 3)}
        for _ in range(CHILD_INSTANTS)
    ]
    for name, when in CALLS:
        drawn.append({"victim": "flow", "fault": f"{name}#{rng.randint(1, made[name])}:{when}"})
    for name, when, most in CHILD_CALLS:
        drawn.append({"victim": "training", "fault": f"{name}#{rng.randint(1, most)}:{when}"})
    rng.shuffle(drawn)
    # Every seventh against `mlflow server`, unless it strikes the embedded store's own statements.
    found = []
    for number, one in enumerate(drawn, 1):
        by_server = number % 7 == 0 and not one.get("fault", "").startswith(("rows#", "schema#"))
        found.append(Point(number, store="server" if by_server else "sqlite", **one))
    return found


class World:
    """Servers, and the undisturbed run, which every point is compared with; kept in `folder` for a resumed matrix."""

    def __init__(self, folder: Path, prefect: Server | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._own_prefect = prefect is None
        self.prefect = prefect or prefect_server(folder)
        self.mlflow = mlflow_server(folder)
        self.expected: dict[str, Any] = {}
        self.alone = threading.RLock()  # MLflow's client has state of the whole process

    def __enter__(self) -> World:
        if self._own_prefect:
            self.prefect.start()
        known = self.folder / "undisturbed.json"
        if not known.exists():
            known.write_text(json.dumps(self._undisturbed()))
        self.expected = json.loads(known.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self.mlflow.stop()
        if self._own_prefect:
            self.prefect.stop()

    def _undisturbed(self) -> dict[str, Any]:
        home, started = self.folder / "undisturbed", time.monotonic()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        process = Retrain(self, home, "undisturbed", fault="count")
        status = process.wait()
        assert status == 0, process.errors
        result = process.result
        seconds = {stage["name"]: stage["seconds"] for stage in result["stages"]}
        seconds["start"] = time.monotonic() - started - sum(seconds.values())
        return {"seconds": seconds, "made": json.loads((home / "struck").read_text()),
                "facts": facts_of(self.client(home), home / "state", result), "commit": commit()}  # fmt: skip

    def variables(self, home: Path, store: str) -> dict[str, str]:
        with self.alone:
            # "stopped server": the address alone.
            if store == "server" and (self.mlflow.process is None or self.mlflow.process.poll() is not None):
                self.mlflow.start()
        more = {"MLFLOW_TRACKING_URI": self.mlflow.url} if "server" in store else {}
        # What a killed process leaves in the system's folder for temporary files is seen as well.
        return environment(self.prefect, home / "state", OMP_NUM_THREADS="1", TMPDIR=str(home / "tmp"), **more)

    def client(self, home: Path, store: str = "sqlite") -> Any:
        from mlflow import MlflowClient

        uri = self.mlflow.url if store == "server" else f"sqlite:///{home / 'state' / 'mlflow.db'}"
        return MlflowClient(uri, registry_uri=uri)


class Retrain:
    """`noisefold retrain` as a process; notes when each stage ends, from what a user would read."""

    def __init__(
        self, world: World, home: Path, name: str, *options: str, store: str = "sqlite", fault: str = ""
    ) -> None:
        (home / "tmp").mkdir(exist_ok=True)
        recipe = home / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({**TINY, "name": name}))
        module = ["tests.pipeline.faulty"] if fault else ["flows.cli"]
        variables = {**world.variables(home, store), "PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", *module, "retrain", str(recipe), "--json", *options],
            env={**variables, "FAULT": fault, "STRUCK": str(home / "struck")},
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.ended: dict[str, threading.Event] = {stage: threading.Event() for stage in STAGES}
        self.errors = self.output = ""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_errors, self._read_output)]
        for reader in self._readers:
            reader.start()

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.output.splitlines()[-1])

    @property
    def finished(self) -> list[str]:
        return [stage for stage in STAGES if self.ended[stage].is_set()]

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line
            words = line.split()
            if len(words) > 1 and words[0] in self.ended and words[1] in ("ran", "cached", "retried"):
                self.ended[words[0]].set()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def wait(self, seconds: float = 600) -> int:
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return status


def strike(world: World, point: Point) -> Struck:
    """Carry out one point: kill, look, run again, compare."""
    started, struck = time.monotonic(), Struck(point)
    home, name = world.folder / f"point-{point.number}", f"crash-{point.number}"
    # What strikes the training process alone has to be healed by the flow itself.
    options = ("--set", "execution.retries=1") if point.victim == "training" else ()
    for attempt in range(4):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        first = Retrain(world, home, name, *options, store=point.store, fault=point.fault)
        family = kill(world, first, point, 0.5**attempt) if not point.fault else watched(first)
        struck.first = first.wait()
        if family is not None:
            break  # otherwise the run was faster than the undisturbed one, and over before its instant
    family = family or set()
    struck.finished = first.finished
    struck.stage = next((stage for stage in STAGES[1:] if stage not in first.finished), "end")
    if struck.stage == "ingest" and not (home / "state" / "artifacts").exists():
        struck.stage = "start"
    if point.victim == "flow" and struck.first != -signal.SIGKILL:
        struck.faults.append(f"the kill did not strike: exit status {struck.first}: {first.errors[-300:]}")
    if point.victim == "training":
        struck.stage = "train"
        states = {s["name"]: s["state"] for s in first.result["stages"]} if struck.first == 0 else {}
        if states.get("train") != "retried":
            struck.faults.append(f"training was not healed within its flow: {states or first.errors[-300:]}")
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
                world.expected["facts"], facts_of(world.client(home, point.store), home / "state", result)
            )
        struck.faults += repeated(home, committed, struck)
        struck.faults += leftovers(home / "state")
        struck.faults += [f"left behind in TMPDIR: {path.name}" for path in (home / "tmp").iterdir()]
        if PREFECT_RUNS_ARE_CLOSED:
            struck.faults += running_in_prefect(world, name)
    struck.seconds = round(time.monotonic() - started, 1)
    if struck.healed:
        shutil.rmtree(home)
    return struck


def kill(world: World, run: Retrain, point: Point, hurry: float) -> set[int] | None:
    """Wait for the point's instant and send SIGKILL; returns the processes that the run had, None where it was over."""
    begun = run.ended[BEFORE[point.stage]] if point.stage in BEFORE else None
    delay = hurry * point.share * world.expected["seconds"][point.stage]
    if point.stage == "ingest":  # it begins when the MLflow run is there, which no line tells
        begun, delay = None, hurry * world.expected["seconds"]["start"] + delay
    deadline = time.monotonic() + 300
    while begun is not None and not begun.wait(0.05) and run.process.poll() is None and time.monotonic() < deadline:
        pass
    time.sleep(delay)
    family = family_of(run.process.pid)
    if run.process.poll() is not None:
        return None
    if point.victim == "flow":
        run.process.kill()
        return family
    child = [pid for pid in family if "tasks.training_process" in command_of(pid)]
    for pid in child:
        os.kill(pid, signal.SIGKILL)
    return family if child else None


def watched(run: Retrain) -> set[int]:
    """The processes of a run that kills itself, as seen shortly before."""
    family: set[int] = set()
    while run.process.poll() is None:
        family |= family_of(run.process.pid)
        time.sleep(0.2)
    return family


def family_of(pid: int) -> set[int]:
    """A process's descendants (Linux)."""
    found: set[int] = set()
    for file in Path("/proc", str(pid), "task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in file.read_text().split():
                found |= {int(child)} | family_of(int(child))
    return found


def command_of(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def survivors(family: set[int], seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while (alive := [pid for pid in family if command_of(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [command_of(pid)[:200] for pid in alive]


def manifests(home: Path) -> dict[str, int]:
    """Stage and time of writing of every committed artifact."""
    return {file.parent.parent.name: file.stat().st_mtime_ns for file in home.glob("state/artifacts/*/*/manifest.json")}


def facts_of(client: Any, state: Path, result: dict[str, Any]) -> dict[str, Any]:
    """All that two retrains of one recipe have to agree on, whatever happened to them on the way."""
    artifacts, digests = {}, {}
    for file in sorted(state.glob("artifacts/*/*/manifest.json")):
        manifest = json.loads(file.read_text())
        stage = file.parent.parent.name
        digests[stage] = [file.parent.name, manifest["digest"], manifest["rows_in"], manifest["rows_out"]]
        for path in sorted(p for p in file.parent.rglob("*") if p.is_file() and p.name not in CLOCK | {file.name}):
            artifacts[f"{stage}/{path.relative_to(file.parent).as_posix()}"] = sha256(path)
    model = f"noisefold-{result['recipe']}"
    versions = client.search_model_versions(f"name = '{model}'")
    runs = client.search_runs([result["experiment_id"]])
    run, running = runs[0], client.search_runs([result["experiment_id"]], "attributes.status = 'RUNNING'")
    curves = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in sorted(run.data.metrics) if name not in CLOCK_METRICS
    }  # fmt: skip
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from mlflow.artifacts import download_artifacts

    uri = client.get_model_version_download_uri(model, versions[0].version)
    with tempfile.TemporaryDirectory() as folder:
        download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=client.tracking_uri)
        bundle = sorted(Path(folder).rglob("artifacts/bundle/*"))
        registered = {path.name: sha256(path) for path in bundle}
    logged = client.search_logged_models([result["experiment_id"]])
    moves = [json.loads(line) for line in (state / "ledger.jsonl").read_text().splitlines() if line.endswith("}")]
    return {
        "metrics": result["metrics"],
        "digests": digests,
        "files": artifacts,
        "registered": registered,
        "curves": curves,
        "versions": [(v.version, v.status) for v in versions],
        "aliases": {a: str(v) for a, v in client.get_registered_model(model).aliases.items()},
        "runs": [r.info.status for r in runs],
        "running": len(running),
        "logged models": [str(one.status) for one in logged],
        "datasets": len(run.inputs.dataset_inputs),
        "run's files": sorted(listed(client, run.info.run_id)),
        # A crash between a line and its move writes the line again.
        "moves": sorted({(move["alias"], move["from"], move["to"]) for move in moves}),
    }  # fmt: skip


def listed(client: Any, run_id: str, path: str | None = None) -> Iterator[str]:
    for one in client.list_artifacts(run_id, path):
        yield from listed(client, run_id, one.path) if one.is_dir else [one.path]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def compare(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs, bit for bit, from the undisturbed run."""
    found = json.loads(json.dumps(found))
    faults = []
    for name, value in expected.items():
        if found[name] == value:
            continue
        if isinstance(value, dict):
            keys = [key for key in sorted(set(value) | set(found[name])) if value.get(key) != found[name].get(key)]
            text = "; ".join(f"{key}: {found[name].get(key)} instead of {value.get(key)}" for key in keys[:3])
        else:
            text = f"{found[name]} instead of {value}"
        faults.append(f"{name}: {text[:500]}")
    return faults


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


def leftovers(state: Path) -> list[str]:
    """Files in the state folder that nobody needs once the rerun is done."""
    left = [p for p in state.rglob("*") if p.name.endswith((".tmp", ".part", "-journal", "-wal"))]
    left += [p for p in (state / "work").iterdir() if p.name not in ("locks", "fetched", "scratch")]
    left += list((state / "work" / "scratch").glob("*"))
    left += [p for p in state.glob("artifacts/*/*") if not (p / "manifest.json").exists()]
    return [f"left behind: {path.relative_to(state)}" for path in left]


def running_in_prefect(world: World, recipe: str) -> list[str]:
    """Flow runs of this recipe that Prefect still shows as running."""
    import asyncio

    from prefect.client.orchestration import PrefectClient

    async def read() -> list[Any]:
        async with PrefectClient(world.prefect.url) as client:
            return await client.read_flow_runs()

    mine = [run for run in asyncio.run(read()) if run.parameters.get("recipe", {}).get("name") == recipe]
    return [f"Prefect shows {run.name} as {run.state_name}" for run in mine if run.state_name == "Running"]


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip()


PAGE = """# Crash matrix

`make crash` (seed {seed}), commit `{commit}`: {healed} of {count} points end as if nothing had happened.

Each point: `noisefold retrain` on the debug recipe of the tests, SIGKILL, and the same command again. A share is of the
stage's time in the undisturbed run; a call is the n-th of its kind in the process, struck before it, after it or half
way through. Victim *training*: the training process alone is killed, and the flow heals it before the rerun. Store
*server*: a real `mlflow server`; otherwise SQLite in the state folder.

Checked at each point against the undisturbed run, bit for bit: test metrics with their intervals; every file of every
artifact (but the clock's, `metrics.jsonl`); the registered bundle; every metric curve in MLflow, each point once and in
order (but `train/tokens_per_second`); the names of the MLflow run's files. Then: one MLflow run, FINISHED; one logged
model; one version, champion; no stage repeated whose manifest was there; no temporary file in the state folder or in
`TMPDIR`; no process left. Seconds are those of both runs, on a machine that was busy with other work.

| # | victim | store | struck at | in stage | finished before | the rerun ran | as if undisturbed | s |
|--:|---|---|---|---|---|---|---|--:|
"""


def table(seed: int, results: list[Struck], undisturbed: dict[str, Any]) -> str:
    healed, commit = sum(one.healed for one in results), undisturbed["commit"][:10]
    rows = [row(one) for one in sorted(results, key=lambda one: one.point.number)]
    return PAGE.format(seed=seed, commit=commit, healed=healed, count=len(results)) + "\n".join(rows) + "\n"


def row(one: Struck) -> str:
    ran = ", ".join(stage for stage, state in one.rerun.items() if state != "cached") or "nothing"
    last = f"up to {one.finished[-1]}" if one.finished else "nothing"
    said = "yes" if one.healed else "**NO**: " + "; ".join(one.faults).replace("|", "/").replace("\n", " ")
    point = one.point
    cells = [point.number, point.victim, point.store, point, one.stage, last, ran, said, f"{one.seconds:.0f}"]
    return f"| {' | '.join(map(str, cells))} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(".noisefold/crash"), help="State of all points.")
    parser.add_argument("--out", type=Path, help="Table, as Markdown.")
    parser.add_argument("--workers", type=int, default=1, help="Points at a time.")
    parser.add_argument("--only", help="Numbers of points, for example 3,17.")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    with World(folder) as world:
        chosen = points(given.seed, world.expected["made"])
        if given.only:
            chosen = [point for point in chosen if str(point.number) in given.only.split(",")]
        kept = folder / "points.jsonl"
        lines = kept.read_text().splitlines() if kept.exists() else []
        results = {r["point"]["number"]: Struck(**{**r, "point": Point(**r["point"])}) for r in map(json.loads, lines)}
        known = {number for number, one in results.items() if one.healed and one.point in chosen}
        left = [point for point in chosen if point.number not in known]
        for one in ThreadPool(given.workers).imap_unordered(lambda point: strike(world, point), left):
            point, results[one.point.number] = one.point, one
            with kept.open("a") as stream:
                stream.write(json.dumps(asdict(one)) + "\n")
            told = "as if undisturbed" if one.healed else "; ".join(one.faults)
            where = f"{point.victim:8s} {point.store:6s} {point!s:34s} {one.stage:9s}"
            print(f"{point.number:3d} {where} {one.seconds:5.0f} s  {told}", flush=True)
            if given.out is not None:
                given.out.write_text(table(given.seed, list(results.values()), world.expected))
    return 0 if all(one.healed for one in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
