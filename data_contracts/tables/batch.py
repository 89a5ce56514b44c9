"""What the readers of `data_contracts.tables` share: batches of rows, places in a file, columns and
cells as text.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.errors import SourceError
from data_contracts.tables.categories import NESTED_VALUE, SEVERAL_VALUES, category_text, unlisted
from data_contracts.tables.encoding import likely_encodings

# What errors="surrogateescape" leaves of bytes that do not decode.
BAD_BYTES = re.compile("[\udc80-\udcff]")
# A quote that is never closed swallows the rest of the file; stop long before it swallows the
# memory.
MAX_CELL_CHARACTERS = 1 << 24
MAX_LINE_CHARACTERS = 1 << 25
# Text shrinks 3 to 10 times, rows that repeat one another up to some 50 times; gzip can 1,030
# times.
MAX_EXPANSION = 200
FREE_EXPANSION = 1 << 26  # bytes
MAX_COLUMNS = 10_000
BATCH_CHARACTERS = 1 << 23  # a batch of long rows is cut where it has so many
Documents = Literal["file", "paragraph", "line"]
MAX_SPELLINGS = 1_000  # of categories, told one by one
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Batch:
    """Some rows of one file: string columns by their name in the file, and the rows' numbers."""

    columns: dict[str, pa.Array]
    rows: pa.Array
    left_out: tuple[
        str, ...
    ] = ()  # columns that no text can show (objects, lists, embeddings), where all were asked
    # String per row, why a cell of it is none; None where no row has a fault.
    faults: pa.Array | None = None
    # What was read otherwise than a reader may think, and its rows.
    told: Counter[str] = field(default_factory=Counter)
    # Categories as written and as read, where these differ.
    spelled: Counter[tuple[str, str]] = field(default_factory=Counter)

    def first(self, rows: int) -> Batch:
        """At most so many rows of it."""
        if len(self.rows) <= rows:
            return self
        return replace(
            self,
            columns={name: column.slice(0, rows) for name, column in self.columns.items()},
            rows=self.rows.slice(0, rows),
            faults=None if self.faults is None else self.faults.slice(0, rows),
        )


@dataclass(frozen=True)
class Ask:
    """What of a table is asked for."""

    # All of them must be there; None: every one that a text can show.
    columns: Sequence[str] | None = None
    # Must hold strings; others may hold numbers, which become decimal text.
    texts: Sequence[str] = ()
    # Hold one of several values, given as `data_contracts.tables.categories` spells them, each with
    # the values that are known: where these are class numbers, Parquet's names for these stay
    # unused.
    categories: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    optional: Sequence[str] = ()  # read as well, where they are there
    separator: str | None = None  # of CSV; None: the usual one, or the one whose header fits
    usual_separator: str | None = None  # None: as the file's name has it
    documents: Documents = "file"  # what of plain text is a row
    batch_rows: int = 50_000

    @property
    def roles(self) -> list[str]:
        """The columns without which nothing can be done."""
        return list(self.columns) if self.columns is not None else [*self.texts, *self.categories]


EVERYTHING = Ask()


@dataclass
class Place:
    """Where the reader stands, for messages."""

    file: str
    row: int = 0
    encoding: str = "utf-8"
    unit: str = "row"  # what `row` counts

    def error(self, what: str, remedy: str, row: int | None = None) -> SourceError:
        at = self.row if row is None else row
        return SourceError(f"{self.file}{f', {self.unit} {at}' if at else ''}: {what}.", remedy)


def bad_encoding(place: Place, row: int, undecoded: str = "") -> SourceError:
    """The error of bytes that are not in the encoding that was named.

    Args:
        undecoded: text around the fault, with its bad bytes as surrogates, from which the likely
            encoding is told.
    """
    likely = likely_encodings(undecoded, place.encoding)
    looks = f"; they look like {likely}" if likely else ""
    remedy = "Save the file in that encoding, or name the one it has in source.encoding."
    return place.error(f"the bytes are not {place.encoding}{looks}", remedy, row)


