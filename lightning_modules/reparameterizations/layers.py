"""Explicit layers that a method changes at two points: the weight used in the forward pass, and the incoming vector.

Why not `torch.nn.utils.parametrize`: it recomputes at each access (four times in an LSTM), older versions left RNN
weights frozen (pytorch#65688), and its modules do not pickle. Parameters keep the names they have in the plain layer,
so that a state dict reads the same before and after.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Mode = Literal["sample", "mean"]
M = TypeVar("M", bound=nn.Module)


class Reparameterized(nn.Module):
    """A layer with noise in `sample` mode and without in `mean` mode; train() and eval() have no part in it."""

    weights: tuple[str, ...]
    weight: nn.Parameter
    plain: ClassVar[type[nn.Module]]

    def __init__(self, layer: nn.Module, config: Any) -> None:
        super().__init__()
        self.mode: Mode = "mean"
        for name, parameter in layer.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.weights = tuple(name for name in self._parameters if name.startswith("weight"))
        self.training = layer.training

    def used(self, name: str) -> Tensor:
        """The weight that the forward pass uses."""
        return getattr(self, name)

    def incoming(self, x: Tensor) -> Tensor:
        """The input that the forward pass uses."""
        return x

    def redraw(self, seed: int) -> None:
        """Draw the noise of the next optimizer step."""

    def kl(self) -> Tensor | None:
        """KL(q || p) of this layer in nats, float32; None where the method has none."""
        return None

    def fold(self) -> nn.Module:
        """The plain torch layer whose outputs are those of `mean` mode, bit for bit."""
        raise NotImplementedError

    def _fold_into(self, layer: M) -> M:
        for name in layer._parameters:
            if layer._parameters[name] is not None:
                setattr(layer, name, getattr(self, name))
        return layer.train(self.training)


class Linear(Reparameterized):
    plain = nn.Linear

    def __init__(self, layer: nn.Linear, config: Any) -> None:
        super().__init__(layer, config)
        if layer.bias is None:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.incoming(x), self.used("weight"), self.bias)

    def fold(self) -> nn.Linear:
        outputs, inputs = self.weight.shape
        return self._fold_into(nn.Linear(inputs, outputs, bias=self.bias is not None, device="meta"))


class Embedding(Reparameterized):
    plain = nn.Embedding

    def __init__(self, layer: nn.Embedding, config: Any) -> None:
        if layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse:
            raise ValueError("an Embedding with max_norm, scale_grad_by_freq or sparse cannot be reparameterized")
        super().__init__(layer, config)
        self.padding_idx = layer.padding_idx

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight, self.padding_idx)

    def fold(self) -> nn.Embedding:
        rows, size = self.weight.shape
        return self._fold_into(nn.Embedding(rows, size, padding_idx=self.padding_idx, device="meta"))


class LSTM(Reparameterized):
    """nn.LSTM through its own fused call, with the weights given: one draw serves all time steps."""

    plain = nn.LSTM

    def __init__(self, layer: nn.LSTM, config: Any) -> None:
        if layer.proj_size:
            raise ValueError("an LSTM with proj_size cannot be reparameterized")
        super().__init__(layer, config)
        self.order = [name for names in layer._all_weights for name in names]
        self.settings = {
            name: getattr(layer, name)
            for name in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        }

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        set_ = self.settings
        if state is None:
            batch = x.shape[0 if set_["batch_first"] else 1]
            size = (set_["num_layers"] * (1 + set_["bidirectional"]), batch, set_["hidden_size"])
            state = (x.new_zeros(size), x.new_zeros(size))
        flat = [self.used(name) if name.startswith("weight") else getattr(self, name) for name in self.order]
        out, h, c = torch._VF.lstm(
            self.incoming(x), state, flat, set_["bias"], set_["num_layers"], set_["dropout"],
            self.training, set_["bidirectional"], set_["batch_first"],
        )  # fmt: skip
        return out, (h, c)

    def fold(self) -> nn.LSTM:
        layer = self._fold_into(nn.LSTM(**self.settings, device="meta"))
        layer.flatten_parameters()  # one block of memory for cuDNN; does nothing on CPU
        return layer
