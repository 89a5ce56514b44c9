"""JSON Lines, and records in a JSON array or one after the other, see `data_contracts.tables.read`.

The name does not decide: an array in a `.jsonl` and lines in a `.json` are read as what they are.
Memory is bounded by one batch, however long the array.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from data_contracts.errors import SourceError
from data_contracts.tables.batch import (
    BAD_BYTES,
    BATCH_CHARACTERS,
    MAX_LINE_CHARACTERS,
    Ask,
    Batch,
    Place,
    bad_encoding,
    check_columns,
    json_text,
    merged,
    numbers,
    plain_text,
    strings,
    told_of_nested,
)
from data_contracts.tables.categories import ANSWERED_IMPOSSIBLE, NOT_TEXT
from data_contracts.tables.csv import lines
from data_contracts.tables.json_forms import other_form
from data_contracts.tables.json_values import CHUNK, SPACE, articles, as_object, elements
from data_contracts.tables.questions import (
    Record,
    answered_impossible,
    holds_articles,
    one_by_one,
)


def read_json(text: io.TextIOWrapper, place: Place, ask: Ask) -> Iterator[Batch]:
    text.reconfigure(newline="\n")
    found = one_by_one(records(text, place), place)
    wanted, first = list(ask.columns or ()), True
    while True:
        rows: list[int] = []
        batch: list[dict[str, Any]] = []
        characters = 0
        for row, record, size in found:
            rows.append(row)
            batch.append(record)
            characters += size
            if len(batch) == ask.batch_rows or characters > BATCH_CHARACTERS:
                break
        if not batch:
            return
        if first or ask.columns is None:
            # A key may be left out of a record where it is null, but hardly out of a whole batch.
            there = list(dict.fromkeys(key for record in batch for key in record))
            if first and (refusal := other_form(batch, ask, place)) is not None:
                raise refusal
            nested = {key: cell for key, cell in batch[0].items() if isinstance(cell, dict)}
            told = told_of_nested(nested, there, ask.columns)
            wanted = check_columns(place.file, there, ask.columns, *told)
            if first and ask.columns is None:
                check_columns(place.file, there, ask.roles)
            wanted += [name for name in ask.optional if name in there and name not in wanted]
            first = False
        yield _batch(batch, rows, wanted, ask, place)


def _batch(
    records: list[dict[str, Any]], rows: list[int], wanted: list[str], ask: Ask, place: Place
) -> Batch:
    columns: dict[str, pa.Array] = {}
    faults, left_out = _impossible(records), []
    for name in wanted:
        cells = [record.get(name) for record in records]
        if name in ask.texts:
            faults = merged(faults, _not_text(cells))
        if ask.columns is None and name not in ask.roles:
            cells, hidden = _showable(cells)
            left_out += [name] if hidden else []
        columns[name] = strings([_cell_text(cell) for cell in cells], rows, place, json=True)
    return Batch(columns, numbers(rows), left_out=tuple(left_out), faults=faults)


def _cell_text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return json_text(cell) if isinstance(cell, dict | list) else plain_text(cell)


def _not_text(cells: list[Any]) -> pa.Array | None:
    bad = [cell is not None and not isinstance(cell, str) for cell in cells]
    return pa.array([NOT_TEXT if one else None for one in bad], pa.string()) if any(bad) else None


def _impossible(records: list[dict[str, Any]]) -> pa.Array | None:
    bad = [answered_impossible(record) for record in records]
    if not any(bad):
        return None
    return pa.array([ANSWERED_IMPOSSIBLE if one else None for one in bad], pa.string())


def _showable(cells: list[Any]) -> tuple[list[Any], bool]:
    """Lists of one value as that value, all else that is nested as null; whether there was any."""
    shown = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in cells]
    hidden = [isinstance(cell, dict | list) and bool(cell) for cell in shown]
    return [None if isinstance(cell, dict | list) else cell for cell in shown], any(hidden)


# --- records --------------------------------------------------------------------------------------


def records(text: io.TextIOWrapper, place: Place) -> Iterator[Record]:
    head = text.read(CHUNK)
    while head.isspace() and len(head) < MAX_LINE_CHARACTERS and (more := text.read(CHUNK)):
        head += more
    if not head:
        raise place.error("the file is empty", "Check the export that writes it.")
    if head.lstrip(SPACE).startswith("["):
        yield from elements(head, text.read, place, array=True)
        return
    if holds_articles(head):
        yield from articles(head, text.read, place)
        return
    source, opened = _lines_after(head, text, place), False
    for line in source:
        place.row += 1
        if not line or line.isspace():
            continue
        try:
            record = _record(line, place)
        except SourceError:
            # An object that is written over several lines, or several of them: read by its braces
            # and not by line ends.
            broken = (
                opened
                or _decodes(line)
                or BAD_BYTES.search(line)
                or not line.lstrip(SPACE).startswith("{")
            )
            if broken or (rest := _complete(line, source)) is None:
                raise
            place.row = 0
            yield from elements(rest, _reading(source), place, array=False)
            return
        opened = True
        yield place.row, record, len(line)


def _lines_after(head: str, text: io.TextIOWrapper, place: Place) -> Iterator[str]:
    *whole, rest = head.split("\n")
    yield from (f"{line}\n" for line in whole)
    rest += text.readline(MAX_LINE_CHARACTERS)
    if len(rest) >= MAX_LINE_CHARACTERS:
        row = place.row + 1
        raise place.error(
            f"a line of more than {MAX_LINE_CHARACTERS:,} characters", "Check the export.", row
        )
    if rest:
        yield rest
    yield from lines(text, place)


def _complete(line: str, source: Iterator[str]) -> str | None:
    """The first line and those after it that make an object of it, if any do within the bound of a
    line.
    """
    parts, size, tried = [line], len(line), 0
    for more in source:
        parts.append(more)
        size += len(more)
        if size > MAX_LINE_CHARACTERS:
            return None
        if more.lstrip(SPACE)[:1] in "}]" and size > 2 * tried:
            tried, joined = size, "".join(parts)
            if _decodes(joined):
                return joined
    joined = "".join(parts)
    return joined if _decodes(joined) else None


def _reading(source: Iterator[str]) -> Callable[[int], str]:
    """What is left of the lines, read by characters: at least as many as asked for, or all there
    are.
    """

    def read(characters: int) -> str:
        parts: list[str] = []
        while characters > 0 and (line := next(source, "")):
            parts.append(line)
            characters -= len(line)
        return "".join(parts)

    return read


def _decodes(text: str) -> bool:
    try:
        json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip(SPACE)))
    except (ValueError, RecursionError):
        return False
    return True


def _record(line: str, place: Place) -> dict[str, Any]:
    if not line.isascii() and BAD_BYTES.search(line):
        raise bad_encoding(place, place.row, line)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        why, column = getattr(error, "msg", error), getattr(error, "colno", 1)
        what = f"not valid JSON ({why} at column {column})"
        raise place.error(what, "JSON Lines has one complete object per line.") from None
    return as_object(record, place)
