"""The table that comes out of a comparison, as far as it has come."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from pydantic import Field

from data_contracts.artifacts import Interval
from data_contracts.errors import SourceError
from data_contracts.open_kinds import DEFAULT_KIND
from data_contracts.section import Section

FACTS = b"noisefold.facts"  # where a predictions file has them, in its schema's metadata


class Facts(Section):
    """What a program says of itself beside its predictions; each may be absent."""

    parameters: int | None = Field(
        default=None, description="Numbers that were learned and that predicting needs."
    )
    bytes: int | None = Field(
        default=None, description="Size on disk of all that predicting needs."
    )
    cpu_seconds_train: float | None = Field(
        default=None, description="CPU time of the process that trained, all its threads."
    )
    texts_per_second: float | None = Field(
        default=None, description="From text to label, per second of one CPU thread."
    )
    chosen: str | None = Field(
        default=None, description="Settings that were chosen on validation data."
    )


class CellResult(Section):
    """One cell of the grid, or one file of another program's predictions (`seed` null)."""

    variant: str
    seed: int | None = None
    file: str | None = Field(default=None, description="Name of the predictions file.")
    state: Literal["finished", "failed", "not run"]
    cause: str | None = None
    config: str | None = Field(
        default=None, description="Digest of what of the cell's recipe shapes its figures."
    )
    figures: dict[str, float] = Field(
        default_factory=dict,
        description="Of the test rows, by the kind's names (classify: accuracy, macro_f1, nll, "
        "brier, ece, ece_floor). Of the valid rows, a variant's alone: valid_<chosen_by> of the "
        "epoch kept.",
    )
    facts: Facts = Facts()


class Spread(Section):
    mean: float
    sd: float | None = Field(
        default=None, description="Standard deviation over seeds (n - 1); null with one seed."
    )


class Row(Section):
    """One line of the table."""

    variant: str
    finished: int = Field(description="Seeds.")
    failed: int
    planned: int
    figures: dict[str, Spread]
    differences: dict[str, Interval] = Field(description="From the baseline, by figure.")
    facts: Facts = Field(description="Means over the finished seeds.")


class Compared(Section):
    """A comparison as far as it has come."""

    name: str
    kind: str = Field(default=DEFAULT_KIND, description="Kind of task, whose figures these are.")
    chosen_by: str | None = Field(
        default=None, description="The valid rows' figure to choose by; null: the kind's first."
    )
    command: str
    corpus: str | None = Field(
        default=None, description="Content digest of the validated rows; null before they are read."
    )
    test_rows: int
    unmeasured: tuple[str, ...] | None = Field(
        default=None,
        description="Parts (labels) without a test row, of which no figure says anything; "
        "null: none.",
    )
    baseline: str
    confidence: float
    bootstrap_samples: int
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the kind that say how its figures are measured (classify: "
        "ece_bins).",
    )
    rows: tuple[Row, ...]
    cells: tuple[CellResult, ...]

    def with_rows_of(self, before: Compared) -> Compared:
        """This table, and in it the rows of an earlier one that have more finished cells than they
        have here, or the same figures and differences besides, for which the baseline's cells are
        missing here.

        So a table outlives the state folder that it was made in. A row is kept where it is of
        the same test rows and its cells have the settings that the grid asks for now; its
        differences, where the baseline's are the same too.
        """
        same_grid = (self.name, self.baseline) == (before.name, before.baseline)
        if not same_grid or self.corpus not in (None, before.corpus):
            return self
        kept = self._kept_of(before)
        if not kept:
            return self
        return self.model_copy(
            update={
                "corpus": before.corpus,
                "test_rows": before.test_rows,
                "unmeasured": before.unmeasured,
                "rows": tuple(kept.get(row.variant, row) for row in self.rows),
                "cells": self._cells_with(before, kept),
            }
        )

    def _grid(self) -> dict[tuple[str, int | None], CellResult]:
        """The cells that are trained, not read from another program's files."""
        return {(cell.variant, cell.seed): cell for cell in self.cells if cell.file is None}

    def _kept_of(self, before: Compared) -> dict[str, Row]:
        """The rows of an earlier table that stand for those here, by variant."""
        settings = ("confidence", "bootstrap_samples", "settings")
        comparable = self._asks_for(self.baseline, before) and all(
            getattr(self, name) == getattr(before, name) for name in settings
        )
        here = {row.variant: row for row in self.rows}
        variants = {variant for variant, _ in self._grid()}
        kept = {}
        for row in before.rows:
            now = here.get(row.variant)
            if now is None or not _tells_more(row, now) or not self._asks_for(row.variant, before):
                continue
            planned = now.planned if row.variant in variants else row.planned
            differences = row.differences if comparable else {}
            update = {"planned": planned, "differences": differences}
            kept[row.variant] = row.model_copy(update=update)
        return kept

    def _asks_for(self, variant: str, before: Compared) -> bool:
        """Whether the finished cells of an earlier table have the settings that the grid asks for;
        another program has none."""
        grid = self._grid()
        if variant not in {name for name, _ in grid}:
            return True
        then = [
            cell for cell in before.cells if cell.variant == variant and cell.state == "finished"
        ]
        wanted = {place: cell.config for place, cell in grid.items()}
        return all(wanted.get((variant, cell.seed)) == cell.config for cell in then)

    def _cells_with(self, before: Compared, kept: Collection[str]) -> tuple[CellResult, ...]:
        """The cells here, and in place of a kept row's those that it is made of."""
        variants, then = {variant for variant, _ in self._grid()}, before._grid()
        here = (
            then.get((cell.variant, cell.seed), cell) if cell.variant in kept else cell
            for cell in self.cells
            if cell.variant in variants or cell.variant not in kept
        )
        of_other_programs = (
            cell for cell in before.cells if cell.variant in kept and cell.variant not in variants
        )
        return (*here, *of_other_programs)


def _tells_more(row: Row, now: Row) -> bool:
    """Whether an earlier row has more seeds than the one now, or its figures and differences."""
    paired_there = bool(row.differences) and not now.differences and row.figures == now.figures
    return row.finished > now.finished or paired_there


def same_names(what: str, found: Collection[str], wanted: Collection[str]) -> None:
    """Refuse labels or ids that are not exactly those of the test split.

    Raises:
        SourceError: with some of those that are missing and of those that do not belong there.
    """
    missing, foreign = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if not missing and not foreign:
        return
    told = [
        f"{count} {kind} ({', '.join(some[:3])}{', …' if count > 3 else ''})"
        for kind, some in (("missing", missing), ("not in the test split", foreign))
        if (count := len(some))
    ]
    raise SourceError(
        f"its {what} are not those of the {len(wanted)} of the test split: {' and '.join(told)}.",
        "Predict the test rows of this comparison's validated corpus, with the same contract.",
    )
