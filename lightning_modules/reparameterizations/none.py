"""Plain weights, and dropout on the input of each layer where a recipe asks for it
(Srivastava 2014, https://jmlr.org/papers/v15/srivastava14a.html).

    y = W (x * m / (1 - p)) + b,   m ~ Bernoulli(1 - p), drawn per element and forward pass

from torch's global generator. An Embedding's input is an id, so it stays plain: what it puts out is
dropped by the layer that reads it. The mean of m / (1 - p) is 1, so the folded layer is the plain
one.
"""

from __future__ import annotations

from torch import nn

from lightning_modules.reparameterizations import layers

LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {
    nn.Linear: layers.Linear,
    nn.LSTM: layers.LSTM,
}
PLAIN = (nn.Embedding,)
