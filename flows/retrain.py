"""retrain: raw text in, a champion in the MLflow registry out.

    source ──ingest─→ RawCorpus ──validate─→ ValidatedCorpus (and quarantine)
           ──tokenize─→ TokenDataset (──teach, distill─→ with a teacher's answers)
           ──train─→ TrainedModel ──evaluate─→ EvaluationReport
           ──register─→ RegisteredModel ──promote─→ PromotionDecision

Each line of the flow's body is one Prefect task, retryable on its own. A rerun finds finished
stages in the store.
"""

from __future__ import annotations

from datetime import datetime

from flows.running.environment import switches

switches()  # before Prefect and MLflow are imported: they read their settings then

from prefect import flow  # noqa: E402

from data_contracts.recipe.reading import recipe_at_night  # noqa: E402
from data_contracts.recipe.recipe import Recipe  # noqa: E402
from flows.running.due import as_asked, due, run_name  # noqa: E402
from flows.running.run import Run  # noqa: E402
from flows.running.summary import Retrained  # noqa: E402
from flows.running.told import tell_failed  # noqa: E402
from tasks.evaluate import evaluate  # noqa: E402
from tasks.ingest import ingest  # noqa: E402
from tasks.promote import promote  # noqa: E402
from tasks.register import register  # noqa: E402
from tasks.teach import distill, teach  # noqa: E402
from tasks.tokenize import tokenize  # noqa: E402
from tasks.train import train  # noqa: E402
from tasks.validate import validate  # noqa: E402


@flow(
    name="retrain",
    flow_run_name=run_name,
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failed],
)
def retrain(
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen, and Prefect shows it as the form's defaults
    recipe_file: str | None = None,
    as_of: datetime | None = None,
    move_aliases: bool = True,
) -> Retrained:
    """Retrain one text model after its recipe and decide whether it becomes champion.

    Args:
        recipe: The recipe, field by field.
        recipe_file: Path of a recipe's YAML file on the worker's machine, read anew by each run;
            the recipe above is then left as it is.
        as_of: The instant the run is taken to be due at, for a night that is made up for; without
            it that of its schedule. A rolling window ends on the day before.
        move_aliases: Whether the version may become champion or challenger; without it, it is
            registered and judged.
    """
    if recipe_file is not None:
        recipe = recipe_at_night(recipe_file, recipe)
    # A late or retried run reads the data window of its schedule, not of the clock.
    when = due() if as_of is None else as_asked(as_of)
    with Run(recipe.on(when.day), when, moves_aliases=move_aliases) as run:
        # Data: what breaks the contract is set aside with its reason, or stops the run.
        raw = ingest(run, run.source)
        corpus = validate(run, raw)
        start = run.start(corpus)  # one that the recipe names brings its tokenizer
        tokens = tokenize(run, corpus)

        # Model: trained with noise, folded to a plain network, measured on rows it has never seen.
        if (teacher := run.teacher()) is not None:
            tokens = distill(run, tokens, teach(run, corpus, teacher))
        model = train(run, tokens, start)
        report = evaluate(run, model, tokens, corpus)

        # Release: a version in the registry; champion only if it is no worse on the same rows.
        version = register(run, report)
        return run.finish(promote(run, version))
