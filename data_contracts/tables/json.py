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
from data_contracts.tables.categories import NOT_TEXT
from data_contracts.tables.csv import lines
from data_contracts.tables.json_forms import other_form

_CHUNK = 1 << 16  # characters
_SPACE = " \t\r\n"
Record = tuple[int, dict[str, Any], int]  # its row, itself, its characters


def read_json(text: io.TextIOWrapper, place: Place, ask: Ask) -> Iterator[Batch]:
    text.reconfigure(newline="\n")
    found, wanted, first = records(text, place), list(ask.columns or ()), True
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
    faults, left_out = None, []
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


def _showable(cells: list[Any]) -> tuple[list[Any], bool]:
    """Lists of one value as that value, all else that is nested as null; whether there was any."""
    shown = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in cells]
    hidden = [isinstance(cell, dict | list) and bool(cell) for cell in shown]
    return [None if isinstance(cell, dict | list) else cell for cell in shown], any(hidden)


# --- records --------------------------------------------------------------------------------------


def records(text: io.TextIOWrapper, place: Place) -> Iterator[Record]:
    head = text.read(_CHUNK)
    while head.isspace() and len(head) < MAX_LINE_CHARACTERS and (more := text.read(_CHUNK)):
        head += more
    if not head:
        raise place.error("the file is empty", "Check the export that writes it.")
    if head.lstrip(_SPACE).startswith("["):
        yield from _elements(head, text.read, place, array=True)
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
                or not line.lstrip(_SPACE).startswith("{")
            )
            if broken or (rest := _complete(line, source)) is None:
                raise
            place.row = 0
            yield from _elements(rest, _reading(source), place, array=False)
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
        if more.lstrip(_SPACE)[:1] in "}]" and size > 2 * tried:
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
        json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip(_SPACE)))
    except (ValueError, RecursionError):
        return False
    return True


def _elements(
    buffer: str, read: Callable[[int], str], place: Place, *, array: bool
) -> Iterator[Record]:
    """The records of an array, or of values one after the other; rows count from 1."""
    values = _Values(buffer, read)
    if array:
        values.take()
    while (mark := values.next_character()) and not (array and mark == "]"):
        if array and place.row:
            if mark != ",":
                raise place.error(
                    "no comma behind its record in the JSON array", "Write the file again."
                )
            values.take()
            values.next_character()
        value, written = values.value(place)
        place.row += 1
        if not written.isascii() and BAD_BYTES.search(written):
            raise bad_encoding(place, place.row, written)
        yield place.row, _object(value, place), len(written)
    if array and not mark:
        raise place.error(
            "the JSON array is not closed, so records are missing", "Write the file again."
        )
    values.take()
    if array and values.next_character():
        raise place.error("something stands behind the JSON array", "Write the file again.")


class _Values:
    """JSON values one after the other, decoded from as many characters as they need."""

    def __init__(self, held: str, read: Callable[[int], str]) -> None:
        self._held, self._read = held, read
        self._at = 0
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """The next one that is no white space, which stays; "" at the end."""
        while True:
            while self._at < len(self._held) and self._held[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def take(self) -> None:
        """Pass over the next character."""
        self.next_character()
        self._at += 1

    def value(self, place: Place) -> tuple[Any, str]:
        """The next value, and what was written."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._held, self._at)
            except RecursionError as error:
                raise self._fault(error, place) from None
            except ValueError as error:
                # It may only be cut; but no record is longer than a line may be.
                if len(self._held) - self._at <= MAX_LINE_CHARACTERS and self._more():
                    continue
                raise self._fault(error, place) from None
            written = self._held[self._at : end]
            self._at = end
            return value, written

    def _more(self) -> bool:
        """Read as much again as is held; False at the end."""
        piece = self._read(max(_CHUNK, len(self._held) - self._at))
        self._held = self._held[self._at :] + piece
        self._at = 0
        return bool(piece)

    def _fault(self, error: Exception, place: Place) -> SourceError:
        place_in = f"character {getattr(error, 'pos', self._at) - self._at + 1} of the record"
        what = f"not valid JSON ({getattr(error, 'msg', error)} at {place_in})"
        return place.error(what, "Write the file again; each record is one object.", place.row + 1)


def _record(line: str, place: Place) -> dict[str, Any]:
    if not line.isascii() and BAD_BYTES.search(line):
        raise bad_encoding(place, place.row, line)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        why, column = getattr(error, "msg", error), getattr(error, "colno", 1)
        what = f"not valid JSON ({why} at column {column})"
        raise place.error(what, "JSON Lines has one complete object per line.") from None
    return _object(record, place)


def _object(value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.error(
            f"a JSON {_json_type(value)}, not an object",
            "Each record is one object of column and cell.",
        )
    return value


def _json_type(value: Any) -> str:
    names = {
        dict: "object",
        list: "array",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
    }
    return names.get(type(value), "null")
