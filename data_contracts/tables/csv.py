"""CSV (RFC 4180) with whatever stands between its cells, see `data_contracts.tables.read`."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from data_contracts.errors import SourceError
from data_contracts.tables.batch import (
    BAD_BYTES,
    BATCH_CHARACTERS,
    MAX_CELL_CHARACTERS,
    MAX_LINE_CHARACTERS,
    Ask,
    Batch,
    Place,
    bad_encoding,
    check_columns,
    numbers,
    shown_names,
    strings,
)

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "| characters"}
# Excel's own first line, which no other program skips.
_EXCEL = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.I)


def read_csv(text: io.TextIOWrapper, place: Place, ask: Ask) -> Iterator[Batch]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    source, separator, header, told = _opened(lines(text, place), place, ask)
    reader = csv.reader(source, delimiter=separator, strict=True)
    with _csv_faults(place, reader):
        next(record for record in reader if record)
    wanted = check_columns(place.file, header, ask.columns)
    wanted += [name for name in ask.optional if name in header and name not in wanted]
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
                    raise _uneven(place, record, header, reader.line_num, separator)
                records.append(record)
                characters += sum(map(len, record)) + len(record)
                if len(records) == ask.batch_rows or characters > BATCH_CHARACTERS:
                    break
        if not records:
            return
        first = place.row - len(records) + 1
        # CSV cannot tell an empty cell from a missing one: both are null.
        cells = {name: [record[at] or None for record in records] for name, at in positions.items()}
        rows = range(first, first + len(records))
        columns = {name: strings(values, rows, place) for name, values in cells.items()}
        yield Batch(
            columns, numbers(rows), told=Counter({told: len(records)}) if told else Counter()
        )


def lines(text: io.TextIOWrapper, place: Place) -> Iterator[str]:
    """The lines of a stream; one without end is an error before it fills the memory."""
    read = text.readline
    while line := read(MAX_LINE_CHARACTERS):
        if len(line) == MAX_LINE_CHARACTERS:
            raise place.error(
                f"a line of more than {MAX_LINE_CHARACTERS:,} characters",
                "Check the export.",
                place.row + 1,
            )
        yield line


def _opened(
    source: Iterator[str], place: Place, ask: Ask
) -> tuple[Iterator[str], str, list[str], str]:
    """The lines from the header on, what separates the cells, the header, and what is to be told of
    it.

    Where the usual separator does not give the wanted columns, the one whose header has them all is
    exact: no other reading of the file has them. Two readings that both fit, or none, are refused.
    """
    first = next(source, "")
    stated = _EXCEL.fullmatch(first)
    head = _FirstLines(source, [] if stated else [first], place)
    separator = ask.separator or (stated[1] if stated else ask.usual_separator) or ","
    try:
        header, fault = head.by(separator), None
    except SourceError as error:
        header, fault = [], error
    if not header and fault is None:
        raise place.error("the file is empty", "Check the export that writes it.")
    told = ""
    if not _fits(header, ask) and ask.separator is None:
        others = _readings(head, separator)
        fitting = [one for one, found in others.items() if _fits(found, ask)]
        if len(fitting) == 1 and (ask.roles or len(header) <= 1):
            separator, header, fault = fitting[0], others[fitting[0]], None
            told = f"cells are separated by {SEPARATORS[separator]}, as the header shows"
        elif ask.roles and fault is None:
            check_columns(place.file, header, ask.roles, *_look_at_separators(header, others))
    if fault is not None:
        raise fault
    if ask.columns is None:
        check_columns(place.file, header, ask.roles)
    return chain(head.held, source), separator, header, told


class _FirstLines:
    """The first lines of a source, held so that they can be read by one separator after another."""

    def __init__(self, source: Iterator[str], held: list[str], place: Place) -> None:
        self.source, self.held, self.place = source, held, place

    def by(self, separator: str) -> list[str]:
        """The header; empty where there is none.

        Raises:
            SourceError: these lines are no CSV by this separator.
        """
        reader = csv.reader(self._lines(), delimiter=separator, strict=True)
        with _csv_faults(self.place, reader):
            header = next((record for record in reader if record), [])
        if any(map(BAD_BYTES.search, header)):
            raise bad_encoding(self.place, 0, "\n".join(header))
        return header

    def _lines(self) -> Iterator[str]:
        yield from self.held
        for line in self.source:
            self.held.append(line)
            yield line


def _fits(header: list[str], ask: Ask) -> bool:
    return set(ask.roles) <= set(header) if ask.roles else len(header) > 1


def _readings(head: _FirstLines, tried: str) -> dict[str, list[str]]:
    """The header by every other separator by which it has several columns."""
    found = {}
    for separator in SEPARATORS:
        if separator != tried:
            try:
                header = head.by(separator)
            except SourceError:
                continue
            if len(header) > 1:
                found[separator] = header
    return found


def _look_at_separators(header: list[str], others: dict[str, list[str]]) -> tuple[str, str]:
    """A hint and a remedy for a header that lacks the wanted columns, where it may be a matter of
    the separator.
    """
    likely = {one: found for one, found in others.items() if len(found) > len(header)}
    if not likely:
        return "", _NAME_IT if len(header) == 1 else ""
    separator, found = max(likely.items(), key=lambda item: len(item[1]))
    return (
        f" Its header has {SEPARATORS[separator]}, by which its columns are {shown_names(found)}.",
        "Name the column in the contract, under columns; where a file mixes separators, set "
        "source.separator.",
    )


def _uneven(
    place: Place, record: list[str], header: list[str], line: int, separator: str
) -> SourceError:
    what = f"{len(record)} fields where the header has {len(header)} (it ends on line {line})"
    others = [
        name
        for one, name in SEPARATORS.items()
        if one != separator and len(header) == 1 and one in header[0]
    ]
    if others:
        return place.error(what, f"The header has {' and '.join(others)}: set source.separator.")
    cells = "commas" if separator == "," else SEPARATORS.get(separator, repr(separator))
    return place.error(what, f"Quote cells that hold {cells}, quotes or line breaks (RFC 4180).")


_NAME_IT = (
    "Name the column in the contract, under columns; or what separates the cells, in "
    "source.separator."
)


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
