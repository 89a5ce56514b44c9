"""Work is cut by how large its pieces are and not by how many: a thousand short texts may weigh
less than one long one.

Shapes: N windows, B of a batch, T positions of its longest.
This file is shipped inside the registered model: it imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

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


def by_length(
    windows: Sequence[Sequence[int]], pad_id: int, batch_tokens: int = 16384
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Windows of like length in batches of at most `batch_tokens` padded positions: their places
    (B,), their ids (B, T) and their lengths (B,).
    """
    lengths = np.fromiter(map(len, windows), dtype=np.int64, count=len(windows))
    flat = np.fromiter(chain.from_iterable(windows), dtype=np.int64, count=int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(lengths, kind="stable")
    first = 0
    while first < len(order):
        # Sorted upwards, so a batch is as wide as its last row: the longest prefix with rows *
        # width in bounds. A batch of some size also ends before windows a quarter longer than its
        # first: padding is computed, too.
        left = lengths[order[first:]]
        padded = np.arange(1, len(left) + 1) * left
        most, some = np.searchsorted(padded, (batch_tokens, batch_tokens // 8), side="right")
        alike = np.searchsorted(left, left[0] + left[0] // 4, side="right")
        rows = order[first : first + max(1, min(int(most), max(int(some), int(alike))))]
        position = np.arange(lengths[rows].max())
        inside = position < lengths[rows, None]
        at = np.where(inside, starts[rows, None] + position, 0)
        yield rows, np.where(inside, flat[at], pad_id), lengths[rows]
        first += len(rows)
