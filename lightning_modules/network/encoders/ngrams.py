"""Hashed n-grams of token ids, whose vectors join the document's.

Shapes: B batch, T positions, G n-grams, D size of a vector. Shipped inside the registered model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.network.embedding import token_table

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio as a signed 64-bit integer


class NgramFeatures(nn.Module):
    """Hashed n-grams of token ids (Joulin 2017, https://arxiv.org/abs/1607.01759): the mean of
    their vectors.

        h_0 = 0, h_n(t) = m(P * (h_{n-1}(t) + id_{t+n-1} + 1)), m(x) = x ^ (x >> 29), bucket = h_n
        mod buckets

    for n = 1 .. max_n in signed 64-bit integers, P = 2^64 / golden ratio: a function of the ids
    alone, so a bundle hashes as its training did. An n-gram lies wholly within the document. The
    table starts at 0, so that one which training never met adds nothing.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.table: Any = token_table(  # or what a method or a fold makes of it
            description["buckets"], description["size"], description.get("rows")
        )
        nn.init.zeros_(self.table.weight)
        self.buckets, self.max_n, self.output_size = (
            description["buckets"],
            description["max_n"],
            description["size"],
        )

    def describe(self) -> dict[str, Any]:
        rows, size = self.table.weight.shape
        return {"buckets": self.buckets, "max_n": self.max_n, "size": size, "rows": rows}

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        buckets_BG, mask_BG = self.grams(input_ids_BT, lengths_B)
        vectors_BGD = self.table(buckets_BG * mask_BG)
        share_BG = mask_BG / mask_BG.sum(dim=1, keepdim=True)
        return torch.bmm(share_BG.to(vectors_BGD.dtype).unsqueeze(1), vectors_BGD).squeeze(1)

    def grams(self, input_ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Buckets (B, G) of all n-grams, and which of them lie within their document."""
        return hashed_ngrams(input_ids_BT, lengths_B, self.max_n, self.buckets)


def hashed_ngrams(
    input_ids_BT: Tensor, lengths_B: Tensor, max_n: int, buckets: int
) -> tuple[Tensor, Tensor]:
    """Buckets (B, G) of all n-grams of up to max_n tokens, and which of them lie wholly within
    their document.
    """
    hash_BT, T = torch.zeros_like(input_ids_BT, dtype=torch.long), input_ids_BT.shape[1]
    position_T = torch.arange(T, device=lengths_B.device)
    found, inside = [], []
    for n in range(1, min(max_n, T) + 1):
        hash_BT = (hash_BT[:, : T - n + 1] + input_ids_BT[:, n - 1 :] + 1) * GOLDEN
        hash_BT = hash_BT ^ (hash_BT >> 29)
        found.append(hash_BT.remainder(buckets))
        inside.append(position_T[: T - n + 1] + n <= lengths_B.unsqueeze(1))
    return torch.cat(found, dim=1), torch.cat(inside, dim=1)
