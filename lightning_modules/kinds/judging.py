"""What the stages ask of a kind of task, as protocols: they know no kind beside these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_contracts.kinds.base import Metric, TaskConfig
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.results import Block, Interval
from lightning_modules.kinds.answering import ROOMS

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle
    from lightning_modules.evidence import Evidence


@dataclass(frozen=True)
class RowFigure:
    """How good each answer is by itself: what a slice of the rows has the mean of."""

    words: str  # of the mean: "Accuracy"
    values: NDArray[np.float64]  # (N,), from 0 (wrong) to 1 (right)


@dataclass(frozen=True)
class Comparable:
    """The rows on which two models can be compared at all."""

    rows: NDArray[np.bool_]  # (N,)
    told: list[str] = field(default_factory=list)  # why not all of them, in sentences
    fault: str | None = None  # why none of them


@dataclass(frozen=True)
class Rivals:
    """Two answers to the same rows, judged side by side."""

    ours: Evidence
    theirs: Evidence
    whose: str  # theirs, in words: "of version 7", "of always answering refund"
    notes: list[str] = field(default_factory=list)  # sentences that a reader needs beside it
    figures: dict[str, float] = field(default_factory=dict)  # for information, by name
    fault: str | None = None  # why ours must not pass, whatever the difference


class Judge(Protocol):
    """How a model of this kind is judged on rows whose truth is known.

    Three tables of one row per document, in one order: `rows` as validated (id, the kind's own
    columns, slices), `scored` as `score` gives them, and `answers`, which people read. What `score`
    gives is up to the kind: log-probabilities of the labels; nats, tokens and bytes of a text; a
    translation. Only the kind's own functions read it.
    """

    metrics: ClassVar[tuple[Metric, ...]]
    token_columns: ClassVar[tuple[str, ...]]  # of a token table, which `score` reads
    # Columns of `rows` that say what is right, and which rows belong together, as far as the corpus
    # has them.
    truth: ClassVar[tuple[str, ...]]
    fits: ClassVar[bool]  # whether the valid split decides anything of the answers
    exact: ClassVar[tuple[str, ...]]  # columns of `answers` that no rounding changes: their digest

    def score(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        """One row per document of `windows`, which holds whole documents, in their order.

        Scores are of each document by itself, so that a split may be scored in parts.
        """
        ...

    def fitted(self, rows: pa.Table, scored: pa.Table) -> Self:
        """This judge with what the valid split decides of the answers (a temperature); asked of
        one that `fits`.

        Args:
            rows: at least id and the columns of `truth`.
        """
        ...

    def tried(self, bundle: Bundle, rows: pa.Table, tokens: Path) -> Self:
        """This judge with what the model itself has to show: texts that it writes, say.

        Args:
            rows: of the test split, in the order in which they are judged.
            tokens: the folder of token tables.
        """
        ...

    @property
    def decided(self) -> Any:
        """What `fitted` found, for the digest of the report; null where there is nothing to fit."""
        ...

    def facts(self) -> dict[str, Any]:
        """The same in JSON, for the manifest: what registering and serving have to know."""
        ...

    def without_rows(self, tokens: Path) -> dict[str, tuple[str, ...]]:
        """Per split of a token folder, the parts (labels) that no row of it has, if any."""
        ...

    def warnings(self, without: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Sentences for a person to read though all went well."""
        ...

    def gaps(self, without: Mapping[str, tuple[str, ...]]) -> list[str]:
        """What no figure tells, where a split lacks rows of a part; a sentence each."""
        ...

    def evidence(self, rows: pa.Table, scored: pa.Table) -> Evidence:
        """What each row adds to the figures."""
        ...

    def answers(self, rows: pa.Table, scored: pa.Table) -> pa.Table:
        """`predictions.parquet`: what the model answers to each row, beside the row itself.

        It has id, the columns that the contract tells rows apart by, those that a served model is
        asked, the slices, and whatever the members below read of it.
        """
        ...

    def predictions(self, table: pa.Table) -> pa.Table:
        """`scored` from a file of predictions: another program's, or an evaluation's own `answers`.

        These are what is served, so a judge that was fitted to nothing takes them as they are.

        Args:
            table: `id`, the kind's own columns, and what the schema's metadata say of them.
        Raises:
            SourceError: what is wrong with them, without the file's name.
            KeyError, TypeError, ValueError, pyarrow.ArrowException: it holds no predictions.
        """
        ...

    def unmeasured(self, rows: pa.Table) -> tuple[str, ...]:
        """The parts (labels) that none of these rows has, so that no figure says anything of
        them."""
        ...

    def beside(self, scored: pa.Table) -> dict[str, float]:
        """Figures for a comparison's table that take no truth and have no interval (what ECE a
        calibrated model would show), by metric."""
        ...

    def report(
        self, rows: pa.Table, scored: pa.Table, found: Mapping[str, Interval]
    ) -> list[Block]:
        """What a person wants to see, in order; `found` holds the figures of `evidence`."""
        ...

    # --- the gate. `predictions` are rows of `answers`, as they stand in the file.

    def row_figure(self, predictions: pa.Table) -> RowFigure:
        """What the mean of each slice is bounded by."""
        ...

    def comparable(self, predictions: pa.Table, champion: Bundle) -> Comparable:
        """Which rows can be asked of both models."""
        ...

    def ask(self, bundle: Bundle, predictions: pa.Table) -> pa.Table:
        """What another model, as it is served, shows on these rows; a row each, in their order.

        Each row by itself, so that they may be asked in parts.
        """
        ...

    def against(
        self, predictions: pa.Table, asked: pa.Table, champion: Bundle, name: str
    ) -> Rivals:
        """This model beside the champion, on comparable rows.

        Args:
            asked: what `ask` gave for these rows.
            name: of the champion, in sentences: "version 7".
        """
        ...

    def against_constant(self, predictions: pa.Table, tokens: Path) -> Rivals | None:
        """This model beside one answer for every row; None: this kind has no such answer to beat.

        Args:
            tokens: the folder of token tables, whose train split may tell the answer.
        """
        ...


@runtime_checkable
class NamesErrors(Protocol):
    """A judge whose report names rows that were answered wrongly: what carried those answers is
    explained, where the kind can be.
    """

    def worst(self, rows: pa.Table, scored: pa.Table) -> Sequence[int]:
        """Numbers of such rows, those first that the model was surest of."""
        ...


def with_slices(
    columns: Mapping[str, Any], rows: pa.Table, roles: Collection[str]
) -> dict[str, Any]:
    """The columns of `answers` and, beside them, what of the rows plays no role: the slices."""
    found = dict(columns)
    for name in rows.column_names:
        if name not in roles:
            # A slice column may bear one of the judge's names; the judge's stand.
            found[f"slice_{name}" if name in found else name] = rows[name]
    return found


# Any: each takes the TaskConfig of its own kind.
MakeJudge = Callable[[Mapping[str, Any], Any, StatisticsConfig], Judge]
JUDGES: dict[str, MakeJudge] = {}


def judge_of(task: TaskConfig, facts: Mapping[str, Any], statistics: StatisticsConfig) -> Judge:
    """The judge of a task's kind; `facts` is what the data said (the labels), from the manifest.

    Where none has entered `JUDGES` yet, the kind's room is imported (`TaskConfig.room`).
    """
    if task.kind not in JUDGES:
        import_module(f"{task.room or f'{ROOMS}.{task.kind}'}.judge")
    return JUDGES[task.kind](facts, task, statistics)
