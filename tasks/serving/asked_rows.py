"""The rows that a model is asked, from any table that the pipeline reads: CSV, JSON or Parquet.

A text that cannot be answered (blank, missing, no string) is a reason for its own row. Memory is
bounded by a batch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.tables.batch import Ask, Batch
from data_contracts.tables.read import PLAIN_TEXT, read_batches, read_records
from tasks.sources.source_file import Opened, SourceFile

ROWS = 256  # at a time
SURROGATES = re.compile("[\ud800-\udfff]")
_JSON = ("jsonl", "json")


class Asks(Protocol):
    """What is asked: columns of texts by name, of which a row may lack the `optional` ones."""

    @property
    def inputs(self) -> Sequence[str]: ...
    @property
    def optional(self) -> Sequence[str]: ...
    @property
    def only_input(self) -> str: ...


@dataclass(frozen=True)
class AskedRows:
    """Some rows of a file: what the model is asked, why a row cannot be, and everything they hold
    (a record each, or a table).
    """

    numbers: list[int]
    asked: dict[str, list[str | None]]  # by the model's inputs
    reasons: list[str | None]
    carried: pa.Table | list[dict[str, Any]]

    def pieces(self, size: int) -> Iterator[AskedRows]:
        """So many of the rows at a time, in their order."""
        for first in range(0, len(self.numbers), size):
            some = slice(first, first + size)
            asked = {name: texts[some] for name, texts in self.asked.items()}
            yield AskedRows(self.numbers[some], asked, self.reasons[some], self.carried[some])


# --- which columns --------------------------------------------------------------------------------


def columns_of(
    files: list[SourceFile],
    source: FileSource,
    column: str | None,
    scratch: Path,
    asks: Asks,
) -> tuple[list[str], dict[str, str]]:
    """The columns of all files, and for each of the model's inputs the one that holds it."""
    columns: list[str] = []
    for file in files:
        there = _columns_of(file, source, column, scratch)
        if file.format not in _JSON and columns and there != columns:
            other = next(iter(set(there) ^ set(columns)), "their order")
            raise SourceError(
                f"{file.name}: its columns are not those of {files[0].name} ({other}).",
                "Predict them one by one.",
            )
        columns += [name for name in there if name not in columns]
    return columns, _asked_columns(files[0].name, columns, column, asks)


def _asked_columns(file: str, columns: list[str], wanted: str | None, asks: Asks) -> dict[str, str]:
    """Where a model is asked one column, any may hold it; of several each has its own name."""
    if not columns:
        raise SourceError(f"{file}: no rows.", "Check the export that writes it.")
    if wanted is not None or len(asks.inputs) == 1:
        only = asks.only_input
        return {only: _text_column(file, columns, wanted, only)}
    needed = [name for name in asks.inputs if name not in asks.optional]
    if missing := [name for name in needed if name not in columns]:
        raise SourceError(
            f"{file}: no column {missing[0]!r}, which the model is asked.",
            f"Give the columns {', '.join(needed)} these names.",
        )
    return {name: name for name in asks.inputs if name in columns}


def _text_column(file: str, columns: list[str], wanted: str | None, usual: str) -> str:
    if wanted is None and len(columns) == 1:
        return columns[0]
    name = usual if wanted is None else wanted
    if name in columns:
        return name
    shown = ", ".join(repr(one[:60]) for one in columns[:20]) + (" …" if len(columns) > 20 else "")
    if wanted is None:
        raise SourceError(
            f"{file}: which column holds the texts? It has {shown}.", "Name it with --column."
        )
    folded = {one.strip().casefold(): one for one in columns}
    near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    raise SourceError(
        f"{file}: no column {name!r}. It has {shown}.{hint}",
        "Name the column of the texts: --column.",
    )


def _columns_of(
    file: SourceFile, source: FileSource, column: str | None, scratch: Path
) -> list[str]:
    with file.open(scratch) as opened:
        if opened.format == PLAIN_TEXT:
            raise SourceError(
                f"{file.name} is plain text, and no table.",
                "Where each of its lines is a text, give them on standard input with --lines; "
                "where it is a table, say of which format: --format csv.",
            )
        if opened.format == "parquet":
            with _parquet(file, opened.stream) as table:
                there = list(table.schema_arrow.names)
            if twice := next((name for name in there if there.count(name) > 1), None):
                raise SourceError(
                    f"{file.name}: two columns are called {twice!r}.",
                    "Give each column a name of its own.",
                )
            return there
        if opened.format in _JSON:  # a record may have keys that the ones before it lack
            found = read_records(opened.stream, file.name, encoding=source.encoding)
            return list(dict.fromkeys(key for _, record in found for key in record))
        with closing(_csv(file, opened, source, () if column is None else (column,))) as batches:
            first = next(batches, None)
    if first is None:
        raise SourceError(
            f"{file.name}: no rows, a header at most.", "Check the export that writes it."
        )
    return list(first.columns)


