"""The flow run of whatever asks a registered model: which version it is, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from prefect import task
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import FetchedModel
from data_contracts.recipe.asking import AskingRecipe
from data_contracts.urls import shown_url
from flows.running.due import Due
from flows.running.job import Job, Work
from tasks.artifacts.store import digest_of
from tasks.reports.story import StageRecord
from tasks.retries import STAGE
from tasks.serving.fetched import fetch_to_ask
from tasks.settings import Settings
from tasks.stage import Stage
from tasks.tracking.runs import Tracker, log_params, open_run
from tasks.tracking.versions import find_version, model_of

A = TypeVar("A", bound=AskingRecipe)


class Came(BaseModel):
    """What such a run came to, whatever it was for: the beginning of a flow's result."""

    model_config = ConfigDict(frozen=True)
    name: str
    model: str
    rows: int
    stages: tuple[StageRecord, ...]
    warnings: tuple[str, ...]
    experiment_id: str
    run_id: str
    tracking_uri: str
    flow_run_id: str
    due: str
    seconds: float
    report: str  # the page of the run, a file of this machine


class AskingRun(Job[A]):
    """The flow run.

    Args:
        stages: that ask, by whose versions a run is told from one of other code.

    `version` is the version that answers, as it was when the run began.
    """

    version: str

    def __init__(self, recipe: A, due: Due, *stages: Stage[Any, Any]) -> None:
        holds = (f"{recipe.verb} {recipe.name}",)
        self.versions = [one.version for one in stages]
        super().__init__(recipe, due, Work(recipe.verb, recipe.name, holds, AskingRun.opened))

    def opened(self) -> Tracker:
        """The MLflow run of these rows and the version that answers now."""
        recipe = self.recipe
        self.version, model_id = self.attempt(_find_version)(self.client, recipe)
        key = digest_of(
            *(recipe.verb, recipe.identity_of_run(), self.source.fingerprint, self.version),
            *self.versions,
        )
        return self.attempt(_open_run)(
            self.settings, recipe, (key, self.name, self.version, model_id), self.opened_by
        )

    def model(self) -> FetchedModel:
        """The version that answers, fetched whole."""
        fetched = self.store.fetched
        return self.attempt(_fetch)(self.client, self.recipe.model, self.version, fetched)

    def came(self, rows: int, report: str) -> dict[str, Any]:
        """The fields of `Came`.

        Args:
            rows: that were read.
            report: the file of the run's page.
        """
        return {
            "name": self.recipe.name,
            "model": f"models:/{self.recipe.model}/{self.version}",
            "rows": rows,
            "stages": tuple(self.stages),
            "warnings": tuple(self.warnings),
            "experiment_id": self.tracker.experiment_id,
            "run_id": self.tracker.run_id,
            "tracking_uri": shown_url(self.tracker.tracking_uri),
            "flow_run_id": str(flow_run.id or ""),
            "due": str(self.due),
            "seconds": self.seconds,
            "report": report,
        }


@task(name="find-model", **STAGE)
def _find_version(client: Any, recipe: AskingRecipe) -> tuple[str, str | None]:
    found = find_version(client, recipe.model, recipe.version)
    return str(found.version), model_of(found)


@task(name="fetch-model", **STAGE)
def _fetch(client: Any, name: str, version: str, folder: Path) -> FetchedModel:
    return fetch_to_ask(client, name, version, folder)


@task(name="open-run", **STAGE)
def _open_run(
    settings: Settings,
    recipe: AskingRecipe,
    of: tuple[str, str, str, str | None],
    lineage: dict[str, str],
) -> Tracker:
    key, name, version, model_id = of
    tags = {
        "mlflow.source.name": f"noisefold {recipe.verb}",
        f"noisefold.{recipe.verb}": recipe.name,
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
