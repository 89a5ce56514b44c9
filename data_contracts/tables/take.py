"""Rows of a table by their places, however much text it holds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

# Rows joined at a time: in them even texts of a megabyte stay below the 2 GiB of 32-bit offsets.
_TAKEN = 1000


def evenly(rows: int, most: int) -> np.ndarray:
    """Places of at most `most` of so many rows, spread from the first to the last."""
    return np.linspace(0, rows - 1, min(most, rows)).astype(int)


def take_rows(table: pa.Table, places: np.ndarray) -> pa.Table:
    """The rows at `places`, in that order and as often as they are named.

    `Table.take` joins all chunks of a column first, and more than 2 GiB of text does not go into
    one array (apache/arrow#25822). Here a few rows are joined at a time, and none where all are
    asked for as they stand.
    """
    places = np.asarray(places, np.int64)
    if len(places) == table.num_rows and (places == np.arange(table.num_rows)).all():
        return table
    parts = [table.slice(0, 0)]
    for first in range(0, len(places), _TAKEN):
        wanted, order = np.unique(places[first : first + _TAKEN], return_inverse=True)
        chosen = np.zeros(table.num_rows, dtype=bool)
        chosen[wanted] = True
        parts.append(table.filter(pa.array(chosen)).combine_chunks().take(pa.array(order)))
    return pa.concat_tables(parts)