# --- reading --------------------------------------------------------------------------------------


def asked_rows(
    file: SourceFile, source: FileSource, asked: dict[str, str], scratch: Path
) -> Generator[AskedRows]:
    """The rows of one file, at most `ROWS` at a time."""
    with file.open(scratch) as opened:
        if opened.format == "parquet":
            yield from _parquet_rows(file, opened.stream, asked)
        elif opened.format in _JSON:
            yield from _json_rows(
                read_records(opened.stream, file.name, encoding=source.encoding), asked
            )
        else:
            for batch in _csv(file, opened, source, tuple(asked.values())):
                texts = {name: batch.columns[column].to_pylist() for name, column in asked.items()}
                numbers = batch.rows.to_pylist()
                yield AskedRows(numbers, texts, [None] * len(numbers), pa.table(batch.columns))


def _csv(
    file: SourceFile, opened: Opened, source: FileSource, columns: tuple[str, ...]
) -> Generator[Batch]:
    ask = Ask(
        texts=columns, separator=source.separator, usual_separator=opened.separator, batch_rows=ROWS
    )
    return read_batches(
        opened.stream, file.name, ask, format=opened.format, encoding=source.encoding
    )


def _json_rows(
    records: Iterator[tuple[int, dict[str, Any]]], asked: dict[str, str]
) -> Iterator[AskedRows]:
    numbers: list[int] = []
    held: list[dict[str, Any]] = []
    characters = 0
    for number, record in records:
        numbers.append(number)
        held.append(record)
        cells = [record.get(column) for column in asked.values()]
        characters += sum(len(cell) for cell in cells if isinstance(cell, str))
        if len(held) == ROWS or characters > 1 << 21:
            yield _of_records(numbers, held, asked)
            numbers, held, characters = [], [], 0
    if held:
        yield _of_records(numbers, held, asked)


def _of_records(
    numbers: list[int], records: list[dict[str, Any]], asked: dict[str, str]
) -> AskedRows:
    reasons: list[str | None] = [None] * len(records)
    texts: dict[str, list[str | None]] = {name: [] for name in asked}
    for row, record in enumerate(records):
        for name, column in asked.items():
            value = record.get(column)
            if value is not None and not isinstance(value, str):
                reasons[row] = reasons[row] or f"the {name} is no string but {_json_type(value)}"
            # "\\ud83d" alone is a legal JSON escape for no character at all: U+FFFD, as in what
            # the model was trained on.
            text = SURROGATES.sub("\ufffd", value) if isinstance(value, str) else None
            texts[name].append(text)
    return AskedRows(numbers, texts, reasons, records)


def _json_type(value: Any) -> str:
    names = {dict: "a JSON object", list: "a JSON array", bool: "a JSON boolean"}
    return names.get(type(value), "a JSON number")


def _parquet_rows(
    file: SourceFile, stream: IO[bytes], asked: dict[str, str]
) -> Iterator[AskedRows]:
    with _parquet(file, stream) as table:
        for column in asked.values():
            kind = table.schema_arrow.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not _is_text(kind):
                what = f"column {column!r} is of type {kind}, expected text"
                raise SourceError(f"{file.name}: {what}.", "Name another column: --column.")
        first = 1
        for batch in table.iter_batches(batch_size=ROWS):
            rows = batch.num_rows
            texts = {
                name: batch.column(column).cast(pa.string()).to_pylist()
                for name, column in asked.items()
            }
            if rows:
                numbers = list(range(first, first + rows))
                yield AskedRows(numbers, texts, [None] * rows, pa.Table.from_batches([batch]))
            first += rows


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


@contextmanager
def _parquet(file: SourceFile, stream: IO[bytes]) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(stream) as table:
            yield table
    except NoisefoldError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # Of the disk or the network, not of the data.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        detail = (str(error).splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        raise SourceError(
            f"{file.name}: not a Parquet file, or a damaged one ({detail}).",
            "Write or download the file again.",
        ) from error
