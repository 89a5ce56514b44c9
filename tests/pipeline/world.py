"""Real servers, `noisefold retrain` as a process that may be struck, and what is compared when it
is over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.pipeline.conftest import REPOSITORY, TINY, environment
from tests.pipeline.crash_points import STAGES
from tests.servers import Server, mlflow_server, prefect_server

CLOCK = {"metrics.jsonl"}  # holds wall-clock times
CLOCK_METRICS = {"train/tokens_per_second"}


class World:
    """Servers, and the undisturbed run, which every point is compared with; kept in `folder` for a
    resumed matrix.
    """

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
            if store == "server" and (
                self.mlflow.process is None or self.mlflow.process.poll() is not None
            ):
                self.mlflow.start()
        more = {"MLFLOW_TRACKING_URI": self.mlflow.url} if "server" in store else {}
        # What a killed process leaves in the system's folder for temporary files is seen as well.
        return environment(
            self.prefect, home / "state", OMP_NUM_THREADS="1", TMPDIR=str(home / "tmp"), **more
        )

    def client(self, home: Path, store: str = "sqlite") -> Any:
        from mlflow import MlflowClient

        uri = self.mlflow.url if store == "server" else f"sqlite:///{home / 'state' / 'mlflow.db'}"
        return MlflowClient(uri, registry_uri=uri)


class Retrain:
    """`noisefold retrain` as a process; notes when each stage ends, from what a user would read."""

    def __init__(
        self,
        world: World,
        home: Path,
        name: str,
        *options: str,
        store: str = "sqlite",
        fault: str = "",
    ) -> None:
        (home / "tmp").mkdir(exist_ok=True)
        recipe = home / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({**TINY, "name": name}))
        module = ["tests.pipeline.faulty"] if fault else ["flows.cli.main"]
        variables = {**world.variables(home, store), "PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", *module, "retrain", str(recipe), "--json", *options],
            env={**variables, "FAULT": fault, "STRUCK": str(home / "struck")},
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.ended: dict[str, threading.Event] = {stage: threading.Event() for stage in STAGES}
        self.errors = self.output = ""
        self._readers = [
            threading.Thread(target=read, daemon=True)
            for read in (self._read_errors, self._read_output)
        ]
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
        with self.process.stderr as lines:
            for line in lines:
                self.errors += line
                words = line.split()
                if (
                    len(words) > 1
                    and words[0] in self.ended
                    and words[1] in ("ran", "cached", "retried")
                ):
                    self.ended[words[0]].set()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.output += line

    def wait(self, seconds: float = 600) -> int:
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return status


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


def name_of(pid: int) -> str:
    """As `top` shows it."""
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return ""


def survivors(family: set[int], seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while (alive := [pid for pid in family if command_of(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [command_of(pid)[:200] for pid in alive]


def manifests(home: Path) -> dict[str, int]:
    """Stage and time of writing of every committed artifact."""
    return {
        file.parent.parent.name: file.stat().st_mtime_ns
        for file in home.glob("state/artifacts/*/*/manifest.json")
    }


def facts_of(client: Any, state: Path, result: dict[str, Any]) -> dict[str, Any]:
    """All that two retrains of one recipe have to agree on, whatever happened to them on the way."""
    artifacts, digests = {}, {}
    for file in sorted(state.glob("artifacts/*/*/manifest.json")):
        manifest = json.loads(file.read_text())
        stage = file.parent.parent.name
        digests[stage] = [
            file.parent.name,
            manifest["digest"],
            manifest["rows_in"],
            manifest["rows_out"],
        ]
        for path in sorted(
            p for p in file.parent.rglob("*") if p.is_file() and p.name not in CLOCK | {file.name}
        ):
            artifacts[f"{stage}/{path.relative_to(file.parent).as_posix()}"] = sha256(path)
    model = f"noisefold-{result['recipe']}"
    versions = client.search_model_versions(f"name = '{model}'")
    runs = client.search_runs([result["experiment_id"]])
    run, running = (
        runs[0],
        client.search_runs([result["experiment_id"]], "attributes.status = 'RUNNING'"),
    )
    curves = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in sorted(run.data.metrics)
        if name not in CLOCK_METRICS and not name.startswith("system/")
    }  # fmt: skip
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from mlflow.artifacts import download_artifacts

    uri = client.get_model_version_download_uri(model, versions[0].version)
    with tempfile.TemporaryDirectory() as folder:
        download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=client.tracking_uri)
        bundle = sorted(Path(folder).rglob("artifacts/bundle/*"))
        registered = {path.name: sha256(path) for path in bundle}
    logged = client.search_logged_models([result["experiment_id"]])
    moves = [
        json.loads(line)
        for line in (state / "ledger.jsonl").read_text().splitlines()
        if line.endswith("}")
    ]
    return {
        "metrics": result["metrics"],
        "digests": digests,
        "files": artifacts,
        "registered": registered,
        "curves": curves,
        "versions": [(str(v.version), v.status) for v in versions],
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
    expected, found = (json.loads(json.dumps(facts)) for facts in (expected, found))
    faults = []
    for name, value in expected.items():
        if found[name] == value:
            continue
        if isinstance(value, dict):
            keys = [
                key
                for key in sorted(set(value) | set(found[name]))
                if value.get(key) != found[name].get(key)
            ]
            text = "; ".join(
                f"{key}: {found[name].get(key)} instead of {value.get(key)}" for key in keys[:3]
            )
        else:
            text = f"{found[name]} instead of {value}"
        faults.append(f"{name}: {text[:500]}")
    return faults


def leftovers(state: Path) -> list[str]:
    """Files in the state folder that nobody needs once the rerun is done, leases among them."""
    left = [p for p in state.rglob("*") if p.name.endswith((".tmp", ".part", "-journal", "-wal"))]
    left += [p for p in (state / "work").iterdir() if p.name not in ("locks", "fetched", "scratch")]
    left += list((state / "work" / "scratch").glob("*"))
    left += list((state / "leases").glob("*.json"))
    left += [p for p in state.glob("artifacts/*/*") if not (p / "manifest.json").exists()]
    return [f"left behind: {path.relative_to(state)}" for path in left]


def open_in_prefect(world: World, recipe: str, seconds: float = 20) -> list[str]:
    """Flow and task runs of this recipe that Prefect shows as under way; it hears of ends by
    events, a moment later.
    """
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    def read(client: SyncPrefectClient) -> list[Any]:
        newest = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=50)
        mine = [run for run in newest if run.parameters.get("recipe", {}).get("name") == recipe]
        assert mine, f"Prefect knows no run of {recipe}"
        within = FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in mine]))
        return [*mine, *client.read_task_runs(flow_run_filter=within)]

    deadline = time.monotonic() + seconds
    with SyncPrefectClient(world.prefect.url) as client:
        while True:
            left = [run for run in read(client) if run.state is None or not run.state.is_final()]
            if not left or time.monotonic() > deadline:
                return [f"Prefect shows {run.name} as {run.state_name}" for run in left]
            time.sleep(0.5)


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True
    )
    return done.stdout.strip()
