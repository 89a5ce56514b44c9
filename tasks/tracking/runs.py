"""The run's MLflow side: one MLflow run per retrain, found again by its identity.

The identity is the digest of (recipe, source fingerprint, versions of the stages). A rerun reopens
a run that was interrupted, so the night goes on in the same place, and leaves a finished one
closed; a stage whose result another run computed links to that run instead of repeating its curves.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from filelock import FileLock

from data_contracts.errors import ServiceUnavailable
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import BITS
from data_contracts.urls import redacted, shown_url
from tasks.artifacts.store import digest_of
from tasks.reports.readable import fit
from tasks.reports.story import OUTCOMES
from tasks.settings import Settings
from tasks.tracking.bookkeeping import (
    ERROR,
    LAST_SEEN,
    LAST_SEEN_ERROR,
    OUTCOME,
    RUN_KEY,
    as_tags,
    is_shown,
    state_of,
    without,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

_NAME = re.compile(r"[\w\-. ]+")  # a part of a param's name
NOTE = "mlflow.note.content"  # the description of a run
_NOTE_LIMIT = 7500  # a tag holds 8,000 characters
_TABLES = "mlflow.loggedArtifacts"  # by which MLflow knows its tables
PROBE_SECONDS = 3.0
DEFAULT_UI = "http://127.0.0.1:5000"  # of `noisefold ui`
TRAINING_VIEW = "workflowType=machine_learning"
# MLflow's own limits wait about four minutes per call on a dead server; a stage's retry is the
# better place to wait.
_BOUNDS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.5",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
# Where MLflow takes a login from; in the URL it would stand in the text of every error.
_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_PARAM_LIMIT, _PARAM_BATCH, _BATCH = 6000, 100, 500  # MLflow's own limits, the last below it


class Tracker:
    """A client bound to one run. Every call may be repeated: MLflow drops a metric point that it
    already has.

    # Note [a finished run stays closed]
    A night that finds the run of its identity FINISHED works without opening it: status, duration
    and the flow run that trained stay as they are (`closed`), and so do its figures. What such a
    night writes into it: the tags `noisefold.last_seen…`; tags that a stage writes again with the
    same value, a function of the same inputs; and, where promotion decides otherwise than it did,
    that decision in a folder of its own (`tasks.promote.log_decision`). A run that failed or was
    killed is opened again by whoever takes it up.
    """

    def __init__(
        self,
        client: MlflowClient,
        tracking_uri: str,
        experiment_id: str,
        run_id: str,
        *,
        closed: bool = False,
    ) -> None:
        self.client, self.tracking_uri = client, tracking_uri
        self.experiment_id, self.run_id = experiment_id, run_id
        self.closed = closed

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        """Log values once; a value that the run already holds at this step is left as it is, and a
        closed run whole.
        """
        if self.closed:
            return
        known = self.client.get_run(self.run_id).data.metrics
        fresh = {name: value for name, value in metrics.items() if known.get(name) != value}
        now = int(time.time() * 1000)
        self.log_points(
            [{"key": k, "value": v, "step": step, "timestamp": now} for k, v in fresh.items()]
        )

    def log_points(self, points: list[dict[str, Any]]) -> None:
        """Deliver metric points {key, value, step, timestamp in ms}, in order."""
        from mlflow.entities import Metric

        metrics = [
            Metric(p["key"], float(p["value"]), int(p["timestamp"]), int(p["step"])) for p in points
        ]
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + _BATCH])

    def set_tags(self, tags: dict[str, Any]) -> None:
        """Write values down under their names: tags of their own, or in the run's state
        (`tasks.tracking.bookkeeping`). One process works on a run at a time, by its lease.
        """
        values = {name: str(value) for name, value in tags.items()}
        # Told again with each attempt: what stands there already asks no server to write.
        before = self._tags()
        known = state_of(before)
        new = {name: text for name, text in values.items() if known.get(name) != text}
        self._write(as_tags(new, before))

    def tag(self, key: str) -> str | None:
        """A value that was written down under this name."""
        return state_of(self._tags()).get(key)

    def _tags(self) -> dict[str, str]:
        return self.client.get_run(self.run_id).data.tags

    def _write(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            self.client.log_batch(self.run_id, tags=[RunTag(*pair) for pair in tags.items()])

    def log_folder(self, folder: Path, artifact_path: str) -> None:
        self.client.log_artifacts(self.run_id, str(folder), artifact_path)

    def log_file(self, path: Path, artifact_path: str | None = None) -> None:
        self.client.log_artifact(self.run_id, str(path), artifact_path)

    def log_text(self, text: str, artifact_file: str) -> None:
        self.client.log_text(self.run_id, text, artifact_file)

    def log_table(self, columns: list[str], rows: list[list[Any]], artifact_file: str) -> None:
        """A table as MLflow's UI shows it. MLflow's own `log_table` appends, which a repeated
        attempt must not.
        """
        content = {"columns": columns, "data": rows}
        self.log_text(json.dumps(content, ensure_ascii=False), artifact_file)
        known = json.loads(self.tag(_TABLES) or "[]")
        entry = {"path": artifact_file, "type": "table"}
        if entry not in known:
            self.set_tags({_TABLES: json.dumps([*known, entry])})

    def describe(self, text: str) -> None:
        """The run's description, Markdown; shortened at the end of a paragraph where it is longer
        than MLflow takes.
        """
        self.set_tags({NOTE: fit(text, _NOTE_LIMIT)})

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """While this lasts the run gets the machine's load (MLflow's own `system/…` metrics); a
        closed run gets none.
        """
        if self.closed:
            yield
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            self.run_id, resume_logging=True, tracking_uri=self.tracking_uri
        )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def log_data_sets(self, inputs: list[DatasetInput]) -> None:
        """Show the rows under the run's "Datasets", where MLflow users look for them."""
        self.client.log_inputs(self.run_id, datasets=inputs)

    def log_model_metrics(
        self, model_id: str, metrics: Iterable[str], dataset: tuple[str, str]
    ) -> None:
        """The run's metrics of these names as the logged model's own, by which MLflow's page of
        models sorts and compares; a closed run told them when it was open.

        Args:
            dataset: name and digest of the rows they were measured on.
        """
        if self.closed:
            return
        from mlflow.entities import Metric

        # At the very instant at which the run has them: MLflow then knows that they are the same.
        histories = [self.client.get_metric_history(self.run_id, name) for name in metrics]
        points = [history[-1] for history in histories if history]
        self.client.log_batch(
            self.run_id,
            metrics=[
                Metric(p.key, p.value, p.timestamp, p.step, model_id, *dataset) for p in points
            ],
        )

    @contextmanager
    def once(self, stage: str, key: str) -> Iterator[bool]:
        """True where this run has not yet been told of this artifact; marks it when the block ends
        well.
        """
        tag = f"noisefold.logged.{stage}"
        fresh = self.tag(tag) != key
        yield fresh
        if fresh:
            self.set_tags({tag: key})

    def run_url(self, ui: str | None = None, artifact: str = "") -> str:
        """Address of the run in the MLflow UI, or of one of its artifacts there.

        Args:
            ui: of the UI; without it where the runs are sent to, or where `noisefold ui` serves.
        """
        place = run_page(self.experiment_id, self.run_id, artifact)
        return f"{(ui or ui_address(self.tracking_uri)).rstrip('/')}{place}"

    def remove_tags(self, *names: str) -> None:
        """Take values away that may be there."""
        before = self._tags()
        there = [name for name in names if name in state_of(before)]
        for name in filter(is_shown, there):
            self.client.delete_tag(self.run_id, name)
        if hidden := [name for name in there if not is_shown(name)]:
            self._write(without(hidden, before))

    def reopen(self, lineage: dict[str, str]) -> None:
        """RUNNING, without the error of an earlier attempt; `lineage` says who works on it now.

        The owner stands there before the run is RUNNING: one that is never names somebody who has
        ended.
        """
        self.set_tags(lineage)
        # How an attempt ended goes; a decision stands.
        decided = self.tag(OUTCOME) in {word.lower() for word in OUTCOMES.values()}
        self.remove_tags(ERROR, *(() if decided else (OUTCOME,)))
        self.client.update_run(self.run_id, status="RUNNING")
        self.closed = False

    def seen(self, lineage: dict[str, str]) -> None:
        """Write down in a finished run who has found it done. See Note [a finished run stays
        closed].
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        flow_run = {
            f"{LAST_SEEN}_{name}": lineage[f"noisefold.{name}"]
            for name in ("flow_run_id", "flow_run_name")
            if lineage.get(f"noisefold.{name}")
        }
        self.set_tags({LAST_SEEN: now, **flow_run})
        self.remove_tags(LAST_SEEN_ERROR)

    def end(self, status: str, error: str | None = None) -> None:
        """Close the run as FINISHED, FAILED or KILLED, with the error that ended it; a closed one
        keeps its status.
        """
        if error is not None:
            self.set_tags({LAST_SEEN_ERROR if self.closed else ERROR: redacted(error)[:4000]})
        if self.closed:
            return
        if status == "FINISHED":
            self.remove_tags(ERROR)  # by now another machine may have taken this one to be dead
        self.client.set_terminated(self.run_id, status)


def ui_address(tracking_uri: str) -> str:
    """Where a browser finds MLflow: NOISEFOLD_MLFLOW_UI_URL, or the server that runs are sent to;
    an embedded store is served by `noisefold ui`.
    """
    named = Settings().mlflow_ui_url
    if named is None and tracking_uri.startswith(("http://", "https://")):
        named = shown_url(tracking_uri)
    return (named or DEFAULT_UI).rstrip("/")


def run_page(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Path of a run's page in the MLflow UI; the view is that of training runs, which MLflow does
    not choose by itself.
    """
    place = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"/#/experiments/{experiment_id}/runs/{run_id}{place}?{TRAINING_VIEW}"


