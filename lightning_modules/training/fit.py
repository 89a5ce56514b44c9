"""A training from token folder to bundle: resumable at any moment, and silent.

After kill -9 in mid-epoch a second `fit` of the same job goes on from the last checkpoint and ends,
on CPU, bit for bit where an uninterrupted one ends. What that rests on: batch order is a function
of (seed, epoch), noise and dropout of (seed, step), both schedules of the step; everything else is
in the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass, field
from typing import Any, cast

import pytorch_lightning as pl
import torch

from data_contracts.errors import TrainingError
from data_contracts.recipe.methods import NoReparameterization
from data_contracts.recipe.sections import BITS
from lightning_modules.bundle import save_bundle
from lightning_modules.kinds.base import Objective, objective_of
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.windows import Windowing
from lightning_modules.reparameterizations import fold
from lightning_modules.reparameterizations.course import Course
from lightning_modules.reparameterizations.noise_left import alphas_of, save_noise
from lightning_modules.training.averaging import Averaging
from lightning_modules.training.begin import starting_network
from lightning_modules.training.checkpoints import Checkpoints
from lightning_modules.training.data import TokenData
from lightning_modules.training.job import TrainingJob
from lightning_modules.training.keep_best import GoesOn, Halted, KeepBest
from lightning_modules.training.metrics_log import MetricsLog
from lightning_modules.training.module import TextModule, frozen_state
from lightning_modules.training.recorder import OnProgress, Recorder
from lightning_modules.training.surroundings import determinism, make_trainer, silence


@dataclass(frozen=True)
class FitResult:
    """What came out; `history` has one entry per epoch: epoch, step and the validation metrics."""

    windows: int  # that an epoch goes through
    best_epoch: int
    epochs: int
    steps: int
    monitor: str  # the metric whose best epoch was kept, by its name in MLflow
    validation: dict[str, float]  # of that epoch
    parameters: int
    bundle_digest: str
    history: list[dict[str, Any]]
    cpu_seconds: float = field(compare=False)

    @property
    def best_value(self) -> float:
        """Of the monitored metric."""
        return self.validation[self.monitor]


@dataclass(frozen=True)
class _Watchers:
    """What follows a training step by step."""

    log: MetricsLog
    recorder: Recorder
    best: KeepBest
    checkpoints: Checkpoints
    averaging: list[Averaging]

    def in_order(self) -> list[pl.Callback]:
        """KeepBest before Averaging, which swaps the average out again, and checkpoints when all
        has been done.
        """
        return [self.recorder, self.best, *self.averaging, self.checkpoints]


def fit(job: TrainingJob, on_progress: OnProgress, goes_on: GoesOn | None = None) -> FitResult:
    """Train, keep the best epoch, fold it, write `out/bundle`, `out/metrics.jsonl`,
    `out/history.json` and, where weights had noise, how much (`out/noise.safetensors`).

    Args:
        goes_on: asked after each epoch, with its metrics and the CPU seconds so far.

    Effects: `work/checkpoints/` and `work/metrics.jsonl` are written while it runs and taken up by
        the next call.
    Raises:
        TrainingError: the split cannot train a model of this kind, or the loss is not finite.
        Halted: `goes_on` said no. Its checkpoints stay, so that it could go on.
    """
    cpu_started = time.process_time()  # reading the data is part of training, imports are not
    objective = objective_of(job.task, job.facts)
    data = _data(job, objective)
    with determinism(job.execution), silence():
        torch.manual_seed(job.training.seed)
        network, coverage = starting_network(job, objective, data, on_progress)
        module = _module(job, objective, network, data)
        watchers = _watchers(job, objective, data, on_progress, goes_on)
        watchers.recorder.cpu_started = cpu_started
        _train(job, module, data, watchers, coverage)
        if watchers.best.halted:
            raise Halted(len(watchers.best.history), watchers.recorder.cpu_seconds)
        network.cpu().load_state_dict({**frozen_state(network), **watchers.best.weights})
        noise = alphas_of(network)
        plain = module.course.finish(cast(TextNetwork, fold(network)))
    digest = _save(job, objective, plain, watchers, coverage)
    save_noise(job.out, noise)
    best = watchers.best
    return FitResult(
        windows=len(data.table("train")),
        best_epoch=best.best_epoch,
        epochs=len(best.history),
        steps=best.steps,
        monitor=f"val/{best.monitor.name}",
        validation=_validation(best.history[best.best_epoch - 1]),
        parameters=sum(parameter.numel() for parameter in plain.parameters()),
        bundle_digest=digest,
        history=best.history,
        cpu_seconds=watchers.recorder.cpu_seconds,
    )


def _data(job: TrainingJob, objective: Objective) -> TokenData:
    """The token rows; the objective has seen them.

    Raises:
        TrainingError: a split is empty, or nothing can be learnt from the rows.
    """
    training = job.training
    data = TokenData(job.tokens, objective, batch_size=training.batch_size, seed=training.seed)
    for split in ("train", "valid"):
        if not len(data.table(split)):
            raise TrainingError(
                f"The {split} split has no rows.", "Give the source more rows, or a split column."
            )
    objective.tokenizer_json, objective.tokens = job.tokenizer_json, job.tokens
    objective.windowing = Windowing.of(job.windowing)
    objective.prepare(data.table("train"))
    return data


def _module(
    job: TrainingJob, objective: Objective, network: TextNetwork, data: TokenData
) -> TextModule:
    total_steps = job.training.max_epochs * _steps_per_epoch(job, data)
    # Without an epoch nothing is drawn, and the network is plain.
    method = job.model.reparameterization if total_steps else NoReparameterization()
    return TextModule(
        network,
        objective,
        job.training,
        Course(method, total_steps),
        terms=objective.terms(data.table("train")),
        fused=job.execution.precision != "16-mixed",
    )


def _steps_per_epoch(job: TrainingJob, data: TokenData) -> int:
    return -(-len(data.train_dataloader()) // job.training.accumulate_grad_batches)


def _watchers(
    job: TrainingJob,
    objective: Objective,
    data: TokenData,
    on_progress: OnProgress,
    goes_on: GoesOn | None,
) -> _Watchers:
    training = job.training
    log = MetricsLog(job.work / "metrics.jsonl")
    recorder = Recorder(log, on_progress, _steps_per_epoch(job, data))
    ask = goes_on and (lambda epoch: goes_on({**epoch, "cpu_seconds": recorder.cpu_seconds}))
    return _Watchers(
        log,
        recorder,
        KeepBest(objective.monitored(training.monitor), training.patience, on_progress, ask),
        Checkpoints(
            job.work / "checkpoints",
            job.execution.checkpoint_every_steps,
            _identity(job, data),
            recorder,
        ),
        [Averaging(training.ema_decay)] if training.ema_decay else [],
    )


def _train(
    job: TrainingJob,
    module: TextModule,
    data: TokenData,
    watchers: _Watchers,
    coverage: dict[str, float],
) -> None:
    """From the last checkpoint, where there is one, to the end; the metrics file goes on at the
    same step.
    """
    on_progress = watchers.recorder.on_progress
    if job.training.max_epochs == 0:
        watchers.log.rewind(-1)
        watchers.log.write(0, coverage)
        trainer = make_trainer(job.training, job.execution, job.work, [watchers.best])
        trainer.validate(module, datamodule=data, verbose=False)
        return
    resumed = watchers.checkpoints.latest(on_progress)
    if resumed is None:
        watchers.log.rewind(-1)
        watchers.log.write(0, coverage)
    else:
        step = resumed[1]
        watchers.log.rewind(step)
        on_progress({"event": "resumed", "step": step, "total_steps": module.course.total})
    checkpoint = None if resumed is None else str(resumed[0])
    trainer = make_trainer(job.training, job.execution, job.work, watchers.in_order())
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def _save(
    job: TrainingJob,
    objective: Objective,
    plain: TextNetwork,
    watchers: _Watchers,
    coverage: dict[str, float],
) -> str:
    """Write the bundle and what was measured on the way; returns the bundle's digest."""
    best = watchers.best
    job.out.mkdir(parents=True, exist_ok=True)
    digest = save_bundle(
        job.out / "bundle",
        plain,
        tokenizer_json=job.tokenizer_json,
        windowing=objective.windowing,
        facts=objective.served(),
        files=objective.served_files(plain),
        meta={
            "best_epoch": best.best_epoch,
            "steps": best.steps,
            "reparameterization": job.model.reparameterization.kind,
            **coverage,
        },
    )
    shutil.copyfile(watchers.log.path, job.out / "metrics.jsonl")
    (job.out / "history.json").write_text(json.dumps(best.history, indent=2))
    return digest


def _validation(epoch: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in epoch.items() if name.startswith("val/")}


def _identity(job: TrainingJob, data: TokenData) -> str:
    """Digest of everything that shapes the weights: a checkpoint of another training must not be
    taken up.
    """
    start = None if job.start is None else (job.start / "bundle.json").read_text(encoding="utf-8")
    training = job.training.identity()
    training.pop("warm_start", None)  # `start` says what it was
    shaping = [
        {split: data.table(split).digest() for split in ("train", "valid")},
        [job.vocab_size, job.windowing.model_dump(), job.facts, start],
        hashlib.sha256(job.tokenizer_json).hexdigest(),
        job.task.learnt,
        job.model.identity(),
        training,
        job.execution.identity(BITS),
    ]
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
