"""The first rows of a Parquet file as plain cells, for a page that cannot read Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.reports.readable import shorten

ROWS = 200
_LONGEST = 500  # characters of a cell


def preview(path: Path, rows: int = ROWS) -> tuple[list[str], list[list[Any]]]:
    """Columns and the first `rows` rows; lists as JSON, long texts shortened."""
    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(rows), None)
        names = file.schema_arrow.names
    if batch is None:
        return names, []
    table = pa.Table.from_batches([batch])
    columns = [[_plain(cell) for cell in table.column(name).to_pylist()] for name in names]
    return names, [list(row) for row in zip(*columns, strict=True)]


def _plain(cell: Any) -> Any:
    if isinstance(cell, list | dict):
        cell = json.dumps(cell, ensure_ascii=False, default=str)
    if isinstance(cell, float):
        return round(cell, 6)
    if cell is None or isinstance(cell, bool | int):
        return cell
    return shorten(str(cell), _LONGEST)
