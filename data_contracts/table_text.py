"""CSV (RFC 4180) and JSON Lines from a text stream, see `data_contracts.tables`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from data_contracts.table_batch import (
    BAD_BYTES,
    BATCH_CHARACTERS,
    MAX_CELL_CHARACTERS,
    MAX_LINE_CHARACTERS,
    Batch,
    Place,
    bad_encoding,
    check_columns,
    numbers,
    plain_text,
    strings,
)


def read_csv(
    text: io.TextIOWrapper, place: Place, columns: Sequence[str] | None, _: str | None, batch_rows: int
) -> Iterator[Batch]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(
        lines(text, place), strict=True
    )  # RFC 4180; strict: an open or misplaced quote is an error, not a guess
    with _csv_faults(place, reader):
        header = next((record for record in reader if record), None)
    if header is None:
        raise place.error("the file is empty", "Check the export that writes it.")
    if any(map(BAD_BYTES.search, header)):
        raise bad_encoding(place, 0)
    wanted = check_columns(place.file, header, columns)
    positions = {name: header.index(name) for name in wanted}
    while True:
        records: list[list[str]] = []
        characters = 0
        with _csv_faults(place, reader):
            for record in reader:
                if not record:  # a blank line
                    continue
                place.row += 1
                if len(record) != len(header):
                    what = (
                        f"{len(record)} fields where the header has {len(header)} (it ends on line {reader.line_num})"
                    )
                    raise place.error(what, "Quote cells that hold commas, quotes or line breaks (RFC 4180).")
                records.append(record)
                characters += sum(map(len, record)) + len(record)
                if len(records) == batch_rows or characters > BATCH_CHARACTERS:
                    break
        if not records:
            return
        first = place.row - len(records) + 1
        # CSV cannot tell an empty cell from a missing one: both are null.
        cells = {name: [record[at] or None for record in records] for name, at in positions.items()}
        rows = range(first, first + len(records))
        yield Batch({name: strings(values, rows, place) for name, values in cells.items()}, numbers(rows))


def lines(text: io.TextIOWrapper, place: Place) -> Iterator[str]:
    """The lines of a stream; one without end is an error before it fills the memory."""
    read = text.readline
    while line := read(MAX_LINE_CHARACTERS):
        if len(line) == MAX_LINE_CHARACTERS:
            raise place.error(
                f"a line of more than {MAX_LINE_CHARACTERS:,} characters", "Check the export.", place.row + 1
            )
        yield line


class _csv_faults:
    """Turns an error of the csv module into one that names the row."""

    def __init__(self, place: Place, reader: Any) -> None:
        self.place, self.reader = place, reader

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, csv.Error):
            what = f"not valid CSV: {error} (line {self.reader.line_num})"
            remedy = "Look for a quote that is not closed, or not doubled, in or before this row."
            raise self.place.error(what, remedy, self.place.row + 1) from error


def read_jsonl(
    text: io.TextIOWrapper, place: Place, columns: Sequence[str] | None, text_column: str | None, batch_rows: int
) -> Iterator[Batch]:
    text.reconfigure(newline="\n")
    checked, wanted, source = False, list(columns or ()), lines(text, place)
    while True:
        records: list[dict[str, Any]] = []
        rows: list[int] = []
        characters = 0
        for line in source:
            place.row += 1
            if line.isspace():
                continue
            records.append(_record(line, place))
            rows.append(place.row)
            characters += len(line)
            if len(records) == batch_rows or characters > BATCH_CHARACTERS:
                break
        if not place.row:
            raise place.error("the file is empty", "Check the export that writes it.")
        if not records:
            return
        if not checked:  # a key may be left out of a record where it is null, but hardly out of a whole batch
            there = list(dict.fromkeys(key for record in records for key in record))
            checked, wanted = True, check_columns(place.file, there, columns)
        cells = {
            name: [
                _cell(record.get(name), name, name == text_column, place, row)
                for record, row in zip(records, rows, strict=True)
            ]
            for name in wanted
        }
        yield Batch({name: strings(values, rows, place, json=True) for name, values in cells.items()}, numbers(rows))


def _record(line: str, place: Place) -> dict[str, Any]:
    if not line.isascii() and BAD_BYTES.search(line):
        raise bad_encoding(place, place.row)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = f"not valid JSON ({getattr(error, 'msg', error)} at column {getattr(error, 'colno', 1)})"
        raise place.error(what, "JSON Lines has one complete object per line.") from None
    if not isinstance(record, dict):
        raise place.error(f"a JSON {_json_type(record)}, not an object", "JSON Lines has one object per line.")
    return record


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _cell(value: Any, column: str, must_be_text: bool, place: Place, row: int) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if must_be_text or isinstance(value, (dict, list)):
        expected = "a string" if must_be_text else "a string, a number or a boolean"
        what = f"column {column!r} holds a JSON {_json_type(value)}, expected {expected}"
        raise place.error(what, "Name another column in the contract, or mend the export.", row)
    return plain_text(value)
