"""Dropout on the input of each layer (Srivastava 2014,
https://jmlr.org/papers/v15/srivastava14a.html).

    y = W (x * m / (1 - p)) + b,   m ~ Bernoulli(1 - p), drawn per element and forward pass

from torch's global generator. An Embedding's input is an id, so it stays plain: what it puts out is
dropped by the layer that reads it. The mean of m / (1 - p) is 1, so the folded layer is the plain
one. (Every other method has the same dropout beside it, as its field `dropout`.)
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lightning_modules.reparameterizations import layers


class _DropsInput(layers.Reparameterized):
    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        self.dropout = config.p


class DropoutLinear(_DropsInput, layers.Linear):
    pass


class DropoutLSTM(_DropsInput, layers.LSTM):
    pass


LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {
    nn.Linear: DropoutLinear,
    nn.LSTM: DropoutLSTM,
}
PLAIN = (nn.Embedding,)
