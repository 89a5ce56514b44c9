"""A retrain's flow run: its teacher, the model it starts from, what it comes to."""

from __future__ import annotations

from collections import Counter
from copy import copy
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.runtime import flow_run

from data_contracts.artifacts import (
    EvaluationReport,
    FetchedModel,
    RegisteredModel,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.contract.contract import DataContract
from data_contracts.contract.days import WindowRead
from data_contracts.errors import RecipeError
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import DistillationConfig, WarmStartConfig
from data_contracts.results import PromotionDecision
from data_contracts.urls import shown_url
from flows.running.due import Due
from flows.running.job import Job, Work
from flows.running.retrain_pages import RetrainPages
from flows.running.summary import Retrained
from tasks.artifacts.store import ArtifactStore
from tasks.engines import local as engine
from tasks.evaluate import evaluate
from tasks.ingest import ingest
from tasks.retries import STAGE
from tasks.serving import check
from tasks.serving.fetched import fetch_model
from tasks.settings import Settings
from tasks.sources.dated_files import hold
from tasks.stage import Made
from tasks.start import check_unseen, find_start, with_tokenizer_of
from tasks.teach import distill, find_teacher, teach
from tasks.tokenize import ValidatedRows, tokenize
from tasks.tracking.bookkeeping import WARM_START
from tasks.tracking.owner import refuse_other_data
from tasks.tracking.runs import Tracker, open_tracker
from tasks.train import train
from tasks.validate import validate

# Of the stages whose results stand in the MLflow run.
STAGES = (ingest, validate, tokenize, teach, distill, train, evaluate)
BEFORE_TRAINING = {stage.name for stage in STAGES[: STAGES.index(train)]}
VERSIONS = {stage.name: stage.version for stage in STAGES}


def retraining(recipe: Recipe) -> Work:
    """One retrain at a time of a recipe, and of a registered model."""

    def open_(run: Run) -> Tracker:
        run.attempt(_refuse_other_data)(run.client, recipe)
        return run.attempt(_open_run)(
            run.settings, recipe, run.source.fingerprint, run.opened_by, VERSIONS, run.name
        )

    holds = (f"recipe {recipe.name}", f"model {recipe.model_name}")
    return Work("retrain", recipe.name, holds, open_)


class Run(Job[Recipe]):
    """The flow run of a retrain, or of another work on a recipe.

    Args:
        work: what it is for; a retrain of the recipe where none is given.
        moves_aliases: whether its version may become champion or challenger.
    """

    pages: RetrainPages

    def __init__(
        self, recipe: Recipe, due: Due, work: Work | None = None, *, moves_aliases: bool = True
    ) -> None:
        super().__init__(recipe, due, work or retraining(recipe))
        self.moves_aliases = moves_aliases

    def _pages(self) -> RetrainPages:
        return RetrainPages(self)

    def _tell_window(self, window: WindowRead) -> dict[str, str]:
        """Say what of the window is there, and hold it to the contract."""
        told = super()._tell_window(window)
        hold(window, self.recipe.contract.window)
        return told

    def part(self, recipe: Recipe, title: str) -> Run:
        """The same lease, store and records, for a part of the work that has a recipe of its own;
        its tasks are named after it in Prefect.
        """
        part = copy(self)
        part.recipe, part.title = recipe, title
        part.made, part._failed_attempts = Made(), Counter()
        return part

    def builds(self, name: str) -> None:
        """Begin what the children of later stages import, beside a stage that leaves a core idle.

        Where nothing has to be made, as in a rerun, nothing is imported.
        """
        if name in BEFORE_TRAINING:
            engine.start_imports(self.recipe.execution.threads)
        elif name == evaluate.name:
            check.start_imports()

    def teacher(self) -> FetchedModel | None:
        """The model that the recipe learns from, fetched with the recipe's retries; None where it
        has none.
        """
        config = self.recipe.distillation
        return None if config is None else self.fetch_teacher(config)

    def fetch_teacher(self, config: DistillationConfig) -> FetchedModel:
        return self.attempt(_find_teacher)(config, self.tracker, self.store.fetched)

    def start(self, corpus: ValidatedCorpus) -> FetchedModel | None:
        """The model that the recipe starts from; pinned, so that a rerun starts from the same one.

        None where it starts from none, or from the champion and there is none yet: the first one
        starts from scratch. Where it is one that the recipe names, this run goes on with its
        tokenizer.
        Raises:
            RecipeError: a named one cannot be had, or was trained on the rows that measure.
        """
        config = self.recipe.training.warm_start
        if config == "never":
            return None
        if isinstance(config, WarmStartConfig):
            named = self.fetch_start(config)
            self.attempt(_check_start)(named, self.store, self.recipe.contract, corpus)
            self.recipe = with_tokenizer_of(self.recipe, named)
            return named
        pinned = self.tracker.tag(WARM_START)
        found = fetch_model(self.tracker, self.recipe.model_name, self.store.fetched, pinned)
        if found is not None:
            self.tracker.set_tags({WARM_START: found.version})
        if self.recipe.training.max_epochs == 0:
            if found is None:
                raise RecipeError(
                    f"training.max_epochs is 0, and {self.recipe.model_name} has no champion whose "
                    "weights could be taken.",
                    "Train one first: leave training.max_epochs out.",
                )
            self.recipe = with_tokenizer_of(self.recipe, found)
        return found

    def fetch_start(self, config: WarmStartConfig) -> FetchedModel:
        return self.attempt(_find_start)(config, self.tracker, self.store.fetched)

    def finish(self, decision: PromotionDecision) -> Retrained:
        """The end of a retrain: its pages, and what it came to."""
        report = self.made[EvaluationReport]
        self.tell_needs()
        publish = Task(lambda: self.pages.decided(decision), name="publish", **STAGE)
        page = self.attempt(publish)()
        return Retrained(
            recipe=self.recipe.name,
            stages=tuple(self.stages),
            metrics=report.metrics,
            headlines=tuple(one.name for one in self.recipe.task.metrics if one.per is None),
            confidence=self.recipe.statistics.confidence,
            model_uri=self.made[RegisteredModel].model_uri,
            parameters=self.made[TrainedModel].parameters,
            decision=decision,
            warnings=tuple(self.warnings),
            experiment_id=self.tracker.experiment_id,
            run_id=self.tracker.run_id,
            tracking_uri=shown_url(self.tracker.tracking_uri),
            flow_run_id=str(flow_run.id or ""),
            seconds=self.seconds,
            artifacts=self._artifacts,
            due=str(self.due),
            window=self.source.window,
            report=page,
        )


@task(name="find-teacher", **STAGE)
def _find_teacher(config: DistillationConfig, tracker: Tracker, fetched: Path) -> FetchedModel:
    return find_teacher(config, tracker, fetched)


@task(name="find-start", **STAGE)
def _find_start(config: WarmStartConfig, tracker: Tracker, fetched: Path) -> FetchedModel:
    return find_start(config, tracker, fetched)


@task(name="check-start", **STAGE)
def _check_start(
    start: FetchedModel, store: ArtifactStore, contract: DataContract, corpus: ValidatedCorpus
) -> None:
    check_unseen(start, ValidatedRows(store.open(corpus), contract))


@task(name="check-model", **STAGE)
def _refuse_other_data(client: Any, recipe: Recipe) -> None:
    refuse_other_data(client, recipe)


@task(name="open-run", **STAGE)
def _open_run(
    settings: Settings,
    recipe: Recipe,
    source_fingerprint: str,
    lineage: dict[str, str],
    versions: dict[str, int],
    name: str,
) -> Tracker:
    return open_tracker(settings, recipe, source_fingerprint, lineage, versions, name)
