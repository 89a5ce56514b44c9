"""A grid of variants and seeds, carried out by one run: a table that each finished cell fills."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import EvaluationReport, Measurement, TrainedModel, ValidatedCorpus
from data_contracts.errors import NoisefoldError
from data_contracts.recipe.compared import Compared
from data_contracts.recipe.comparison import Cell, Comparison
from data_contracts.recipe.sections import WarmStartConfig
from data_contracts.urls import redacted, shown_url
from flows.running.due import Due
from flows.running.job import Work
from flows.running.part import OF_THE_PART, part_of, told
from flows.running.run import VERSIONS, Run
from tasks.artifacts.store import digest_of
from tasks.comparing.board import Board
from tasks.comparing.table import as_json, as_markdown, read_table, write_table
from tasks.progress import State
from tasks.reports.readable import markdown
from tasks.reports.story import Links
from tasks.retries import STAGE
from tasks.settings import Settings
from tasks.tracking.runs import Tracker, log_params, open_run


class ComparisonRun(BaseModel):
    """The table, and where the comparison is to be seen."""

    model_config = ConfigDict(frozen=True)
    table: Compared
    experiment_id: str
    run_id: str
    tracking_uri: str
    flow_run_id: str


class Grid:
    """A run with a table to fill: in MLflow a parent run, and under it a run for each cell.

    Args:
        out: where the table is written after each cell; one that is there already lends its rows.
        command: how a person draws this table again.
    """

    def __init__(self, comparison: Comparison, due: Due, out: Path | None, command: str) -> None:
        self.comparison, self.out = comparison, out
        # It keeps nobody out (several processes may share a grid, each with cells of its own); its
        # lease shows who works.
        work = Work("compare", comparison.name, (), self._open)
        self.run = Run(comparison.recipe, due, work)
        before = read_table(out) if out is not None else None
        self.board = Board(comparison, self.run.settings, command, before)
        self.state: State = "running"

    def __enter__(self) -> Self:
        self.run.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None and self.board.test is not None:
                self._write()
                with suppress(Exception):  # the fault that ends the run is the one to tell
                    log_table(self.run.tracker, self.board.table())
        finally:
            self.run.__exit__(kind, error, trace)

    def read(self, corpus: ValidatedCorpus, cells: list[Cell]) -> None:
        """Find what is finished. Teachers, and models to start from, are fetched before: a board
        knows them by their files.
        """
        self._fetch_models(cells)
        self.board.read(corpus)

    def _fetch_models(self, cells: list[Cell]) -> None:
        """The models that some cell learns or starts from. One that cannot be had is told when the
        cell has its turn.
        """
        starts = {
            str(one): one
            for cell in cells
            if isinstance(
                one := self.comparison.recipe_of(cell).training.warm_start, WarmStartConfig
            )
        }
        for start in starts.values():
            with suppress(NoisefoldError):
                self.run.fetch_start(start)
        teachers = {
            str(one): one
            for cell in cells
            if (one := self.comparison.recipe_of(cell).distillation) is not None
        }
        for teacher in teachers.values():
            with suppress(NoisefoldError):
                self.run.fetch_teacher(teacher)

    @contextmanager
    def cell(self, cell: Cell) -> Iterator[Run | None]:
        """The run of a cell, with its recipe and its MLflow run, while it is worked on; None where
        both are finished already.

        A fault of the cell's own ends here: it is written down, and the next cell has its turn.
        """
        run = self.run
        key = digest_of("cell", self.run_key, *cell)
        self.state = "cached" if cell in self.board.finished else "ran"
        if self.state == "cached" and told(run.tracker, key):
            yield None
            return
        tags = {
            "mlflow.source.name": "flows/compare.py",
            "noisefold.variant": cell.variant,
            "noisefold.seed": str(cell.seed),
        }
        try:
            with part_of(run, self.comparison.recipe_of(cell), str(cell), key, tags) as part:
                yield part
        except OF_THE_PART as error:
            self.state = "failed"
            self.board.fail(cell, redacted(str(error)))
            self._write()

    def done(
        self, cell: Cell, model: TrainedModel, evaluation: EvaluationReport, cost: Measurement
    ) -> None:
        self.board.add(cell, model, evaluation, cost)
        self._write()

    def result(self) -> ComparisonRun:
        run = self.run
        run.tell_needs()
        table = self.board.table()
        self._write()
        run.attempt(_publish)(run.tracker, table, run.pages.links)
        return ComparisonRun(
            table=table,
            experiment_id=run.tracker.experiment_id,
            run_id=run.tracker.run_id,
            tracking_uri=shown_url(run.tracker.tracking_uri),
            flow_run_id=str(flow_run.id or ""),
        )

    def _write(self) -> None:
        if self.out is not None:
            write_table(self.board.table(), self.out)

    def _open(self, run: Run) -> Tracker:
        grid = self.comparison.model_dump(mode="json", exclude={"recipe", "predictions"})
        recipe = run.recipe.identity_of_run()
        self.run_key = digest_of("compare", grid, recipe, run.source.fingerprint, VERSIONS)
        return run.attempt(_open_grid)(run.settings, self.comparison, self.run_key, run.opened_by)


def log_table(tracker: Tracker, table: Compared) -> None:
    tracker.log_text(as_markdown(table), "comparison.md")
    tracker.log_text(as_json(table), "comparison.json")


@task(name="publish", **STAGE)
def _publish(tracker: Tracker, table: Compared, links: Links) -> None:
    log_table(tracker, table)
    if not tracker.closed:
        done = sum(cell.state == "finished" for cell in table.cells)
        first = f"**{markdown(table.name)}: {done} of {len(table.cells)} cells are finished.**"
        tracker.describe(f"{first}\n\n{links.as_markdown()}\n\n{as_markdown(table)}")
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
