"""What the bundled samples share: how many rows of each fault one holds, and how it is written."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

_WHITE_SPACE = (" ", "\u3000", "\t", "\n")
_CONTROLS = ("\x00", "\x07", "\x1b", "\x7f")


def in_proportion(faults: Mapping[str, int], rows: int, *, of: int, fewest: int) -> dict[str, int]:
    """The rows of each fault in a sample of `rows`, of which `faults` has those in `of`: at least
    one of each.
    """
    if rows < fewest:
        raise ValueError(
            f"a sample needs at least {fewest} rows to hold one of each fault, not {rows}"
        )
    return {fault: max(1, round(count * rows / of)) for fault, count in faults.items()}


def in_order(
    rows: int,
    faults: Mapping[str, int],
    rng: random.Random,
    row: Callable[[str | None], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """The rows of a sample in their shuffled order, faults and all.

    Memory grows by the place of each row, not by its texts.

    Args:
        faults: rows of each fault; a "duplicate" is a later row that repeats an earlier one.
        row: makes one, of the fault that it is given or of none.
    """
    faulty, copied = _plan(rows, faults, rng)
    held: dict[int, dict[str, Any]] = {}  # originals whose copy is still to come
    originals = set(copied.values())
    for at in range(rows):
        made = held.pop(copied[at]) if at in copied else row(faulty.get(at))
        if at in originals:
            held[at] = made
        yield made


def _plan(
    rows: int, faults: Mapping[str, int], rng: random.Random
) -> tuple[dict[int, str], dict[int, int]]:
    """The fault of each dirty row, and of each copy the row that it repeats, before anything is
    written.
    """
    free = list(range(rows))
    rng.shuffle(free)
    faulty: dict[int, str] = {}
    copied: dict[int, int] = {}
    for fault, count in faults.items():
        for _ in range(count):
            if fault == "duplicate":
                first, later = sorted((free.pop(), free.pop()))
                copied[later] = first
            else:
                faulty[free.pop()] = fault
    return faulty, copied


def blank(rng: random.Random) -> str:
    """A text of white space, or of nothing."""
    return "".join(rng.choice(_WHITE_SPACE) for _ in range(rng.randint(0, 8)))


def with_mark(fault: str, text: str, rng: random.Random) -> str:
    """The text with broken encoding or a control character in it."""
    mark = "\ufffd" if fault.startswith("broken_encoding") else rng.choice(_CONTROLS)
    at = rng.randrange(len(text))
    return text[:at] + mark + text[at + 1 :]


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
