"""What a training says while it runs: metric points to a file, progress to whoever listens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from data_contracts.errors import TrainingError
from lightning_modules.reparameterizations import noise_level
from lightning_modules.training.metrics_log import MetricsLog
from lightning_modules.training.module import TextModule

OnProgress = Callable[[dict[str, Any]], None]
PROGRESS_SECONDS = 0.4


class Recorder(pl.Callback):
    """Writes metrics and reports progress; stops on a loss that is not finite.

    Sums are kept on the device between two points, so no step waits for a GPU.
    """

    def __init__(self, log: MetricsLog, on_progress: OnProgress, steps_per_epoch: int) -> None:
        self.points, self.on_progress = log, on_progress
        # About every 10 steps, at most about 100 points per epoch, at least two.
        self.every = max(min(10, max(1, steps_per_epoch // 2)), -(-steps_per_epoch // 100))
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.started = self.reported = time.monotonic()
        self.cpu_before, self.cpu_started = 0.0, time.process_time()

    @property
    def state_key(self) -> str:
        return "noisefold.recorder"

    @property
    def cpu_seconds(self) -> float:
        """Of this process and of those before it, up to the checkpoints from which the next one
        went on.
        """
        return self.cpu_before + time.process_time() - self.cpu_started

    def state_dict(self) -> dict[str, Any]:
        sums = {name: value.cpu() for name, value in self.sums.items()}
        return {"sums": sums, "count": self.count, "cpu_seconds": self.cpu_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sums, self.count = dict(state_dict["sums"]), state_dict["count"]
        self.cpu_before = state_dict.get("cpu_seconds", 0.0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step_values = {
            "loss": outputs["loss"].detach(),
            "nll": outputs["nll"],
            "tokens": batch["lengths"].sum(),
        }
        if stepped(trainer, batch_idx):
            step_values |= {"gradient_norm": pl_module.gradient_norm, "steps": torch.ones(())}
        for name, value in step_values.items():
            self.sums[name] = (
                value if name not in self.sums else self.sums[name].to(value.device) + value
            )
        self.count += 1
        step = trainer.global_step
        last = batch_idx + 1 == trainer.num_training_batches
        if last or (stepped(trainer, batch_idx) and step % self.every == 0):
            self._point(trainer, pl_module, step, outputs)
        now = time.monotonic()
        if now - self.reported >= PROGRESS_SECONDS:
            self.reported = now
            self.on_progress(
                {
                    "event": "progress",
                    "epoch": trainer.current_epoch + 1,
                    "step": step,
                    "total_steps": pl_module.course.total,
                    "loss": self.check(trainer, outputs["loss"]),
                }
            )

    def _point(self, trainer: pl.Trainer, module: TextModule, step: int, outputs: Any) -> None:
        mean = {name: float(value) / self.count for name, value in self.sums.items()}
        self.check(trainer, mean["loss"])
        now = time.monotonic()
        values = {
            "train/loss": mean["loss"],
            "train/nll": mean["nll"],
            "train/gradient_norm": mean["gradient_norm"] / mean["steps"],
            "train/learning_rate": module.learning_rate,
            "train/tokens_per_second": mean["tokens"] * self.count / max(now - self.started, 1e-9),
        }
        if "kl" in outputs:
            values["train/kl"], values["train/beta"] = float(outputs["kl"]), outputs["beta"]
        if (alpha := noise_level(module.network)) is not None:
            values["train/noise_alpha"] = float(alpha)
        self.points.write(step, values)
        self.sums, self.count, self.started = {}, 0, now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.points.write(
            trainer.global_step, {**pl_module.validation, "epoch": float(trainer.current_epoch + 1)}
        )
        self.started = time.monotonic()  # validation is no part of the training's throughput

    def check(self, trainer: pl.Trainer, loss: float | Tensor | None = None) -> float:
        """The loss as a number; raises where it, or the sum since the last point, is not finite."""
        value = float(self.sums.get("loss", 0.0)) if loss is None else float(loss)
        if not math.isfinite(value):
            raise TrainingError(
                f"The training loss became {value} in epoch {trainer.current_epoch + 1}, "
                f"at or up to {self.every} steps before step {trainer.global_step}.",
                "Lower training.learning_rate or training.gradient_clip, or raise training.warmup.",
            )
        return value


def stepped(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the optimizer has stepped after this batch; an epoch's last batch always ends a
    step.
    """
    last = batch_idx + 1 == trainer.num_training_batches
    return last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