def open_tracker(
    settings: Settings,
    recipe: Recipe,
    fingerprint: str,
    tags: dict[str, str],
    versions: Mapping[str, int] = MappingProxyType({}),
    name: str = "",
) -> Tracker:
    """Find the run of (recipe, fingerprint), or create it; it is RUNNING when this returns, unless
    it is finished.

    Args:
        versions: of the stages' code: where one is raised the stages run anew, and what they find
            is another run's.
        name: of the run, where it is new; otherwise the recipe's and the time.
    Raises:
        ServiceUnavailable: within seconds, where the tracking server does not answer.
        RecipeError: its backbone or tokenizer cannot be read.
    """
    # Fingerprint and content stand for source, backbone and tokenizer: a run is the same wherever
    # they are mounted.
    run_key = digest_of("run", recipe.identity_of_run(), fingerprint, dict(versions))
    tracker = open_run(
        settings,
        recipe.experiment,
        run_key,
        name or f"{recipe.name} {time.strftime('%Y-%m-%d %H:%M')}",
        {
            "mlflow.source.name": "flows/retrain.py",
            "noisefold.recipe": recipe.name,
            "noisefold.source_fingerprint": fingerprint,
        },
        tags,
    )
    log_recipe(tracker, recipe, run_key)
    return tracker


