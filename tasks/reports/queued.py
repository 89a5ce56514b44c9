"""A queue, for people: how it came about, and the rows that stand first in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.artifacts import Queue
from data_contracts.results import Block, Cell, Table, Text
from tasks.reports.blocks import flat
from tasks.reports.html import render
from tasks.reports.readable import shorten
from tasks.tracking.runs import Tracker

_FIRST = 50  # rows that are shown
_LONGEST = 200  # characters of a text
_WHY = {
    "without": "have nothing to be asked",
    "filled": "have an answer already",
    "learnt": "are rows that the model was trained on",
    "repeated": "are the same as one before",
}


class Counted(Protocol):
    """What tells why rows are not in a queue: its manifest, or the result of its flow."""

    without: int
    filled: int
    learnt: int
    repeated: int


def left_out(queue: Counted) -> str:
    """Why rows are not in it, in a sentence; "" where none is left out for a reason."""
    counts = {words: getattr(queue, name) for name, words in _WHY.items()}
    told = "; ".join(f"{many:,} {words}" for words, many in counts.items() if many)
    return f"Left out: {told}." if told else ""


def log_queue(queue: Queue, folder: Path, tracker: Tracker) -> None:
    """Show it in the MLflow run: counts as metrics, its first rows as a table. Safe to repeat."""
    counts = {name: float(getattr(queue, name)) for name in _WHY}
    tracker.log_metrics({"rows": queue.rows_in, "queued": queue.rows_out, **counts})
    tracker.log_table(*flat(_first(queue, folder)), "queue/first.json")


def queue_page(queue: Queue, folder: Path) -> str:
    """The page of a queue, as HTML."""
    blocks: list[Block] = [
        Text(f"{queue.rows_out:,} of {queue.rows_in:,} rows, chosen by {queue.model}."),
    ]
    if told := left_out(queue):
        blocks.append(Text(told))
    blocks += [Text("What the model suggests", "heading"), _suggested(queue, folder)]
    blocks += [Text("The rows that it doubts most", "heading"), _first(queue, folder)]
    return render("evaluation.html.j2", title="Queue", content=blocks)


def first_rows(queue: Queue, folder: Path) -> list[dict[str, Any]]:
    """The rows that stand first, as a table of Prefect's."""
    header, rows = flat(_first(queue, folder))
    return [dict(zip(header, row, strict=True)) for row in rows]


def _suggested(queue: Queue, folder: Path) -> Table:
    column = _read(queue, folder, [queue.names["suggestion"]]).column(0)
    counts = sorted(column.value_counts().to_pylist(), key=lambda one: -one["counts"])
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (shorten(str(one["values"]), _LONGEST), one["counts"]) for one in counts[:_FIRST]
    )
    return Table(("suggestion", "rows"), rows, "suggestions")


def _first(queue: Queue, folder: Path) -> Table:
    told = {name: queue.names[name] for name in ("suggestion", "probability", "doubt")}
    columns = [*queue.asked.values(), *told.values()]
    rows: list[tuple[Cell, ...]] = []
    for row in _read(queue, folder, columns).slice(0, _FIRST).to_pylist():
        texts = [shorten(str(row[name] or ""), _LONGEST) for name in columns]
        numbers = [float(row[told[name]]) for name in ("probability", "doubt")]
        rows.append((*texts[:-2], *numbers))
    return Table((*queue.asked, *told), tuple(rows), "first")


def _read(queue: Queue, folder: Path, columns: list[str]) -> pa.Table:
    return pq.read_table(folder / "queue.parquet", columns=columns)
