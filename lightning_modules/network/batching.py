"""Work is cut by how large its pieces are and not by how many: a thousand short texts may weigh
less than one long one.

This file is shipped inside the registered model: it imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def cut(sizes: Sequence[int] | np.ndarray, most: int, rows: int | None = None) -> Iterator[slice]:
    """Slices that cover all items in order, each of at most `rows` items that together weigh at
    most `most`.

    An item that weighs more than `most` has a slice of its own.
    Args:
        sizes: (N,) what each item weighs: characters, bytes or tokens.
    """
    ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
    first, done = 0, 0
    while first < len(ends):
        last = int(np.searchsorted(ends, done + most, side="right"))
        if rows is not None:
            last = min(last, first + rows)
        last = max(last, first + 1)
        yield slice(first, last)
        first, done = last, int(ends[last - 1])
