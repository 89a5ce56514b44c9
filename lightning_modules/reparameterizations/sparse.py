"""Multiplicative noise on groups of weights; a group that drowns in its noise is removed.

    W_g = theta_g * z_g, z_g ~ N(1, alpha_g), z_g = 0 from log alpha_g > threshold on, in every mode

A group is what leaves the network as a whole: a token's row and a dimension's column of an
Embedding, a unit of an LSTM (its gates, and all that read it), an input feature of a Linear. One
scale per group is Neklyudov et al. 2017 (https://arxiv.org/abs/1705.07283); noise that prunes is
Molchanov et al. 2017 (https://arxiv.org/abs/1701.05369), whose log-uniform prior is improper (Hron
et al. 2018, https://arxiv.org/abs/1807.01969). Here z_g has the Gaussian prior N(0, s_g^2) at its
empirical-Bayes optimum s_g^2 = 1 + alpha_g (Kharitonov et al. 2018,
https://arxiv.org/abs/1811.00596)

    KL(q || p) = sum_g |g| 1/2 log(1 + 1/alpha_g)   nats,

each group weighted by its number of weights |g|, because fewer weights are what is wanted. Noise on
rows is drawn per occurrence, on units and features per document, from torch's global generator: one
draw for a whole batch would have far more variance. What an LSTM's units read of each other has one
draw per step, or the fused kernel would be lost.

Removal ends at `keep` or `prune_until`; from there the rest trains without noise, and only epochs
after it may be kept: an unpruned early one would often win on validation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.network.network import TextNetwork
from lightning_modules.network.pruning import compact
from lightning_modules.reparameterizations import layers
from lightning_modules.reparameterizations.seeds import normal

NOISELESS = -30.0  # as log alpha: sqrt(alpha) = 3e-7 is lost in float32


class Sparse(layers.Reparameterized):
    """A mixin, before the layer whose weights it groups; `log_alpha_<group>` has one value per
    group.
    """

    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        self.threshold: float = config.threshold
        for group, size in self.sizes().items():
            start = torch.full((size,), math.log(config.initial_alpha))
            self.register_parameter(
                f"log_alpha_{group}", nn.Parameter(start.to(getattr(self, self.weights[0])))
            )

    def sizes(self) -> dict[str, int]:
        """Number of groups of each kind."""
        raise NotImplementedError

    def weights_in(self, group: str) -> int:
        """|g|: weights in one group of that kind."""
        raise NotImplementedError

    def left(self) -> int:
        """Number of this layer's weights that no removed group holds."""
        raise NotImplementedError

    def count(self, group: str) -> int:
        return int((getattr(self, f"log_alpha_{group}") <= self.threshold).sum())

    def kept(self, group: str) -> Tensor:
        """1 for a group that stays and 0 for one that is removed."""
        log_alpha = getattr(self, f"log_alpha_{group}").detach()
        return (log_alpha <= self.threshold).to(log_alpha.dtype)

    def scale(self, log_alpha: Tensor, eps: Tensor) -> Tensor:
        """z = 1 + sqrt(alpha) eps, or 0; what is removed has no gradient but the KL's, so it stays
        removed.
        """
        kept = (log_alpha.detach() <= self.threshold).to(eps.dtype)
        return (torch.exp(0.5 * log_alpha.clamp(max=self.threshold)) * eps + 1.0) * kept

    def per_document(self, group: str, like: Tensor, batch_dim: int = 0) -> Tensor:
        """z of the last dimension's groups, one draw per document, to be multiplied with `like`."""
        log_alpha = getattr(self, f"log_alpha_{group}")
        shape = [1] * (like.ndim - 1) + [len(log_alpha)]
        if like.ndim > 1:
            shape[batch_dim] = like.shape[batch_dim]
        return self.scale(log_alpha, torch.randn(shape, dtype=like.dtype, device=like.device))

    def kl(self) -> Tensor:
        parts = [
            0.5
            * self.weights_in(group)
            * F.softplus(-getattr(self, f"log_alpha_{group}").float()).sum()
            for group in self.sizes()
        ]
        return torch.stack(parts).sum()


class SparseLinear(Sparse, layers.Linear):
    def sizes(self) -> dict[str, int]:
        return {"feature": self.in_features}

    def weights_in(self, group: str) -> int:
        return self.out_features

    def left(self) -> int:
        return self.out_features * self.count("feature")

    def incoming(self, x: Tensor) -> Tensor:
        x = super().incoming(x)
        return x * self.per_document("feature", x) if self.mode == "sample" else x

    def used(self, name: str) -> Tensor:
        theta = getattr(self, name)
        return theta if self.mode == "sample" else theta * self.kept("feature")


