"""Parquet parts of a bounded size: what stages write rows into and read them back from.

Bounded in bytes as well as in rows, so that memory hangs neither on how many rows there are nor on
how long they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightning_modules.network.batching import cut

PART_BYTES = 1 << 24  # of a part before compression
BATCH_BYTES = 1 << 23  # of the rows that a stage holds at a time


class PartWriter:
    """Writes tables of any size as `part-00000.parquet`, `part-00001.parquet` … of `part_rows` rows
    each.

    A part of long rows ends earlier: with the table by which it comes to `PART_BYTES`. Small tables
    are gathered first, so that a thousand tiny source files do not become a thousand row groups.
    """

    def __init__(self, folder: Path, schema: pa.Schema, part_rows: int) -> None:
        self.folder, self.schema, self.part_rows = folder, schema, part_rows
        self.rows, self.parts = 0, 0
        self._held: list[pa.Table] = []
        self._held_rows = 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, table: pa.Table) -> None:
        self._held.append(table)
        self._held_rows += table.num_rows
        self.rows += table.num_rows
        while self._held_rows >= self.part_rows:
            self._flush(self.part_rows)
        if sum(held.nbytes for held in self._held) >= PART_BYTES:
            self._flush(self._held_rows)

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self._held)
        pq.write_table(
            table.slice(0, rows), self.folder / f"part-{self.parts:05d}.parquet", compression="zstd"
        )
        self.parts += 1
        rest = table.slice(rows)
        self._held, self._held_rows = ([rest] if rest.num_rows else []), rest.num_rows

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None and (self._held_rows or not self.parts):
            self._held = self._held or [self.schema.empty_table()]
            self._flush(self._held_rows)


def read_parts(
    folder: Path, batch_rows: int, columns: list[str] | None = None, batch_bytes: int = BATCH_BYTES
) -> Iterator[pa.Table]:
    """The rows of all parts in order, in tables of at most `batch_rows` rows and `batch_bytes`
    bytes of text.

    Args:
        columns: the ones to read; all of them where none are named.
    """
    for path in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=batch_rows, columns=columns):
                table = pa.Table.from_batches([batch])
                for rows in cut(row_bytes(table), batch_bytes):
                    yield table.slice(rows.start, rows.stop - rows.start)


def row_bytes(table: pa.Table) -> np.ndarray:
    """(N,) bytes of each row's texts and lists of int32; what has a fixed width is not counted."""
    total = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            total += pc.fill_null(pc.binary_length(column), 0).to_numpy()
        elif pa.types.is_list(kind):
            total += 4 * pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    return total
