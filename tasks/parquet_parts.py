"""Parquet parts of a bounded size: what stages write rows into and read them back from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class PartWriter:
    """Writes tables of any size as `part-00000.parquet`, `part-00001.parquet` … of `part_rows` rows each.

    Small tables are gathered first, so that a thousand tiny source files do not become a thousand row groups.
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

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self._held)
        pq.write_table(table.slice(0, rows), self.folder / f"part-{self.parts:05d}.parquet", compression="zstd")
        self.parts += 1
        rest = table.slice(rows)
        self._held, self._held_rows = ([rest] if rest.num_rows else []), rest.num_rows

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None and (self._held_rows or not self.parts):
            self._held = self._held or [self.schema.empty_table()]
            self._flush(self._held_rows)


def read_parts(folder: Path, batch_rows: int, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of all parts in order, in tables of at most `batch_rows` rows; all columns where none are named."""
    for path in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=batch_rows, columns=columns):
                yield pa.Table.from_batches([batch])
