"""A pre-norm Transformer with learned positions.

Shapes: B batch, T positions, D size of a token's vector. Shipped inside the registered model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.network.encoders.pooling import masked_mean, width


class TransformerEncoder(nn.Module):
    """Pre-norm Transformer blocks (Xiong 2020, https://arxiv.org/abs/2002.04745), learned
    positions, mean pooling.
    """

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(description["max_length"], input_size))
        sizes, heads = description["feedforward_sizes"], description["num_heads"]
        self.blocks: Any = nn.ModuleList(_Block(input_size, heads, size) for size in sizes)
        self.norm = nn.LayerNorm(input_size)
        self.output_size = self.position_size = input_size
        self.num_heads = heads

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "transformer",
            "max_length": self.positions.shape[0],
            "num_heads": self.num_heads,
            "feedforward_sizes": [width(block.widen.bias) for block in self.blocks],
        }

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        return masked_mean(self.states(x_BTD, lengths_B, mask_BT), lengths_B, mask_BT)

    def states(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        """The state at each position (B, T, D)."""
        x_BTD = x_BTD + self.positions[: x_BTD.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT[:, None, None, :])
        return self.norm(x_BTD)


class _Block(nn.Module):
    def __init__(self, size: int, heads: int, feedforward_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feedforward = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.mix = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.widen, self.narrow = (
            nn.Linear(size, feedforward_size),
            nn.Linear(feedforward_size, size),
        )

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        qkv = self.qkv(self.before_attention(x_BTD)).view(B, T, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B11T)
        x_BTD = x_BTD + self.mix(attended.transpose(1, 2).reshape(B, T, D))
        return x_BTD + self.narrow(F.gelu(self.widen(self.before_feedforward(x_BTD))))
