"""Resume checkpoints: whole by their name, or set aside."""

from __future__ import annotations

import hashlib
import math
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_modules.training.recorder import OnProgress, Recorder, stepped

KEPT_CHECKPOINTS = 2
SMALL_CHECKPOINT = 16 << 20  # bytes; up to here every save that is due is made
SAVING_SHARE = 0.02


class Checkpoints(pl.Callback):
    """Resume checkpoints `step-<step>-<sha256 of the bytes>.ckpt`: whole by their name, or set
    aside.

    Every N steps, after each epoch's validation, and on SIGTERM, after which Lightning ends the
    fit. A large model may take seconds to save and milliseconds to step: after a save it waits
    until that was `SAVING_SHARE` of the time.

    Lightning's own state is saved in hooks that run before the loop has counted the batch (or the
    epoch) as completed; it is completed here, or the batch would be counted twice.
    """

    def __init__(self, folder: Path, every: int, identity: str, recorder: Recorder) -> None:
        self.folder, self.every, self.identity, self.recorder = folder, every, identity, recorder
        self.next_at = -math.inf  # on the monotonic clock
        folder.mkdir(parents=True, exist_ok=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # After an epoch's last batch its validation is still to come, and the epoch's own
        # checkpoint follows that.
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
        # A checkpoint from which no resume could go on would hide the older ones.
        self.recorder.check(trainer)
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
