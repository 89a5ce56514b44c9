"""Spectral reparameterization (Zhai 2023, https://arxiv.org/abs/2303.06296): the spectral norm is a
parameter.

    W_hat = (gamma / sigma_1(W)) W,   sigma_1(W) = u^T W v,   u, v the leading singular vectors

From an exact SVD at the start, where gamma = sigma_1(W) (the paper starts at 1) leaves the function
unchanged; then one
power iteration per optimizer step (at `redraw`, while the module is in train()):

    v <- W^T u / |W^T u|,   u <- W v / |W v|

u and v are constants of the gradient and buffers of the state dict, so that accumulated batches
share them and a resumed training goes on exactly; `mean` and fold use the last ones. sigma_1 runs
in float32 under autocast: 8 bits of bfloat16 would scale the whole matrix by up to 0.4 % off.

For linear maps: a Linear, and each of an LSTM's matrices. An Embedding is looked up, not
multiplied: it stays plain.

The parameter is gain = gamma / max(O, I)^(1/4). Adam moves each parameter by about the learning
rate per step, and a whole matrix through its entries by far more: with gamma itself a tanh model
underfits (TREC, learning rate 2e-3, 3 epochs, macro-F1 on validation data, mean of 3 seeds: .64;
plain weights .76; this .82; after 8 epochs .84 and .85). The exponent was chosen among 0, 1/4, 1/2
and 1 on those data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.reparameterizations import layers


class _SigmaReparam(layers.Reparameterized):
    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        for name in self.weights:
            weight = getattr(self, name).detach()
            u, _, v = torch.linalg.svd(weight, full_matrices=False)
            self.register_buffer(f"u_{name}", u[:, 0].clone())
            self.register_buffer(f"v_{name}", v[0].clone())
            self.register_parameter(f"gain_{name}", nn.Parameter(self._unit(name).detach()))

    @classmethod
    def refusal(cls, layer: Any, config: Any) -> str | None:
        if any(
            name.startswith("weight") and not w.any()
            for name, w in layer.named_parameters(recurse=False)
        ):
            return "cannot divide a weight of zeros by its spectral norm"
        return super().refusal(layer, config)

    def _sigma(self, name: str) -> Tensor:
        weight = getattr(self, name)
        with torch.autocast(weight.device.type, enabled=False):
            return self.get_buffer(f"u_{name}") @ (weight @ self.get_buffer(f"v_{name}"))

    def _unit(self, name: str) -> Tensor:
        """sigma_1 as the gain counts it: where they are equal, the weight is W."""
        return self._sigma(name) / max(getattr(self, name).shape) ** 0.25

    def used(self, name: str) -> Tensor:
        return self.value(name) * (getattr(self, f"gain_{name}") / self._unit(name))

    @torch.no_grad()
    def redraw(self, seed: int) -> None:
        for name in self.weights if self.training else ():
            weight, u, v = (
                getattr(self, name),
                self.get_buffer(f"u_{name}"),
                self.get_buffer(f"v_{name}"),
            )
            v.copy_(F.normalize(weight.t() @ u, dim=0))
            u.copy_(F.normalize(weight @ v, dim=0))


class SigmaLinear(_SigmaReparam, layers.Linear):
    pass


class SigmaLSTM(_SigmaReparam, layers.LSTM):
    pass


LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {
    nn.Linear: SigmaLinear,
    nn.LSTM: SigmaLSTM,
}
PLAIN = (nn.Embedding,)
