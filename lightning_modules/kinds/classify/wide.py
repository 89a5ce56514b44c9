"""Hashed n-grams straight to the logits.

Shapes: B batch, T positions, G n-grams, C classes. Shipped inside the registered model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.network.embedding import CompactEmbedding
from lightning_modules.network.encoders.ngrams import hashed_ngrams


class ClassTable(nn.Embedding):
    """A row per bucket, a column per class."""

    columns_are_outputs: ClassVar[bool] = True  # none may go, which is what `sparse` has to know


class WideLogits(nn.Module):
    """Hashed n-grams straight to the logits, weighed as TF-IDF does (Cheng 2016,
    https://arxiv.org/abs/1606.07792).

        y = scale * sum_g w_g / |w| * theta_g, w_g = (1 + log n_g) * idf_g, idf_g = 1 + log((1 + D)
        / (1 + D_g))

    over the different buckets g of a document, n_g times in it and in D_g of the D windows of the
    train split. A bucket that training never met has idf 0, or else it would make the others of its
    document count less. theta starts at 0.
    """

    def __init__(self, description: dict[str, Any], classes: int) -> None:
        super().__init__()
        self.buckets: int = description["buckets"]
        buckets, rows = self.buckets, description.get("rows")
        self.table: Any = (  # in its place may stand one that a training or a fold makes of it
            ClassTable(buckets, classes)
            if rows in (None, buckets)
            else CompactEmbedding(buckets, rows, classes)
        )
        nn.init.zeros_(self.table.weight)
        # A parameter, since predicting needs it: it counts among the model's numbers.
        self.idf = nn.Parameter(torch.ones(buckets), requires_grad=False)
        self.max_n, self.scale = description["max_n"], float(description["scale"])

    def describe(self) -> dict[str, Any]:
        rows = self.table.weight.shape[0]
        return {"buckets": len(self.idf), "max_n": self.max_n, "scale": self.scale, "rows": rows}

    @torch.no_grad()
    def weigh(self, windows: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set idf from the train split, given as batches of padded ids (B, T) and lengths (B)."""
        found, total = torch.zeros(len(self.idf), dtype=torch.long), 0
        for ids_BT, lengths_B in windows:
            buckets_BG, count_BG = self.distinct(ids_BT, lengths_B)
            found += torch.bincount(buckets_BG[count_BG > 0], minlength=len(found))
            total += len(lengths_B)
        idf = 1 + torch.log((1 + total) / (1 + found.double()))
        self.idf.copy_(torch.where(found > 0, idf, 0.0))

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        buckets_BG, count_BG = self.distinct(input_ids_BT, lengths_B)
        weight_BG = torch.where(count_BG > 0, 1 + count_BG.clamp(min=1).log(), 0.0) * F.embedding(
            buckets_BG, self.idf.unsqueeze(1)
        ).squeeze(-1)
        norm_B1 = torch.linalg.vector_norm(weight_BG, dim=1, keepdim=True).clamp(min=1e-12)
        rows_BGC = self.table(buckets_BG)
        share_BG = (self.scale * weight_BG / norm_B1).to(rows_BGC.dtype)
        return torch.bmm(share_BG.unsqueeze(1), rows_BGC).squeeze(1)

    def grams(self, input_ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Buckets (B, G) of all n-grams, and which of them lie within their document."""
        return hashed_ngrams(input_ids_BT, lengths_B, self.max_n, self.buckets)

    def distinct(self, input_ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Buckets (B, G) and how often each stands in its document, said where it stands first and
        0 elsewhere.
        """
        buckets_BG, mask_BG = self.grams(input_ids_BT, lengths_B)
        # Padding comes last.
        sorted_BG = buckets_BG.masked_fill(~mask_BG, self.buckets).sort(dim=1).values
        position_G = torch.arange(sorted_BG.shape[1], device=sorted_BG.device)
        first_BG = torch.ones_like(mask_BG)
        first_BG[:, 1:] = sorted_BG[:, 1:] != sorted_BG[:, :-1]
        start_BG = torch.where(first_BG, position_G, len(position_G))
        behind_BG = F.pad(start_BG[:, 1:], (0, 1), value=len(position_G))
        end_BG = behind_BG.flip(1).cummin(dim=1).values.flip(1)  # where the next bucket starts
        inside_BG = sorted_BG < self.buckets
        return sorted_BG * inside_BG, (end_BG - position_G) * (first_BG & inside_BG)
