"""Blocks of a report as files: JSON, tables, and themselves. No kind is known here.

A `Table` or `Matrix` that is known by name is a file of that name, as CSV. In JSON a block stands
under its name. How a page shows them is `tasks.reports.html`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_contracts.results import (
    Bars,
    Block,
    Curve,
    Highlights,
    Interval,
    Matrix,
    Table,
    Text,
)
from tasks.reports.readable import write_csv

FILE = "blocks.json"
_KINDS: dict[str, TypeAdapter[Block]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Text, Table, Matrix, Curve, Bars, Highlights)
}


def dump(blocks: Sequence[Block]) -> str:
    """The blocks as JSON, to be read back by `load`."""
    plain = [{"block": type(block).__name__, **asdict(block)} for block in blocks]
    return json.dumps(plain, ensure_ascii=False, default=_as_plain)


def load(text: str) -> list[Block]:
    """The blocks that `dump` wrote."""
    return [_KINDS[one.pop("block")].validate_python(one) for one in json.loads(text)]


def _as_plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Interval) else value.item()


def as_json(blocks: Sequence[Block]) -> dict[str, Any]:
    """The blocks that have a name, by it."""
    return {
        block.name: _plain(block)
        for block in blocks
        if not isinstance(block, Text) and block.name is not None
    }


def write_files(blocks: Sequence[Block], out: Path) -> None:
    """Tables of the blocks that have a name, below `out`."""
    for block in blocks:
        match block:
            case Table(name=str(name)) | Matrix(name=str(name)):
                write_csv(out / f"{name}.csv", *flat(block))


def flat(block: Table | Matrix) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of plain values, for a file or for `Tracker.log_table`.

    An interval is three columns: `f1`, `f1_low`, `f1_high`.
    """
    if isinstance(block, Matrix):
        header = [f"{block.down} \\ {block.across}", *block.parts]
        return header, [
            [part, *counts] for part, counts in zip(block.parts, block.counts, strict=True)
        ]
    wide = [
        any(isinstance(row[place], Interval) for row in block.rows)
        for place in range(len(block.columns))
    ]
    header = []
    for name, is_interval in zip(block.columns, wide, strict=True):
        header += [name, f"{name}_low", f"{name}_high"] if is_interval else [name]
    rows = []
    for row in block.rows:
        cells: list[Any] = []
        for cell, is_interval in zip(row, wide, strict=True):
            if isinstance(cell, Interval):
                cells += [cell.value, cell.low, cell.high]
            else:
                cells += [None] * 3 if is_interval else [cell]
        rows.append(cells)
    return header, rows


def _plain(block: Table | Matrix | Curve | Bars | Highlights) -> Any:
    match block:
        case Highlights():
            return [
                {
                    "title": one.title,
                    "note": one.note,
                    "parts": [
                        {"token": one.text[start:end], "start": start, "end": end, "adds": adds}
                        for start, end, adds in one.parts
                    ],
                }
                for one in block.texts
            ]
        case Matrix():
            return [list(counts) for counts in block.counts]
        case Curve():
            return {
                "edges": list(block.edges),
                "rows": list(block.rows),
                block.x_words: list(block.x),
                block.y_words: list(block.y),
            }
        case Bars():
            return {
                part: None if value is None else value.model_dump()
                for part, value in zip(block.parts, block.values, strict=True)
            }
        case Table():
            return [
                {
                    name: cell.model_dump() if isinstance(cell, Interval) else cell
                    for name, cell in zip(block.columns, row, strict=True)
                }
                for row in block.rows
            ]
