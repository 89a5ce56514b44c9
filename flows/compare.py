"""compare: the same rows, a grid of variants and seeds, one table.

    source ──ingest─→ RawCorpus ──validate─→ ValidatedCorpus
                                                   │
       each (variant, seed):  tokenize → (teach → distill →) train → evaluate → measure
                                                   │
    predictions of other programs ─────────────────┴───────────────→ comparison.md

Nothing is registered or promoted. A rerun finds finished cells in the store, so it goes on where
the last one stopped; after each cell the table is written anew.
"""

from __future__ import annotations

from pathlib import Path

from flows.running.environment import switches

switches()  # before Prefect and MLflow are imported: they read their settings then

from prefect import flow  # noqa: E402

from data_contracts.recipe.comparison import Comparison  # noqa: E402
from flows.running.due import due, run_name  # noqa: E402
from flows.running.grid import ComparisonRun, Grid  # noqa: E402
from flows.running.told import tell_failed  # noqa: E402
from tasks.evaluate import evaluate  # noqa: E402
from tasks.ingest import ingest  # noqa: E402
from tasks.measure import measure  # noqa: E402
from tasks.progress import report  # noqa: E402
from tasks.teach import distill, teach  # noqa: E402
from tasks.tokenize import tokenize  # noqa: E402
from tasks.train import train  # noqa: E402
from tasks.validate import validate  # noqa: E402


@flow(
    name="compare",
    flow_run_name=run_name,
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failed],
)
def compare(
    comparison: Comparison,
    only: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    out: Path | None = None,
    command: str = "",
) -> ComparisonRun:
    """Run the cells of a grid (or those of `only` and `seeds`) that have not run, and write the
    table to `out`.
    """
    when = due()
    comparison = comparison.on(when.day)
    cells = comparison.cells(only, seeds)
    with Grid(comparison, when, out, command) as grid:
        raw = ingest(grid.run, grid.run.source)
        corpus = validate(grid.run, raw)
        grid.read(corpus, cells)
        for number, cell in enumerate(cells):
            report("cell", number, len(cells), str(cell))
            with grid.cell(cell) as run:
                if run is not None:
                    start = run.start(corpus)
                    tokens = tokenize(run, corpus)
                    if (teacher := run.teacher()) is not None:
                        tokens = distill(run, tokens, teach(run, corpus, teacher))
                    model = train(run, tokens, start)
                    figures = evaluate(run, model, tokens, corpus)
                    grid.done(cell, model, figures, measure(run, model, corpus))
            report("cell", number + 1, len(cells), str(cell), grid.state)
        return grid.result()
