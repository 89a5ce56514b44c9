"""plan: what a retrain of a recipe would find in the store, and what it would run. Nothing is run.

Stages are looked for one after the other, by the same keys as a run has. Of the first that is
missing it is said why (`tasks.operate.why`); of those after it what goes in is not there yet, so
that only their own parts of the recipe can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from data_contracts.artifacts import (
    Artifact,
    FetchedModel,
    RawCorpus,
    Snapshot,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import WarmStartConfig
from tasks.artifacts.store import ArtifactStore
from tasks.evaluate import evaluate
from tasks.ingest import ingest, survey
from tasks.operate.why import History, why, why_later
from tasks.settings import Settings
from tasks.stage import RunContext, Stage, looking
from tasks.start import fetched_start, with_tokenizer_of
from tasks.teach import distill, teach
from tasks.tokenize import tokenize
from tasks.train import train
from tasks.validate import validate

State = Literal["found", "to run", "unknown"]


@dataclass(frozen=True)
class Planned:
    """One stage of a run to come."""

    stage: str
    state: State
    why: str
    key: str | None = None  # of the artifact in the store


def plan(recipe: Recipe, settings: Settings, store: ArtifactStore) -> list[Planned]:
    """The stages of a retrain of this recipe now, in order.

    Raises:
        NoisefoldError: the source cannot be read.
    """
    run, snapshot = looking(recipe, settings, store), survey(recipe.source)
    stages, history = _stages(recipe), History(recipe, settings)
    start = fetched_start(recipe, store)
    told: list[Planned] = []
    for stage in stages:
        if (needs := _of_the_registry(run, stage.name)) is not None:
            told.append(Planned(stage.name, "unknown", needs))
            break
        if stage is tokenize and start is not None:
            run = replace(run, recipe=with_tokenizer_of(recipe, start))
        inputs = _inputs(stage, run, snapshot, start)
        found = stage.find(run, *inputs)
        if found is None:
            told.append(Planned(stage.name, "to run", why(stage, run, inputs, history)))
            break
        run.made.add(found)
        told.append(_found(found))
    told += [
        Planned(stage.name, "to run", why_later(stage, recipe, history))
        for stage in stages[len(told) :]
    ]
    registry = "the registry is asked each time"
    return [*told, *(Planned(step, "to run", registry) for step in ("register", "promote"))]


def _stages(recipe: Recipe) -> list[Stage[..., Any]]:
    taught = [] if recipe.distillation is None else [teach, distill]
    return [ingest, validate, tokenize, *taught, train, evaluate]


def _inputs(
    stage: Stage[..., Any], run: RunContext, snapshot: Snapshot, start: FetchedModel | None
) -> tuple[Any, ...]:
    """As the flow hands them on; of a stage that asks the registry none is needed."""
    if stage is ingest:
        return (snapshot,)
    reads: dict[str, tuple[type[Artifact], ...]] = {
        validate.name: (RawCorpus,),
        tokenize.name: (ValidatedCorpus,),
        train.name: (TokenDataset,),
        evaluate.name: (TrainedModel, TokenDataset, ValidatedCorpus),
    }
    beside = (start,) if stage is train else ()
    return stage.bind(*(run.made[kind] for kind in reads[stage.name]), *beside)


def _of_the_registry(run: RunContext, stage: str) -> str | None:
    """Why a stage's key is not known before the registry is asked."""
    recipe = run.recipe
    if stage == teach.name and recipe.distillation is not None:
        return f"learns from {recipe.distillation.teacher}, which the registry holds"
    start = recipe.training.warm_start
    if stage == tokenize.name and recipe.training.max_epochs == 0:
        return "has the tokenizer of the champion, which the registry holds"
    if stage == train.name and start == "champion":
        return "starts from the champion, which the registry holds"
    if not isinstance(start, WarmStartConfig) or fetched_start(recipe, run.store) is not None:
        return None
    if stage == tokenize.name:
        return f"has the tokenizer of {start.model}, which the registry holds"
    return None


def _found(artifact: Artifact) -> Planned:
    counted = artifact.counted[1]
    return Planned(artifact.stage, "found", f"{artifact.rows_out:,} {counted}", key=artifact.key)
