"""Decoders: from what is written so far, and the states of a source, to a state for the next token.

Each has `prepare`, done once for a source; `forward`, which reads target tokens all at once or goes
on from a carry; and `chosen`, the carry of some of its rows.

Shapes: B pairs (or beginnings of one), S source and U target positions, F size of a source state, D
size of a token's vector, H hidden units, A attention heads, E size of a head.
This file is shipped inside the registered model: it imports torch and what ships with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.network.encoders.causal import rotation, turned
from lightning_modules.network.encoders.lstm import lstm_step, new_lstm
from lightning_modules.network.encoders.pooling import masked_mean, width

__all__ = ["DECODERS", "Decoder", "LSTMDecoder", "TransformerDecoder", "attention"]


def attention(query_BUE: Tensor, key_BSE: Tensor, mask_BS: Tensor) -> Tensor:
    """(B, U, S) where each target position looks: softmax of q . k / sqrt(E)."""
    scores = query_BUE @ key_BSE.transpose(1, 2) * query_BUE.shape[-1] ** -0.5
    return scores.masked_fill(~mask_BS.unsqueeze(1), -torch.inf).softmax(dim=-1)


class LSTMMemory(NamedTuple):
    """A source as an LSTM decoder looks at it."""

    states_BSF: Tensor
    keys_BSH: Tensor
    mask_BS: Tensor
    start_BH: Tensor


class LSTMDecoder(nn.Module):
    """An LSTM on the target, attention from its states (Luong 2015,
    https://arxiv.org/abs/1508.04025), and an LSTM on both.

    The second knows where the first looked, which takes the place of feeding the attention back in,
    and each is one fused call over all target positions.
    """

    def __init__(self, size: int, source_size: int, description: Mapping[str, Any]) -> None:
        super().__init__()
        hidden: int = description["hidden_size"]
        self.start = nn.Linear(source_size, hidden)
        self.first, self.second = new_lstm(size, hidden), new_lstm(hidden + source_size, hidden)
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(source_size, hidden)
        self.output_size = hidden

    def describe(self) -> dict[str, Any]:
        return {"kind": "lstm", "hidden_size": width(self.first.weight_hh_l0)}

    def prepare(self, states_BSF: Tensor, mask_BS: Tensor) -> LSTMMemory:
        mean_BF = masked_mean(states_BSF, mask_BS.sum(dim=1), mask_BS)
        return LSTMMemory(
            states_BSF, self.key(states_BSF), mask_BS, torch.tanh(self.start(mean_BF))
        )

    def forward(
        self, x_BUD: Tensor, memory: LSTMMemory, carry: Any = None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The state (B, U, H) at each target position, and what to go on from."""
        if carry is None:
            start = memory.start_BH.unsqueeze(0)
            carry = [(start, torch.zeros_like(start)), None]
        ahead_BUH, first = _read(self.first, x_BUD, carry[0])
        where_BUS = attention(self.query(ahead_BUH), memory.keys_BSH, memory.mask_BS)
        both = torch.cat([ahead_BUH, where_BUS @ memory.states_BSF], dim=-1)
        h_BUH, second = _read(self.second, both, carry[1])
        return h_BUH, [first, second]

    @staticmethod
    def chosen(carry: Any, rows: Tensor) -> Any:
        return [tuple(one.index_select(1, rows) for one in state) for state in carry]


def _read(layer: Any, x_BUD: Tensor, before: Any) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    if x_BUD.shape[1] == 1 and before is not None and isinstance(layer, nn.LSTM):
        return lstm_step(layer, x_BUD, before)
    return layer(x_BUD, before)


class TransformerMemory(NamedTuple):
    """A source as the blocks look at it: keys and values (B, A, S, E) of each."""

    blocks: list[tuple[Tensor, Tensor]]
    mask_B11S: Tensor


class TransformerCarry(NamedTuple):
    """What was read so far: how many positions, and their keys and values in each block."""

    position: int
    blocks: list[tuple[Tensor, Tensor]]


class TransformerDecoder(nn.Module):
    """Pre-norm blocks of attention to the target so far (rotary positions), attention to the source
    and a feed-forward layer (Vaswani 2017, https://arxiv.org/abs/1706.03762).
    """

    def __init__(self, size: int, source_size: int, description: Mapping[str, Any]) -> None:
        super().__init__()
        sizes, self.heads = description["feedforward_sizes"], description["num_heads"]
        self.blocks: Any = nn.ModuleList(
            _Block(size, source_size, self.heads, inner) for inner in sizes
        )
        self.norm = nn.LayerNorm(size)
        self.output_size = size

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "transformer",
            "num_heads": self.heads,
            "feedforward_sizes": [width(block.widen.bias) for block in self.blocks],
        }

    def prepare(self, states_BSF: Tensor, mask_BS: Tensor) -> TransformerMemory:
        blocks = [block.memory(states_BSF) for block in self.blocks]
        return TransformerMemory(blocks, mask_BS[:, None, None, :])

    def forward(
        self, x_BUD: Tensor, memory: TransformerMemory, carry: TransformerCarry | None = None
    ) -> tuple[Tensor, TransformerCarry]:
        """The state (B, U, D) at each target position, and what to go on from."""
        before = 0 if carry is None else carry.position
        turn = rotation(before, x_BUD.shape[1], x_BUD.shape[2] // self.heads, x_BUD)
        caches = []
        for index, block in enumerate(self.blocks):
            cache = None if carry is None else carry.blocks[index]
            x_BUD, cache = block(x_BUD, turn, cache, memory.blocks[index], memory.mask_B11S)
            caches.append(cache)
        return self.norm(x_BUD), TransformerCarry(before + x_BUD.shape[1], caches)

    @staticmethod
    def chosen(carry: TransformerCarry, rows: Tensor) -> TransformerCarry:
        blocks = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in carry.blocks]
        return TransformerCarry(carry.position, blocks)


