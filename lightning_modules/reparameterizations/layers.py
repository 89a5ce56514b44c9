"""Explicit layers that a method changes at few points: the value of a parameter, the weight, the
incoming vector.

Why not `torch.nn.utils.parametrize`: it recomputes at each access (four times in an LSTM), older
versions left RNN weights frozen (pytorch#65688), and its modules do not pickle. Parameters keep the
names they have in the plain layer, so that a state dict reads the same before and after.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.reparameterizations.seeds import mix, normal, normal_rows

Mode = Literal["sample", "mean"]
M = TypeVar("M", bound=nn.Module)

# Parameters of the noise itself: no weight decay, a learning rate of their own.
NOISE_PREFIXES = ("log_alpha_", "rho_")


def rising_beta(config: Any, step: int, total: int) -> float:
    """Weight of KL / N at a step of `total`: up from 0 over `kl_warmup` of them, then level."""
    rising = config.kl_warmup * total
    return config.beta * (min(1.0, step / rising) if rising else 1.0)


def new_with_the_task(module: nn.Module) -> set[nn.Module]:
    """The parts of a module that say `new_with_the_task` of themselves, as a network's head does,
    with all in them.
    """
    parts = [part for part in module.modules() if getattr(part, "new_with_the_task", False)]
    return {layer for part in parts for layer in part.modules()}


class Reparameterized(nn.Module):
    """A layer with noise in `sample` mode and without in `mean` mode; train() and eval() have no
    part in it.

    value(name) a registered parameter, with its noise in sample mode what a noise method overrides
    used(name) the plain layer's weight, a function of values what a deterministic method overrides
    incoming(x) the layer's input, with dropout in sample mode

    So methods compose: noise on a value is noise in every weight that is computed from it.
    `weights` names the plain layer's weights; `noisy` the registered parameters that a noise method
    acts on.
    """

    weights: tuple[str, ...]
    noisy: tuple[str, ...]
    plain: ClassVar[type[nn.Module]]

    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__()
        self.mode: Mode = "mean"
        self.dropout = 0.0  # of its input, see `reparameterize`
        for name, parameter in layer.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.weights = self.noisy = tuple(
            name for name in self._parameters if name.startswith("weight")
        )
        self.training = layer.training

    @classmethod
    def refusal(cls, layer: Any, config: Any) -> str | None:
        """Why the method does not take this layer: what follows "it" in a sentence; None where it
        does.
        """
        return None

    def value(self, name: str) -> Tensor:
        """The parameter of that name, with its noise in `sample` mode."""
        return getattr(self, name)

    def used(self, name: str) -> Tensor:
        """The plain layer's weight of that name, as the forward pass uses it."""
        return self.value(name)

    def incoming(self, x: Tensor) -> Tensor:
        """The input that the forward pass uses."""
        return F.dropout(x, self.dropout) if self.dropout and self.mode == "sample" else x

    def redraw(self, seed: int) -> None:
        """Draw the noise of the next optimizer step."""

    def kl(self) -> Tensor | None:
        """KL(q || p) of this layer in nats, float32; None where the method has none."""
        return None

    def alpha(self) -> dict[str, Tensor]:
        """Noise variance over weight squared, by weight, in any shape that divides the weight's;
        empty: no such.
        """
        return {}

    @torch.no_grad()
    def mean_weight(self, name: str) -> Tensor:
        """The weight of `mean` mode, without a graph: what fold writes."""
        mode, self.mode = self.mode, "mean"
        try:
            return self.used(name)
        finally:
            self.mode = mode

    def fold(self) -> nn.Module:
        """The plain torch layer whose outputs are those of `mean` mode."""
        raise NotImplementedError

    def _fold_into(self, layer: M) -> M:
        for name in layer._parameters:
            if layer._parameters[name] is not None:
                tensor = self.mean_weight(name) if name in self.weights else getattr(self, name)
                setattr(
                    layer,
                    name,
                    tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach()),
                )
        return layer.train(self.training)


class Linear(Reparameterized):
    plain = nn.Linear
    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear, config: Any) -> None:
        super().__init__(layer, config)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        if layer.bias is None:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.incoming(x), self.used("weight"), self.bias)

    def fold(self) -> nn.Linear:
        size = (self.in_features, self.out_features)
        return self._fold_into(nn.Linear(*size, bias=self.bias is not None, device="meta"))


class Embedding(Reparameterized):
    plain = nn.Embedding
    weight: Tensor

    def __init__(self, layer: nn.Embedding, config: Any) -> None:
        super().__init__(layer, config)
        self.num_embeddings, self.embedding_dim = layer.num_embeddings, layer.embedding_dim
        self.padding_idx = layer.padding_idx

    @classmethod
    def refusal(cls, layer: nn.Embedding, config: Any) -> str | None:
        odd = [
            name for name in ("max_norm", "scale_grad_by_freq", "sparse") if getattr(layer, name)
        ]
        return f"does not take an Embedding with {odd[0]}" if odd else None

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.used("weight"), self.padding_idx)

    def fold(self) -> nn.Embedding:
        size = (self.num_embeddings, self.embedding_dim)
        return self._fold_into(nn.Embedding(*size, padding_idx=self.padding_idx, device="meta"))


