"""Parquet from a seekable stream, see `data_contracts.tables`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.errors import SourceError
from data_contracts.table_batch import (
    BATCH_CHARACTERS,
    FREE_EXPANSION,
    MAX_CELL_CHARACTERS,
    MAX_EXPANSION,
    Batch,
    Place,
    bad_encoding,
    check_columns,
    numbers,
    plain_text,
)


def read_parquet(
    stream: IO[bytes], place: Place, columns: Sequence[str] | None, text_column: str | None, batch_rows: int
) -> Iterator[Batch]:
    try:
        size = stream.seek(0, io.SEEK_END)
        if not size:
            raise place.error("the file is empty", "Check the export that writes it.")
        stream.seek(0)
        with pq.ParquetFile(stream) as file:
            metadata, schema = file.metadata, file.schema_arrow
        wanted = check_columns(place.file, schema.names, columns)
        for name in wanted:
            _check_type(schema.field(name).type, name, name == text_column, place)
        _check_expansion(_stated_bytes(metadata), size, place)
        text_bytes = 0
        with pq.ParquetFile(stream, metadata=metadata) as file:
            for group in range(metadata.num_row_groups):
                fitting = _batch_rows(stream, metadata, group, wanted, schema, batch_rows, place)
                for batch in file.iter_batches(batch_size=fitting, row_groups=[group], columns=wanted):
                    rows = range(place.row + 1, place.row + 1 + batch.num_rows)
                    columns_of_text = {name: _arrow_text(batch.column(name), rows, place) for name in wanted}
                    place.row += batch.num_rows
                    text_bytes += sum(column.nbytes for column in columns_of_text.values())
                    _check_expansion(text_bytes, size, place)
                    if batch.num_rows:
                        yield Batch(columns_of_text, numbers(rows))
        if wanted and place.row != metadata.num_rows:
            what = f"its footer tells of {metadata.num_rows:,} rows, and it holds {place.row:,}"
            raise SourceError(f"{place.file}: {what}.", "Write or download the file again.")
    except OSError as error:
        if error.errno is not None:  # of the disk or the network, not of the data
            raise
        raise _damaged_parquet(place, error) from error
    # What Arrow raises at a damaged footer depends on the byte: its own errors, and those of Python's conversions.
    except (pa.ArrowException, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise _damaged_parquet(place, error) from error


def _stated_bytes(metadata: pq.FileMetaData) -> int:
    """Bytes of all columns before compression, as the footer has them.

    Of the row groups: pyarrow 25 looks at a column's metadata (`row_group(i).column(j)`, `to_dict()`) through C++ whose
    exceptions it does not catch, and a footer with a size histogram of a wrong length ends the process there.
    """
    return sum(max(0, metadata.row_group(group).total_byte_size) for group in range(metadata.num_row_groups))


def _check_expansion(expanded: int, size: int, place: Place) -> None:
    if expanded > MAX_EXPANSION * size + FREE_EXPANSION:
        raise SourceError(
            f"{place.file}: its {size:,} bytes expand more than {MAX_EXPANSION} times.",
            "No text does. If these are your data, give them uncompressed.",
        )


def _batch_rows(
    stream: IO[bytes],
    metadata: pq.FileMetaData,
    group: int,
    wanted: Sequence[str],
    schema: pa.Schema,
    most: int,
    place: Place,
) -> int:
    """Rows of a batch that stay within its bounds: a text that is stored once may stand in every row of a group.

    The first row alone, with its dictionary left as it is, shows how long the longest such text is.
    """
    texts = [name for name in wanted if _is_text(schema.field(name).type)]
    longest = 1
    with pq.ParquetFile(stream, metadata=metadata, read_dictionary=texts) as file:
        for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=texts):
            for column in batch.columns:
                values = column.dictionary if pa.types.is_dictionary(column.type) else column
                if _is_text(values.type) and not pa.types.is_null(values.type):
                    longest = max(longest, pc.max(pc.binary_length(values)).as_py() or 0)
            break
    if longest > 4 * MAX_CELL_CHARACTERS:
        raise place.error(f"a text of {longest:,} bytes", "Check the export.", place.row + 1)
    return max(1, min(most, 4 * BATCH_CHARACTERS // longest))


def _damaged_parquet(place: Place, error: Exception) -> SourceError:
    what = "not a Parquet file, or a damaged one" if not place.row else f"damaged after row {place.row}"
    detail = (str(error).splitlines() or [type(error).__name__])[0][:300].rstrip(".")
    return SourceError(f"{place.file}: {what} ({detail}).", "Write or download the file again.")


def _check_type(kind: pa.DataType, column: str, must_be_text: bool, place: Place) -> None:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    text = _is_text(kind)
    scalar = types.is_boolean(kind) or types.is_primitive(kind) or types.is_decimal(kind)
    if text or (scalar and not must_be_text):
        return
    expected = "text" if must_be_text else "text, numbers or booleans"
    what = f"column {column!r} is of type {kind}, expected {expected}"
    raise SourceError(f"{place.file}: {what}.", "Name another column in the contract, or mend the export.")


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)


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
