"""What the readers of `data_contracts.tables` share: batches of rows, places in a file, columns and cells as text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pyarrow as pa

from data_contracts.errors import SourceError

BAD_BYTES = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" leaves of bytes that do not decode
# A quote that is never closed swallows the rest of the file; stop long before it swallows the memory.
MAX_CELL_CHARACTERS = 1 << 24
MAX_LINE_CHARACTERS = 1 << 25
# Text shrinks 3 to 10 times, rows that repeat one another up to some 50 times; gzip can 1,030 times.
MAX_EXPANSION = 200
FREE_EXPANSION = 1 << 26  # bytes
MAX_COLUMNS = 10_000
BATCH_CHARACTERS = 1 << 23  # a batch of long rows is cut where it has so many
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Batch:
    """Some rows of one file: string columns by their name in the file, and the rows' numbers."""

    columns: dict[str, pa.Array]
    rows: pa.Array
    left_out: tuple[str, ...] = ()  # columns that no text can show (objects, lists, embeddings), where all were asked

    def first(self, rows: int) -> Batch:
        """At most so many rows of it."""
        if len(self.rows) <= rows:
            return self
        return replace(
            self,
            columns={name: column.slice(0, rows) for name, column in self.columns.items()},
            rows=self.rows.slice(0, rows),
        )


@dataclass
class Place:
    """Where the reader stands, for messages."""

    file: str
    row: int = 0
    encoding: str = "utf-8"

    def error(self, what: str, remedy: str, row: int | None = None) -> SourceError:
        at = self.row if row is None else row
        return SourceError(f"{self.file}{f', row {at}' if at else ''}: {what}.", remedy)


def bad_encoding(place: Place, row: int) -> SourceError:
    remedy = "Save the file in that encoding, or name the one it has in source.encoding."
    return place.error(f"the bytes are not {place.encoding}", remedy, row)


def check_columns(file: str, there: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """The wanted columns, or an error that lists what is there and the nearest name."""
    if len(there) > MAX_COLUMNS:
        raise SourceError(f"{file}: {len(there):,} columns.", f"At most {MAX_COLUMNS:,} are read.")
    if wanted is None:
        return list(dict.fromkeys(there))
    for name in wanted:
        if name not in there:
            folded = {other.strip().casefold(): other for other in there}
            near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
            hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
            shown = ", ".join(repr(other[:60]) for other in there[:20]) + (" …" if len(there) > 20 else "")
            raise SourceError(
                f"{file}: no column {name!r}. It has {shown}.{hint}", "Name the column in the contract, under columns."
            )
        if list(there).count(name) > 1:
            raise SourceError(f"{file}: two columns are called {name!r}.", "Give each column a name of its own.")
    return list(wanted)


def numbers(rows: Sequence[int]) -> pa.Array:
    return pa.array(rows, pa.int64())


def strings(values: list[str | None], rows: Sequence[int], place: Place, json: bool = False) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        pass
    if json:
        # "\ud83d" alone is a legal JSON escape for no character at all: U+FFFD, and the contract judges the row.
        return pa.array([None if v is None else _SURROGATES.sub("\ufffd", v) for v in values], pa.string())
    row = next(row for row, value in zip(rows, values, strict=True) if value and _SURROGATES.search(value))
    raise bad_encoding(place, row)


def plain_text(value: Any) -> str | None:
    """A scalar as text: 1 and 1.0 are '1', 0.25 is '0.25', True is 'true', NaN is null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (float, Decimal)):
        if value != value:
            return None
        number = Decimal(repr(value)) if isinstance(value, float) else value
        if not number.is_finite():
            return str(value)
        digits = format(number, "f")
        digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
        return "0" if digits == "-0" else digits
    return str(value)
