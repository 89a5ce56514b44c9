"""queue: the rows of a source that are most worth labelling, by a registered model's doubt.

    source ──score─→ Scores ──queue─→ Queue (not answered, not learnt, not alike)
           ──hand_out─→ one file: a table, or tasks of a labelling tool

A person fills the file in, and it is a source like any other. A rerun goes on behind the last rows
that are scored; the file appears whole or not at all.

There is no flows/queue.py: Prefect puts the folder of an entrypoint first on the path of modules,
and there it would stand before the standard library's `queue`.
"""

from __future__ import annotations

from datetime import datetime

from flows.running.environment import switches

switches()  # before Prefect and MLflow are imported: they read their settings then

from prefect import flow  # noqa: E402

from data_contracts.recipe.other_flows import section_at_night  # noqa: E402
from data_contracts.recipe.queue import QueueRecipe  # noqa: E402
from flows.running.due import as_asked, due, run_name  # noqa: E402
from flows.running.queue_run import Queued, QueueRun  # noqa: E402
from flows.running.told import tell_failed  # noqa: E402
from tasks.queue import hand_out  # noqa: E402
from tasks.queue import queue as choose  # noqa: E402
from tasks.score import score as answer  # noqa: E402


@flow(
    name="queue",
    flow_run_name=run_name,
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failed],
)
def queue(
    recipe: QueueRecipe | None = None,
    recipe_file: str | None = None,
    as_of: datetime | None = None,
) -> Queued:
    """Choose the rows of a source that are most worth labelling, and write them.

    Args:
        recipe: What is chosen from, by which model and how, field by field.
        recipe_file: Path of its YAML file on the worker's machine, read anew by each run; instead
            of the recipe.
        as_of: The instant the run is taken to be due at, for a night that is made up for.
    """
    described = section_at_night(QueueRecipe, recipe_file, recipe)
    when = due() if as_of is None else as_asked(as_of)
    with QueueRun(described.on(when.day), when) as run:
        model = run.model()
        scores = answer(run, run.source, model)
        chosen = choose(run, scores, run.source, model)
        return run.finish(hand_out(run, chosen, model))
