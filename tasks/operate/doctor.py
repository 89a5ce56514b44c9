"""Is all well, and if not, what to do: servers, versions, disks, dead runs, champions, schedules.
Changes nothing.

Each check gives a line per finding; one that itself fails is a finding too, and hides none of the
others.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from upath import UPath

from data_contracts.urls import redacted, shown_url
from tasks.artifacts.store import ArtifactStore
from tasks.liveness.dead_runs import pages, prefect_client
from tasks.liveness.reconcile import reconcile
from tasks.operate.finding import Line
from tasks.operate.schedules import schedules
from tasks.serving.check import Unservable, fetch_version
from tasks.settings import Settings
from tasks.tracking.aliases import CHAMPION, PREVIOUS
from tasks.tracking.bookkeeping import DIGEST
from tasks.tracking.runs import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[2]
FREE_GIGABYTES = 5.0


def examine(settings: Settings, prefect: bool) -> Iterator[Line]:
    """What the servers can tell; `examine_here` has the rest.

    Args:
        prefect: a server answers, or can be started on this state.
    """
    tracked = list(guarded("MLflow", lambda: mlflow_store(settings)))
    yield from tracked
    usable = all(line.state != "fail" for line in tracked)
    if prefect:
        yield from guarded("Prefect", prefect_server)
    if usable:
        yield from guarded("dead runs", lambda: dead_runs(settings, prefect))
        yield from guarded("champions", lambda: champions(settings))
    if prefect and "PREFECT_API_URL" in os.environ:
        yield from guarded("schedules", schedules)


def examine_here(
    settings: Settings, root: Path = ROOT, free_gigabytes: float = FREE_GIGABYTES
) -> Iterator[Line]:
    """What this machine alone can tell: versions, disks, folders."""
    yield from guarded("versions", lambda: versions(root / "requirements"))
    yield from guarded("disk", lambda: disks(settings, free_gigabytes))
    yield from guarded("folders", lambda: folders(settings))


def guarded(check: str, lines: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    try:
        yield from lines()
    except Exception as error:
        what = redacted(
            f"{type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no more is known'}"
        )
        yield Line(check, "fail", what, "See to this first; the check could not be made.")


# --- this machine ---------------------------------------------------------------------------------


def versions(locks: Path) -> Iterator[Line]:
    """What is installed, against the lock files of the checkout."""
    files = [locks / "base.lock", locks / "torch-cpu.lock"]
    if not all(file.is_file() for file in files):
        yield Line(
            "versions",
            "warn",
            "There are no lock files beside this installation.",
            "Run it from its checkout.",
        )
        return
    pins = {
        name: version
        for file in files
        for name, version in pinned(file.read_text(encoding="utf-8")).items()
    }
    away = {
        name: found
        for name, version in pins.items()
        if (found := _version(name)) != version.split("+")[0]
    }
    needed = {_plain_name(text) for text in _own_requirements()}
    for name in sorted(away.keys() & needed):
        found = away[name] or "missing"
        yield Line(
            "versions", "fail", f"{name} is {found}, locked is {pins[name]}.", "Run `make setup`."
        )
    others = sorted(away.keys() - needed)
    if others:
        few = ", ".join(f"{name} {away[name] or 'missing'}" for name in others[:5])
        more = " …" if len(others) > 5 else ""
        text = f"{len(others)} other packages are not as locked: {few}{more}."
        yield Line("versions", "warn", text, "Run `make setup`.")
    if not away:
        yield Line("versions", "ok", f"{len(pins)} packages are as locked.")


def pinned(lock: str) -> dict[str, str]:
    """Version by name, of what this Python on this system is to have."""
    found = [Requirement(line.rstrip(" \\")) for line in lock.splitlines() if line[:1].isalnum()]
    return {
        _plain_name(one.name): str(one.specifier).removeprefix("==")
        for one in found
        if one.marker is None or one.marker.evaluate()
    }


def disks(settings: Settings, free_gigabytes: float) -> Iterator[Line]:
    """Free space where the state is, and the artifacts, if these have a local disk of their own."""
    places = [settings.root]
    if ArtifactStore(settings.artifacts_url, settings.work).local:
        places.append(Path(settings.artifacts_url))
    seen = set()
    for place in map(_existing, places):
        device = place.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(place).free / 1e9
        text = f"{free:,.1f} GB are free at {place}"
        if free < free_gigabytes:
            text += f", less than {free_gigabytes:g}"
            yield Line(
                "disk",
                "fail",
                f"{text}.",
                "Free space (`noisefold gc` says what may go), or move NOISEFOLD_HOME.",
            )
        else:
            yield Line("disk", "ok", f"{text}.")


def folders(settings: Settings) -> Iterator[Line]:
    """Whether a run may write where it has to."""
    shown, refused = [], False
    for name, place in (
        ("state folder", UPath(settings.root)),
        ("artifacts", UPath(settings.artifacts_url)),
    ):
        probe = place / f".doctor-{uuid.uuid4().hex[:8]}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
            shown.append(redacted(shown_url(str(place))))
        except Exception as error:  # each filesystem of fsspec has its own
            refused = True
            told = f"{type(error).__name__}: {error}"
            what = f"The {name} {shown_url(str(place))} cannot be written ({told})."
            variable = "NOISEFOLD_HOME" if name == "state folder" else "NOISEFOLD_ARTIFACTS"
            yield Line(
                "folders",
                "fail",
                redacted(what),
                f"Mend its permissions, or set {variable} to another one.",
            )
    if not refused:
        yield Line("folders", "ok", f"{' and '.join(dict.fromkeys(shown))} can be written.")


# --- the servers ----------------------------------------------------------------------------------


def prefect_server() -> Iterator[Line]:
    with prefect_client() as client:
        there, here = client.api_version(), installed("prefect")
    where = shown_url(os.environ.get("PREFECT_API_URL", "")) or "the embedded server"
    if there != here:
        text = f"{where} has version {there}, this installation {here}."
        yield Line("Prefect", "warn", text, f"Run the server with prefect {here}.")
    else:
        yield Line("Prefect", "ok", f"{where} answers (version {there}).")


def mlflow_store(settings: Settings) -> Iterator[Line]:
    """Whether it answers, and holds the schema that this MLflow expects. An older one is not
    migrated here.
    """
    uri, here = settings.tracking_uri, installed("mlflow")
    shown = shown_url(uri)
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            yield Line("MLflow", "ok", f"{path} is not there yet; the first run creates it.")
            return
        there, expected = _sqlite_schema(path), _expected_schema()
        if there != expected:
            text = f"{path} was written by another MLflow (schema {there}, expected {expected})."
            remedy = (
                f"Copy the file, then `mlflow db upgrade {shown}`; where that fails, a newer "
                "MLflow has written it."
            )
            yield Line("MLflow", "fail", text, remedy)
            return
    connect(settings)
    if uri.startswith(("http://", "https://")) and (there := _server_version(uri)) not in (
        None,
        here,
    ):
        text = f"{shown} has version {there}, this installation {here}."
        yield Line("MLflow", "warn", text, f"Run the server with mlflow {here}.")
    else:
        yield Line("MLflow", "ok", f"{shown} answers.")


def dead_runs(settings: Settings, prefect: bool) -> Iterator[Line]:
    found = reconcile(settings, prefect=prefect, dry_run=True)
    for item in found.dead[:10]:
        yield Line("dead runs", "warn", item.sentence("would"), "Run `noisefold reconcile`.")
    if len(found.dead) > 10:
        yield Line(
            "dead runs", "warn", f"And {len(found.dead) - 10} more.", "Run `noisefold reconcile`."
        )
    for item in found.unknown[:10]:
        yield Line("dead runs", "warn", item.sentence("unknown"), "Look there whether it lives.")
    if not found.dead and not found.unknown:
        yield Line(
            "dead runs", "ok", "No run, lease or temporary folder was left by a dead process."
        )


def champions(settings: Settings) -> Iterator[Line]:
    """Fetches every champion of ours, and what a rollback would bring back; checks their bytes."""
    if (
        settings.tracking_uri.startswith("sqlite:///")
        and not Path(settings.tracking_uri[10:]).exists()
    ):
        yield Line("champions", "ok", "There is no model yet.")
        return
    client, _ = connect(settings)
    whole, broken = [], False
    for model in pages(client.search_registered_models):
        aliases = {alias: str(number) for alias, number in model.aliases.items()}
        for alias in (CHAMPION, PREVIOUS):
            number = aliases.get(alias)
            if (
                number is None
                or (digest := client.get_model_version(model.name, number).tags.get(DIGEST)) is None
            ):
                continue
            try:
                _fetch(client, model.name, number, digest)
                whole.append(f"{model.name} {number}")
            except (Unservable, ValueError) as error:  # BundleError is a ValueError
                broken = True
                why = str(error).rstrip(".")
                text = f"{model.name} version {number}, which is {alias}, cannot be loaded: {why}."
                other = f"`noisefold promote VERSION --model {model.name} --why …`"
                remedy = f"Restore its files, or {other}."
                yield Line(
                    "champions", "fail" if alias == CHAMPION else "warn", redacted(text), remedy
                )
    if not broken:
        text = (
            f"Fetched and found whole: {', '.join(whole)}."
            if whole
            else "There is no champion yet."
        )
        yield Line("champions", "ok", text)


def _fetch(client: MlflowClient, name: str, number: str, digest: str) -> None:
    from lightning_modules.bundle import Bundle

    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        folder = fetch_version(client, name, number, Path(scratch) / "model")
        Bundle.load(folder / "artifacts" / "bundle", digest)


def _sqlite_schema(path: Path) -> str:
    with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5) as database:
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    database.close()
    return str(found[0]) if found else "none"


def _expected_schema() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return _get_latest_schema_revision()


def _server_version(uri: str) -> str | None:
    try:
        with urllib.request.urlopen(uri.rstrip("/") + "/version", timeout=3) as answer:
            return answer.read(100).decode().strip()
    except (OSError, ValueError):
        return None  # behind a login of its own; that it answers is known


def _existing(place: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    place = place.expanduser().resolve()
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _version(name: str) -> str | None:
    try:
        return installed(name).split("+")[0]
    except PackageNotFoundError:
        return None


def _own_requirements() -> list[str]:
    """Names of what a run needs, without the extras."""
    return [
        re.split(r"[^\w.-]", text)[0]
        for text in requires("noisefold") or []
        if "extra ==" not in text
    ]


def _plain_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