class _Block(nn.Module):
    def __init__(self, size: int, source_size: int, heads: int, feedforward_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_source = nn.LayerNorm(size), nn.LayerNorm(size)
        self.before_feedforward = nn.LayerNorm(size)
        self.qkv, self.mix = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.query, self.source_kv = nn.Linear(size, size), nn.Linear(source_size, 2 * size)
        self.source_mix = nn.Linear(size, size)
        self.widen = nn.Linear(size, feedforward_size)
        self.narrow = nn.Linear(feedforward_size, size)

    def memory(self, states_BSF: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.source_kv(states_BSF).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def _split(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        return x_BTD.view(B, T, self.heads, D // self.heads).transpose(1, 2)

    def forward(
        self,
        x_BUD: Tensor,
        turn: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor] | None,
        source: tuple[Tensor, Tensor],
        mask_B11S: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = (
            self._split(one) for one in self.qkv(self.before_attention(x_BUD)).chunk(3, dim=-1)
        )
        q, k = turned(q, turn), turned(k, turn)
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
        # Several positions are read at once from the beginning alone.
        own = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        x_BUD = x_BUD + self.mix(_joined(own))
        asked = self._split(self.query(self.before_source(x_BUD)))
        keys, values = (one.expand(len(asked), -1, -1, -1) for one in source)
        looked = F.scaled_dot_product_attention(asked, keys, values, attn_mask=mask_B11S)
        x_BUD = x_BUD + self.source_mix(_joined(looked))
        x_BUD = x_BUD + self.narrow(F.gelu(self.widen(self.before_feedforward(x_BUD))))
        return x_BUD, (k, v)


def _joined(x_BAUE: Tensor) -> Tensor:
    return x_BAUE.transpose(1, 2).flatten(2)


Decoder = LSTMDecoder | TransformerDecoder

DECODERS: dict[str, type[Decoder]] = {"lstm": LSTMDecoder, "transformer": TransformerDecoder}
