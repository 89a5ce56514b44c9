"""A counted table: what stood after the last tokens in the train split, as Kneser-Ney smooths it.

    p_m(w | h) = (c_m(h w) - D_m(c_m(h w))) / c_m(h) + g_m(h) p_{m-1}(w | h without its first token)

Interpolated modified Kneser-Ney (Chen & Goodman 1999, https://doi.org/10.1006/csla.1999.0128): at
the longest context c counts occurrences, below it the different tokens that stood before h w; p_0
goes on to 1 / V. Nothing is learnt here: the network beside it learns how far to trust each order.

What a training is told of a position is counted in the other parts of the train split alone
(`cross_fitted`), so that the table says of it what it would say of a text that it never saw: learnt
shares would trust a table that has read the answer.

Contexts are a tree of suffixes: one of m tokens is found from that of m - 1 by the token before it.
Everything is whole numbers in flat arrays, so it ships as they are, and no hash can collide.

Shapes: P positions, M longest context, V tokens, N_m contexts of m tokens, E_m of them with what
followed.
This file is shipped inside the registered model: it imports torch and numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

Ints = np.ndarray
_ONE, _TWO, _MORE = 0, 1, 2  # discounts of what was counted once, twice, and three times or more


class Counted(NamedTuple):
    """What a context was followed by, at one order."""

    nodes: Ints  # (N,) int64, sorted: parent context * V + the token before it
    entries: Ints  # (E,) int64, sorted: context * V + the token that followed
    counts: Ints  # (E,) int32
    discounts: Ints  # (3,) float64


class CountedTable(nn.Module):
    """The counts of every order as buffers, and the probabilities that follow from them."""

    def __init__(self, description: Mapping[str, Any], vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.sizes = [(int(nodes), int(entries)) for nodes, entries in description["sizes"]]
        for order, (nodes, entries) in enumerate(self.sizes):
            # A context's parent and token, an entry's context and token: four bytes each.
            self.register_buffer(f"parents_{order}", torch.zeros(nodes, dtype=torch.int32))
            self.register_buffer(f"before_{order}", torch.zeros(nodes, dtype=torch.int32))
            self.register_buffer(f"starts_{order}", torch.zeros(nodes, dtype=torch.int32))
            self.register_buffer(f"next_{order}", torch.zeros(entries, dtype=torch.int32))
            self.register_buffer(f"counts_{order}", torch.zeros(entries, dtype=torch.int32))
            self.register_buffer(f"discounts_{order}", torch.zeros(3, dtype=torch.float64))
        self._levels: list[_Level] | None = None

    @staticmethod
    def nothing(longest: int) -> dict[str, Any]:
        """The description of a table of contexts up to `longest` tokens that has counted
        nothing.
        """
        return {"sizes": [[1, 0], *([[0, 0]] * longest)]}

    def describe(self) -> dict[str, Any]:
        return {
            "sizes": [[len(self._of("before", m)), len(self._of("next", m))] for m in self.orders]
        }

    @property
    def orders(self) -> range:
        """Lengths of context, from 0."""
        return range(len(self.sizes))

    @property
    def longest(self) -> int:
        """M: tokens of the longest context."""
        return len(self.sizes) - 1

    @classmethod
    def empty(cls, longest: int, vocab_size: int) -> CountedTable:
        """A table of contexts up to `longest` tokens that has counted nothing."""
        return cls(cls.nothing(longest), vocab_size)

    def count(self, grams: Iterable[Ints]) -> None:
        """Replace what is counted.

        Args:
            grams: (P, M + 1) whole numbers each: the M tokens before a position, and its own.
        """
        whole = np.concatenate([np.asarray(some, np.int32) for some in grams])
        for order, level in enumerate(counted(whole, self.longest, self.vocab_size)):
            contexts = level.entries // self.vocab_size
            starts = np.searchsorted(contexts, np.arange(len(level.nodes)))
            values = {
                "parents": level.nodes // self.vocab_size,
                "before": level.nodes % self.vocab_size,
                "starts": starts,
                "next": level.entries % self.vocab_size,
                "counts": level.counts,
            }
            for name, value in values.items():
                self.register_buffer(f"{name}_{order}", torch.from_numpy(value.astype(np.int32)))
            discounts = torch.from_numpy(level.discounts)
            self.register_buffer(f"discounts_{order}", discounts)
            self.sizes[order] = (len(level.nodes), len(level.entries))
        self._levels = None

    def levels(self) -> list[_Level]:
        """The counts as the sums that are read; made once, when they are first asked for."""
        if self._levels is None:
            self._levels = [self._level(order) for order in self.orders]
        return self._levels

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._levels = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_levels": None}  # a copy makes its own

    def _of(self, name: str, order: int) -> Ints:
        return self.get_buffer(f"{name}_{order}").cpu().numpy()

    def _level(self, order: int) -> _Level:
        V = self.vocab_size
        nodes = self._of("parents", order).astype(np.int64) * V + self._of("before", order)
        starts = self._of("starts", order).astype(np.int64)
        after = self._of("next", order)
        counts = self._of("counts", order)
        ends = np.append(starts[1:], len(after))
        of_node = np.repeat(np.arange(len(nodes), dtype=np.int64), ends - starts)
        discounts = self._of("discounts", order)
        taken = discounts[_bin(counts)]
        totals = _sums(counts, starts, ends)
        some = np.maximum(totals, 1)
        return _Level(
            nodes=nodes,
            entries=of_node * V + after,
            starts=starts,
            ends=ends,
            after=after,
            counts=counts,
            totals=totals,
            discounts=discounts,
            gains=(counts - taken) / some[of_node],
            # Of a context that nothing followed all goes to the shorter one.
            spare=np.where(totals > 0, _sums(taken, starts, ends) / some, 1.0),
        )

    # --- what it says

    def places(self, contexts_PM: Ints) -> list[Ints]:
        """Per order, the number of each position's context (P,), -1 where it was never seen."""
        found = np.zeros(len(contexts_PM), np.int64)
        places = [found]
        for order in self.orders[1:]:
            token = contexts_PM[:, self.longest - order].astype(np.int64)
            key = np.where(found >= 0, found * self.vocab_size + token, -1)
            found = _find(self.levels()[order].nodes, key)
            places.append(found)
        return places

    def seen(self, places: Sequence[Ints]) -> Ints:
        """(P, M + 1): how much was counted after each position's context of each order."""
        pairs = zip(self.levels(), places, strict=True)
        return np.stack([np.where(at >= 0, one.totals[at], 0) for one, at in pairs], axis=1)

    def of_targets(self, contexts_PM: Ints, targets_P: Ints) -> Said:
        """What each order says of one token at each position."""
        places = self.places(contexts_PM)
        p = np.full(len(targets_P), 1.0 / self.vocab_size)
        proba = []
        for level, node in zip(self.levels(), places, strict=True):
            known = node >= 0
            entry = _find(level.entries, np.where(known, node * self.vocab_size + targets_P, -1))
            gain = np.where(entry >= 0, level.gains[entry], 0.0)
            p = np.where(known, gain + level.spare[node] * p, p)
            proba.append(p)
        return Said(np.stack(proba, axis=1), self.seen(places))

    def mixed(self, places: Sequence[Ints], shares: Ints) -> Ints:
        """(P, V): the sum over the orders of `shares` (P, M + 1) times what each says of every
        token, at positions whose contexts stand in `places`.
        """
        positions = len(shares)
        p = np.full((positions, self.vocab_size), 1.0 / self.vocab_size)
        out = np.zeros((positions, self.vocab_size))
        for order, (level, node) in enumerate(zip(self.levels(), places, strict=True)):
            rows = np.flatnonzero(node >= 0)
            at = node[rows]
            first, count = level.starts[at], level.ends[at] - level.starts[at]
            which = np.repeat(rows, count)
            # Runs of entries, one after the other.
            before = np.cumsum(count) - count
            entry = np.arange(int(count.sum())) + np.repeat(first - before, count)
            p[rows] *= level.spare[at][:, None]
            p[which, level.after[entry]] += level.gains[entry]
            out += shares[:, order, None] * p
        return out