class LSTM(Reparameterized):
    """nn.LSTM through its own fused call, with the weights given: one draw serves all time
    steps.
    """

    plain = nn.LSTM

    def __init__(self, layer: nn.LSTM, config: Any) -> None:
        super().__init__(layer, config)
        self.order = [name for names in layer._all_weights for name in names]
        self.settings = {
            name: getattr(layer, name)
            for name in (
                "input_size",
                "hidden_size",
                "num_layers",
                "bias",
                "batch_first",
                "dropout",
                "bidirectional",
            )
        }

    @classmethod
    def refusal(cls, layer: nn.LSTM, config: Any) -> str | None:
        return "does not take an LSTM with proj_size" if layer.proj_size else None

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        set_ = self.settings
        if x.dim() == 2:  # one document without a batch dimension, as nn.LSTM takes it
            at = 0 if set_["batch_first"] else 1
            given = None if state is None else (state[0].unsqueeze(1), state[1].unsqueeze(1))
            out, (h, c) = self(x.unsqueeze(at), given)
            return out.squeeze(at), (h.squeeze(1), c.squeeze(1))
        if state is None:
            batch = x.shape[0 if set_["batch_first"] else 1]
            size = (set_["num_layers"] * (1 + set_["bidirectional"]), batch, set_["hidden_size"])
            state = (x.new_zeros(size), x.new_zeros(size))
        flat = [
            self.used(name) if name.startswith("weight") else getattr(self, name)
            for name in self.order
        ]
        out, h, c = torch._VF.lstm(
            self.incoming(x), state, flat, set_["bias"], set_["num_layers"], set_["dropout"],
            self.training, set_["bidirectional"], set_["batch_first"],
        )  # fmt: skip
        return out, (h, c)

    def fold(self) -> nn.LSTM:
        layer = self._fold_into(nn.LSTM(**self.settings, device="meta"))
        layer.flatten_parameters()  # one block of memory for cuDNN; does nothing on CPU
        return layer


class Drawn(Reparameterized):
    """A mixin: the parameters that `noisy` names carry Gaussian noise, one draw per `redraw`.

    Each has a parameter of its own beside it, `<prefix><name>`, that says how far the noise
    spreads.
    """

    prefix: ClassVar[str]

    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__(layer, config)
        self.noise: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Noise may be a window of a large table (Note [Bank]), which a copy or a pickle would take
        # whole.
        return {**self.__dict__, "noise": {name: eps.clone() for name, eps in self.noise.items()}}

    def spread(self, name: str) -> Tensor:
        """How far the noise on a parameter spreads: one value per row, or per element."""
        return getattr(self, self.prefix + name)

    def perturb(self, theta: Tensor, spread: Tensor, eps: Tensor) -> Tensor:
        raise NotImplementedError

    def eps(self, name: str) -> Tensor:
        if name not in self.noise:
            raise RuntimeError(
                "no noise has been drawn: call redraw(module, seed) before the first step"
            )
        return self.noise[name]

    def value(self, name: str) -> Tensor:
        theta = getattr(self, name)
        if self.mode == "mean" or name not in self.noisy:
            return theta
        return self.perturb(theta, self.spread(name), self.eps(name))

    @torch.no_grad()
    def redraw(self, seed: int) -> None:
        for index, name in enumerate(self.noisy):
            theta = getattr(self, name)
            self.noise[name] = normal(theta.shape, mix(seed, index), theta)


class DrawnEmbedding(Drawn, Embedding):
    """Noise for the rows that are looked up, and no others: a token has one noisy vector in all of
    a step's batches.
    """

    def __init__(self, layer: nn.Embedding, config: Any) -> None:
        super().__init__(layer, config)
        self.order = torch.zeros(2, dtype=torch.int64)

    @torch.no_grad()
    def redraw(self, seed: int) -> None:
        if "weight" not in self.noise:
            self.noise["weight"] = normal_rows(self.num_embeddings, self.embedding_dim, self.weight)
        # A tensor, as a compiled forward pass would take a new number for a new program.
        self.order = torch.tensor([mix(seed, 0) | 1, mix(seed, 1)], device=self.weight.device)

    def forward(self, ids: Tensor) -> Tensor:
        if self.mode == "mean" or "weight" not in self.noisy:
            return super().forward(ids)
        table = self.eps("weight")
        # Far fewer than positions: the noise costs less than they.
        rows, inverse = torch.unique(ids, return_inverse=True)
        eps = F.embedding((rows * self.order[0] + self.order[1]) % len(table), table).to(
            self.weight.dtype
        )
        theta = _DistinctRows.apply(self.weight, rows, self.padding_idx)
        spread = _DistinctRows.apply(self.spread("weight"), rows, self.padding_idx)
        return F.embedding(inverse, self.perturb(cast(Tensor, theta), cast(Tensor, spread), eps))


class _DistinctRows(torch.autograd.Function):
    """Rows of a table, none of them twice: so the gradient is a copy of rows, which is half the
    cost of a sum.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, padding_idx: int | None) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape, ctx.padding_idx = table.shape, padding_idx
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        gradient = gradients[0].new_zeros(ctx.shape).index_copy_(0, rows, gradients[0])
        if ctx.padding_idx is not None:
            gradient[ctx.padding_idx] = 0.0
        return gradient, None, None
