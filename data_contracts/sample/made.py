"""What the bundled samples share: how many rows of each fault one holds, and how it is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any


def in_proportion(faults: Mapping[str, int], rows: int, *, of: int, fewest: int) -> dict[str, int]:
    """The rows of each fault in a sample of `rows`, of which `faults` has those in `of`: at least
    one of each.
    """
    if rows < fewest:
        raise ValueError(
            f"a sample needs at least {fewest} rows to hold one of each fault, not {rows}"
        )
    return {fault: max(1, round(count * rows / of)) for fault, count in faults.items()}


def write_rows(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterator[dict[str, Any]]
) -> int:
    """Write columns of texts as Parquet (zstd) and return the number of rows.

    Written beside its place and moved there when complete, so that no reader meets half a file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(column, pa.string()) for column in columns], {"origin": "synthetic"})
    written = 0
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            while batch := list(islice(rows, 4_096)):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                written += len(batch)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return written