def cross_fitted(grams: Ints, longest: int, vocab_size: int, parts: int) -> Said:
    """What tables say of the very positions that they count (P, M + 1), each part of them read with
    the counts of all the others.

    Parts are runs of positions, since neighbours tell each other: of a text whose other lines were
    counted a table knows more than of a new one.
    """
    # Of two positions, the fewest that there are, each is read with the other.
    borders = np.linspace(0, len(grams), min(parts, len(grams)) + 1).astype(int)
    found = []
    for first, end in pairwise(borders):
        table = CountedTable.empty(longest, vocab_size)
        table.count([np.concatenate([grams[:first], grams[end:]])])
        here = grams[first:end]
        found.append(table.of_targets(here[:, :longest], here[:, longest].astype(np.int64)))
    return Said(*(np.concatenate(values) for values in zip(*found, strict=True)))


class Said(NamedTuple):
    """What a table says of given tokens: (P, M + 1) float64 probabilities by order, and how much
    was counted after each context.
    """

    proba: Ints
    seen: Ints


@dataclass(frozen=True)
class _Level:
    """An order's counts as they are read."""

    nodes: Ints  # (N,)
    entries: Ints  # (E,)
    starts: Ints  # (N,) of a context's entries
    ends: Ints
    after: Ints  # (E,) the token
    counts: Ints  # (E,)
    discounts: Ints  # (3,)
    totals: Ints  # (N,) what was counted
    gains: Ints  # (E,) (c - D) / total
    spare: Ints  # (N,) what the discounts leave for the shorter context


