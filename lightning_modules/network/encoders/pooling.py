"""What a document's positions are joined into. Shapes: B batch, T positions, H size of a state.

This file is shipped inside the registered model: it imports torch and nothing of this repository.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def masked_mean(h_BTH: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean over each document's own positions."""
    total_BH = (h_BTH * mask_BT.unsqueeze(-1)).sum(dim=1)
    return total_BH / lengths_B.unsqueeze(-1).to(h_BTH.dtype)


def width(tensor: Any) -> int:
    """Size of the last dimension (Any: a module's attributes have no static type)."""
    return tensor.shape[-1]
