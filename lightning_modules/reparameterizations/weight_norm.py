"""Weight normalization (Salimans & Kingma 2016, https://arxiv.org/abs/1602.07868): length and
direction apart.

    W_o = g_o v_o / |v_o| per output row o, g_o = sqrt(I) c_o, c = |v| / sqrt(I) at the start: W = v

The paper learns g; here its parameter is c, the root mean square of the row's I entries. Adam moves
each parameter by about the learning rate per step, so entries that move together change the length
of a plain row by sqrt(I) times that, and so does c; but g by the learning rate only. With g a tanh
model underfits (TREC, learning rate 2e-3, 3 epochs, macro-F1 on validation data, mean of 3 seeds:
.66; plain weights .76; with c .83).

A row is a unit of a Linear, a unit's gate of an LSTM, a token of an Embedding (of which the rows
looked up are normalized). A row of zeros has no direction: it gets a random one, and g = 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.reparameterizations import layers


class _WeightNorm(layers.Reparameterized):
    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        for name in self.weights:
            v = getattr(self, name)
            self.register_parameter(f"gain_{name}", nn.Parameter(_rms(v.detach())))
            with torch.no_grad():
                v[_rms(v) == 0] = torch.randn_like(v[_rms(v) == 0])

    def used(self, name: str) -> Tensor:
        return _scaled(self.value(name), getattr(self, f"gain_{name}"))


class WeightNormLinear(_WeightNorm, layers.Linear):
    pass


class WeightNormLSTM(_WeightNorm, layers.LSTM):
    pass


class WeightNormEmbedding(_WeightNorm, layers.Embedding):
    gain_weight: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        if self.mode == "mean":
            return super().forward(ids)
        v_BTD = F.embedding(ids, self.weight, self.padding_idx)
        gain_BT1 = F.embedding(ids, self.gain_weight.unsqueeze(-1), self.padding_idx)
        return _scaled(v_BTD, gain_BT1.squeeze(-1))


def _scaled(v: Tensor, gain: Tensor) -> Tensor:
    return v * (gain / _rms(v)).unsqueeze(-1)


def _rms(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v, dim=-1) / v.shape[-1] ** 0.5


LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {
    nn.Linear: WeightNormLinear,
    nn.Embedding: WeightNormEmbedding,
    nn.LSTM: WeightNormLSTM,
}
