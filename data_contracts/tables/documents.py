"""Plain text as rows of one column, see `data_contracts.tables.read`.

A document is a file, a paragraph or a line of one, and stands in its row as it is written: of a
paragraph only the blank lines around it are left out, with the line end before them, of a line its
end. Rows are numbered by the line on which they begin. A file without a document is one row of an
empty text, so that it is counted and named where rows are judged.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from data_contracts.tables.batch import (
    BAD_BYTES,
    BATCH_CHARACTERS,
    MAX_CELL_CHARACTERS,
    Ask,
    Batch,
    Documents,
    Place,
    bad_encoding,
    check_columns,
    numbers,
    strings,
)

COLUMN = "text"
_WAY_OUT = {
    "file": "Set source.documents: paragraph or line, or cut the file into several.",
    "paragraph": "Set source.documents: line, or put blank lines into it.",
    "line": "Put line ends into it.",
}
_ONE_COLUMN = (
    f"It is plain text, which has the one column {COLUMN}: name that in the contract, under "
    "columns. Where it is a table, set source.format: csv (and source.separator)."
)


def read_documents(text: io.TextIOWrapper, place: Place, ask: Ask) -> Iterator[Batch]:
    place.unit = "line"
    check_columns(place.file, [COLUMN], ask.columns or ask.roles, remedy=_ONE_COLUMN)
    rows: list[int] = []
    cells: list[str | None] = []
    characters = 0
    for row, document in _all_documents(text, place, ask.documents):
        rows.append(row)
        cells.append(document)
        characters += len(document)
        if len(rows) == ask.batch_rows or characters > BATCH_CHARACTERS:
            yield Batch({COLUMN: strings(cells, rows, place)}, numbers(rows))
            rows, cells, characters = [], [], 0
    if rows:
        yield Batch({COLUMN: strings(cells, rows, place)}, numbers(rows))


def _all_documents(
    text: io.TextIOWrapper, place: Place, documents: Documents
) -> Iterator[tuple[int, str]]:
    """Each document with the line on which it begins; an empty one where there is none."""
    held = _Held(place, documents)
    found = False
    for line in _lines(text, place):
        blank = line.isspace()
        if not blank or documents == "file":
            held.add(line)
        if held and (documents == "line" or (documents == "paragraph" and blank)):
            found = True
            yield held.take()
    if held or not found:
        yield held.take()


@dataclass
class _Held:
    """The lines of the document that is being read."""

    place: Place
    documents: Documents

    def __post_init__(self) -> None:
        self.lines: list[str] = []
        self.characters = 0
        self.first = 1

    def __bool__(self) -> bool:
        return bool(self.lines)

    def add(self, line: str) -> None:
        if not self.lines:
            self.first = self.place.row
        self.lines.append(line)
        self.characters += len(line)
        if self.characters > MAX_CELL_CHARACTERS:
            what = f"a {self.documents} of more than {MAX_CELL_CHARACTERS:,} characters"
            raise self.place.error(
                f"{what}, the most that a row may have",
                _WAY_OUT[self.documents],
                0 if self.documents == "file" else self.first,  # 0: the file as a whole
            )

    def take(self) -> tuple[int, str]:
        """The document, and the line on which it begins."""
        text = "".join(self.lines)
        if self.documents != "file":
            text = text.removesuffix("\n").removesuffix("\r")
        self.lines, self.characters = [], 0
        return self.first, text


def _lines(text: io.TextIOWrapper, place: Place) -> Iterator[str]:
    """The lines with their ends as they are written (LF, CR LF or CR), counted."""
    # What is longer than a row may be is refused by whoever holds it, so it may come in pieces.
    while line := text.readline(MAX_CELL_CHARACTERS + 1):
        place.row += 1
        if not line.isascii() and BAD_BYTES.search(line):
            raise bad_encoding(place, place.row, line + text.read(1 << 14))
        yield line
