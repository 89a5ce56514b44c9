"""`noisefold gc`: what of the artifacts and model versions nobody needs any more, and its removal.

A thing goes only if it is older than so many days and nothing needs it. Needed is what the newest
retrains of a recipe (and comparisons) made or started from; what an alias points at; what the last
moves of the ledger name; what a run under way has made; and every version that was rolled back,
since its mark is what keeps its twin from going live.

# Note [what a kill leaves]
An artifact loses its manifest first: without one it is no artifact (`tasks.artifacts.store`), and a
rerun makes it anew. A logged model first loses the tag by which a rerun finds it, then its version,
then its files, then its entry; until the entry is gone the next gc finds it by `GONE` and goes on.
Nothing that is half removed is trusted by anybody.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError
from upath import UPath

from data_contracts.artifacts import (
    Artifact,
    Drift,
    EvaluationReport,
    Explanations,
    Lessons,
    Measurement,
    Queue,
    RawCorpus,
    Scores,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from tasks.artifacts.store import MANIFEST, ArtifactStore
from tasks.liveness.dead_runs import close_left, pages
from tasks.liveness.lease import CLEANING, EVERYTHING, Leases, this_process
from tasks.liveness.reconcile import reconcile
from tasks.settings import Settings
from tasks.tracking.aliases import CHAMPION, WITHDRAWN, Aliases, Move
from tasks.tracking.bookkeeping import (
    ARTIFACT,
    DIGEST,
    LAST_SEEN,
    RUN_KEY,
    WARM_START,
    of_run,
)
from tasks.tracking.runs import connect
from tasks.tracking.versions import model_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

KEEP, OLDER_THAN_DAYS = 5, 30.0
GONE = "noisefold.gone"
_STAGES: tuple[type[Artifact], ...] = (
    RawCorpus,
    ValidatedCorpus,
    TokenDataset,
    Lessons,
    TrainedModel,
    EvaluationReport,
    Measurement,
    Scores,
    Queue,
    Explanations,
    Drift,
)
# By whose name runs are told apart: each is a tag of the flow's runs.
_FLOWS = ("comparison", "score", "queue", "explain", "monitor", "recipe")
_KEY = re.compile(r"[0-9a-f]{20}")
Kind = Literal[
    "artifact", "model version", "logged model", "half-done work", "fetched copy", "report page"
]


@dataclass(frozen=True)
class Thing:
    """Something that takes space, and why it goes or stays."""

    kind: Kind
    name: str
    made: datetime
    bytes: int
    remove: Callable[[], object] = field(repr=False, compare=False)
    goes: bool = False
    why: str = ""

    def facts(self) -> dict[str, str | int | bool]:
        made = self.made.isoformat(timespec="seconds")
        facts = {
            "kind": self.kind,
            "name": self.name,
            "made": made,
            "bytes": self.bytes,
            "why": self.why,
        }
        return {**facts, "goes": self.goes}


@dataclass
class Needs:
    """Why things are needed, by artifact key, (model, version) and MLflow run. The first reason
    told is kept.
    """

    artifacts: dict[str, str] = field(default_factory=dict)
    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    unfinished: str | None = None

    def run(self, run: Run, why: str) -> None:
        """What a run made, what it registered, and the version that it started from."""
        self.runs.setdefault(run.info.run_id, why)
        tags = of_run(run)
        for tag, key in tags.items():
            if tag.startswith(ARTIFACT):
                self.artifacts.setdefault(key, why)
        name = tags.get("noisefold.model_name")
        for tag in ("noisefold.model_version", WARM_START):
            of_another, _, version = tags.get(tag, "").rpartition("/")
            if version and (of_another or name):
                self.versions.setdefault((of_another or str(name), version), why)


def plan(
    settings: Settings, *, keep: int = KEEP, older_than_days: float = OLDER_THAN_DAYS
) -> list[Thing]:
    """Everything that takes space, and whether it goes. Changes nothing."""
    client, _ = connect(settings)
    store = ArtifactStore(settings.artifacts_url, settings.work)
    runs = {run.info.run_id: run for run in _runs(client)}
    models = list(pages(client.search_registered_models))
    registered = list(pages(client.search_model_versions))
    versions = [v for v in registered if DIGEST in v.tags]
    needs = _Finder(runs, versions, keep).needs_of(client, settings, models)
    before = datetime.now(UTC) - timedelta(days=older_than_days)
    young = f"younger than {older_than_days:g} days"
    found = ThingJudge(needs, before, young)
    found.things += _versions(client, settings, found, versions)
    found.things += _logged_models(client, found, registered)
    found.things += _artifacts(store, found)
    found.things += _work(store, found)
    found.things += _reports(settings, keep, found)
    return found.things


def collect(
    settings: Settings,
    *,
    keep: int = KEEP,
    older_than_days: float = OLDER_THAN_DAYS,
    prefect: bool = True,
) -> list[Thing]:
    """Remove what `plan` says, while no run of this state folder is under way; returns the plan
    that was carried out.

    Args:
        prefect: False where there is no Prefect server and none has been.
    Raises:
        Busy: a run is under way.
    """
    reconcile(settings, prefect=prefect)  # what died is not under way
    with Leases(settings.root).take(CLEANING, [EVERYTHING], this_process()) as lease:
        if lease.left and prefect:  # who died since then, and whose lease this one has replaced
            close_left(lease.left, connect(settings)[0], "")
        things = plan(settings, keep=keep, older_than_days=older_than_days)
        for thing in things:
            if thing.goes:
                lease.check()
                thing.remove()
    return things


class ThingJudge:
    """Whether a thing goes: nobody needs it, and it is old enough."""

    def __init__(self, needs: Needs, before: datetime, young: str) -> None:
        self.needs, self.before, self.young = needs, before, young
        self.things: list[Thing] = []

    def __call__(self, thing: Thing, needed: str | None, *, old: bool = False) -> Thing:
        """The thing, judged.

        Args:
            old: whatever its age.
        """
        why = needed or (self.young if thing.made > self.before and not old else None)
        return replace(thing, goes=why is None, why=why or "nothing needs it")


# --- what is needed -------------------------------------------------------------------------------


class _Finder:
    """Gathers what is needed, the strongest reasons first.

    Args:
        keep: of each family of runs, of the moves of the ledger, of the versions of a model.
    """

    def __init__(self, runs: dict[str, Run], versions: list[Any], keep: int) -> None:
        self.runs, self.versions, self.keep = runs, versions, max(keep, 1)
        self.made_by = {(v.name, str(v.version)): v.run_id for v in versions}
        self.needs = Needs()

    def needs_of(self, client: MlflowClient, settings: Settings, models: list[Any]) -> Needs:
        for model in models:
            for alias, number in sorted(model.aliases.items()):
                self.version(model.name, str(number), f"alias {alias}")
        self.newest_runs()
        for model in models:
            history = Aliases(client, model.name, settings.ledger).history()
            self.last_moves(model.name, [move for move in history if move.alias == CHAMPION])
        self.rolled_back()
        self.newest_versions()
        return self.needs

    def version(self, name: str, number: str | None, why: str) -> None:
        """A version, the run that made it, and all that this run needs."""
        if number is None or (name, number) not in self.made_by:
            return
        self.needs.versions.setdefault((name, number), why)
        run = self.runs.get(self.made_by[name, number] or "")
        if run is not None:
            self.needs.run(run, f"{name} {number} was made by its run: {why}")

    def newest_runs(self) -> None:
        for run in self.runs.values():
            if run.info.status == "RUNNING":
                self.needs.run(run, f"{run.info.run_name} is under way")
        for family, newest in _families(self.runs).items():
            for number, unit in enumerate(newest[: self.keep]):
                which = "the newest" if number == 0 else f"one of the {self.keep} newest"
                for run in unit:
                    self.needs.run(run, f"{which} of {family}")
            unfinished = any(run.info.status != "FINISHED" for run in newest[0])
            if unfinished and self.needs.unfinished is None:
                self.needs.unfinished = f"the newest of {family} has not finished"

    def last_moves(self, name: str, moves: list[Move]) -> None:
        why = f"named by one of the last {self.keep} moves of the ledger"
        for move in moves[-self.keep :]:
            for number in (move.after, move.before):
                self.version(name, number, why)

    def rolled_back(self) -> None:
        for found in self.versions:
            if WITHDRAWN in found.tags:
                which = (found.name, str(found.version))
                self.needs.versions.setdefault(which, "rolled back: its mark keeps it out")

    def newest_versions(self) -> None:
        why = f"one of the {self.keep} newest versions"
        for name in sorted({v.name for v in self.versions}):
            numbers = [int(v.version) for v in self.versions if v.name == name]
            for number in sorted(numbers, reverse=True)[: self.keep]:
                self.needs.versions.setdefault((name, str(number)), why)


def _families(runs: dict[str, Run]) -> dict[str, list[list[Run]]]:
    """Units of work, the newest first, by what they are the newest of; a comparison is one unit
    with all its cells.
    """
    units: dict[str, list[Run]] = {}
    for run in runs.values():
        units.setdefault(run.data.tags.get("mlflow.parentRunId", run.info.run_id), []).append(run)
    families: dict[str, list[list[Run]]] = {}
    for root, unit in units.items():
        tags = runs[root].data.tags if root in runs else unit[0].data.tags
        flow = next((one for one in _FLOWS if f"noisefold.{one}" in tags), "recipe")
        family = f"{flow} {tags.get(f'noisefold.{flow}')}"
        families.setdefault(family, []).append(unit)
    return {
        family: sorted(found, key=lambda unit: max(map(_touched, unit)), reverse=True)
        for family, found in families.items()
    }


def _touched(run: Run) -> int:
    """When it was last of use, in ms: a later night that finds it finished leaves its times, and
    says so in a tag.
    """
    seen = of_run(run).get(LAST_SEEN)
    try:
        found = int(datetime.fromisoformat(seen).timestamp() * 1000) if seen else 0
    except ValueError:
        found = 0
    return max(run.info.start_time or 0, run.info.end_time or 0, found)


# --- what there is --------------------------------------------------------------------------------


def _versions(
    client: MlflowClient, settings: Settings, judge: ThingJudge, versions: list[Any]
) -> Iterator[Thing]:
    for found in versions:
        name, number = found.name, str(found.version)

        def remove(
            name: str = name, number: str = number, model_id: str | None = model_of(found)
        ) -> None:
            aliases = Aliases(client, name, settings.ledger)
            with aliases.alone():
                if number in aliases.current().values():
                    return  # a person has moved an alias since the plan was made
                if model_id:
                    _disown(client, model_id)
                client.delete_model_version(name, number)

        made = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
        needed = judge.needs.versions.get((name, number))
        yield judge(Thing("model version", f"{name} {number}", made, 0, remove), needed)


def _logged_models(
    client: MlflowClient, judge: ThingJudge, registered: list[Any]
) -> Iterator[Thing]:
    """The files of versions. They stay as long as a version that stays refers to them, whoever
    registered it.
    """
    going = {thing.name for thing in judge.things if thing.kind == "model version" and thing.goes}
    needed_by, dropped = {}, set()
    for version in registered:
        name, model_id = f"{version.name} {version.version}", model_of(version)
        if name in going:
            dropped.add(model_id)
        # One of ours that does not say where its files are: None.
        elif model_id is not None or DIGEST in version.tags:
            needed_by[model_id] = name
    experiments = [found.experiment_id for found in pages(client.search_experiments)]
    for logged in pages(client.search_logged_models, experiments) if experiments else ():
        if DIGEST not in logged.tags:
            continue
        needed = needed_by.get(logged.model_id) or needed_by.get(None)
        run = judge.needs.runs.get(logged.source_run_id or "")
        if needed is not None:
            needed = f"the files of {needed}"
        elif GONE not in logged.tags and logged.model_id not in dropped and run is not None:
            needed = f"made by a run that is needed: {run}"  # its version has yet to be created

        def remove(logged: LoggedModel = logged) -> None:
            if any(model_of(v) == logged.model_id for v in pages(client.search_model_versions)):
                return  # its version stayed after all
            _disown(client, logged.model_id)
            _remove_files(logged, client.tracking_uri)
            client.delete_logged_model(logged.model_id)

        # With its version it goes, however young, and so does what a gc that died has begun.
        begun = GONE in logged.tags or logged.model_id in dropped
        made = datetime.fromtimestamp(logged.creation_timestamp / 1000, UTC)
        size, name = _logged_bytes(client, logged.model_id), f"{logged.name} {logged.model_id}"
        yield judge(Thing("logged model", name, made, size, remove), needed, old=begun)


def _artifacts(store: ArtifactStore, judge: ThingJudge) -> Iterator[Thing]:
    for kind in _STAGES:
        for folder in _folders(store.root / kind.stage):
            key = folder.name.strip(".").removesuffix(".part")
            if not _KEY.fullmatch(key):
                continue
            try:
                manifest = kind.model_validate_json((folder / MANIFEST).read_bytes())
                size = sum(file.size for file in manifest.files.values())
                needed, made = judge.needs.artifacts.get(key), _modified(folder / MANIFEST)
            except (OSError, ValidationError):
                size, needed = _bytes(folder), None  # no artifact: nobody trusts it
                made = _modified(folder)

            def remove(folder: UPath = folder, name: str = f"{kind.stage}-{key}") -> None:
                with store.lock(name):
                    _remove_artifact(folder)

            shown = f"{kind.stage} {folder.name}"
            yield judge(Thing("artifact", shown, made, size, remove), needed)


def _work(store: ArtifactStore, judge: ThingJudge) -> Iterator[Thing]:
    """Work that an attempt has left half done, and copies of what lies elsewhere."""
    stages = {kind.stage for kind in _STAGES}
    for folder in sorted(store.work.glob("*-*")):
        stage, _, key = folder.name.rpartition("-")
        if folder.is_dir() and stage in stages and _KEY.fullmatch(key):
            yield judge(_of_folder("half-done work", folder), judge.needs.unfinished)
    for folder in sorted(store.fetched.glob("*")):
        yield judge(_of_folder("fetched copy", folder), None)


def _reports(settings: Settings, keep: int, judge: ThingJudge) -> Iterator[Thing]:
    """Pages of runs, as files of this machine; their MLflow runs hold them too."""
    for folder in sorted(settings.reports.glob("*")):
        written = [
            (datetime.fromtimestamp(p.stat().st_mtime, UTC), p) for p in folder.glob("*.html")
        ]
        for number, (made, page) in enumerate(sorted(written, reverse=True)):
            needed = f"one of the {keep} newest of {folder.name}" if number < keep else None
            shown = f"{folder.name}/{page.name}"
            size = page.stat().st_size
            yield judge(Thing("report page", shown, made, size, page.unlink), needed)


def _of_folder(kind: Kind, folder: Path) -> Thing:
    return Thing(kind, folder.name, *_newest(folder), lambda: shutil.rmtree(folder))


# --- removal --------------------------------------------------------------------------------------


def _remove_artifact(folder: UPath) -> None:
    """Manifest first: see Note [what a kill leaves]."""
    local = folder.protocol in ("", "file", "local")
    if local and Path(str(folder)).is_symlink():
        Path(str(folder)).unlink()
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    if local:
        shutil.rmtree(str(folder))
    else:
        folder.fs.rm(folder.path, recursive=True)


def _disown(client: MlflowClient, model_id: str) -> None:
    """From here on no rerun takes these files for a model."""
    client.set_logged_model_tags(
        model_id, {GONE: datetime.now(UTC).isoformat(timespec="seconds"), DIGEST: "gone"}
    )


def _remove_files(logged: LoggedModel, tracking_uri: str) -> None:
    """Only where MLflow keeps this model's files; an address of another form is not followed."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    location = logged.artifact_location.rstrip("/")
    if re.fullmatch(r"m-[0-9a-f]+", logged.model_id) and location.endswith(
        f"/models/{logged.model_id}/artifacts"
    ):
        get_artifact_repository(location, tracking_uri).delete_artifacts()


