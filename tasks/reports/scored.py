"""What a score came to, for people: how often each answer was given, and how sure the model was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as dataset

from data_contracts.artifacts import Scores
from data_contracts.results import Block, Cell, Table, Text
from tasks.reports.blocks import flat
from tasks.reports.html import render
from tasks.reports.readable import shorten
from tasks.tracking.runs import Tracker

_MOST = 50  # different answers of a column that are counted one by one
_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
_LONGEST = 120  # characters of an answer
_OWN = ("file", "row", "reason")


def log_scores(scores: Scores, parts: Path, tracker: Tracker) -> None:
    """Show the answers in the MLflow run: figures as metrics, tables in `scores/`. Safe to
    repeat.
    """
    share = scores.refused / max(scores.rows_in, 1)
    tracker.log_metrics({"rows": scores.rows_in, "refused": scores.refused, "refused_share": share})
    for block in scored_blocks(scores, parts):
        if isinstance(block, Table) and block.name is not None:
            tracker.log_table(*flat(block), f"scores/{block.name}.json")


def scored_page(scores: Scores, parts: Path) -> str:
    """The page of a score, as HTML."""
    return render("evaluation.html.j2", title="Scores", content=scored_blocks(scores, parts))


def scored_blocks(scores: Scores, parts: Path) -> list[Block]:
    """What a person wants to see, in order."""
    rows = dataset.dataset(sorted(map(str, parts.glob("part-*.parquet"))))
    blocks: list[Block] = [Text(warning, "note") for warning in scores.warnings]
    blocks.append(Text(f"{scores.rows_in:,} rows, answered by {scores.model}."))
    names = [name for name in rows.schema.names if name not in _OWN]
    for name in names:
        kind = rows.schema.field(name).type
        if pa.types.is_string(kind) or pa.types.is_boolean(kind):
            blocks += _counted(name, rows)
    numbers = [one for one in names if pa.types.is_floating(rows.schema.field(one).type)]
    if numbers:
        blocks += [Text("The numbers", "heading"), _spread(numbers, rows)]
    if scores.refused:
        blocks += [Text("Rows without an answer", "heading"), _reasons(rows)]
    return blocks


def _counted(name: str, rows: dataset.Dataset) -> list[Block]:
    column = _column(name, rows).drop_null()
    counts = sorted(column.value_counts().to_pylist(), key=lambda one: -one["counts"])
    if not counts or len(counts) > _MOST:
        return []
    table: tuple[tuple[Cell, ...], ...] = tuple(
        (shorten(str(one["values"]), _LONGEST), one["counts"], one["counts"] / len(column))
        for one in counts
    )
    return [Text(f"How often: {name}", "heading"), Table((name, "rows", "share"), table, name)]


def _spread(names: list[str], rows: dataset.Dataset) -> Table:
    columns = ("column", "mean", "least", "5 %", "median", "95 %", "most")
    told: list[tuple[Cell, ...]] = []
    for name in names:
        values = _column(name, rows).drop_null().to_numpy()
        if len(values):
            quantiles = [float(one) for one in np.quantile(values, _QUANTILES)]
            told.append((name, float(values.mean()), *quantiles))
    return Table(columns, tuple(told), "numbers")


def _reasons(rows: dataset.Dataset) -> Table:
    counts: list[dict[str, Any]] = _column("reason", rows).drop_null().value_counts().to_pylist()
    told = sorted(((one["values"], one["counts"]) for one in counts), key=lambda one: -one[1])
    return Table(("no answer, because", "rows"), tuple(told), "reasons")


def _column(name: str, rows: dataset.Dataset) -> pa.ChunkedArray:
    return pc.cast(rows.to_table(columns=[name])[name], rows.schema.field(name).type)
