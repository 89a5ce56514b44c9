"""Dropout on the input of each layer (Srivastava 2014, https://jmlr.org/papers/v15/srivastava14a.html).

    y = W (x * m / (1 - p)) + b,   m ~ Bernoulli(1 - p), drawn per element and forward pass

from torch's global generator. An Embedding's input is an id, so it stays plain: what it puts out is dropped by the
layer that reads it. The mean of m / (1 - p) is 1, so the folded layer is the plain one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.reparameterizations import layers


class _DropsInput(layers.Reparameterized):
    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        self.p: float = config.p

    def incoming(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, training=self.mode == "sample")


class DropoutLinear(_DropsInput, layers.Linear):
    pass


class DropoutLSTM(_DropsInput, layers.LSTM):
    pass


LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {nn.Linear: DropoutLinear, nn.LSTM: DropoutLSTM}
