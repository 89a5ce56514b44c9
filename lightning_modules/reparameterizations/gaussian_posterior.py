"""A Gaussian posterior over each weight: Bayes by Backprop.

    W = mu + sigma * eps,   eps ~ N(0, 1) per weight,   sigma = softplus(rho) = log(1 + exp(rho))

Blundell et al. 2015, https://arxiv.org/abs/1505.05424, with one Gaussian prior N(0, s^2) for all
weights:

    KL(q || p) = log(s / sigma) + (sigma^2 + mu^2) / (2 s^2) - 1/2   nats per weight.

mu keeps the plain layer's name, rho stands beside it. Biases carry no noise. One draw per optimizer
step, shared by batch, positions and accumulated micro-batches; of an Embedding the rows looked up.
In float16 or bfloat16 layers the KL runs in float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.reparameterizations import layers


class Gaussian(layers.Drawn):
    """A posterior over the parameters that `noisy` names; a mixin, before the layer whose
    parameters they are.
    """

    prefix = "rho_"

    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        self.prior_sigma: float = config.prior_sigma
        for name in self.noisy:
            rho = torch.full_like(getattr(self, name), math.log(math.expm1(config.initial_sigma)))
            self.register_parameter(self.prefix + name, nn.Parameter(rho))

    def perturb(self, theta: Tensor, spread: Tensor, eps: Tensor) -> Tensor:
        return torch.addcmul(theta, F.softplus(spread), eps)

    def kl(self) -> Tensor:
        total = torch.zeros((), device=getattr(self, self.noisy[0]).device)
        for name in self.noisy:
            mu, sigma = getattr(self, name).float(), F.softplus(self.spread(name).float())
            squares = (sigma.square() + mu.square()).sum() / (2 * self.prior_sigma**2)
            total = (
                total
                + squares
                - sigma.log().sum()
                + mu.numel() * (math.log(self.prior_sigma) - 0.5)
            )
        return total


class GaussianLinear(Gaussian, layers.Linear):
    pass


class GaussianLSTM(Gaussian, layers.LSTM):
    pass


class GaussianEmbedding(Gaussian, layers.DrawnEmbedding):
    pass


LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {
    nn.Linear: GaussianLinear,
    nn.Embedding: GaussianEmbedding,
    nn.LSTM: GaussianLSTM,
}
