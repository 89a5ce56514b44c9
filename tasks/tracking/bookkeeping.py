"""What a run keeps for the machines, in one tag of its own beside those that people filter by.

MLflow's pages show every tag of a run that does not start with `mlflow.`. So what is there for a
rerun, for `noisefold gc` and for `noisefold reconcile` stands together in `mlflow.noisefold.state`,
as JSON; what a person searches by is a tag of its own (`SHOWN`). Names are the same in both:
whoever asks need not know where one stands.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

_OURS = "noisefold."
# MLflow's pages hide what starts with `mlflow.`; it refuses no such name.
STATE = "mlflow.noisefold.state"
RUN_KEY, OWNER = "noisefold.run_key", "noisefold.owner"
# Of the served bundle, on a run, a logged model and a version.
DIGEST = "noisefold.digest"
# Why the run was left unfinished; a run that is under way or finished has none.
ERROR = "noisefold.error"
OUTCOME = "noisefold.outcome"  # what became of the run's version: promoted, not promoted …
# A finished run that a later night found done: when, by which flow run, and how that night failed,
# if it did.
LAST_SEEN, LAST_SEEN_ERROR = "noisefold.last_seen", "noisefold.last_seen_error"
# What a run started from: a version of its own model, or NAME/VERSION of another one.
WARM_START = "noisefold.warm_start"
TEACHER = "noisefold.teacher"  # NAME/VERSION that a run learns from
# And a stage's name: the key of the artifact that the run has of it.
ARTIFACT = "noisefold.artifact."
LINEAGE = "mlflow.noisefold.lineage"  # of a version: what it was made from, as JSON
SHOWN = {
    RUN_KEY,
    ERROR,
    OUTCOME,
    "noisefold.recipe",
    "noisefold.comparison",
    "noisefold.score",
    "noisefold.monitor",
    "noisefold.drifted",
    "noisefold.variant",
    "noisefold.seed",
    "noisefold.search",
    "noisefold.trial",
    "noisefold.trial_state",
}


def state_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Everything that is written down in these tags, whether people see it or not.

    A state that another program has made unreadable counts as none.
    """
    return {**{f"{_OURS}{name}": text for name, text in _kept(tags).items()}, **tags}


def of_run(run: Run) -> dict[str, str]:
    return state_of(run.data.tags)


def as_tags(values: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """The tags to set for these values, beside the tags there are.

    Args:
        before: the run's tags, whose state the values are added to.
    """
    tags = {name: text for name, text in values.items() if is_shown(name)}
    hidden = {name.removeprefix(_OURS): t for name, t in values.items() if not is_shown(name)}
    return tags | ({STATE: _json({**_kept(before), **hidden})} if hidden else {})


def without(names: Collection[str], before: Mapping[str, str]) -> dict[str, str]:
    """The tag to set so that values that are not shown are gone."""
    kept = _kept(before)
    return {STATE: _json({one: text for one, text in kept.items() if _OURS + one not in names})}


def lineage_of(version: ModelVersion) -> dict[str, str]:
    """What a version was made from; empty where it is not ours."""
    return _object(version.tags.get(LINEAGE))


def is_shown(name: str) -> bool:
    """Whether it is a tag of its own."""
    return name in SHOWN or not name.startswith(_OURS)


def _kept(tags: Mapping[str, str]) -> dict[str, str]:
    return _object(tags.get(STATE))


def _object(text: str | None) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _json(values: dict[str, str]) -> str:
    return json.dumps(values, ensure_ascii=False)