def check_columns(
    file: str, there: Sequence[str], wanted: Sequence[str] | None, hint: str = "", remedy: str = ""
) -> list[str]:
    """The wanted columns, or an error that lists what is there and the nearest name."""
    if len(there) > MAX_COLUMNS:
        raise SourceError(f"{file}: {len(there):,} columns.", f"At most {MAX_COLUMNS:,} are read.")
    if wanted is None:
        return list(dict.fromkeys(there))
    for name in wanted:
        if name not in there:
            folded = {other.strip().casefold(): other for other in there}
            near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
            meant = f" Did you mean {folded[near[0]]!r}?" if near else ""
            raise SourceError(
                f"{file}: no column {name!r}. It has {shown_names(there)}.{meant}{hint}",
                remedy or "Name the column in the contract, under columns.",
            )
        if list(there).count(name) > 1:
            raise SourceError(
                f"{file}: two columns are called {name!r}.", "Give each column a name of its own."
            )
    return list(dict.fromkeys(wanted))


def told_of_nested(
    nested: Mapping[str, Iterable[str]], there: Sequence[str], wanted: Sequence[str] | None
) -> tuple[str, str]:
    """Of columns that are missing since they stand within an object: where, and the way out.

    Args:
        nested: the names within each column of objects.
    """
    missing = {name for name in wanted or () if name not in there}
    for column, names in nested.items():
        if missing & set(names):
            hint = f" It stands within {column!r}, an object with {shown_names(list(names))}."
            return hint, way_out_of_nested(column)
    return "", ""


def way_out_of_nested(column: str) -> str:
    """How a column of objects becomes a column for each name in it."""
    return (
        f"Write a column for each: of JSON Lines by jq -c .{column} in.jsonl > out.jsonl; of "
        f"Parquet by pandas.json_normalize(pandas.read_parquet('in.parquet')[{column!r}])"
        ".to_parquet('out.parquet')."
    )


def shown_names(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:20]) + (" …" if len(names) > 20 else "")


def numbers(rows: Sequence[int]) -> pa.Array:
    return pa.array(rows, pa.int64())


def strings(
    values: list[str | None], rows: Sequence[int], place: Place, json: bool = False
) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        pass
    if json:
        # "\ud83d" alone is a legal JSON escape for no character at all: U+FFFD, and the contract
        # judges the row.
        return pa.array(
            [None if v is None else _SURROGATES.sub("\ufffd", v) for v in values], pa.string()
        )
    bad = [
        (row, value)
        for row, value in zip(rows, values, strict=True)
        if value and _SURROGATES.search(value)
    ]
    raise bad_encoding(place, bad[0][0], "\n".join(value for _, value in bad[:1000]))


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


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def with_categories(batch: Batch, columns: Iterable[str]) -> Batch:
    """The batch with its categories as `tables.categories` spells them, what is none as a fault."""
    for name in columns:
        if name in batch.columns:
            batch = _with_category(batch, name)
    return batch


def _with_category(batch: Batch, name: str) -> Batch:
    encoded = batch.columns[name].dictionary_encode()
    written = encoded.dictionary.to_pylist()
    read = [category_cell(one) for one in written]
    values = [value for value, _ in read]
    reasons = [reason for _, reason in read]
    if values == written and not any(reasons):
        return batch
    times = Counter(encoded.indices.to_pylist())
    spelled = batch.spelled.copy()
    for at, (cell, value) in enumerate(zip(written, values, strict=True)):
        if value is not None and value != cell:
            spelled[cell, value] += times[at]
    # What is no category stands there as it is written, for whoever looks at the quarantine.
    shown = [cell if reason else value for cell, (value, reason) in zip(written, read, strict=True)]
    faults = pa.array(reasons, pa.string()).take(encoded.indices)
    if faults.null_count == len(faults):
        faults = None
    cells = pa.array(shown, pa.string()).take(encoded.indices)
    columns = {**batch.columns, name: cells}
    return replace(batch, columns=columns, faults=merged(batch.faults, faults), spelled=spelled)


def merged(first: pa.Array | None, second: pa.Array | None) -> pa.Array | None:
    """The faults of both; of a row that has two, the first."""
    if first is None or second is None:
        return second if first is None else first
    return pc.coalesce(first, second)


def category_cell(written: str) -> tuple[str | None, str | None]:
    """The value of a cell and, where it holds something else, the reason.

    A list of one value is that value.
    """
    value = unlisted(written)
    if isinstance(value, dict) and set(value) == {"choices"}:  # Label Studio's
        value = value["choices"]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | int | float):
        value = value[0] if isinstance(value[0], str) else plain_text(value[0]) or ""
    if isinstance(value, str):
        return category_text(value), None
    if not value:
        return None, None
    flat = isinstance(value, list) and all(isinstance(one, str | int | float) for one in value)
    return written, SEVERAL_VALUES if flat else NESTED_VALUE
