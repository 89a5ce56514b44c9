"""Low-rank factors beside frozen weights (Hu 2021, https://arxiv.org/abs/2106.09685): fine-tuning.

    W = W0 + (alpha / r) B A, W0 (O, I) frozen, A (r, I) uniform on +-1/sqrt(I), B (O, r) zero at
    the start

so the function is unchanged at step 0 (and A has no gradient before B's first step). A Linear adds
(alpha / r) B (A x) to its frozen output, which spares the gradient of a whole W; an LSTM merges the
factors into its weights, one fused call as ever. In `mean` mode both merge, so that fold gives the
same bits.

With noise, A and B are themselves layers of that method, drawn independently, so E[B A] = E[B] E[A]
and the folded
weight is the mean of the sampled one; KL is that of the factors. An LSTM's factors make one weight
for all time steps:
their noise is one draw, whatever `noise.sampling` says. Dropout acts on what the trained weights
read: the input of A and of the head, and the whole input of an LSTM.

All else is frozen (embeddings, norms, biases, layers not in `targets`), and stays so in what fold
returns. A part of the module that says `new_with_the_task` of itself, a network's head, is trained
whole.
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_contracts.errors import RecipeError
from data_contracts.recipe.methods import MultiplicativeNoise
from lightning_modules import reparameterizations
from lightning_modules.reparameterizations import layers

# BERT attention.self.query, DistilBERT attention.q_lin, GPT-2 attn.c_attn, Llama and Qwen
# self_attn.q_proj, GPT-NeoX attention.query_key_value, ModernBERT attn.Wqkv, T5 SelfAttention.q;
# last, our own Transformer and BiLSTM.
ATTENTION = re.compile(r"attn|attention|(^|\.)(qkv|mix|query)$", re.IGNORECASE)


class _LowRank(layers.Reparameterized):
    transposed = False  # the weight is stored as (I, O)

    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        self.scale = config.alpha / config.rank
        self.noisy = ()  # the factors are layers of their own, which know their noise
        for name in self.weights:
            weight = getattr(self, name)
            outputs, inputs = reversed(weight.shape) if self.transposed else weight.shape
            like: Any = {"bias": False, "device": weight.device, "dtype": weight.dtype}
            a, b = nn.Linear(inputs, config.rank, **like), nn.Linear(config.rank, outputs, **like)
            nn.init.zeros_(b.weight)
            for factor, side in ((a, "A"), (b, "B")):
                self.add_module(f"{side}_{name}", _with_noise(factor, self._noise(config)))

    def _noise(self, config: Any) -> Any:
        return config.noise

    def used(self, name: str) -> Tensor:
        """W0 + (alpha / r) B A, summed in float32 at least."""
        frozen: Tensor = getattr(self, name)
        exact = torch.promote_types(frozen.dtype, torch.float32)
        a, b = (self._factor(f"{side}_{name}").to(exact) for side in "AB")
        left, right = (a.t(), b.t()) if self.transposed else (b, a)
        return torch.addmm(frozen.to(exact), left, right, alpha=self.scale).to(frozen.dtype)

    def _factor(self, name: str) -> Tensor:
        factor: Any = getattr(self, name)
        if not isinstance(factor, layers.Reparameterized):
            return factor.weight
        return factor.used("weight") if factor.mode == self.mode else factor.mean_weight("weight")


class LowRankLinear(_LowRank, layers.Linear):
    A_weight: nn.Module
    B_weight: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "mean":
            return self._affine(x, self.used("weight"))
        return self._affine(x, self.weight) + self.B_weight(
            self.scale * self.A_weight(self.incoming(x))
        )

    def _affine(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight, self.bias)


class LowRankConv1D(LowRankLinear):
    """transformers' Conv1D (GPT-2): a Linear whose weight is stored as (I, O). Known by its name,
    not imported.
    """

    transposed = True

    def __init__(self, layer: Any, config: Any) -> None:
        layer.in_features, layer.out_features = layer.weight.shape
        super().__init__(layer, config)
        self.made_by: Any = type(layer)

    def _affine(self, x: Tensor, weight: Tensor) -> Tensor:
        flat = torch.addmm(cast(Tensor, self.bias), x.reshape(-1, self.in_features), weight)
        return flat.view(*x.shape[:-1], self.out_features)

    def fold(self) -> Any:
        with torch.device("meta"):
            plain = self.made_by(self.out_features, self.in_features)
        return self._fold_into(plain)


class LowRankLSTM(_LowRank, layers.LSTM):
    def _noise(self, config: Any) -> Any:
        one = isinstance(config.noise, MultiplicativeNoise)
        return config.noise.model_copy(update={"sampling": "one_draw"}) if one else config.noise


class Whole(layers.Linear):
    """A Linear that is trained as it is, with dropout as the other layers have it."""


LAYERS: dict[type[nn.Module] | str, type[layers.Reparameterized]] = {
    nn.Linear: LowRankLinear,
    nn.LSTM: LowRankLSTM,
    "Conv1D": LowRankConv1D,
}
PLAIN = (nn.Module,)  # whatever else there is, is frozen


def chosen(path: str, layer: nn.Module, config: Any, new: bool) -> bool:
    return not new and (config.targets == "all" or bool(ATTENTION.search(path)))


def prepare(module: nn.Module, config: Any, dropout: float) -> None:
    """Freeze the module, all but what is new with the task, whose Linears get dropout as well.

    Raises:
        RecipeError: no layer is one to be given factors.
    """
    new = layers.new_with_the_task(module)
    if not any(
        _known(layer) and chosen(path, layer, config, layer in new)
        for path, layer in module.named_modules()
    ):
        what = (
            "an attention projection"
            if config.targets == "attention"
            else "a Linear or LSTM beside its head"
        )
        raise RecipeError(
            f"model.reparameterization.targets {config.targets}: {type(module).__name__} has no "
            f"layer that is {what}.",
            "Set targets: all."
            if config.targets == "attention"
            else "Choose another method than low_rank.",
        )
    trained = [p for layer in new for p in layer.parameters() if p.requires_grad]
    module.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_()
    for owner in list(module.modules()):
        for name, layer in list(owner.named_children()):
            if type(layer) is nn.Linear and layer in new:
                whole = Whole(layer, config)
                whole.dropout = dropout
                setattr(owner, name, whole)


def needs(fresh: set[str], start: bool) -> str | None:
    """Why it cannot start: it keeps what it starts from for good, so that must not be random.

    Args:
        fresh: names of the tensors of a network that hold fresh weights; those of its head may.
        start: whether there is a model to start from.
    """
    fresh = {name for name in fresh if not name.startswith("head.")}
    if not fresh:
        return None
    why = f"the champion has no {min(fresh)} of this size" if start else "there is no champion"
    return f"low_rank freezes the weights it starts from, and {why}, so they would be random."


def _known(layer: nn.Module) -> bool:
    return type(layer) in LAYERS or type(layer).__name__ in LAYERS


def _with_noise(factor: nn.Linear, noise: Any) -> nn.Module:
    return factor if noise is None else reparameterizations.reparameterize(factor, noise)
