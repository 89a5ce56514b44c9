"""Early stopping on a metric of validation, or by somebody's word, and the weights of the best
epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from data_contracts.kinds.base import Metric
from lightning_modules.training.module import trained_state
from lightning_modules.training.recorder import OnProgress

# Whether a training goes on after an epoch, told its number and what validation measured.
GoesOn = Callable[[dict[str, Any]], bool]


class Halted(Exception):
    """A training was ended before its end by whoever it asks; no model comes out of it."""

    def __init__(self, epochs: int, cpu_seconds: float) -> None:
        self.epochs, self.cpu_seconds = epochs, cpu_seconds
        super().__init__(f"Ended after epoch {epochs}.")


class KeepBest(pl.Callback):
    """Early stopping on a metric of validation, with the best weights kept in memory and in
    checkpoints.

    Args:
        goes_on: asked after each epoch that another one would follow, and told of the last. Epochs
            of an earlier attempt are told again, since whoever answers may be another one.
    """

    def __init__(
        self,
        monitor: Metric,
        patience: int,
        on_progress: OnProgress,
        goes_on: GoesOn | None = None,
    ) -> None:
        self.monitor, self.patience, self.on_progress = monitor, patience, on_progress
        self.goes_on, self.halted = goes_on, False
        self.best = -math.inf if monitor.better == "higher" else math.inf
        self.best_epoch, self.steps = 0, 0
        self.weights: dict[str, Tensor] = {}
        self.history: list[dict[str, Any]] = []

    @property
    def exhausted(self) -> bool:
        return self.best_epoch > 0 and len(self.history) - self.best_epoch >= self.patience

    @property
    def state_key(self) -> str:
        return "noisefold.keep_best"

    def state_dict(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in ("best", "best_epoch", "steps", "weights", "history")
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.exhausted:  # resumed from the checkpoint of the epoch that stopped it
            trainer.should_stop = True
        for epoch in self.history:
            self._ask(trainer, epoch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        value = pl_module.validation[f"val/{self.monitor.name}"]
        epoch, self.steps = trainer.current_epoch + 1, trainer.global_step
        # An epoch before the network has its final size would often win, and ship a network that is
        # not pruned.
        if pl_module.settled and self.monitor.improves(value, self.best):
            self.best, self.best_epoch = value, epoch
            state = trained_state(pl_module.network)
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        self.history.append({"epoch": epoch, "step": self.steps, **pl_module.validation})
        self.on_progress(
            {
                "event": "epoch",
                **self.history[-1],
                "total_steps": pl_module.course.total,
                "best": self.best_epoch == epoch,
                "monitored": {"words": self.monitor.words, "value": value},
            }
        )
        if self.exhausted:
            trainer.should_stop = True
        self._ask(trainer, self.history[-1])

    def _ask(self, trainer: pl.Trainer, epoch: dict[str, Any]) -> None:
        if self.goes_on is None or self.halted or self.goes_on(epoch):
            return
        ended = epoch is self.history[-1] and (
            self.exhausted or epoch["epoch"] == trainer.max_epochs
        )
        if not ended:  # otherwise it is whole
            self.halted = trainer.should_stop = True
