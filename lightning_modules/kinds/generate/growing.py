"""A counted table that goes on counting through one text, as it is read and written.

The frozen counts are not touched: beside them stand those of the text, and a context that the text
has met is read with both together, under the discounts of the train split. A text is counted for
itself alone, so that no answer depends on another one. Such caches are as old as language models
(Kuhn & De Mori 1990, https://doi.org/10.1109/34.56193).

Shapes: M longest context, V tokens.
This file is shipped inside the registered model: it imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from lightning_modules.kinds.generate.counted import CountedTable


class Known(NamedTuple):
    """What a context was followed by."""

    after: np.ndarray  # tokens
    gains: np.ndarray  # what each has by itself
    spare: float  # what is left for the shorter context
    total: int


class Growing:
    """A table, and what was counted of one text."""

    def __init__(self, table: CountedTable, end: int) -> None:
        """Args:
        end: the id that ends a text; before one there is nothing else.
        """
        self.table, self.end = table, end
        self.read = 0  # how many ids of its text it has followed
        self._latest = [end] * table.longest
        self._counts: list[dict[tuple[int, ...], dict[int, int]]] = [{} for _ in table.orders]

    def follow(self, ids: Iterable[int], counting: bool = True) -> None:
        """Go on through the text; the end of another one, with which it begins, is none of it."""
        for token in ids:
            if counting and token != self.end:
                self.add(self._latest, token)
            self._latest = [*self._latest, token][1:] if self._latest else []
            self.read += 1

    def look(self) -> list[Known | None]:
        """What is known of the last tokens, from the shortest context to that of M; None of one
        that nobody has met.
        """
        found: list[Known | None] = []
        for order, node in enumerate(self._nodes(self._latest)):
            own = self._counts[order].get(_last(self._latest, order))
            if own is not None:
                found.append(self._together(order, own))
            elif node is None:
                found.append(None)
            else:
                found.append(self._frozen(order, node))
        return found

    def add(self, context: Sequence[int], token: int) -> None:
        """Count a token after a context of M.

        Below the longest context a count is of different tokens before it, so that it grows with a
        new one alone.
        """
        nodes = self._nodes(context)
        for order in reversed(self.table.orders):
            place = _last(context, order)
            own = self._counts[order].get(place)
            if own is None:
                own = self._counts[order][place] = self._copied(order, nodes[order])
            own[token] = own.get(token, 0) + 1
            if own[token] > 1:
                return

    def _nodes(self, context: Sequence[int]) -> list[int | None]:
        """Per order the number of the context in the frozen table."""
        V, found = self.table.vocab_size, 0
        nodes: list[int | None] = [0]
        for level, token in zip(self.table.levels()[1:], reversed(context), strict=True):
            key = found * V + token
            at = int(level.nodes.searchsorted(key))
            if at == len(level.nodes) or level.nodes[at] != key:
                break
            nodes.append(at)
            found = at
        return [*nodes, *[None] * (len(self.table.orders) - len(nodes))]

    def _frozen(self, order: int, node: int) -> Known:
        level = self.table.levels()[order]
        here = slice(level.starts[node], level.ends[node])
        total = int(level.totals[node])
        return Known(level.after[here], level.gains[here], float(level.spare[node]), total)

    def _copied(self, order: int, node: int | None) -> dict[int, int]:
        if node is None:
            return {}
        level = self.table.levels()[order]
        here = slice(level.starts[node], level.ends[node])
        return dict(zip(level.after[here].tolist(), level.counts[here].tolist(), strict=True))

    def _together(self, order: int, own: dict[int, int]) -> Known:
        counts = np.fromiter(own.values(), np.int64, len(own))
        taken = self.table.levels()[order].discounts[np.minimum(counts, 3) - 1]
        total = int(counts.sum())
        after = np.fromiter(own, np.int64, len(own))
        return Known(after, (counts - taken) / total, float(taken.sum()) / total, total)


def mixed(known: Sequence[Known | None], shares: np.ndarray, vocab_size: int) -> np.ndarray:
    """(V,): the sum over the orders of `shares` (M + 1,) times what each says of every token."""
    p = np.full(vocab_size, 1.0 / vocab_size)
    out = np.zeros(vocab_size)
    for one, share in zip(known, shares, strict=True):
        if one is not None:
            p *= one.spare
            p[one.after] += one.gains
        out += share * p
    return out


def _last(context: Sequence[int], order: int) -> tuple[int, ...]:
    return tuple(context[len(context) - order :])