def open_run(
    settings: Settings,
    experiment: str,
    run_key: str,
    name: str,
    tags: dict[str, str],
    lineage: dict[str, str],
) -> Tracker:
    """Find the run of this identity in its experiment, or create it with these tags.

    Args:
        lineage: tags of who works on it now. A finished run keeps its own: see Note [a finished run
            stays closed].
    """
    client, uri = connect(settings)
    experiment_id = _experiment(client, settings, experiment)
    with _first_use(settings):
        found = client.search_runs(
            [experiment_id], f"tags.`{RUN_KEY}` = '{run_key}'", max_results=1
        )
        run = found[0] if found else client.create_run(
            experiment_id,
            run_name=name,
            tags={
                RUN_KEY: run_key,
                "mlflow.user": user_name(),
                "mlflow.source.type": "PROJECT",
                "mlflow.source.git.commit": git_commit(),
                **as_tags({**tags, **lineage}, {}),
            },
        )  # fmt: skip
    tracker = Tracker(
        client, uri, experiment_id, run.info.run_id, closed=run.info.status == "FINISHED"
    )
    if tracker.closed:
        tracker.seen(lineage)
    else:
        tracker.reopen(lineage)
    return tracker


def connect(settings: Settings) -> tuple[MlflowClient, str]:
    """A client of the tracking store, after a probe that fails within `PROBE_SECONDS`."""
    uri = settings.tracking_uri
    if uri.startswith(("http://", "https://")):
        probe(uri.rstrip("/") + "/health", "MLflow tracking server", "MLFLOW_TRACKING_URI")
    login = settings.tracking_login
    for name, value in {
        **_BOUNDS,
        **(dict(zip(_LOGIN, login, strict=True)) if login else {}),
    }.items():
        os.environ.setdefault(name, value)
    settings.root.mkdir(parents=True, exist_ok=True)
    import mlflow

    # MLflow writes both addresses into the environment as well, where the next `Settings` would
    # read our choice, made for this state folder, as the user's wish.
    given = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    for name, value in given.items():
        if value is None:
            os.environ.pop(name, None)
    with _first_use(settings):
        _create_database(settings)
        client = mlflow.MlflowClient(uri, uri)
        client.search_experiments(max_results=1)  # migrates the database of an older MLflow
    return client, uri


