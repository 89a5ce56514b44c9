"""monitor: whether new rows are still like those that a model was measured on.

    source ──monitor─→ Drift (a test and an index for each signal) ──→ event, where they are not

The version carries what its test rows looked like: lengths, unknown tokens, usual words, shares of
the answers, how sure it was. The chance of an alarm on rows like those is the recipe's alpha.
"""

from __future__ import annotations

from datetime import datetime

from flows.running.environment import switches

switches()  # before Prefect and MLflow are imported: they read their settings then

from prefect import flow  # noqa: E402

from data_contracts.recipe.monitor import MonitorRecipe  # noqa: E402
from data_contracts.recipe.other_flows import section_at_night  # noqa: E402
from flows.running.due import as_asked, due, run_name  # noqa: E402
from flows.running.monitor_run import Monitored, MonitorRun  # noqa: E402
from flows.running.told import tell_failed  # noqa: E402
from tasks.monitor import monitor as look  # noqa: E402


@flow(
    name="monitor",
    flow_run_name=run_name,
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failed],
)
def monitor(
    recipe: MonitorRecipe | None = None,
    recipe_file: str | None = None,
    as_of: datetime | None = None,
) -> Monitored:
    """Compare new rows of a source with those that a registered model was measured on.

    Args:
        recipe: What is looked at, field by field.
        recipe_file: Path of its YAML file on the worker's machine, read anew by each run; instead
            of the recipe.
        as_of: The instant the run is taken to be due at, for a night that is made up for.
    """
    described = section_at_night(MonitorRecipe, recipe_file, recipe)
    when = due() if as_of is None else as_asked(as_of)
    with MonitorRun(described.on(when.day), when) as run:
        return run.finish(look(run, run.source, run.model()))