class SparseEmbedding(Sparse, layers.Embedding):
    """Rows and columns; rows alone where the layer says `columns_are_outputs` of itself, since none
    of them may go.
    """

    log_alpha_row: Tensor

    def __init__(self, layer: nn.Embedding, config: Any) -> None:
        # First, since what follows asks for the sizes.
        self.columns_may_go = not getattr(layer, "columns_are_outputs", False)
        super().__init__(layer, config)

    def sizes(self) -> dict[str, int]:
        rows = {"row": self.num_embeddings}
        return {**rows, "column": self.embedding_dim} if self.columns_may_go else rows

    def weights_in(self, group: str) -> int:
        return self.embedding_dim if group == "row" else self.num_embeddings

    def left(self) -> int:
        columns = self.count("column") if self.columns_may_go else self.embedding_dim
        return self.count("row") * columns

    def forward(self, ids: Tensor) -> Tensor:
        if self.mode == "mean":
            return super().forward(ids)
        x = F.embedding(ids, self.weight, self.padding_idx)
        log_alpha = F.embedding(ids, self.log_alpha_row.unsqueeze(1))
        x = x * self.scale(log_alpha, torch.randn_like(log_alpha))
        return x * self.per_document("column", x) if self.columns_may_go else x

    def used(self, name: str) -> Tensor:
        rows = getattr(self, name) * self.kept("row").unsqueeze(1)
        return rows * self.kept("column") if self.columns_may_go else rows


class SparseLSTM(Sparse, layers.LSTM):
    log_alpha_unit: Tensor

    def __init__(self, layer: nn.LSTM, config: Any) -> None:
        super().__init__(layer, config)
        self.eps: Tensor | None = None

    @classmethod
    def refusal(cls, layer: nn.LSTM, config: Any) -> str | None:
        if layer.num_layers > 1 or layer.bidirectional:
            return "takes an LSTM of one layer and one direction only"
        return super().refusal(layer, config)

    def sizes(self) -> dict[str, int]:
        return {"unit": self.settings["hidden_size"]}

    def weights_in(self, group: str) -> int:
        return 4 * (self.settings["input_size"] + 2 * self.settings["hidden_size"])

    def left(self) -> int:
        return 4 * self.count("unit") * (self.settings["input_size"] + self.count("unit"))

    def redraw(self, seed: int) -> None:
        self.eps = normal(self.log_alpha_unit.shape, seed, self.log_alpha_unit)

    def used(self, name: str) -> Tensor:
        weight = getattr(self, name) * self.kept("unit").repeat(4).unsqueeze(1)
        if not name.startswith("weight_hh"):
            return weight
        if self.mode == "mean":
            return weight * self.kept("unit")
        if self.eps is None:
            raise RuntimeError(
                "no noise has been drawn: call redraw(module, seed) before the first step"
            )
        return weight * self.scale(self.log_alpha_unit, self.eps)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, (h, c) = super().forward(x, state)
        if x.ndim == 2:  # which came here once more, with a batch dimension
            return out, (h, c)
        kept = self.kept("unit")
        batch_dim = 0 if self.settings["batch_first"] else 1
        z = self.per_document("unit", out, batch_dim) if self.mode == "sample" else kept
        return out * z, (h * kept, c * kept)

    def fold(self) -> nn.LSTM:
        layer = super().fold()
        # Without a bias too, a removed unit's cell has no input, and puts out tanh(0).
        for name in self.order:
            if name.startswith("bias"):
                bias = getattr(self, name).detach() * self.kept("unit").repeat(4)
                setattr(layer, name, nn.Parameter(bias))
        layer.flatten_parameters()
        return layer


def settled(config: Any, module: nn.Module, step: int, total: int) -> bool:
    """Whether removal has ended, at `keep` or `prune_until`. Of parameters and step alone, so it
    resumes.
    """
    over = step >= math.ceil(config.prune_until * total)
    return over or kept_share(module) <= config.keep


def beta(config: Any, module: nn.Module, step: int, total: int) -> float:
    """What is left when removal has ended trains without noise, and so without a KL term."""
    return 0.0 if settled(config, module, step, total) else layers.rising_beta(config, step, total)


def finish(network: TextNetwork) -> TextNetwork:
    """The folded network without what its zeros have made idle."""
    return compact(network)


def figures(module: nn.Module) -> dict[str, float]:
    """What a validation tells of the method, beside the kind's metrics."""
    return {"kept_weights": kept_share(module)}


def kept_share(module: nn.Module) -> float:
    """Share of the weights of sparse layers that no removed group holds."""
    sparse = [layer for layer in module.modules() if isinstance(layer, Sparse)]
    total = sum(getattr(layer, name).numel() for layer in sparse for name in layer.weights)
    return sum(layer.left() for layer in sparse) / max(1, total)


@torch.no_grad()
def settle(module: nn.Module) -> None:
    """End the removal: what is left loses its noise, and no alpha moves any more (AdamW passes over
    a None gradient).

    It shows in the parameters alone, so every checkpoint knows; once more changes nothing.
    """
    for layer in module.modules():
        if isinstance(layer, Sparse):
            for group in layer.sizes():
                log_alpha = layer.get_parameter(f"log_alpha_{group}")
                log_alpha.masked_fill_(log_alpha <= layer.threshold, NOISELESS)
                log_alpha.grad = None


LAYERS: dict[type[nn.Module], type[layers.Reparameterized]] = {
    nn.Linear: SparseLinear,
    nn.Embedding: SparseEmbedding,
    nn.LSTM: SparseLSTM,
}
