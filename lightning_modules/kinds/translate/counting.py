"""IBM Model 1 (Brown et al. 1993, https://aclanthology.org/J93-2003) by expectation maximization.

    c(s, t) = sum over pairs, t in target   p(t | s) / sum_s' in source p(t | s')
    p(t | s) = c(s, t) / sum_t' c(s, t')

The end of the source is a token like any other, and so what stands for nothing in particular.

A pair that is learnt from is told by what the others say: a table that has read it would be trusted
too far, since a word that stands once in the corpus has its translation in that pair.

Shapes: N pairs, C cells (a target token beside a source token of its pair), K different cells, V
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_modules.kinds.translate.lexical import Entries

_LEAST = 1e-3  # probability below which an entry is left out


@dataclass(frozen=True)
class Pairs:
    """Token ids of pairs: row n is [source ids, target ids] in `ids` from `starts[n]` on."""

    ids: np.ndarray
    starts: np.ndarray
    sources: np.ndarray  # (N,) ids of the source
    lengths: np.ndarray  # (N,) ids of both

    def some(self, rows: np.ndarray) -> Pairs:
        return Pairs(self.ids, self.starts[rows], self.sources[rows], self.lengths[rows])


@dataclass(frozen=True)
class Cells:
    """Every target token beside every source token of its pair."""

    kind: np.ndarray  # (C,) which different cell each is
    keys: np.ndarray  # (K,) source token times V, and target token
    groups: np.ndarray  # where the cells of each target token begin
    sizes: np.ndarray  # how many these are
    pair: np.ndarray  # (C,) int32 of which pair

    @classmethod
    def of(cls, pairs: Pairs, size: int) -> Cells:
        """12 bytes are held for each."""
        targets = pairs.lengths - pairs.sources
        pair_of_target = np.repeat(np.arange(len(targets)), targets)
        first = np.cumsum(targets) - targets
        within = np.arange(len(pair_of_target)) - first[pair_of_target]
        target = pairs.ids[(pairs.starts + pairs.sources)[pair_of_target] + within]
        sizes = pairs.sources[pair_of_target]
        groups = np.cumsum(sizes) - sizes
        step = np.arange(int(sizes.sum())) - np.repeat(groups, sizes)
        source = pairs.ids[np.repeat(pairs.starts[pair_of_target], sizes) + step]
        key = source.astype(np.int64) * size + np.repeat(target, sizes)
        keys, kind = np.unique(key, return_inverse=True)
        pair = np.repeat(pair_of_target, sizes).astype(np.int32)
        return cls(kind.astype(np.int32), keys, groups, sizes, pair)


def dictionaries(
    pairs: Pairs, size: int, parts: np.ndarray, *, iterations: int, max_entries: int
) -> tuple[Entries, list[Entries]]:
    """The dictionary of all pairs, and for each part of them that of the others.

    Args:
        size: V.
        parts: (N,) of which part each pair is, from 0.
        max_entries: that are kept of a source token.
    """
    cells = Cells.of(pairs, size)

    def entries(some: Cells, rows: np.ndarray) -> Entries:
        proba, used = _fitted(some, size, iterations)
        return _entries(some.keys[used], proba[used], _seen(pairs.some(rows), size), max_entries)

    whole = entries(cells, np.arange(len(parts)))
    of_parts = []
    for part in range(int(parts.max()) + 1 if len(parts) else 0):
        others = parts != part
        of_parts.append(entries(_only(cells, others[cells.pair]), np.flatnonzero(others)))
    return whole, of_parts


def _only(cells: Cells, kept: np.ndarray) -> Cells:
    """The cells of some pairs."""
    groups = kept[cells.groups] if len(cells.groups) else np.zeros(0, bool)
    sizes = cells.sizes[groups]
    starts = np.cumsum(sizes) - sizes
    return Cells(cells.kind[kept], cells.keys, starts, sizes, cells.pair[kept])


def _fitted(cells: Cells, size: int, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """p (K,) of each different cell, and which of them stand in any pair."""
    source, count = cells.keys // size, len(cells.keys)
    proba = np.ones(count)
    for _ in range(iterations if len(cells.groups) else 0):
        share = proba[cells.kind]
        share /= np.repeat(np.add.reduceat(share, cells.groups), cells.sizes)
        counted = np.bincount(cells.kind, share, count)
        total = np.bincount(source, counted, size)
        proba = counted / np.maximum(total, 1e-300)[source]
    return proba, np.bincount(cells.kind, minlength=count) > 0


def _seen(pairs: Pairs, size: int) -> np.ndarray:
    """(V,) how often each token stands in a source."""
    first = np.cumsum(pairs.sources) - pairs.sources
    step = np.arange(int(pairs.sources.sum())) - np.repeat(first, pairs.sources)
    ids = pairs.ids[np.repeat(pairs.starts, pairs.sources) + step]
    return np.bincount(ids, minlength=size).astype(np.float32)


def _entries(keys: np.ndarray, proba: np.ndarray, seen: np.ndarray, most: int) -> Entries:
    """The likeliest targets of each source, their probabilities made to add up to 1."""
    size = len(seen)
    source = keys // size
    order = np.lexsort((-proba, source))
    source, proba, keys = source[order], proba[order], keys[order]
    first = np.searchsorted(source, source)
    rank = np.arange(len(source)) - first
    # The likeliest stays however unlikely it is.
    kept = (rank < most) & ((proba >= _LEAST) | (rank == 0))
    keys, proba = keys[kept], proba[kept]
    order = np.argsort(keys)
    keys, proba = keys[order], proba[order]
    source = keys // size
    proba = proba / np.bincount(source, proba, size)[source]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=size))])
    return Entries(
        offsets.astype(np.int32),
        (keys % size).astype(np.int32),
        proba.astype(np.float32),
        seen,
    )