def _create_database(settings: Settings) -> None:
    """The embedded store's tables, all of them or none.

    MLflow creates a SQLite database in some sixty steps over seconds. A process that is killed
    between two of them leaves a file that no later one can open ("duplicate column name"), so it
    appears under its name when it is whole.
    """
    path = Path(settings.tracking_uri.removeprefix("sqlite:///"))
    if not settings.tracking_uri.startswith("sqlite:///") or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    new = path.with_name(f"{path.name}.tmp")
    for left in (new, path.with_name(f"{new.name}-journal")):
        left.unlink(missing_ok=True)
    SqlAlchemyStore(
        f"sqlite:///{new}", (settings.root / "mlartifacts" / "default").as_uri()
    ).engine.dispose()
    os.replace(new, path)


def probe(url: str, what: str, variable: str) -> None:
    """Raise ServiceUnavailable unless something answers at `url` in time; credentials never reach
    the message.
    """
    shown = shown_url(url)
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:
            return  # it answers: a login or a path of its own is not for the probe to judge
        reason = f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        reason = redacted(str(getattr(error, "reason", error)))
    raise ServiceUnavailable(
        f"The {what} at {shown} does not answer ({reason}).",
        f"Start it or correct {variable}; without {variable} the embedded store is used.",
    )


def git_commit() -> str:
    """Commit of the code that runs, "-dirty" where it has uncommitted changes, "unknown" outside a
    checkout.
    """
    file = Path(__file__).resolve()
    root = file.parents[2]
    try:
        # An environment inside a user's own repository holds this file, and the repository does
        # not.
        ours = subprocess.run(
            ["git", "ls-files", "--error-unmatch", file], cwd=root, capture_output=True, timeout=10
        )
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10
        )
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    if ours.returncode or commit.returncode:
        return "unknown"
    return commit.stdout.strip() + ("-dirty" if status.stdout.strip() else "")


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Without what a user cannot act on: progress bars of local copies, and hints about other ways
    to save a model.

    Errors come as exceptions, so nothing is lost.
    """
    settings = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_UV_AUTO_DETECT": "false"}
    before = {name: os.environ.get(name) for name in settings}
    logger = logging.getLogger("mlflow")
    level = logger.level
    os.environ.update(settings)
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"mlflow\..*")
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def flatten(data: Any, prefix: str = "") -> dict[str, str]:
    """Nested sections as dotted names; lists as JSON, and mappings whose keys MLflow takes in no
    name.
    """
    if isinstance(data, dict) and all(map(_NAME.fullmatch, data)):
        return {
            k: v
            for key, value in data.items()
            for k, v in flatten(value, f"{prefix}{key}.").items()
        }
    return {prefix[:-1]: data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}


def log_recipe(tracker: Tracker, recipe: Recipe, run_key: str) -> None:
    """The recipe as the run's params and as `recipe.yaml`, once."""
    import yaml

    with tracker.once("recipe", run_key) as fresh:
        if fresh:
            document = recipe.model_dump(mode="json")
            bits = {name: document["execution"][name] for name in BITS}
            log_params(tracker, {**document, "execution": bits})
            tracker.log_text(
                yaml.safe_dump(document, allow_unicode=True, sort_keys=False), "recipe.yaml"
            )


def log_params(tracker: Tracker, document: dict[str, Any]) -> None:
    from mlflow.entities import Param

    params = [Param(key, value[:_PARAM_LIMIT]) for key, value in flatten(document).items()]
    for start in range(0, len(params), _PARAM_BATCH):
        tracker.client.log_batch(tracker.run_id, params=params[start : start + _PARAM_BATCH])


def _experiment(client: MlflowClient, settings: Settings, name: str) -> str:
    with _first_use(settings):
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return found.experiment_id
        # A server knows best where its artifacts go; the embedded store keeps them beside its
        # database.
        local = settings.tracking_uri.startswith("sqlite:")
        location = (settings.root / "mlartifacts" / digest_of(name)).as_uri() if local else None
        # Without a kind the UI guesses, and shows training runs under its pages for prompts and
        # traces.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(name, artifact_location=location, tags=kind)


@contextmanager
def _first_use(settings: Settings) -> Iterator[None]:
    """Two processes that create the tables, the experiment or the run at once would collide."""
    settings.root.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.root / "mlflow.lock"):
        yield


def user_name() -> str:
    """Who runs this, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
