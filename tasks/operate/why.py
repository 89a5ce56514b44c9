"""Why a stage would run: what of it is otherwise than when a run of this recipe made it last.

What is known of then: the keys, the recipe and the source's fingerprint stand in the MLflow run,
the inputs in the manifests. A stage's key is a digest, which tells no reason; so each part of it
is compared by itself, and where none differs, that is what is said. What a given file (a
tokenizer, a backbone) held then is not kept anywhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from data_contracts.artifacts import Artifact, Snapshot
from data_contracts.errors import NoisefoldError, listed
from data_contracts.recipe.recipe import Recipe
from data_contracts.yaml_text import read_yaml
from tasks.artifacts.store import MANIFEST, stage_key
from tasks.settings import Settings
from tasks.stage import RunContext, Stage, identities, part_of
from tasks.tracking.bookkeeping import ARTIFACT, of_run
from tasks.tracking.runs import connect, flatten, quiet_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_RUNS = 50  # of the newest, among which the last one that made a stage is looked for
_FIELDS = 3  # that are named
_CHARACTERS = 60  # of a value


@dataclass(frozen=True)
class Past:
    """A run of this recipe, as MLflow knows it."""

    client: MlflowClient
    run: Run

    @property
    def tags(self) -> Mapping[str, str]:
        return of_run(self.run)

    @property
    def when(self) -> str:
        started = datetime.fromtimestamp(self.run.info.start_time / 1000, UTC)
        return f"the run of {started:%Y-%m-%d %H:%M} UTC"

    @cached_property
    def recipe(self) -> Recipe | None:
        """None where it is not kept, or not one of today's form."""
        with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch, quiet_mlflow():
            try:
                name = "recipe.yaml"
                file = self.client.download_artifacts(self.run.info.run_id, name, scratch)
                return Recipe.model_validate(read_yaml(Path(file)))
            except (ValidationError, NoisefoldError, OSError):
                return None
            except Exception as error:
                if type(error).__module__.startswith("mlflow"):
                    return None
                raise


class History:
    """The newest runs of a recipe; asked for once, and only where something is missing."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._recipe, self._settings = recipe, settings

    @cached_property
    def runs(self) -> list[Past] | str:
        """The newest first, or why they cannot be known."""
        uri = self._settings.tracking_uri
        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
            return []
        try:
            client, _ = connect(self._settings)
        except NoisefoldError as error:
            return error.cause
        experiment = client.get_experiment_by_name(self._recipe.experiment)
        if experiment is None:
            return []
        mine = f"tags.`noisefold.recipe` = '{self._recipe.name}'"
        newest = ["attributes.start_time DESC"]
        found = client.search_runs([experiment.experiment_id], mine, 1, _RUNS, newest)
        return [Past(client, run) for run in found]

    def of(self, stage: str) -> Past | None:
        """The newest run that made or found an artifact of the stage."""
        runs = self.runs
        if isinstance(runs, str):
            return None
        return next((one for one in runs if ARTIFACT + stage in one.tags), None)


def why(stage: Stage[..., Any], run: RunContext, inputs: Sequence[Any], history: History) -> str:
    """Why a stage whose inputs are there would run, in sentences without a stop."""
    past = history.of(stage.name)
    if past is None:
        return _of_none(history)
    before, now = past.tags[ARTIFACT + stage.name], stage.key(run.recipe, *inputs)
    if before == now:
        return _gone(stage, run, now, past)
    told = [*changed(stage, run.recipe, past), *_other_inputs(run, inputs, past)]
    if not told:
        told = [_other_version(stage, run.recipe, inputs, before) or _unknown(past)]
    return "; ".join(told)


def why_later(stage: Stage[..., Any], recipe: Recipe, history: History) -> str:
    """The same of a stage whose inputs are not there yet: what of its own part is otherwise."""
    past = history.of(stage.name)
    told = [] if past is None else list(changed(stage, recipe, past))
    return "; ".join([*told, "what goes in is not there yet"])


def _of_none(history: History) -> str:
    if isinstance(history.runs, str):
        return f"nothing in the store has its key; why is not known: {history.runs}"
    return "nothing in the store has its key: no run of this recipe has made it yet"


def _gone(stage: Stage[..., Any], run: RunContext, key: str, past: Past) -> str:
    folder = run.store.root / stage.name / key
    if not (folder / MANIFEST).exists():
        return f"{past.when} made it, and its files are gone from the store"
    return f"{past.when} made it, and its files in the store are not what they were"


def changed(stage: Stage[..., Any], recipe: Recipe, past: Past) -> Iterator[str]:
    """The fields of the recipe that shape the stage and have another value than in that run."""
    if past.recipe is None:
        yield f"{past.when} keeps no recipe that this version can read"
        return
    told = [
        f"{name} is {_short(now)}, and was {_short(before)}"
        for part in stage.shaped_by
        if part_of(recipe, part) != part_of(past.recipe, part)
        for name, now, before in _differences(part, recipe, past.recipe)
    ]
    if told:
        yield f"{listed(told, _FIELDS)} in {past.when}"


def _differences(part: str, recipe: Recipe, before: Recipe) -> Iterator[tuple[str, str, str]]:
    now, then = (flatten(_plain(one, part), f"{part}.") for one in (recipe, before))
    for name in sorted(now | then):
        if now.get(name) != then.get(name):
            yield name, now.get(name, "not set"), then.get(name, "not set")


def _plain(recipe: Recipe, part: str) -> Any:
    value: Any = recipe
    for name in part.split("."):
        value = None if value is None else getattr(value, name)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _short(value: str) -> str:
    return value if len(value) <= _CHARACTERS else f"{value[:_CHARACTERS]}…"


def _other_inputs(run: RunContext, inputs: Sequence[Any], past: Past) -> Iterator[str]:
    for one in inputs:
        if isinstance(one, Snapshot):
            yield from _other_source(one, past)
        elif isinstance(one, Artifact):
            before = past.tags.get(ARTIFACT + one.stage)
            if before not in (None, one.key) and not _same(run, one, before or ""):
                yield f"it would read what {one.stage} made as {one.key}, and read {before} then"


def _other_source(snapshot: Snapshot, past: Past) -> Iterator[str]:
    if snapshot.fingerprint == past.tags.get("noisefold.source_fingerprint"):
        return
    days = "; ".join(snapshot.window.sentences()) if snapshot.window is not None else ""
    before = past.tags.get("noisefold.window", "")
    if days and before and days != before:
        yield f"the window holds {days}, and held {before} in {past.when}"
    else:
        yield f"the source's files are not those of {past.when}"


def _same(run: RunContext, one: Artifact, before: str) -> bool:
    """Whether an artifact of another key has the same in it, as far as a later stage can see."""
    file = run.store.root / one.stage / before / MANIFEST
    try:
        return type(one).model_validate_json(file.read_bytes()).identity == one.identity
    except (OSError, ValidationError):
        return False


def _other_version(
    stage: Stage[..., Any], recipe: Recipe, inputs: Sequence[Any], before: str
) -> str | None:
    """The version of the stage's code that gives the key of then with all else as it is now."""
    shape = {part: part_of(recipe, part) for part in stage.shaped_by}
    for version in range(stage.version - 1, 0, -1):
        if stage_key(stage.makes, identities(tuple(inputs)), shape, version) == before:
            return f"the stage's version rose from {version} to {stage.version}"
    return None


def _unknown(past: Past) -> str:
    return (
        f"nothing in the store has its key, and nothing that is known of {past.when} says why (a "
        "given file with other content, or another version of noisefold)"
    )
