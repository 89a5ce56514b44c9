"""What a method does in the course of a training, beside its layers; a method's file says so by a
function of that name.

beta(config, module, step, total) -> float weight of KL / N at a step; rises over `kl_warmup`, then
level settled(config, module, step, total) -> bool whether the network has its final size; always
settle(module) called before each step from there on figures(module) -> {name: number} what a
validation tells of it finish(network) -> network what becomes of the folded network; it stays as it
is needs(fresh, start) -> str | None why it cannot start from these weights
"""

from __future__ import annotations

from typing import Any

from torch import nn

from data_contracts.recipe.methods import Reparameterization, variational
from lightning_modules.network.network import TextNetwork
from lightning_modules.reparameterizations import METHODS
from lightning_modules.reparameterizations.layers import rising_beta


class Course:
    """A method over the `total` optimizer steps of one training.

    `noise` is the part of its settings that has a KL term, None where there is none.
    """

    def __init__(self, config: Reparameterization, total: int) -> None:
        self.config, self.total = config, total
        self.noise = variational(config)
        self._method = METHODS[config.kind]

    def beta(self, module: nn.Module, step: int) -> float:
        """Weight of KL / N."""
        if self.noise is None:
            return 0.0
        own = self._own("beta")
        if own is not None:
            return own(self.config, module, step, self.total)
        return rising_beta(self.noise, step, self.total)

    def settled(self, module: nn.Module, step: int) -> bool:
        """Whether the network has its final size. Of parameters and step alone, so it resumes."""
        own = self._own("settled")
        return own is None or own(self.config, module, step, self.total)

    def before_step(self, module: nn.Module, step: int) -> None:
        """Just before an optimizer step, when the gradients are there."""
        own = self._own("settle")
        if own is not None and self.settled(module, step):
            own(module)

    def figures(self, module: nn.Module) -> dict[str, float]:
        """What a validation tells of the method."""
        own = self._own("figures")
        return {} if own is None else own(module)

    def finish(self, network: TextNetwork) -> TextNetwork:
        """What becomes of the folded network."""
        own = self._own("finish")
        return network if own is None else own(network)

    def needs(self, fresh: set[str], start: bool) -> str | None:
        """Why the method cannot start from these weights; None where it can.

        Args:
            fresh: names of the network's tensors that hold fresh weights.
            start: whether there is a model to start from.
        """
        own = self._own("needs")
        return None if own is None else own(fresh, start)

    def _own(self, name: str) -> Any:
        return getattr(self._method, name, None)
