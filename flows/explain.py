"""explain: which tokens carried a registered model's answer to each row of a source.

    source ──explain─→ Explanations (tokens with what each adds, part by part)
           ──deliver─→ one file: the rows, their answers, their tokens

Each explanation is checked by deletion. A rerun goes on behind the last rows that are explained;
the file appears whole or not at all.
"""

from __future__ import annotations

from datetime import datetime

from flows.running.environment import switches

switches()  # before Prefect and MLflow are imported: they read their settings then

from prefect import flow  # noqa: E402

from data_contracts.recipe.explain import ExplainRecipe  # noqa: E402
from data_contracts.recipe.other_flows import section_at_night  # noqa: E402
from flows.running.due import as_asked, due, run_name  # noqa: E402
from flows.running.explain_run import Explained, ExplainRun  # noqa: E402
from flows.running.told import tell_failed  # noqa: E402
from tasks.deliver import deliver  # noqa: E402
from tasks.explain import explain as tell_why  # noqa: E402


@flow(
    name="explain",
    flow_run_name=run_name,
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failed],
)
def explain(
    recipe: ExplainRecipe | None = None,
    recipe_file: str | None = None,
    as_of: datetime | None = None,
) -> Explained:
    """Explain a registered model's answer to every row of a source, and write the explanations.

    Args:
        recipe: What is explained, field by field.
        recipe_file: Path of its YAML file on the worker's machine, read anew by each run; instead
            of the recipe.
        as_of: The instant the run is taken to be due at, for a night that is made up for.
    """
    described = section_at_night(ExplainRecipe, recipe_file, recipe)
    when = due() if as_of is None else as_asked(as_of)
    with ExplainRun(described.on(when.day), when) as run:
        explanations = tell_why(run, run.source, run.model())
        return run.finish(deliver(run, explanations, run.source))
