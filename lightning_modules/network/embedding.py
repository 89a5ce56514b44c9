"""The table of token vectors, whole or with each different vector once.

This file is shipped inside the registered model: it imports torch and nothing of this repository.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CompactEmbedding(nn.Module):
    """A table in which equal vectors stand once: the vector of id i is weight[index[i]]; V ids, R
    rows.
    """

    def __init__(self, ids: int, rows: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, size))
        self.index: Tensor
        self.register_buffer("index", torch.zeros(ids, dtype=torch.int32))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(self.index[ids], self.weight)


def token_table(ids: int, size: int, rows: int | None = None) -> nn.Embedding | CompactEmbedding:
    """The table of a description: one row per id, unless it says that there are fewer."""
    return nn.Embedding(ids, size) if rows in (None, ids) else CompactEmbedding(ids, rows, size)
