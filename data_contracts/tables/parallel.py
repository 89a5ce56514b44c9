"""Several plain texts as the columns of one table: line n of each is row n.

A blank line is a line, and its cell is an empty text, so that no row moves up. Lines end in LF,
before which a CR is left out; a CR by itself stays in its line, as other readers of such files have
it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import IO

from data_contracts.errors import SourceError
from data_contracts.tables.batch import (
    BAD_BYTES,
    BATCH_CHARACTERS,
    MAX_CELL_CHARACTERS,
    Ask,
    Batch,
    Place,
    bad_encoding,
    check_columns,
    numbers,
    strings,
    with_categories,
)
from data_contracts.tables.read import text_of

_PIECE = 1 << 20  # characters
_ONE_COLUMN_EACH = (
    "These are text files, each of which is one column by the name that source.url gives it: name "
    "that in the contract, under columns."
)


@dataclass(frozen=True)
class Side:
    """One of the texts: the column that it is, and what the messages call its file."""

    column: str
    name: str
    stream: IO[bytes]


def read_parallel(
    sides: Sequence[Side], ask: Ask, *, encoding: str = "utf-8", most: int | None = None
) -> Generator[Batch]:
    """Read uncompressed streams side by side.

    Args:
        encoding: of all; a byte order mark comes before it.
        most: rows to give; the lines that follow are only counted.
    Raises:
        SourceError: naming the file and line, or both files where one has more lines.
    """
    names = [side.name for side in sides]
    columns = [side.column for side in sides]
    check_columns("+".join(names), columns, ask.columns or ask.roles, remedy=_ONE_COLUMN_EACH)
    with contextlib.ExitStack() as stack:
        places = [Place(name, encoding=encoding, unit="line") for name in names]
        texts = [
            _Lines(stack.enter_context(text_of(side.stream, place)), place)
            for side, place in zip(sides, places, strict=True)
        ]
        row = 0
        while most is None or row < most:
            rows = ask.batch_rows if most is None else min(ask.batch_rows, most - row)
            found = _next_rows(texts, rows)
            if not found:
                break
            after = range(row + 1, row + 1 + len(found))
            row += len(found)
            by_column = zip(columns, zip(*found, strict=True), places, strict=True)
            cells = {column: strings(list(lines), after, at) for column, lines, at in by_column}
            yield with_categories(Batch(cells, numbers(after)), ask.categories)
        counts = [text.count() for text in texts]
    if len(set(counts)) > 1:
        told = " and ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
        raise SourceError(
            f"The files have different numbers of lines, {told}, and line n of one belongs to line "
            "n of the other.",
            "Write them again together; what has no counterpart needs a blank line in its place.",
        )


def _next_rows(texts: Sequence[_Lines], most: int) -> list[list[str]]:
    """The next lines of all texts, as far as each of them has one."""
    found: list[list[str]] = []
    characters = 0
    while len(found) < most and characters <= BATCH_CHARACTERS:
        lines = [text.next() for text in texts]
        whole = [line for line in lines if line is not None]
        if len(whole) < len(lines):
            break
        found.append(whole)
        characters += sum(map(len, whole))
    return found


class _Lines:
    """The lines of one text, counted."""

    def __init__(self, text: io.TextIOWrapper, place: Place) -> None:
        text.reconfigure(newline="\n")
        self._text, self._place = text, place

    def next(self) -> str | None:
        """The next line without its end; None behind the last one."""
        line = self._text.readline(MAX_CELL_CHARACTERS + 1)
        if not line:
            return None
        self._place.row += 1
        if len(line) > MAX_CELL_CHARACTERS:
            what = f"a line of more than {MAX_CELL_CHARACTERS:,} characters"
            raise self._place.error(f"{what}, the most that a row may have", "Check the export.")
        if not line.isascii() and BAD_BYTES.search(line):
            raise bad_encoding(self._place, self._place.row, line + self._text.read(1 << 14))
        return line.removesuffix("\n").removesuffix("\r")

    def count(self) -> int:
        """All its lines, those that were not read too."""
        last = "\n"
        while piece := self._text.read(_PIECE):
            self._place.row += piece.count("\n")
            last = piece[-1]
        self._place.row += last != "\n"
        return self._place.row
