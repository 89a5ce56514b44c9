"""plan: what a retrain of a recipe would find in the store, and what it would run. Nothing is run.

Stages are looked for one after the other, by the same keys as a run has. From the first that is
missing on nothing can be known: what goes in is not there yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from data_contracts.artifacts import Artifact, FetchedModel, TokenDataset, TrainedModel
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import WarmStartConfig
from tasks.artifacts.store import ArtifactStore
from tasks.evaluate import evaluate
from tasks.ingest import ingest, survey
from tasks.settings import Settings
from tasks.stage import RunContext, looking
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
    run = looking(recipe, settings, store)
    stages = _names(recipe)
    told = [_found(artifact) for artifact in _there(run)]
    missing = stages[len(told) :]
    if missing and (needs := _of_the_registry(run, missing[0])) is not None:
        told.append(Planned(missing[0], "unknown", needs))
    elif missing:
        told.append(Planned(missing[0], "to run", "nothing in the store has its key"))
    told += [Planned(stage, "to run", "what goes in is not there yet") for stage in missing[1:]]
    registry = "the registry is asked each time"
    return [*told, *(Planned(step, "to run", registry) for step in ("register", "promote"))]


def _names(recipe: Recipe) -> list[str]:
    taught = [] if recipe.distillation is None else [teach.name, distill.name]
    return [ingest.name, validate.name, tokenize.name, *taught, train.name, evaluate.name]


def _there(run: RunContext) -> Iterator[Artifact]:
    """The artifacts that are there, as far as they go."""
    raw = ingest.find(run, survey(run.recipe.source))
    if raw is None:
        return
    yield raw
    corpus = validate.find(run, raw)
    if corpus is None:
        return
    yield corpus
    start = fetched_start(run.recipe, run.store)
    if isinstance(run.recipe.training.warm_start, WarmStartConfig):
        if start is None:
            return
        run = replace(run, recipe=with_tokenizer_of(run.recipe, start))
    tokens = tokenize.find(run, corpus)
    if tokens is None:
        return
    yield tokens
    model = _model(run, tokens, start)
    if model is None:
        return
    yield model
    if (report := evaluate.find(run, model, tokens, corpus)) is not None:
        yield report


def _model(
    run: RunContext, tokens: TokenDataset, start: FetchedModel | None
) -> TrainedModel | None:
    if run.recipe.distillation is not None or run.recipe.training.warm_start == "champion":
        return None
    return train.find(run, tokens, start)


def _of_the_registry(run: RunContext, stage: str) -> str | None:
    """Why a stage's key is not known before the registry is asked."""
    recipe = run.recipe
    if stage == teach.name and recipe.distillation is not None:
        return f"learns from {recipe.distillation.teacher}, which the registry holds"
    start = recipe.training.warm_start
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
