"""score: every row of a source, answered by a registered model.

    source ──score─→ Scores (answers in the store, part by part)
           ──deliver─→ one file: the rows, their answers, how sure each is

The version is the one that bears the alias when the run begins. A rerun goes on behind the last
rows that have an answer; the file appears whole or not at all.
"""

from __future__ import annotations

from datetime import datetime

from flows.running.environment import switches

switches()  # before Prefect and MLflow are imported: they read their settings then

from prefect import flow  # noqa: E402

from data_contracts.recipe.other_flows import section_at_night  # noqa: E402
from data_contracts.recipe.score import ScoreRecipe  # noqa: E402
from flows.running.due import as_asked, due, run_name  # noqa: E402
from flows.running.score_run import Scored, ScoreRun  # noqa: E402
from flows.running.told import tell_failed  # noqa: E402
from tasks.deliver import deliver  # noqa: E402
from tasks.score import score as answer  # noqa: E402


@flow(
    name="score",
    flow_run_name=run_name,
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failed],
)
def score(
    recipe: ScoreRecipe | None = None,
    recipe_file: str | None = None,
    as_of: datetime | None = None,
) -> Scored:
    """Answer every row of a source with a registered model, and write the answers.

    Args:
        recipe: What is scored, field by field.
        recipe_file: Path of its YAML file on the worker's machine, read anew by each run; instead
            of the recipe.
        as_of: The instant the run is taken to be due at, for a night that is made up for.
    """
    described = section_at_night(ScoreRecipe, recipe_file, recipe)
    when = due() if as_of is None else as_asked(as_of)
    with ScoreRun(described.on(when.day), when) as run:
        scores = answer(run, run.source, run.model())
        return run.finish(deliver(run, scores, run.source))