def counted(grams: Ints, longest: int, vocab_size: int) -> list[Counted]:
    """The counts of every order, of (P, M + 1) tokens: each position's context and itself."""
    targets = grams[:, longest].astype(np.int64)
    place = np.zeros(len(grams), np.int64)
    nodes_of = [np.zeros(1, np.int64)]
    raw: list[tuple[Ints, Ints]] = []
    for order in range(longest + 1):
        if order:
            key = place * vocab_size + grams[:, longest - order]
            nodes, place = np.unique(key, return_inverse=True)
            nodes_of.append(nodes)
        raw.append(np.unique(place * vocab_size + targets, return_counts=True))
    levels = []
    for order, (entries, occurred) in enumerate(raw):
        counts = occurred
        if order < longest:
            # How many different longer entries end in this one.
            longer = raw[order + 1][0]
            parent = nodes_of[order + 1][longer // vocab_size] // vocab_size
            counts = np.bincount(
                np.searchsorted(entries, parent * vocab_size + longer % vocab_size),
                minlength=len(entries),
            )
        counts = counts.astype(np.int32)
        levels.append(Counted(nodes_of[order], entries, counts, discounts(counts)))
    return levels


def discounts(counts: Ints) -> Ints:
    """D of what was counted once, twice and more often (Chen & Goodman 1999, equation 26).

    Each is held between .1 and what is there to take, since few counts, or a text that repeats
    itself, give values outside.
    """
    n = [max(1, int((counts == times).sum())) for times in (1, 2, 3, 4)]
    y = n[0] / (n[0] + 2 * n[1])
    plain = [one - (one + 1) * y * n[one] / n[one - 1] for one in (1, 2, 3)]
    return np.clip(plain, 0.1, [0.95, 1.9, 2.8])


def _bin(counts: Ints) -> Ints:
    return np.minimum(counts, 3) - 1


def _find(values: Ints, keys: Ints) -> Ints:
    """Where each key stands among sorted values; -1 where it does not."""
    if not len(values):
        return np.full(len(keys), -1, np.int64)
    at = np.minimum(np.searchsorted(values, keys), len(values) - 1)
    return np.where(values[at] == keys, at, -1)


def _sums(values: Ints, starts: Ints, ends: Ints) -> Ints:
    """Sums of runs of an array."""
    cumulated = np.concatenate([[0], np.cumsum(values)])
    return cumulated[ends] - cumulated[starts]
