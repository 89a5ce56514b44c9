"""tune: a search for a better recipe on the same rows, within a budget.

    source ──ingest─→ RawCorpus ──validate─→ ValidatedCorpus
                                                   │
       each trial:  ask → tokenize → (teach → distill →) train → tell
                                                   │
       the best few, with further seeds:  … → train
                                                   │
                                                   └──→ the winner, a recipe

Nothing is registered or promoted, and the test split is not looked at. Trials are a study of
Optuna's below the state folder, and trainings are found in the store, so a rerun goes on where the
last one stopped.
"""

from __future__ import annotations

from flows.running.environment import switches

switches()  # before Prefect and MLflow are imported: they read their settings then

from prefect import flow  # noqa: E402

from data_contracts.recipe.search import Search  # noqa: E402
from flows.running.due import due, run_name  # noqa: E402
from flows.running.told import tell_failed  # noqa: E402
from flows.running.tuning import SearchRun, Training, Tuning  # noqa: E402
from tasks.ingest import ingest  # noqa: E402
from tasks.teach import distill, teach  # noqa: E402
from tasks.tokenize import tokenize  # noqa: E402
from tasks.train import train  # noqa: E402
from tasks.validate import validate  # noqa: E402


@flow(
    name="tune",
    flow_run_name=run_name,
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failed],
)
def tune(search: Search, command: str = "") -> SearchRun:
    """Try what a search asks for as long as its budget lasts, and say which recipe won."""
    when = due()
    search = search.on(when.day)
    with Tuning(search, when, command) as tuning:
        raw = ingest(tuning.run, tuning.run.source)
        corpus = validate(tuning.run, raw)

        def work(one: Training) -> None:
            with tuning.training(one) as run:
                start = run.start(corpus)
                tokens = tokenize(run, corpus)
                if (teacher := run.teacher()) is not None:
                    tokens = distill(run, tokens, teach(run, corpus, teacher))
                tuning.done(one, train(run, tokens, start), run)

        tuning.read(corpus)
        tuning.each(tuning.trials(), work)
        tuning.each(tuning.finals(), work)
        return tuning.result()
