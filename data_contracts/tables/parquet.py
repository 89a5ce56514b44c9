"""Parquet from a seekable stream, see `data_contracts.tables.read`."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.errors import SourceError
from data_contracts.tables.batch import (
    BATCH_CHARACTERS,
    FREE_EXPANSION,
    MAX_CELL_CHARACTERS,
    MAX_EXPANSION,
    Ask,
    Batch,
    Place,
    bad_encoding,
    check_columns,
    json_text,
    merged,
    numbers,
    plain_text,
    told_of_nested,
)
from data_contracts.tables.categories import SEVERAL_VALUES
from data_contracts.tables.class_names import (
    NAMES_COUNT,
    NO_VALUE,
    NUMBERS_COUNT,
    class_names,
    is_list,
    means_numbers,
    named,
)
from data_contracts.tables.nested_answers import answer_texts, answers_as_columns, with_answers
from data_contracts.tables.questions import NESTED


def read_parquet(stream: IO[bytes], place: Place, ask: Ask) -> Iterator[Batch]:
    try:
        size = stream.seek(0, io.SEEK_END)
        if not size:
            raise place.error("the file is empty", "Check the export that writes it.")
        stream.seek(0)
        with pq.ParquetFile(stream) as file:
            metadata, schema = file.metadata, file.schema_arrow
        schema, flat = answers_as_columns(schema)
        wanted, left_out = _wanted(schema, place, ask)
        names = {name: found for name in wanted if (found := class_names(schema, name)) is not None}
        _check_expansion(_stated_bytes(metadata), size, place)
        stored = list(dict.fromkeys(NESTED if name in flat else name for name in wanted))
        texts = [one for one in stored if one in flat or _holds_text(schema.field(one).type)]
        text_bytes = 0
        lists = _paths(metadata, [name for name in wanted if is_list(schema.field(name).type)])
        with pq.ParquetFile(stream, metadata=metadata, read_dictionary=lists) as file:
            for group in range(metadata.num_row_groups):
                longest = _longest_text(stream, metadata, group, texts)
                if longest > 4 * MAX_CELL_CHARACTERS:
                    what = f"a text of {longest:,} bytes"
                    raise place.error(what, "Check the export.", place.row + 1)
                fitting = max(1, min(ask.batch_rows, 4 * BATCH_CHARACTERS // longest))
                for batch in file.iter_batches(
                    batch_size=fitting, row_groups=[group], columns=stored
                ):
                    rows = range(place.row + 1, place.row + 1 + batch.num_rows)
                    batch = with_answers(batch, [name for name in wanted if name in flat])
                    found = _batch(batch, rows, names, ask, place)
                    place.row += batch.num_rows
                    text_bytes += sum(column.nbytes for column in found.columns.values())
                    _check_expansion(text_bytes, size, place)
                    if batch.num_rows:
                        yield replace(found, left_out=left_out)
        if wanted and place.row != metadata.num_rows:
            what = f"its footer tells of {metadata.num_rows:,} rows, and it holds {place.row:,}"
            raise SourceError(f"{place.file}: {what}.", "Write or download the file again.")
    except OSError as error:
        if error.errno is not None:  # of the disk or the network, not of the data
            raise
        raise _damaged_parquet(place, error) from error
    # What Arrow raises at a damaged footer depends on the byte: its own errors, and those of
    # Python's conversions.
    except (
        pa.ArrowException,
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        MemoryError,
    ) as error:
        raise _damaged_parquet(place, error) from error


def _wanted(schema: pa.Schema, place: Place, ask: Ask) -> tuple[list[str], tuple[str, ...]]:
    """The columns to read, and those that no text can show, where all were asked for."""
    nested = {field.name: field.type.names for field in schema if pa.types.is_struct(field.type)}
    told = told_of_nested(nested, schema.names, ask.columns)
    wanted = check_columns(place.file, schema.names, ask.columns, *told)
    if ask.columns is None:
        check_columns(place.file, schema.names, ask.roles)
        shown = [
            name for name in wanted if name in ask.roles or _shows_text(schema.field(name).type)
        ]
        left_out = tuple(name for name in wanted if name not in shown)
    else:
        there = [
            name
            for name in ask.optional
            if name in schema.names and _shows_text(schema.field(name).type)
        ]
        shown, left_out = list(dict.fromkeys([*wanted, *there])), ()
    for name in shown:
        _check_type(schema.field(name).type, name, name in ask.texts, name in ask.categories, place)
    return shown, left_out


def _batch(
    batch: pa.RecordBatch, rows: range, names: dict[str, list[str]], ask: Ask, place: Place
) -> Batch:
    columns: dict[str, pa.Array] = {}
    faults, told = None, Counter()
    for name in batch.schema.names:
        column, several = batch.column(name), None
        if is_list(column.type):
            column, several = _unpacked(column)
        known = ask.categories.get(name)
        if name in names and known is not None and means_numbers(known, names[name]):
            told[NUMBERS_COUNT] += len(column)
        elif name in names:
            column, outside, unlabelled = named(column, names[name])
            if name in ask.categories:
                faults = merged(faults, outside)
                told[NAMES_COUNT] += len(column)
                told += Counter({NO_VALUE: unlabelled})
        columns[name] = _arrow_text(column, rows, place)
        if several is not None:
            columns[name] = pc.coalesce(several, columns[name])
            faults = merged(
                pc.if_else(pc.is_valid(several), SEVERAL_VALUES, None).cast(pa.string()), faults
            )
    return Batch(columns, numbers(rows), faults=faults, told=told)


def _unpacked(column: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """The one value of each list, and the beginnings of the lists that hold several, as text."""
    first = pc.list_slice(column, 0, 1)
    places = np.full(len(column), -1)
    places[pc.list_parent_indices(first).to_numpy()] = np.arange(
        pc.sum(pc.list_value_length(first)).as_py() or 0
    )
    values = pc.list_flatten(first).take(pa.array(places, mask=places < 0))
    several = pc.fill_null(pc.greater(pc.list_value_length(column), 1), False)
    if not pc.any(several).as_py():
        return values, None
    at = np.flatnonzero(several.to_numpy(zero_copy_only=False))
    shown: list[str | None] = [None] * len(column)
    for place, cells in zip(
        at.tolist(), pc.list_slice(column.take(pa.array(at)), 0, 9).to_pylist(), strict=True
    ):
        shown[place] = json_text([cell[:100] if isinstance(cell, str) else cell for cell in cells])
    return values, pa.array(shown, pa.string())


def _stated_bytes(metadata: pq.FileMetaData) -> int:
    """Bytes of all columns before compression, as the footer has them.

    Of the row groups: pyarrow 25 looks at a column's metadata (`row_group(i).column(j)`,
    `to_dict()`) through C++ whose exceptions it does not catch, and a footer with a size histogram
    of a wrong length ends the process there.
    """
    return sum(
        max(0, metadata.row_group(group).total_byte_size)
        for group in range(metadata.num_row_groups)
    )


def _check_expansion(expanded: int, size: int, place: Place) -> None:
    if expanded > MAX_EXPANSION * size + FREE_EXPANSION:
        raise SourceError(
            f"{place.file}: its {size:,} bytes expand more than {MAX_EXPANSION} times.",
            "No text does. If these are your data, give them uncompressed.",
        )


def _longest_text(
    stream: IO[bytes], metadata: pq.FileMetaData, group: int, texts: Sequence[str]
) -> int:
    """Bytes of the longest text that is stored once and may stand in every row of a group; 1 at
    least.

    The first row alone, with its dictionary left as it is, shows it.
    """
    longest = 1
    with pq.ParquetFile(stream, metadata=metadata, read_dictionary=_paths(metadata, texts)) as file:
        for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=texts):
            for column in batch.columns:
                column = answer_texts(column)
                column = column.values if is_list(column.type) else column
                values = column.dictionary if pa.types.is_dictionary(column.type) else column
                if _is_text(values.type) and not pa.types.is_null(values.type):
                    longest = max(longest, pc.max(pc.binary_length(values)).as_py() or 0)
            break
    return longest


def _holds_text(kind: pa.DataType) -> bool:
    return _is_text(kind) or (is_list(kind) and _is_text(kind.value_type))


def _paths(metadata: pq.FileMetaData, columns: Sequence[str]) -> list[str]:
    """The file's names of the leaves of columns: a list's values are "label.list.element"."""
    paths = [metadata.schema.column(at).path for at in range(len(metadata.schema))]
    named = [path for path in paths if path.partition(".")[0] in columns or path in columns]
    # Of a dictionary's columns those of numbers have none.
    return [path for path in named if ".answer_start." not in path]


def _damaged_parquet(place: Place, error: Exception) -> SourceError:
    what = (
        "not a Parquet file, or a damaged one"
        if not place.row
        else f"damaged after row {place.row}"
    )
    detail = (str(error).splitlines() or [type(error).__name__])[0][:300].rstrip(".")
    return SourceError(f"{place.file}: {what} ({detail}).", "Write or download the file again.")


def _check_type(
    kind: pa.DataType, column: str, must_be_text: bool, may_be_list: bool, place: Place
) -> None:
    of_labels = (
        may_be_list
        and is_list(kind)
        and (_is_text(kind.value_type) or pa.types.is_integer(kind.value_type))
    )
    if _is_text(kind) or of_labels or (_shows_text(kind) and not must_be_text):
        return
    expected = "text" if must_be_text else "text, numbers or booleans"
    what = f"column {column!r} is of type {kind}, expected {expected}"
    raise SourceError(
        f"{place.file}: {what}.", "Name another column in the contract, or mend the export."
    )


def _shows_text(kind: pa.DataType) -> bool:
    """Whether a text can show a cell of this type: text, a number, a boolean, a time."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return (
        _is_text(kind)
        or types.is_boolean(kind)
        or types.is_primitive(kind)
        or types.is_decimal(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_null(kind)
    )


def _arrow_text(array: pa.Array, rows: range, place: Place) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.array(
            [None if v is None else plain_text(v) for v in array.to_pylist()], pa.string()
        )
    array = array.cast(pa.string())
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        row = next(
            row
            for row, cell in zip(rows, array.cast(pa.binary()).to_pylist(), strict=True)
            if not _utf8(cell)
        )
        raise bad_encoding(place, row) from None
    return array


def _utf8(cell: bytes | None) -> bool:
    try:
        (cell or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
