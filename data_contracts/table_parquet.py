"""Parquet from a seekable stream, see `data_contracts.tables`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import SourceError
from data_contracts.table_batch import Batch, Place, bad_encoding, check_columns, numbers, plain_text


def read_parquet(
    stream: IO[bytes], place: Place, columns: Sequence[str] | None, text_column: str | None, batch_rows: int
) -> Iterator[Batch]:
    try:
        if not stream.seek(0, io.SEEK_END):
            raise place.error("the file is empty", "Check the export that writes it.")
        stream.seek(0)
        with pq.ParquetFile(stream) as file:
            schema = file.schema_arrow
            wanted = check_columns(place.file, schema.names, columns)
            for name in wanted:
                _check_type(schema.field(name).type, name, name == text_column, place)
            for batch in file.iter_batches(batch_size=batch_rows, columns=wanted):
                rows = range(place.row + 1, place.row + 1 + batch.num_rows)
                columns_of_text = {name: _arrow_text(batch.column(name), rows, place) for name in wanted}
                place.row += batch.num_rows
                if batch.num_rows:
                    yield Batch(columns_of_text, numbers(rows))
    except pa.ArrowInvalid as error:
        raise _damaged_parquet(place, error) from error
    except OSError as error:
        if error.errno is not None:  # of the disk or the network, not of the data
            raise
        raise _damaged_parquet(place, error) from error


def _damaged_parquet(place: Place, error: Exception) -> SourceError:
    what = "not a Parquet file, or a damaged one" if not place.row else f"damaged after row {place.row}"
    detail = str(error).splitlines()[0].rstrip(".")
    return SourceError(f"{place.file}: {what} ({detail}).", "Write or download the file again.")


def _check_type(kind: pa.DataType, column: str, must_be_text: bool, place: Place) -> None:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    scalar = types.is_boolean(kind) or types.is_primitive(kind) or types.is_decimal(kind)
    if text or (scalar and not must_be_text):
        return
    expected = "text" if must_be_text else "text, numbers or booleans"
    what = f"column {column!r} is of type {kind}, expected {expected}"
    raise SourceError(f"{place.file}: {what}.", "Name another column in the contract, or mend the export.")


def _arrow_text(array: pa.Array, rows: range, place: Place) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.array([None if v is None else plain_text(v) for v in array.to_pylist()], pa.string())
    array = array.cast(pa.string())
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        row = next(row for row, cell in zip(rows, array.cast(pa.binary()).to_pylist(), strict=True) if not _utf8(cell))
        raise bad_encoding(place, row) from None
    return array


def _utf8(cell: bytes | None) -> bool:
    try:
        (cell or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
