"""An average over the steps of a training, validated and kept in place of the last weights."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.training.recorder import stepped


class Averaging(pl.Callback):
    """Exponential moving average of the trained parameters, in their place while validation runs.

        a_t = d_t a_{t-1} + (1 - d_t) theta_t, d_t = min(decay, (1 + t) / (10 + t)) after optimizer
        step t

    A parameter like any other, so it folds. Stands behind KeepBest, which thus keeps the average,
    and before Checkpoints. (Lightning's WeightAveraging copies the whole module and is back at
    theta when KeepBest looks.)
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}

    @property
    def state_key(self) -> str:
        return "noisefold.averaging"

    def state_dict(self) -> dict[str, Any]:
        return {"average": {name: tensor.cpu() for name, tensor in self.average.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average = dict(state_dict["average"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for name, parameter in _trained(pl_module):
            self.average[name] = self.average.get(name, parameter.detach()).to(
                parameter.device, copy=True
            )

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if stepped(trainer, batch_idx):
            t = trainer.global_step
            share = 1.0 - min(self.decay, (1 + t) / (10 + t))
            for name, parameter in _trained(pl_module):
                self.average[name].lerp_(parameter, share)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._swap(pl_module)

    @torch.no_grad()
    def _swap(self, pl_module: Any) -> None:
        for name, parameter in _trained(pl_module):
            theta = parameter.clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(theta)


def _trained(pl_module: Any) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in pl_module.network.named_parameters() if p.requires_grad]
