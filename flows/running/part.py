"""A part of a run that has a recipe and an MLflow run of its own: a cell of a comparison, a
training of a search.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prefect import task

from data_contracts.errors import RecipeError, TrainingError, told_of
from data_contracts.recipe.recipe import Recipe
from flows.running.run import Run
from tasks.engines.threads import threads
from tasks.retries import STAGE, Interrupted
from tasks.tracking.bookkeeping import RUN_KEY
from tasks.tracking.runs import Tracker, log_recipe, open_run

# What a recipe, not the machine, is at fault for: its part fails, the others go on.
OF_THE_PART = (TrainingError, RecipeError, Interrupted)


@contextmanager
def part_of(run: Run, recipe: Recipe, title: str, key: str, tags: dict[str, str]) -> Iterator[Run]:
    """The run of a part while it is worked on; its MLflow run, below the run's own, is closed as
    the block ends.

    Args:
        key: by which its MLflow run is found again.
    """
    part = run.part(recipe, title)
    part.tracker = part.attempt(_open_part)(run, recipe, title, key, tags)
    if run.tracker.closed and not part.tracker.closed:
        # Finished so far, by other parts: there is work under it again.
        run.tracker.reopen(run.opened_by)
    try:
        with threads(recipe.execution.threads):
            yield part
        part.tracker.end("FINISHED")
    except BaseException as error:
        with suppress(Exception):
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            part.tracker.end(status, told_of(error))
        raise


def told(tracker: Tracker, key: str) -> bool:
    """Whether a part's MLflow run has come to its end."""
    mine = f"tags.`{RUN_KEY}` = '{key}' and tags.`mlflow.parentRunId` = '{tracker.run_id}'"
    ended = f"{mine} and attributes.status = 'FINISHED'"
    return bool(tracker.client.search_runs([tracker.experiment_id], ended, max_results=1))


@task(name="open-part", **STAGE)
def _open_part(run: Run, recipe: Recipe, title: str, key: str, tags: dict[str, str]) -> Tracker:
    parent = run.tracker
    experiment = parent.client.get_experiment(parent.experiment_id).name
    tracker = open_run(run.settings, experiment, key, title, tags, run.opened_by)
    # Told again: the parent may have been deleted and made anew.
    tracker.set_tags({"mlflow.parentRunId": parent.run_id})
    log_recipe(tracker, recipe, key)
    return tracker
