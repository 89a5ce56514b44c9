"""Multiplicative Gaussian noise on the weights.

    W = theta * (1 + sqrt(alpha) * eps),   eps ~ N(0, 1) per weight, alpha per output row, learned as log_alpha, capped

Kingma, Salimans & Welling 2015, https://arxiv.org/abs/1506.02557. With a Gaussian prior N(0, s^2) per weight at its
empirical-Bayes optimum s^2 = theta^2 (1 + alpha) (Kharitonov, Molchanov & Vetrov 2018, https://arxiv.org/abs/1811.00596)

    KL(q || p) = 1/2 log(1 + 1/alpha)   nats per weight, whatever theta is.

The log-uniform prior of the first paper is improper (Hron, Matthews & Ghahramani 2018,
https://arxiv.org/abs/1807.01969). Biases carry no noise. One draw per optimizer step, shared by batch, time steps and
accumulated micro-batches. For an Embedding a row is a token's vector, and only the rows looked up are drawn.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.reparameterizations import layers
from lightning_modules.reparameterizations.seeds import mix


class _Noisy(layers.Reparameterized):
    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        self.max_log_alpha = math.log(config.max_alpha)
        self.noise: dict[str, Tensor] = {}
        for name in self.weights:
            weight = getattr(self, name)
            start = torch.full(weight.shape[:1], math.log(config.initial_alpha))
            self.register_parameter(log_alpha_of(name), nn.Parameter(start.to(weight)))

    def used(self, name: str) -> Tensor:
        theta = getattr(self, name)
        if self.mode == "mean":
            return theta
        if name not in self.noise:
            raise RuntimeError("no noise has been drawn: call redraw(module, seed) before the first step")
        return theta * self._factor(getattr(self, log_alpha_of(name)).unsqueeze(1), self.noise[name])

    def _factor(self, log_alpha: Tensor, eps: Tensor) -> Tensor:
        """1 + sqrt(alpha) eps."""
        return (torch.exp(0.5 * log_alpha.clamp(max=self.max_log_alpha)) * eps).add_(1.0)

    @torch.no_grad()
    def redraw(self, seed: int) -> None:
        self._project()
        for index, name in enumerate(self.weights):
            weight = getattr(self, name)
            generator = torch.Generator(weight.device).manual_seed(mix(seed, index))
            self.noise[name] = torch.randn(weight.shape, generator=generator, dtype=weight.dtype, device=weight.device)

    def _project(self) -> None:
        # The clamp has no gradient above the cap, so what the optimizer pushed past it would stay there for good.
        for name in self.weights:
            getattr(self, log_alpha_of(name)).clamp_(max=self.max_log_alpha)

    def kl(self) -> Tensor:
        """sum of 1/2 log(1 + 1/alpha) = 1/2 softplus(-log alpha), float32 (it sums millions of terms)."""
        total = torch.zeros((), device=getattr(self, self.weights[0]).device)
        for name in self.weights:
            log_alpha = getattr(self, log_alpha_of(name)).float().clamp(max=self.max_log_alpha)
            per_row = getattr(self, name).shape[1]
            total = total + 0.5 * per_row * F.softplus(-log_alpha).sum()
        return total

    @torch.no_grad()
    def alpha(self) -> dict[str, Tensor]:
        """alpha per output row of each weight."""
        return {name: getattr(self, log_alpha_of(name)).clamp(max=self.max_log_alpha).exp() for name in self.weights}


class NoisyLinear(_Noisy, layers.Linear):
    pass


class NoisyLSTM(_Noisy, layers.LSTM):
    pass


class NoisyEmbedding(_Noisy, layers.Embedding):
    """Draws the rows that a step looks up, each once: a token has one noisy vector in all of a step's micro-batches."""

    def __init__(self, layer: nn.Embedding, config: Any) -> None:
        super().__init__(layer, config)
        self.seed: int | None = None
        self.draws = 0  # since redraw
        self.drawn = torch.empty(0, dtype=torch.bool)

    @torch.no_grad()
    def redraw(self, seed: int) -> None:
        self._project()
        self.seed, self.draws = seed, 0
        if self.drawn.shape != self.weight.shape[:1] or self.drawn.device != self.weight.device:
            self.drawn = self.weight.new_zeros(self.weight.shape[0], dtype=torch.bool)
            self.noise["weight"] = torch.zeros_like(self.weight)
        self.drawn.zero_()

    def forward(self, ids: Tensor) -> Tensor:
        if self.mode == "mean":
            return super().forward(ids)
        rows, inverse = torch.unique(ids, return_inverse=True)
        log_alpha = F.embedding(rows, getattr(self, log_alpha_of("weight")).unsqueeze(1))
        theta = F.embedding(rows, self.weight, self.padding_idx)
        return F.embedding(inverse, theta * self._factor(log_alpha, self._eps(rows)))

    @torch.no_grad()
    def _eps(self, rows: Tensor) -> Tensor:
        if self.seed is None:
            raise RuntimeError("no noise has been drawn: call redraw(module, seed) before the first step")
        table = self.noise["weight"]
        new = rows[~self.drawn[rows]]
        if len(new):
            generator = torch.Generator(table.device).manual_seed(mix(self.seed, self.draws))
            fresh = torch.randn(len(new), table.shape[1], generator=generator, dtype=table.dtype, device=table.device)
            table.index_copy_(0, new, fresh)
            self.drawn.index_fill_(0, new, True)
            self.draws += 1
        return table.index_select(0, rows)


def log_alpha_of(weight: str) -> str:
    return f"log_alpha_{weight}"


LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {
    nn.Linear: NoisyLinear,
    nn.Embedding: NoisyEmbedding,
    nn.LSTM: NoisyLSTM,
}
