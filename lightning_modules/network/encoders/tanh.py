"""tanh over each token, then mean and max: the simplest encoder.

Shapes: B batch, T positions, D size of a token's vector, H hidden units. Shipped inside the
    registered model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.network.encoders.pooling import masked_mean


class TanhEncoder(nn.Module):
    """h_t = tanh(W e_t + b), then [mean_t h_t ; max_t h_t] over the document's own tokens."""

    position_size: int  # of the state at each position

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        self.project = nn.Linear(input_size, description["hidden_size"])
        self.position_size = description["hidden_size"]
        self.output_size = 2 * self.position_size

    def describe(self) -> dict[str, Any]:
        return {"kind": "tanh", "hidden_size": self.project.weight.shape[0]}

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        h_BTH = self.states(x_BTD, lengths_B, mask_BT)
        highest_BH = h_BTH.masked_fill(~mask_BT.unsqueeze(-1), -torch.inf).amax(dim=1)
        return torch.cat([masked_mean(h_BTH, lengths_B, mask_BT), highest_BH], dim=-1)

    def states(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        """The state at each position (B, T, H)."""
        return torch.tanh(self.project(x_BTD))
