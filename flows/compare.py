"""compare: the same rows, a grid of variants and seeds, one table.

    source ─ingest→ RawCorpus ─validate→ ValidatedCorpus
    for each (variant, seed): ─tokenize→ (teach→) train→ TrainedModel ─evaluate→ EvaluationReport
    ─measure→ Measurement predictions of other programs
    ──────────────────────────────────────────────────────→ comparison.md

Nothing is registered or promoted. A rerun finds finished cells in the store, so it goes on where
the last one stopped; after each cell the table is written anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

from flows.running.environment import switches

switches()  # before Prefect and MLflow are imported: they read their settings then

from prefect import Task, flow, task  # noqa: E402
from prefect.artifacts import create_markdown_artifact  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from pydantic import BaseModel, ConfigDict  # noqa: E402

from data_contracts.artifacts import EvaluationReport, Measurement, TrainedModel  # noqa: E402
from data_contracts.errors import NoisefoldError, RecipeError, TrainingError, told_of  # noqa: E402
from data_contracts.recipe.compared import Compared  # noqa: E402
from data_contracts.recipe.comparison import Cell, Comparison  # noqa: E402
from data_contracts.recipe.recipe import Recipe  # noqa: E402
from data_contracts.urls import redacted, shown_url  # noqa: E402
from flows.running.due import Due, due  # noqa: E402
from flows.running.run import VERSIONS, Run  # noqa: E402
from tasks.artifacts.store import digest_of  # noqa: E402
from tasks.comparing.board import Board  # noqa: E402
from tasks.comparing.table import as_json, as_markdown, read_table, write_table  # noqa: E402
from tasks.engines.threads import threads  # noqa: E402
from tasks.evaluate import evaluate  # noqa: E402
from tasks.ingest import ingest  # noqa: E402
from tasks.liveness.lease import Held  # noqa: E402
from tasks.measure import measure  # noqa: E402
from tasks.progress import State, report  # noqa: E402
from tasks.retries import STAGE, Interrupted  # noqa: E402
from tasks.settings import Settings  # noqa: E402
from tasks.stage import Made  # noqa: E402
from tasks.teach import distill, teach  # noqa: E402
from tasks.tokenize import tokenize  # noqa: E402
from tasks.tracking.runs import RUN_KEY, Tracker, log_params, log_recipe, open_run  # noqa: E402
from tasks.train import train  # noqa: E402
from tasks.validate import validate  # noqa: E402

# What a variant, not the machine, is at fault for: its cell fails, the others go on.
OF_THE_CELL = (TrainingError, RecipeError, Interrupted)


class ComparisonRun(BaseModel):
    """The table, and where the comparison is to be seen."""

    model_config = ConfigDict(frozen=True)
    table: Compared
    experiment_id: str
    run_id: str
    tracking_uri: str
    flow_run_id: str


@flow(name="compare", description=__doc__, validate_parameters=True)
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
    with Grid(comparison, when, out, command) as run:
        raw = ingest(run, run.source)
        corpus = validate(run, raw)
        run.fetch_teachers(cells)  # before the board, which knows a teacher only by its files
        run.board.read(corpus)
        for number, cell in enumerate(cells):
            report("cell", number, len(cells), str(cell))
            with run.cell(cell) as open_cell:
                if open_cell is not None:
                    tokens = tokenize(open_cell, corpus)
                    if (teacher := open_cell.teacher()) is not None:
                        tokens = distill(open_cell, tokens, teach(open_cell, corpus, teacher))
                    model = train(open_cell, tokens)
                    figures = evaluate(open_cell, model, tokens, corpus)
                    cost = measure(open_cell, model, corpus)
                    run.done(cell, model, figures, cost)
            report("cell", number + 1, len(cells), str(cell), run.state)
        return run.result()


class Grid(Run):
    """A run with a table to fill: in MLflow a parent run, and under it a run for each cell."""

    def __init__(self, comparison: Comparison, due: Due, out: Path | None, command: str) -> None:
        super().__init__(comparison.recipe, due)
        self.comparison, self.out = comparison, out
        self.board = Board(
            comparison, self.settings, command, read_table(out) if out is not None else None
        )
        self.state: State = "running"
        self._cell = ""

    def _take_lease(self) -> Held:
        """It keeps nobody out (several processes may share a grid, each with cells of its own); it
        shows who works.
        """
        return self._lease(f"compare {self.comparison.name}", [])

    def _close(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        if kind is not None and self.board.test is not None:
            self._write()
            with suppress(Exception):  # the fault that ends the run is the one to tell
                log_table(self.tracker, self.board.table())
        super()._close(kind, error)

    def fetch_teachers(self, cells: list[Cell]) -> None:
        """The models that some cell learns from. One that cannot be had is told when the cell has
        its turn.
        """
        teachers = {
            str(one): one
            for cell in cells
            if (one := self.comparison.recipe_of(cell).distillation) is not None
        }
        for teacher in teachers.values():
            with suppress(NoisefoldError):
                self.fetch_teacher(teacher)

    @contextmanager
    def cell(self, cell: Cell) -> Iterator[Run | None]:
        """This run with a cell's recipe and MLflow run, while it is worked on; None where both are
        finished already.

        A fault of the cell's own ends here: it is written down, and the next cell has its turn.
        """
        self._failed_attempts.clear()
        key = digest_of("cell", self.run_key, *cell)
        self.state = "cached" if cell in self.board.finished else "ran"
        if self.state == "cached" and self._told(key):
            yield None
            return
        if self.tracker.closed:  # finished so far, by other cells: there is work under it again
            self.tracker.reopen(self.opened_by)
        self._cell = f" · {cell}"
        recipe = self.comparison.recipe_of(cell)
        tracker: Tracker = self._attempt(_open_cell)(
            self.settings, self.tracker, recipe, cell, key, self.opened_by
        )
        try:
            with threads(recipe.execution.threads):
                yield self._of_cell(recipe, tracker)
            tracker.end("FINISHED")
        except BaseException as error:
            with suppress(Exception):
                tracker.end("FAILED" if isinstance(error, Exception) else "KILLED", told_of(error))
            if not isinstance(error, OF_THE_CELL):
                raise
            self.state = "failed"
            self.board.fail(cell, redacted(str(error)))
            self._write()
        finally:
            self._cell = ""

    def _of_cell(self, recipe: Recipe, tracker: Tracker) -> Run:
        """The same lease, store and records, for one cell."""
        run = copy(self)
        run.recipe, run.tracker, run.made = recipe, tracker, Made()
        return run

    def done(
        self, cell: Cell, model: TrainedModel, evaluation: EvaluationReport, cost: Measurement
    ) -> None:
        self.board.add(cell, model, evaluation, cost)
        self._write()

    def result(self) -> ComparisonRun:
        self._tell_needs()
        table = self.board.table()
        self._write()
        self._attempt(_publish)(self.tracker, table)
        return ComparisonRun(
            table=table,
            experiment_id=self.tracker.experiment_id,
            run_id=self.tracker.run_id,
            tracking_uri=shown_url(self.tracker.tracking_uri),
            flow_run_id=str(flow_run.id or ""),
        )

    def _write(self) -> None:
        if self.out is not None:
            write_table(self.board.table(), self.out)

    def _open(self) -> Tracker:
        grid = self.comparison.model_dump(mode="json", exclude={"recipe", "predictions"})
        recipe = self.recipe.identity_of_run()
        self.run_key = digest_of("compare", grid, recipe, self.source.fingerprint, VERSIONS)
        return self._attempt(_open_grid)(
            self.settings, self.comparison, self.run_key, self.opened_by
        )

    def _told(self, run_key: str) -> bool:
        tracker = self.tracker
        mine = f"tags.`{RUN_KEY}` = '{run_key}' and tags.`mlflow.parentRunId` = '{tracker.run_id}'"
        ended = f"{mine} and attributes.status = 'FINISHED'"
        return bool(tracker.client.search_runs([tracker.experiment_id], ended, max_results=1))

    def _attempt(self, stage: Task[..., Any]) -> Callable[..., Any]:
        return super()._attempt(stage.with_options(task_run_name=f"{stage.name}{self._cell}"))


def log_table(tracker: Tracker, table: Compared) -> None:
    tracker.log_text(as_markdown(table), "comparison.md")
    tracker.log_text(as_json(table), "comparison.json")


@task(name="publish", **STAGE)
def _publish(tracker: Tracker, table: Compared) -> None:
    log_table(tracker, table)
    create_markdown_artifact(
        as_markdown(table), key="comparison", description=f"Comparison {table.name}"
    )


@task(name="open-comparison", **STAGE)
def _open_grid(
    settings: Settings, comparison: Comparison, run_key: str, lineage: dict[str, str]
) -> Tracker:
    name = f"{comparison.name} {time.strftime('%Y-%m-%d %H:%M')}"
    tags = {"mlflow.source.name": "flows/compare.py", "noisefold.comparison": comparison.name}
    tracker = open_run(
        settings, f"noisefold-compare-{comparison.name}", run_key, name, tags, lineage
    )
    with tracker.once("recipe", run_key) as fresh:
        if fresh:
            grid = comparison.model_dump(
                mode="json", exclude={"predictions": True, "recipe": {"execution"}}
            )
            # One param: a variant's name may hold what MLflow allows in no param's name.
            log_params(
                tracker, {**grid, "variants": json.dumps(grid["variants"], ensure_ascii=False)}
            )
    return tracker


@task(name="open-cell", **STAGE)
def _open_cell(
    settings: Settings,
    parent: Tracker,
    recipe: Recipe,
    cell: Cell,
    run_key: str,
    lineage: dict[str, str],
) -> Tracker:
    tags = {
        "mlflow.source.name": "flows/compare.py",
        "noisefold.variant": cell.variant,
        "noisefold.seed": str(cell.seed),
    }
    experiment = parent.client.get_experiment(parent.experiment_id).name
    tracker = open_run(settings, experiment, run_key, str(cell), tags, lineage, parent)
    log_recipe(tracker, recipe, run_key)
    return tracker
