"""A dictionary with probabilities: which target tokens a source token stands for.

A fixed function beside the network (Arthur et al. 2016, https://arxiv.org/abs/1606.02006): what
words mean is known at the first step, and the network learns order and inflection. How it is
counted stands in `lightning_modules.kinds.translate.counting`.

Shapes: V tokens, E entries of the table, B pairs, S source and U target tokens of a pair.
This file is shipped inside the registered model: it imports torch and numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class Entries(NamedTuple):
    """p(target | source), rows of source tokens one after the other; within a row by target."""

    offsets: np.ndarray  # (V + 1,) int32: where each source token's entries begin
    targets: np.ndarray  # (E,) int32
    proba: np.ndarray  # (E,) float32, each row's sum is 1
    seen: np.ndarray  # (V,) float32: how often the source token was counted

    @property
    def keys(self) -> np.ndarray:
        """(E,) ascending: source token times V, and target token."""
        size = len(self.seen)
        return np.repeat(np.arange(size), np.diff(self.offsets)) * size + self.targets

    def of(self, source_BS: np.ndarray, target_BU: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """(B, U, S) p of each target token for each source token; 1 / V where one was never seen.

        Args:
            keys: those of these entries.
        """
        size = len(self.seen)
        asked = source_BS[:, None, :].astype(np.int64) * size + target_BU[:, :, None]
        place = np.searchsorted(keys, asked)
        place[place == len(keys)] = 0
        known = (keys[place] == asked) if len(keys) else np.zeros(asked.shape, bool)
        proba = np.zeros(asked.shape, np.float32)
        proba[known] = self.proba[place[known]]
        unseen = np.broadcast_to((self.seen[source_BS] == 0)[:, None, :], asked.shape)
        proba[unseen] = 1 / size
        return proba


class LexicalTable(nn.Module):
    """`Entries` as buffers, so that they are stored with the weights.

    Built from `{"sources": V, "entries": E}`.
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        super().__init__()
        sources, entries = description["sources"], description["entries"]
        self.offsets: Tensor
        self.targets: Tensor
        self.proba: Tensor
        self.seen: Tensor
        self.register_buffer("offsets", torch.zeros(sources + 1, dtype=torch.int32))
        self.register_buffer("targets", torch.zeros(entries, dtype=torch.int32))
        self.register_buffer("proba", torch.zeros(entries))
        self.register_buffer("seen", torch.zeros(sources))

    def describe(self) -> dict[str, Any]:
        return {"sources": len(self.seen), "entries": len(self.targets)}

    def take(self, entries: Entries) -> None:
        """Hold these, in place of what is there."""
        device = self.seen.device
        for name, values in entries._asdict().items():
            setattr(self, name, torch.from_numpy(values).to(device))

    def entries(self) -> Entries:
        return Entries(*(getattr(self, name).cpu().numpy() for name in Entries._fields))

    def fault(self) -> str | None:
        """Why this is no table; None where it is one."""
        offsets, size = self.offsets.long(), len(self.seen)
        rising = bool((offsets[1:] >= offsets[:-1]).all())
        if not rising or int(offsets[0]) != 0 or int(offsets[-1]) != len(self.targets):
            return "the offsets of its dictionary are none"
        if len(self.targets) and not 0 <= int(self.targets.min()) <= int(self.targets.max()) < size:
            return "its dictionary has targets that are no tokens"
        return None

    def rows(self, source_S: Tensor) -> Tensor:
        """(S, V) p of every target token for each of these."""
        size = len(self.seen)
        dense = self.proba.new_zeros(len(source_S), size)
        for row, token in enumerate(source_S.tolist()):
            first, last = int(self.offsets[token]), int(self.offsets[token + 1])
            dense[row, self.targets[first:last].long()] = self.proba[first:last]
        dense[self.seen[source_S] == 0] = 1 / size
        return dense
