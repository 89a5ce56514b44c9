"""What a training leaves behind while it runs: metrics, the best weights, and checkpoints to resume from."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from data_contracts.errors import TrainingError
from lightning_modules.reparameterizations import noise_level
from lightning_modules.training.module import TextModule, trained_state

OnProgress = Callable[[dict[str, Any]], None]
PROGRESS_SECONDS = 0.4
KEPT_CHECKPOINTS = 2
SMALL_CHECKPOINT = 16 << 20  # bytes; up to here every save that is due is made
SAVING_SHARE = 0.02


class MetricsLog:
    """`metrics.jsonl`: one point per line, {"key", "value", "step", "timestamp"} (milliseconds), flushed per step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, step: int, values: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        points = [
            {"key": key, "value": value, "step": step, "timestamp": now}
            for key, value in values.items()
        ]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(json.dumps(point) + "\n" for point in points))

    def rewind(self, step: int) -> None:
        """Drop what a killed attempt wrote after `step`, a torn last line included. Steps only grow within the file.

        What is kept is another file: whoever reads along knows by that that its place in the old one means nothing.
        """
        if not self.path.exists():
            return
        beside = self.path.with_name(f"{self.path.name}.tmp")
        with self.path.open("rb") as stream, beside.open("wb") as kept:
            for line in stream:
                try:
                    if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                        break
                except ValueError:
                    break
                kept.write(line)
        os.replace(beside, self.path)


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
        """Of this process and of those before it, up to the checkpoints from which the next one went on."""
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
                    "total_steps": pl_module.total_steps,
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
    """Whether the optimizer has stepped after this batch; an epoch's last batch always ends a step."""
    last = batch_idx + 1 == trainer.num_training_batches
    return last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class KeepBest(pl.Callback):
    """Early stopping on a metric of validation, with the best weights kept in memory and in checkpoints.

    monitor: its name, `val/nll` say; the objective's own where it is None.
    """

    def __init__(self, monitor: str | None, patience: int, on_progress: OnProgress) -> None:
        self.monitor, self.patience, self.on_progress = monitor, patience, on_progress
        self.best, self.best_epoch, self.steps = -math.inf, 0, 0
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

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        metric = self.monitor.removeprefix("val/") if self.monitor else pl_module.objective.monitor
        sign = -1 if metric in pl_module.objective.lower_is_better else 1
        value = sign * pl_module.validation[f"val/{metric}"]
        epoch, self.steps = trainer.current_epoch + 1, trainer.global_step
        # An epoch before the network has its final size would often win, and ship a network that is not pruned.
        if pl_module.settled and value > self.best:
            self.best, self.best_epoch = value, epoch
            state = trained_state(pl_module.network)
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        self.history.append({"epoch": epoch, "step": self.steps, **pl_module.validation})
        self.on_progress(
            {
                "event": "epoch",
                **self.history[-1],
                "total_steps": pl_module.total_steps,
                "best": self.best_epoch == epoch,
            }
        )
        if self.exhausted:
            trainer.should_stop = True


class Averaging(pl.Callback):
    """Exponential moving average of the trained parameters, in their place while validation runs.

        a_t = d_t a_{t-1} + (1 - d_t) theta_t,   d_t = min(decay, (1 + t) / (10 + t)) after optimizer step t

    A parameter like any other, so it folds. Stands behind KeepBest, which thus keeps the average, and before
    Checkpoints. (Lightning's WeightAveraging copies the whole module and is back at theta when KeepBest looks.)
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


class Checkpoints(pl.Callback):
    """Resume checkpoints `step-<step>-<sha256 of the bytes>.ckpt`: whole by their name, or set aside.

    Every N steps, after each epoch's validation, and on SIGTERM, after which Lightning ends the fit. A large model may
    take seconds to save and milliseconds to step: after a save it waits until that was `SAVING_SHARE` of the time.

    Lightning's own state is saved in hooks that run before the loop has counted the batch (or the epoch) as completed;
    it is completed here, or the batch would be counted twice.
    """

    def __init__(self, folder: Path, every: int, identity: str, recorder: Recorder) -> None:
        self.folder, self.every, self.identity, self.recorder = folder, every, identity, recorder
        self.next_at = -math.inf  # on the monotonic clock
        folder.mkdir(parents=True, exist_ok=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # After an epoch's last batch its validation is still to come, and the epoch's own checkpoint follows that.
        last = batch_idx + 1 == trainer.num_training_batches
        due = trainer.global_step % self.every == 0 and time.monotonic() >= self.next_at
        if stepped(trainer, batch_idx) and (due or trainer.received_sigterm) and not last:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        loops = checkpoint["loops"]["fit_loop"]
        for progress in ("epoch_loop.batch_progress", "epoch_progress"):
            for span in ("current", "total"):
                loops[progress][span]["completed"] = loops[progress][span]["processed"]
        checkpoint["noisefold"] = {"identity": self.identity, "step": trainer.global_step}

    def save(self, trainer: pl.Trainer) -> None:
        self.recorder.check(
            trainer
        )  # a checkpoint from which no resume could go on would hide the older ones
        started, temporary = time.monotonic(), self.folder / "writing.tmp"
        trainer.save_checkpoint(temporary)
        sha = hashlib.sha256(temporary.read_bytes()).hexdigest()[:16]
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        if temporary.stat().st_size > SMALL_CHECKPOINT:
            self.next_at = time.monotonic() + (time.monotonic() - started) / SAVING_SHARE
        os.replace(temporary, self.folder / f"step-{trainer.global_step:09d}-{sha}.ckpt")
        for old in sorted(self.folder.glob("step-*.ckpt"))[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def latest(self, on_progress: OnProgress) -> tuple[Path, int] | None:
        """The newest checkpoint of this very training that is whole, and its step."""
        for path in sorted(self.folder.glob("step-*.ckpt"), reverse=True):
            try:
                if (
                    hashlib.sha256(path.read_bytes()).hexdigest()[:16]
                    != path.stem.rsplit("-", 1)[-1]
                ):
                    raise ValueError("its bytes have changed")
                facts = torch.load(path, map_location="cpu", weights_only=True)["noisefold"]
                if facts["identity"] != self.identity:
                    raise ValueError("it belongs to a training with other data or settings")
                return path, facts["step"]
            except (
                Exception
            ) as error:  # whatever is wrong with it, training from an older one is right
                os.replace(path, path.with_suffix(".damaged"))
                on_progress(
                    {"event": "note", "message": f"Checkpoint {path.name} was set aside: {error}."}
                )
        return None
