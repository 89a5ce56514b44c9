"""Columns that a person names for a role, and those of the ids and splits."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from data_contracts.contract.columns import INDEX, SeenColumn
from data_contracts.contract.rows import Rows
from data_contracts.contract.text import SPLIT_NAMES
from data_contracts.errors import SourceError


def quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.\-]+", name) else f'"{name}"'


def named_column(columns: list[SeenColumn], name: str, role: str, rows: Rows) -> SeenColumn:
    if name in rows.hidden:
        raise SourceError(
            f"--{role} {name}: the column holds objects, or lists of several values.",
            "A row has one text and one label: write these as columns of text or numbers.",
        )
    for column in columns:
        if column.name == name:
            if not column.filled:
                raise SourceError(
                    f"--{role} {name}: the column is empty in all {len(rows):,} rows.",
                    "Name another.",
                )
            return column
    folded = {column.name.strip().casefold(): column.name for column in columns}
    near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    raise SourceError(
        f"--{role} {name}: there is no such column.{hint}", f"The columns are {listed(columns)}."
    )


def listed(columns: Sequence[SeenColumn]) -> str:
    return (
        ", ".join(repr(column.name[:60]) for column in columns[:20])
        + (" …" if len(columns) > 20 else "")
        or "none"
    )


def split_column(columns: list[SeenColumn], warned: list[str]) -> SeenColumn | None:
    """A column of train, valid and test. With one of them missing, that split would stay empty in
    every run.
    """
    for column in sorted(columns, key=lambda c: -c.named("split")):
        values = {value.strip().casefold() for value in column.counts}
        if not values or not values <= SPLIT_NAMES.keys():
            continue
        splits = {SPLIT_NAMES[value] for value in values}
        if len(splits) == 3:
            return column
        if column.named("split") or len(splits) == 2:
            missing = " and ".join(sorted({"train", "valid", "test"} - splits))
            warned.append(
                f"Column {column.name} gives splits, but no {missing} rows, so it is not used and "
                f"the splits are drawn "
                "by hash. To keep its test rows, write them to a file of their own and give "
                "--train and --test."
            )
            columns.remove(column)
            return None
    return None


def id_column(given: SeenColumn | None, columns: list[SeenColumn], rows: Rows) -> SeenColumn | None:
    """Only a column whose values are unique in each file, without gaps, can name rows."""
    if given is not None:
        unnamed, repeats = len(rows) - given.filled, given.filled - different(given, rows)
        if unnamed or repeats:
            what = (
                f"{repeats:,} of {len(rows):,} rows repeat an id of their file"
                if repeats
                else f"{unnamed:,} rows have none"
            )
            raise SourceError(
                f"--id {given.name}: {what}.",
                "Leave --id out: rows are then called by file and number.",
            )
        return given
    named = [
        c
        for c in columns
        if c.named("id") and not INDEX.fullmatch(c.name) and c.filled == len(rows)
    ]
    unique = [c for c in named if c.mean_length <= 80 and different(c, rows) == len(rows)]
    return max(unique, key=lambda c: c.named("id"), default=None)


def different(column: SeenColumn, rows: Rows) -> int:
    return len(
        {
            (file, cell)
            for file, cell in zip(rows.files, column.cells, strict=True)
            if cell and cell.strip()
        }
    )
