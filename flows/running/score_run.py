"""A score's flow run: the version that answers, and what it came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import Delivered, FetchedModel, Scores
from data_contracts.recipe.score import ScoreRecipe
from data_contracts.urls import shown_url
from flows.running.due import Due
from flows.running.job import Job, Work
from tasks.artifacts.store import digest_of
from tasks.reports.scored import scored_page
from tasks.reports.story import StageRecord
from tasks.retries import STAGE
from tasks.score import score
from tasks.serving.fetched import fetch_to_ask
from tasks.settings import Settings
from tasks.tracking.runs import Tracker, log_params, open_run
from tasks.tracking.versions import find_version, model_of


class Scored(BaseModel):
    """What a score came to: the flow's result."""

    model_config = ConfigDict(frozen=True)
    score: str
    model: str
    rows: int
    refused: int
    output: str
    sha256: str
    same: bool
    stages: tuple[StageRecord, ...]
    warnings: tuple[str, ...]
    experiment_id: str
    run_id: str
    tracking_uri: str
    flow_run_id: str
    due: str
    seconds: float
    report: str  # the page of the run, a file of this machine


class ScoreRun(Job[ScoreRecipe]):
    """The flow run of a score.

    `version` is the version that answers, as it was when the run began.
    """

    version: str

    def __init__(self, recipe: ScoreRecipe, due: Due) -> None:
        holds = (f"score {recipe.name}",)
        super().__init__(recipe, due, Work("score", recipe.name, holds, ScoreRun._open))

    def _open(self) -> Tracker:
        recipe = self.recipe
        self.version, model_id = self.attempt(_find_version)(self.client, recipe)
        fingerprint = self.source.fingerprint
        key = digest_of("score", recipe.identity_of_run(), fingerprint, self.version, score.version)
        return self.attempt(_open_run)(
            self.settings, recipe, (key, self.name, self.version, model_id), self.opened_by
        )

    def model(self) -> FetchedModel:
        """The version that answers, fetched whole."""
        fetched = self.store.fetched
        return self.attempt(_fetch)(self.client, self.recipe.model, self.version, fetched)

    def finish(self, delivered: Delivered) -> Scored:
        """The end of a score: its pages, and what it came to."""
        scores = self.made[Scores]
        self.tell_needs()

        def publish() -> str:
            page = scored_page(scores, self.store.open(scores))
            how = "holds these answers already" if delivered.same else "was written"
            answered = scores.rows_in - scores.refused
            return self.pages.publish(
                "Scored",
                (
                    f"{answered:,} of {scores.rows_in:,} rows answered by {scores.model}.",
                    f"{delivered.output} {how} ({delivered.size:,} bytes, SHA-256 "
                    f"{delivered.sha256[:12]}…).",
                ),
                page,
            )

        report = self.attempt(Task(publish, name="publish", **STAGE))()
        self.tracker.set_tags(
            {"noisefold.output": delivered.output, "noisefold.output_sha256": delivered.sha256}
        )
        return Scored(
            score=self.recipe.name,
            model=scores.model,
            rows=scores.rows_in,
            refused=scores.refused,
            output=delivered.output,
            sha256=delivered.sha256,
            same=delivered.same,
            stages=tuple(self.stages),
            warnings=tuple(self.warnings),
            experiment_id=self.tracker.experiment_id,
            run_id=self.tracker.run_id,
            tracking_uri=shown_url(self.tracker.tracking_uri),
            flow_run_id=str(flow_run.id or ""),
            due=str(self.due),
            seconds=self.seconds,
            report=report,
        )


@task(name="find-model", **STAGE)
def _find_version(client: Any, recipe: ScoreRecipe) -> tuple[str, str | None]:
    found = find_version(client, recipe.model, recipe.version)
    return str(found.version), model_of(found)


@task(name="fetch-model", **STAGE)
def _fetch(client: Any, name: str, version: str, folder: Path) -> FetchedModel:
    return fetch_to_ask(client, name, version, folder)


@task(name="open-run", **STAGE)
def _open_run(
    settings: Settings,
    recipe: ScoreRecipe,
    of: tuple[str, str, str, str | None],
    lineage: dict[str, str],
) -> Tracker:
    key, name, version, model_id = of
    tags = {
        "mlflow.source.name": "flows/score.py",
        "noisefold.score": recipe.name,
        "noisefold.model_name": recipe.model,
        "noisefold.model_version": version,
    }
    tracker = open_run(settings, recipe.experiment, key, name, tags, lineage)
    with tracker.once("recipe", key) as fresh:
        if fresh:
            document = recipe.model_dump(mode="json", exclude={"execution"})
            log_params(tracker, document)
            if model_id:  # MLflow's page of the model then lists the runs that asked it
                from mlflow.entities import LoggedModelInput

                tracker.client.log_inputs(tracker.run_id, models=[LoggedModelInput(model_id)])
    return tracker
