"""Multiplicative Gaussian noise on the weights.

    W = theta * (1 + sqrt(alpha) * eps), eps ~ N(0, 1) per weight, alpha per output row, learned as
    log_alpha, capped

Kingma, Salimans & Welling 2015, https://arxiv.org/abs/1506.02557. With a Gaussian prior N(0, s^2)
per weight at its empirical-Bayes optimum s^2 = theta^2 (1 + alpha) (Kharitonov, Molchanov & Vetrov
2018, https://arxiv.org/abs/1811.00596)

    KL(q || p) = 1/2 log(1 + 1/alpha)   nats per weight, whatever theta is.

The log-uniform prior of the first paper is improper (Hron, Matthews & Ghahramani 2018,
https://arxiv.org/abs/1807.01969). Biases carry no noise. For an Embedding a row is a token's
vector, and only the rows looked up are drawn.

sampling: one_draw
    One eps per optimizer step, shared by batch, positions and accumulated micro-batches.
sampling: local
    A Linear draws its outputs instead (the local reparameterization of the first paper),
        y ~ N(x theta^T + b, x^2 (alpha theta^2)^T), each position its own. Marginals are those of
    W; but positions that share W would share its noise, and here do not, so in a layer read at
    several positions this is another posterior. Embedding and LSTM: one draw.
sampling: rank_one
    Noise on the features that a layer reads, one draw per document (first dimension of the batch),
    shared by positions:
        y = (x * z) theta^T + b,   z = 1 + sqrt(alpha) eps,   alpha per feature,
    which is W = theta diag(z), as in the rank-1 posteriors of Dusenberry 2020
    (https://arxiv.org/abs/2005.07186) with one of the two vectors. Documents may draw apart, since
    the expected NLL is a sum over them. The prior is on z and not on weights, which are point
    estimates (Louizos 2017, https://arxiv.org/abs/1705.08665, groups weights the same way): KL =
    1/2 log(1 + 1/alpha) per feature, as above, far fewer terms. An Embedding scales what it puts
    out; of an LSTM the first layer's input, while its other matrices have one draw.

dtype: the variance of `local` and every KL run in float32 (or float64): x^2 theta^2 underflows in
    float16.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.reparameterizations import layers
from lightning_modules.reparameterizations.seeds import normal_like

EPSILON = 1e-16  # inside the root of a variance, whose gradient at 0 would be infinite


class Noisy(layers.Drawn):
    """Noise on the parameters that `noisy` names; under `rank_one` on the input, in place of the
    weights it meets.
    """

    prefix = "log_alpha_"
    reads_input: tuple[str, ...] = ("weight",)  # weights that the layer multiplies with its input

    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        self.max_log_alpha, start = math.log(config.max_alpha), math.log(config.initial_alpha)
        self.scaled: tuple[str, ...] = ()
        if config.sampling == "rank_one":
            self.scaled = tuple(name for name in self.noisy if name in self.reads_input)
            self.noisy = tuple(name for name in self.noisy if name not in self.scaled)
        for name in self.noisy:
            theta = getattr(self, name)
            self.register_parameter(
                self.prefix + name, nn.Parameter(theta.new_full(theta.shape[:1], start))
            )
        if self.scaled:
            theta = getattr(self, self.scaled[0])
            self.log_alpha_input = nn.Parameter(theta.new_full(theta.shape[1:], start))

    def perturb(self, theta: Tensor, spread: Tensor, eps: Tensor) -> Tensor:
        std = torch.exp(0.5 * spread).unsqueeze(-1)
        return theta * torch.addcmul(eps.new_ones(()), eps, std)

    def scale(self, x: Tensor, documents: int | None) -> Tensor:
        """x * z under `rank_one`; `documents` is the dimension along which they stand, None: x is
        one.
        """
        if not self.scaled or self.mode == "mean":
            return x
        shape = [
            size if i == documents or i == x.dim() - 1 else 1 for i, size in enumerate(x.shape)
        ]
        std = torch.exp(0.5 * self.log_alpha_input)
        return x * (1 + std * torch.randn(shape, dtype=std.dtype, device=std.device)).to(x.dtype)

    def incoming(self, x: Tensor) -> Tensor:
        return self.scale(super().incoming(x), 0 if x.dim() > 1 else None)

    @torch.no_grad()
    def redraw(self, seed: int) -> None:
        # Here, as a clamp in the forward pass has no gradient above the cap: what is pushed past it
        # would stay there.
        for log_alpha, _ in self.spreads():
            log_alpha.clamp_(max=self.max_log_alpha)
        super().redraw(seed)

    def spreads(self) -> list[tuple[Tensor, int]]:
        """Each log_alpha, with the number of weights that one of its values stands for."""
        own = [(self.spread(name), getattr(self, name).shape[1]) for name in self.noisy]
        return [*own, (self.log_alpha_input, 1)] if self.scaled else own

    def kl(self) -> Tensor:
        return divergence([self])

    @torch.no_grad()
    def alpha(self) -> dict[str, Tensor]:
        """alpha of each weight: per output row, or per column where the input carries the noise."""
        found = {name: self.spread(name).unsqueeze(1) for name in self.noisy}
        for name in self.scaled:
            found[name] = self.log_alpha_input
        return {name: value.clamp(max=self.max_log_alpha).exp() for name, value in found.items()}


def divergence(layers: Sequence[Noisy]) -> Tensor:
    """KL(q || p) of these layers in nats, float32. In one piece: layer by layer it is a hundred
    small operations.
    """
    spreads = [
        (log_alpha, count, layer.max_log_alpha)
        for layer in layers
        for log_alpha, count in layer.spreads()
    ]
    log_alphas, counts, caps = zip(*spreads, strict=True)
    return cast(Tensor, _Divergence.apply(counts, caps, *log_alphas))


class _Divergence(torch.autograd.Function):
    """sum of count/2 log(1 + 1/alpha) = count/2 softplus(-log alpha); its derivative -count/2
    sigmoid(-log alpha).
    """

    @staticmethod
    def forward(
        ctx: Any, counts: tuple[int, ...], caps: tuple[float, ...], *log_alphas: Tensor
    ) -> Tensor:
        sizes, ctx.dtypes = (
            tuple(len(value) for value in log_alphas),
            [value.dtype for value in log_alphas],
        )
        half, cap = _halves_and_caps(sizes, counts, caps, log_alphas[0].device)
        flat = torch.cat([value.float() for value in log_alphas]).minimum(cap)
        ctx.save_for_backward(half * torch.sigmoid(-flat))
        ctx.sizes = sizes
        return (
            half * F.softplus(-flat)
        ).sum()  # a dot product would run in bfloat16 under autocast

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        parts = (-gradients[0] * ctx.saved_tensors[0]).split(ctx.sizes)
        return None, None, *(part.to(dtype) for part, dtype in zip(parts, ctx.dtypes, strict=True))


@functools.lru_cache(maxsize=16)
def _halves_and_caps(
    sizes: tuple[int, ...], counts: tuple[int, ...], caps: tuple[float, ...], device: Any
) -> Tensor:
    """count / 2 and cap of each log_alpha: the same at every step, and slow to lay out."""
    facts = torch.tensor(
        [[0.5 * count for count in counts], caps], device=device, dtype=torch.float32
    )
    return facts.repeat_interleave(torch.tensor(sizes, device=device), dim=1)


def local_linear(x: Tensor, theta: Tensor, bias: Tensor | None, log_alpha: Tensor) -> Tensor:
    """A draw of the outputs x W^T + b, x (..., I), theta (O, I), log_alpha (O): one eps per
    position and output.
    """
    mean = F.linear(x, theta, bias)
    with torch.autocast(x.device.type, enabled=False):
        exact = torch.promote_types(theta.dtype, torch.float32)
        noise = _LocalNoise.apply(*(tensor.to(exact) for tensor in (x, theta, log_alpha)))
    return mean + cast(Tensor, noise).to(mean.dtype)


class _LocalNoise(torch.autograd.Function):
    """sqrt(v) eps, v = x^2 (alpha theta^2)^T; alpha joins theta^2, which is small, and not x^2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor, log_alpha: Tensor) -> Tensor:
        squared = theta.square().mul_(log_alpha.exp().unsqueeze(1))
        std = F.linear(x.square(), squared).add_(EPSILON).sqrt_()
        eps = normal_like(std)
        ctx.save_for_backward(x, theta, log_alpha, squared, std, eps)
        return std * eps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, theta, log_alpha, squared, std, eps = ctx.saved_tensors
        # Twice it; the 2 of d x^2 / dx cancels the half.
        d_variance = (gradients[0] * eps).div_(std)
        d_x = (d_variance @ squared).mul_(x) if ctx.needs_input_grad[0] else None
        d_squared = d_variance.flatten(0, -2).T @ x.square().flatten(0, -2)
        d_log_alpha = 0.5 * (d_squared * squared).sum(1)
        return d_x, d_squared.mul_(log_alpha.exp().unsqueeze(1)).mul_(theta), d_log_alpha


class NoisyLinear(Noisy, layers.Linear):
    log_alpha_weight: Tensor

    def __init__(self, layer: nn.Linear, config: Any) -> None:
        super().__init__(layer, config)
        self.local: bool = config.sampling == "local"

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "mean" or not self.local:
            return super().forward(x)
        return local_linear(self.incoming(x), self.weight, self.bias, self.log_alpha_weight)


class NoisyLSTM(Noisy, layers.LSTM):
    reads_input = ("weight_ih_l0", "weight_ih_l0_reverse")

    def incoming(self, x: Tensor) -> Tensor:
        return self.scale(layers.LSTM.incoming(self, x), 0 if self.settings["batch_first"] else 1)


class NoisyEmbedding(Noisy, layers.DrawnEmbedding):
    def forward(self, ids: Tensor) -> Tensor:
        return self.scale(super().forward(ids), 0 if ids.dim() > 1 else None)


LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {
    nn.Linear: NoisyLinear,
    nn.Embedding: NoisyEmbedding,
    nn.LSTM: NoisyLSTM,
}
