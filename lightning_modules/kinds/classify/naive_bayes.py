"""The wide table as Naive Bayes' log ratios times what is trained.

    theta_gc = |r_gc| * phi_gc, r_gc = log (n_gc + 2 s_c) / N_c - log (n_g - n_gc + 2 (1 - s_c)) /
    (N - N_c)

for bucket g and class c: n_gc of the train windows of class c hold g, n_g of all; N_c = sum_g n_gc,
N = sum_g n_g, s_c = N_c / N. Wang & Manning 2012, https://aclanthology.org/P12-2018, whose
classifier on r * x is this one; its two classes are of one size, and a count of 1 is added on
either side. 2 s_c is that 1 where s_c = 1/2, and gives a bucket that nothing is known of a ratio of
0 whatever the classes' shares are.

An optimizer such as AdamW moves every phi about as far in a step, and weight decay pulls at every
phi alike: so what tells classes apart by its counts alone learns faster, and is held back less,
than what does not. The sign of r is of no matter, since phi has one. The product is what ships
(`fold`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.kinds.classify.wide import ClassTable, WideLogits

# Of |r|: below it a bucket could learn nothing, and a champion's row would need a phi out of all
# bounds.
FLOOR = 0.01


class RatioTable(nn.Module):
    """A ClassTable that is the product of `ratios` and a trained table. A method noises the
    latter.
    """

    def __init__(self, table: nn.Module, ratios: Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            # 0 in a new model; a champion's rows stay what they were.
            table.get_parameter("weight").div_(ratios)
        self.table = table
        self.ratios: Tensor
        # Counted from the train split at each start, so no checkpoint needs it.
        self.register_buffer("ratios", ratios, persistent=False)

    @property
    def weight(self) -> Tensor:
        return cast(Tensor, self.table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids) * F.embedding(ids, self.ratios)

    @torch.no_grad()
    def fold(self) -> ClassTable:
        """The plain table of the products: the same rows, bit for bit."""
        rows, classes = self.weight.shape
        return ClassTable(rows, classes, _weight=self.weight * self.ratios).train(self.training)


@torch.no_grad()
def log_ratios(wide: WideLogits, windows: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """|r| (buckets, C) of the train split, given as batches of padded ids (B, T), lengths (B) and
    labels (B).
    """
    buckets, classes = wide.table.weight.shape
    found_GC = torch.zeros(buckets * classes)
    for ids_BT, lengths_B, labels_B in windows:
        buckets_BG, inside_BG = wide.distinct(ids_BT, lengths_B)
        cells = (buckets_BG * classes + labels_B.unsqueeze(1))[inside_BG > 0]
        found_GC.index_add_(0, cells, torch.ones(len(cells)))
    found_GC = found_GC.view(buckets, classes)
    of_class_C = found_GC.sum(dim=0, dtype=torch.double) + 1  # a class may have no train row
    share_C = of_class_C / of_class_C.sum()
    rest_GC = found_GC.sum(dim=1, keepdim=True) - found_GC + 2 * (1 - share_C)
    known_GC = found_GC + 2 * share_C
    prior_C = torch.log((of_class_C.sum() - of_class_C) / of_class_C)
    return (torch.log(known_GC / rest_GC) + prior_C).abs().clamp(min=FLOOR).float()
