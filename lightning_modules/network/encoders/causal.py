"""A Transformer that reads from left to right: each position attends to itself and to what stands
before it, within its context.

Shapes: B batch, T positions that are read, C positions that were read before, D size of a token's
vector, A attention heads, E size of a head. Shipped inside the registered model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.network.encoders.pooling import width

ROTARY_BASE = 10_000.0


class Cache(NamedTuple):
    """What a block goes on from: keys and values (B, A, C, E) of the last positions."""

    keys: Tensor
    values: Tensor


class Carry(NamedTuple):
    """What `read` goes on from; C is at most the context, however much was read."""

    position: int  # how many positions were read
    blocks: list[Cache]


class CausalTransformer(nn.Module):
    """Pre-norm Transformer blocks (Xiong 2020, https://arxiv.org/abs/2002.04745) with rotary
    positions (Su 2021, https://arxiv.org/abs/2104.09864) and attention to the last `context`
    positions alone (Beltagy 2020, https://arxiv.org/abs/2004.05150), so that its cache does not
    grow and a text may be of any length.
    """

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        sizes, heads = description["feedforward_sizes"], description["num_heads"]
        self.context: int = description["context"]
        self.blocks: Any = nn.ModuleList(_Block(input_size, heads, size) for size in sizes)
        self.norm = nn.LayerNorm(input_size)
        self.output_size = self.position_size = input_size
        self.num_heads = heads

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "causal_transformer",
            "context": self.context,
            "num_heads": self.num_heads,
            "feedforward_sizes": [width(block.widen.bias) for block in self.blocks],
        }

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        h_BTD, _ = self.read(x_BTD)
        return h_BTD[torch.arange(lengths_B.shape[0], device=lengths_B.device), lengths_B - 1]

    def states(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        """The state at each position (B, T, D)."""
        return self.read(x_BTD)[0]

    def read(self, x_BTD: Tensor, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        """The state at every position (B, T, D), and what to go on from."""
        size = x_BTD.shape[2] // self.num_heads
        before = 0 if carry is None else carry.position
        turn = rotation(before, x_BTD.shape[1], size, x_BTD)
        caches: list[Cache] = []
        for index, block in enumerate(self.blocks):
            cache = None if carry is None else carry.blocks[index]
            x_BTD, cache = block(x_BTD, turn, cache, self.context)
            caches.append(cache)
        return self.norm(x_BTD), Carry(before + x_BTD.shape[1], caches)


class _Block(nn.Module):
    def __init__(self, size: int, heads: int, feedforward_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feedforward = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.mix = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.widen = nn.Linear(size, feedforward_size)
        self.narrow = nn.Linear(feedforward_size, size)

    def forward(
        self, x_BTD: Tensor, turn: tuple[Tensor, Tensor], cache: Cache | None, context: int
    ) -> tuple[Tensor, Cache]:
        B, T, D = x_BTD.shape
        qkv = self.qkv(self.before_attention(x_BTD)).view(B, T, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = turned(q, turn), turned(k, turn)
        if cache is not None:
            k = torch.cat([cache.keys, k], dim=2)
            v = torch.cat([cache.values, v], dim=2)
        attended = _attend(q, k, v, context)
        x_BTD = x_BTD + self.mix(attended.transpose(1, 2).reshape(B, T, D))
        x_BTD = x_BTD + self.narrow(F.gelu(self.widen(self.before_feedforward(x_BTD))))
        # The next position sees itself and one less than the context of these.
        first = max(0, k.shape[2] - (context - 1))
        return x_BTD, Cache(k[:, :, first:], v[:, :, first:])


def _attend(q_BATE: Tensor, k_BASE: Tensor, v_BASE: Tensor, context: int) -> Tensor:
    """Attention of T queries to the last T + C keys: each to at most `context`, itself the last."""
    T, S = q_BATE.shape[2], k_BASE.shape[2]
    # A graph is for texts of any length: that of the traced one may choose nothing.
    if not torch.onnx.is_in_onnx_export():
        if T == 1 and context >= S:
            return F.scaled_dot_product_attention(q_BATE, k_BASE, v_BASE)
        if T == S and context >= S:
            return F.scaled_dot_product_attention(q_BATE, k_BASE, v_BASE, is_causal=True)
    at_T = torch.arange(S - T, S, device=q_BATE.device).unsqueeze(1)
    key_S = torch.arange(S, device=q_BATE.device)
    seen_TS = (key_S <= at_T) & (key_S > at_T - context)
    return F.scaled_dot_product_attention(q_BATE, k_BASE, v_BASE, attn_mask=seen_TS)


def rotation(start: int, count: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine (T, E / 2) of the angles of positions start, start + 1, ...

    In float64, since in float32 the angle of the millionth position is off by a percent of a turn.
    """
    even = torch.arange(0, size, 2, dtype=torch.float64, device=like.device)
    speed = ROTARY_BASE ** (-even / size)
    position = torch.arange(start, start + count, dtype=torch.float64, device=like.device)
    angle = position.unsqueeze(1) * speed
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def turned(x_BATE: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turn
    one, other = x_BATE.chunk(2, dim=-1)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)
