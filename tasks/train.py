"""train: token windows → a folded model, in a process of its own (`tasks.engines.local`).

Its metrics are delivered to MLflow from a file, so a server that goes away stops no training; and a
child that is killed is a failed attempt of this task, not the death of the flow: the next attempt
goes on from its last checkpoint.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from data_contracts.artifacts import FetchedModel, TaughtTokens, TokenDataset, TrainedModel
from data_contracts.recipe.sections import BITS, WarmStartConfig
from lightning_modules.training.job import TrainingJob
from tasks.engines.local import run_child
from tasks.stage import Here, RunContext, stage
from tasks.tokenize import SEEN_TEXTS, TRAIN_TEXTS
from tasks.tracking.forwarder import Forwarder


def _tell(model: TrainedModel, run: RunContext) -> None:
    run.tracker.set_tags(
        {"noisefold.trained_in_run": model.run_id, "noisefold.bundle_digest": model.digest}
    )


SHAPES = ("task.learnt", "model", "training", *(f"execution.{field}" for field in BITS))


@stage(TrainedModel, version=2, shaped_by=SHAPES, tell=_tell)
def train(here: Here, tokens: TokenDataset, start: FetchedModel | None = None) -> dict[str, Any]:
    """Train, keep the best epoch, fold the noise away.

    Effects: checkpoints in the work folder, metric points in the MLflow run, the bundle below the
        store's key.
    Safe to repeat: an interrupted training resumes, and its metric points are delivered once.
    Raises:
        TrainingError: where the data or the recipe cannot give a model (one class, a NaN loss).
        Interrupted: where the child was killed or ran out of time; worth another attempt.
        Stopped: where the run's `goes_on` said no after an epoch.
    """
    # Here: a rerun that finds everything done loads no torch.
    from lightning_modules.kinds.base import objective_of

    recipe = here.recipe
    objective_of(recipe.task, tokens.facts).check()
    job = TrainingJob(
        tokens=here.open(tokens),
        facts=tokens.facts,
        vocab_size=tokens.vocab_size,
        windowing=tokens.windowing,
        task=recipe.task,
        model=recipe.model,
        training=recipe.training,
        execution=recipe.execution,
        start=start.bundle if start else None,
        asks=here.run.goes_on is not None,
        work=here.keep,
        out=here.out,
    )
    forwarder = Forwarder(here.keep / "metrics.jsonl", here.run.tracker)
    with forwarder:
        result = run_child(job, recipe.execution.limits.train, here.run.goes_on)
    seen = np.load(here.open(tokens) / TRAIN_TEXTS, allow_pickle=False)
    if start is not None and isinstance(recipe.training.warm_start, WarmStartConfig):
        # What another model has learnt from, this one has too.
        seen = np.union1d(seen, np.load(start.texts, allow_pickle=False))
    np.save(here.out / SEEN_TEXTS, seen, allow_pickle=False)
    # What is left; a server that is still away fails this attempt, and nothing is lost.
    forwarder.deliver()
    return {
        "digest": result["bundle_digest"],
        "rows_in": result["windows"],
        "rows_out": result["windows"],
        "run_id": here.run.tracker.run_id,
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "steps": result["steps"],
        "monitor": result["monitor"],
        "validation": result["validation"],
        "parameters": result["parameters"],
        "cpu_seconds": round(result["cpu_seconds"], 2),
        "warm_started_from": start.digest if start else None,
        "taught_by": tokens.taught_by if isinstance(tokens, TaughtTokens) else None,
    }
