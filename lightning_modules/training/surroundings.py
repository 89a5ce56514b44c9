"""What stands round a training: Lightning's trainer, torch's settings, and silence."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from data_contracts.errors import TrainingError
from data_contracts.recipe.sections import ExecutionConfig, TrainingConfig

# Advice of Lightning's for another way of working; each is answered here by design.
QUIET = (
    ".*does not have many workers.*",  # batches are made in this process
    ".*GPU available but not used.*",
    ".*is not supported by the `.*accelerator.*",
    ".*The number of training batches.*",
    ".*LeafSpec.*is deprecated.*",
)


def make_trainer(
    training: TrainingConfig, execution: ExecutionConfig, work: Path, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """One device, our own loops of checkpoints and progress.

    Raises:
        TrainingError: the device is not there, or cannot compute in this precision.
    """
    accelerator = execution.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    elif accelerator == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "The recipe asks for CUDA, and there is no CUDA device.",
            "Set execution.accelerator: auto.",
        )
    if accelerator == "cpu" and execution.precision != "32-true":
        raise TrainingError(
            f"execution.precision: {execution.precision} is for a GPU; on a CPU it gains nothing, "
            f"and an LSTM may crash.",
            "Set execution.precision: 32-true.",
        )
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=training.max_epochs,
        accumulate_grad_batches=training.accumulate_grad_batches,
        precision=execution.precision,
        callbacks=callbacks,
        default_root_dir=work,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


@contextmanager
def determinism(execution: ExecutionConfig) -> Iterator[None]:
    """Same bits for the same arguments: fixed threads, deterministic kernels; torch's settings are
    put back after.
    """
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only, filled = (
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _filling().fill_uninitialized_memory,
    )
    torch.set_num_threads(execution.threads)
    # CUDA has operations without a deterministic kernel; there the promise is for CPU only, so
    # nothing is refused.
    on_gpu = execution.accelerator != "cpu" and torch.cuda.is_available()
    torch.use_deterministic_algorithms(not on_gpu)
    # A debugging aid that costs a pass over every new tensor.
    _filling().fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        _filling().fill_uninitialized_memory = filled


def _filling() -> Any:
    return torch.utils.deterministic


@contextmanager
def silence() -> Iterator[None]:
    """No library chatter that a user can do nothing about."""
    loggers = [
        logging.getLogger(name)
        for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in QUIET:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