# --- reading --------------------------------------------------------------------------------------


def _runs(client: MlflowClient) -> Iterator[Run]:
    experiments = [found.experiment_id for found in pages(client.search_experiments)]
    if experiments:
        yield from pages(client.search_runs, experiments, f"tags.`{RUN_KEY}` != ''")


def _logged_bytes(client: MlflowClient, model_id: str, path: str | None = None) -> int:
    files = client.list_logged_model_artifacts(model_id, path)
    return sum(
        _logged_bytes(client, model_id, file.path) if file.is_dir else file.file_size or 0
        for file in files
    )


def _folders(parent: UPath) -> Iterable[UPath]:
    try:
        return sorted((path for path in parent.iterdir() if path.is_dir()), key=str)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _modified(path: UPath) -> datetime:
    """When it was last written; where an object store does not tell, now, so that it stays."""
    try:
        if path.protocol in ("", "file", "local"):
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
        found = path.fs.modified(path.path)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (OSError, NotImplementedError, AttributeError, KeyError, TypeError, ValueError):
        return datetime.now(UTC)


def _bytes(folder: UPath) -> int:
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0


def _newest(folder: Path) -> tuple[datetime, int]:
    """When anything in it was last written, and its size in bytes."""
    status = [path.lstat() for path in (folder, *folder.rglob("*"))]
    newest = datetime.fromtimestamp(max(found.st_mtime for found in status), UTC)
    return newest, sum(found.st_size for found in status)
