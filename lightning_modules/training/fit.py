"""A training from token folder to bundle: resumable at any moment, and silent.

After kill -9 in mid-epoch a second `fit` with the same arguments goes on from the last checkpoint and ends, on CPU, bit
for bit where an uninterrupted one ends. What that rests on: batch order is a function of (seed, epoch), noise and
dropout of (seed, step), both schedules of the step; everything else is in the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch

from data_contracts.errors import TrainingError
from data_contracts.recipe.model import (
    BiLSTMEncoder,
    LowRank,
    LSTMEncoder,
    ModelConfig,
    PretrainedEncoder,
    Sparse,
    TanhEncoder,
)
from data_contracts.recipe.recipe import TrainingConfig
from lightning_modules.bundle import encode_windows, load_tokenizer, save_bundle, special_ids
from lightning_modules.kinds.classify.naive_bayes import RatioTable, log_ratios
from lightning_modules.kinds.classify.objective import Classification
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.network.pruning import compact
from lightning_modules.reparameterizations import fold, reparameterize
from lightning_modules.starting.backbone import describe, load_weights
from lightning_modules.starting.files import by_content, is_backbone
from lightning_modules.starting.vectors import BiasedEmbedding, load_vectors, project_vectors
from lightning_modules.training.callbacks import (
    Averaging,
    Checkpoints,
    KeepBest,
    MetricsLog,
    OnProgress,
    Recorder,
)
from lightning_modules.training.data import TaughtTable, TokenData
from lightning_modules.training.module import TextModule, frozen_state
from lightning_modules.training.warm_start import warm_start as start_from

# Advice of Lightning's for another way of working; each is answered here by design.
QUIET = (
    ".*does not have many workers.*",  # batches are made in this process
    ".*GPU available but not used.*",
    ".*is not supported by the `.*accelerator.*",
    ".*The number of training batches.*",
    ".*LeafSpec.*is deprecated.*",
)


@dataclass(frozen=True)
class FitResult:
    """What came out; `history` has one entry per epoch: epoch, step and the validation metrics."""

    windows: int  # that an epoch goes through
    best_epoch: int
    epochs: int
    steps: int
    best_macro_f1: float
    parameters: int
    bundle_digest: str
    history: list[dict[str, Any]]
    cpu_seconds: float = field(compare=False)


def fit(
    token_folder: Path,
    *,
    vocab_size: int,
    labels: tuple[str, ...],
    tokenizer_json: bytes,
    max_length: int,
    overlap: int,
    model: ModelConfig,
    training: TrainingConfig,
    work: Path,
    out: Path,
    on_progress: OnProgress,
    prefix_ids: Sequence[int] = (),
    suffix_ids: Sequence[int] = (),
    warm_start: Path | None = None,
    lessons: Path | None = None,
    teacher_weight: float = 0.0,
) -> FitResult:
    """Train, keep the best epoch, fold it, write `out/bundle`, `out/metrics.jsonl` and `out/history.json`.

    Args:
        lessons: what a teacher says of the train rows and of texts made up from them (see `TaughtTable`).
        teacher_weight: of what it says of the train rows, beside their labels.
    Effects: `work/checkpoints/` and `work/metrics.jsonl` are written while it runs and taken up by the next call.
    Raises:
        TrainingError: the split cannot train a classifier, or the loss is not finite.
    """
    work, out, cpu_started = Path(work), Path(out), time.process_time()
    data = TokenData(
        token_folder,
        batch_size=training.batch_size,
        seed=training.seed,
        columns=Classification.columns,
    )
    counts = _class_counts(data, labels)
    if lessons is not None:
        tokenizer = load_tokenizer(tokenizer_json)
        around = {
            "prefix": prefix_ids,
            "suffix": suffix_ids,
            "unknown_id": special_ids(tokenizer)[1],
        }
        encode = partial(
            encode_windows, tokenizer, max_length=max_length, overlap=overlap, **around
        )
        path = data.folder / "train.parquet"
        data.taught = TaughtTable(
            path, lessons, encode, num_classes=len(labels), weight=teacher_weight
        )
    identity = _identity(
        data, vocab_size, labels, tokenizer_json, max_length, model, training, warm_start
    )
    with _determinism(training), _silence():
        torch.manual_seed(training.seed)
        network = build_network(network_description(model, vocab_size, len(labels), max_length))
        if isinstance(model.encoder, PretrainedEncoder):
            load_weights(network, model.encoder, vocab_size=vocab_size, max_length=max_length)
        else:
            torch.nn.init.normal_(network.embedding.weight, std=model.embedding_std)
        if network.wide is not None:
            network.wide.weigh(
                (batch["input_ids"], batch["lengths"]) for batch in data.in_order("train")
            )
        coverage = _start_from_vectors(network, model, tokenizer_json, data, on_progress)
        taken: set[str] = set()
        if warm_start is not None:
            taken = start_from(
                network, warm_start, tokenizer_json=tokenizer_json, labels=tuple(labels)
            )
        _check_frozen(model, set(network.state_dict()) - taken, warm_start)
        if model.embedding_bias:
            network.embedding = BiasedEmbedding(network.embedding)
        if network.wide is not None and model.wide is not None and model.wide.naive_bayes:
            windows = (
                (batch["input_ids"], batch["lengths"], batch["labels"])
                for batch in data.in_order("train")
            )
            network.wide.table = RatioTable(network.wide.table, log_ratios(network.wide, windows))
        network = cast(TextNetwork, reparameterize(network, model.reparameterization))
        objective = Classification.from_counts(counts, training.class_weights)
        steps_per_epoch = -(-len(data.train_dataloader()) // training.accumulate_grad_batches)
        module = TextModule(
            network,
            objective,
            model.reparameterization,
            training,
            total_steps=training.max_epochs * steps_per_epoch,
            terms=objective.terms(len(data.trained_on)),
            wide=model.wide,
        )
        log = MetricsLog(work / "metrics.jsonl")
        recorder = Recorder(log, on_progress, steps_per_epoch)
        recorder.cpu_started = cpu_started  # reading the data is part of training, imports are not
        best = KeepBest(training.monitor, training.patience, on_progress)
        checkpoints = Checkpoints(
            work / "checkpoints", training.checkpoint_every_steps, identity, recorder
        )
        found = checkpoints.latest(on_progress)
        log.rewind(found[1] if found else -1)
        if not found:
            log.write(0, coverage)
        else:
            on_progress({"event": "resumed", "step": found[1], "total_steps": module.total_steps})
        averaging = [Averaging(training.ema_decay)] if training.ema_decay else []
        trainer = _trainer(training, work, [recorder, best, *averaging, checkpoints])
        trainer.fit(module, datamodule=data, ckpt_path=found and str(found[0]), weights_only=True)
        network.cpu().load_state_dict({**frozen_state(network), **best.weights})
        plain = cast(TextNetwork, fold(network))
        if isinstance(model.reparameterization, Sparse):
            plain = compact(plain)
    out.mkdir(parents=True, exist_ok=True)
    digest = save_bundle(
        out / "bundle",
        plain,
        tokenizer_json=tokenizer_json,
        labels=labels,
        max_length=max_length,
        overlap=overlap,
        prefix_ids=prefix_ids,
        suffix_ids=suffix_ids,
        meta={
            "best_epoch": best.best_epoch,
            "steps": best.steps,
            "reparameterization": model.reparameterization.kind,
            **coverage,
        },
    )
    shutil.copyfile(log.path, out / "metrics.jsonl")
    (out / "history.json").write_text(json.dumps(best.history, indent=2))
    return FitResult(
        windows=len(data.trained_on),
        best_epoch=best.best_epoch,
        epochs=len(best.history),
        steps=best.steps,
        best_macro_f1=best.history[best.best_epoch - 1]["val/macro_f1"],
        parameters=sum(parameter.numel() for parameter in plain.parameters()),
        bundle_digest=digest,
        history=best.history,
        cpu_seconds=recorder.cpu_seconds,
    )


def network_description(
    model: ModelConfig, vocab_size: int, num_classes: int, max_length: int
) -> dict[str, Any]:
    """The sizes of the network that a recipe asks for (see `TextNetwork`)."""
    config = model.encoder
    wide = model.wide and model.wide.model_dump()
    if isinstance(config, PretrainedEncoder):
        return {"encoder": describe(config), "wide": wide, "num_classes": num_classes}
    if isinstance(config, TanhEncoder):
        encoder: dict[str, Any] = {"kind": "tanh", "hidden_size": config.hidden_size}
    elif isinstance(config, LSTMEncoder):
        encoder = {"kind": "lstm", "hidden_sizes": [config.hidden_size] * config.num_layers}
    elif isinstance(config, BiLSTMEncoder):
        encoder = {
            "kind": "bilstm_attention",
            "hidden_sizes": [[config.hidden_size, config.hidden_size]] * config.num_layers,
            "attention_size": config.hidden_size,
        }
    else:
        encoder = {
            "kind": "transformer",
            "max_length": max_length,
            "num_heads": config.num_heads,
            "feedforward_sizes": [config.feedforward_size] * config.num_layers,
        }
    return {
        "vocab_size": vocab_size,
        "embedding_dim": model.embedding_dim,
        "encoder": encoder,
        "ngrams": model.ngrams and model.ngrams.model_dump(),
        "wide": wide,
        "num_classes": num_classes,
    }


def _start_from_vectors(
    network: TextNetwork,
    model: ModelConfig,
    tokenizer_json: bytes,
    data: TokenData,
    on_progress: OnProgress,
) -> dict[str, float]:
    """Word vectors into the embedding; returns the share of the vocabulary, and of the train tokens, that has one."""
    if model.embedding_vectors is None:
        return {}
    table, tokenizer = network.embedding.weight, load_tokenizer(tokenizer_json)
    if is_backbone(model.embedding_vectors):
        found = project_vectors(table, tokenizer, model.embedding_vectors, model.embedding_std)
    else:
        found = load_vectors(table, tokenizer.get_vocab(), model.embedding_vectors)
    of_vocabulary, of_tokens = (
        float(found.float().mean()),
        float(found.numpy()[data.table("train").ids].mean()),
    )
    message = f"Word vectors: {of_vocabulary:.1%} of the vocabulary, {of_tokens:.1%} of the train tokens have one."
    on_progress({"event": "note", "message": message})
    return {
        "train/vector_coverage_vocabulary": of_vocabulary,
        "train/vector_coverage_tokens": of_tokens,
    }


def _check_frozen(model: ModelConfig, fresh: set[str], warm_start: Path | None) -> None:
    """low_rank keeps what it starts from for good, so a recipe that would freeze random weights is refused."""
    if not isinstance(model.reparameterization, LowRank) or isinstance(
        model.encoder, PretrainedEncoder
    ):
        return
    fresh = {name for name in fresh if not name.startswith(("decoder.", "wide."))}
    if fresh:
        cause = (
            "there is no champion"
            if warm_start is None
            else f"the champion has no {min(fresh)} of this size"
        )
        raise TrainingError(
            f"low_rank freezes the weights it starts from, and {cause}, so they would be random.",
            "Train a champion of the same sizes with another method first, or give model.encoder a pretrained path.",
        )


def _class_counts(data: TokenData, labels: tuple[str, ...]) -> list[int]:
    for split in ("train", "valid"):
        if not len(data.table(split)):
            raise TrainingError(
                f"The {split} split has no rows.", "Give the source more rows, or a split column."
            )
    counts = np.bincount(data.table("train").labels, minlength=len(labels)).tolist()
    present = [label for label, count in zip(labels, counts, strict=True) if count]
    if len(present) < 2:
        raise TrainingError(
            f"The train split holds one class only ({present[0]!r}), so there is nothing to tell apart.",
            "Check the label column of the source and the labels of the contract.",
        )
    return counts


def _identity(
    data: TokenData,
    vocab_size: int,
    labels: tuple[str, ...],
    tokenizer_json: bytes,
    max_length: int,
    model: ModelConfig,
    training: TrainingConfig,
    warm_start: Path | None,
) -> str:
    """Digest of everything that shapes the weights: a checkpoint of another training must not be taken up."""
    start = (
        None
        if warm_start is None
        else (Path(warm_start) / "bundle.json").read_text(encoding="utf-8")
    )
    facts = [
        {"train": data.trained_on.digest(), "valid": data.table("valid").digest()},
        [vocab_size, max_length, list(labels), hashlib.sha256(tokenizer_json).hexdigest(), start],
        by_content(model),
        {
            key: value for key, value in training.keyed().items() if key != "warm_start"
        },  # `start` says what it was
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _trainer(training: TrainingConfig, work: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    accelerator = training.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    elif accelerator == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "The recipe asks for CUDA, and there is no CUDA device.",
            "Set training.accelerator: auto.",
        )
    if accelerator == "cpu" and training.precision != "32-true":
        raise TrainingError(
            f"training.precision: {training.precision} is for a GPU; on a CPU it gains nothing, and an LSTM may crash.",
            "Set training.precision: 32-true.",
        )
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=training.max_epochs,
        accumulate_grad_batches=training.accumulate_grad_batches,
        precision=training.precision,
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
def _determinism(training: TrainingConfig) -> Iterator[None]:
    """Same bits for the same arguments: fixed threads, deterministic kernels; torch's settings are put back after."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only, filled = (
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _filling().fill_uninitialized_memory,
    )
    torch.set_num_threads(training.threads)
    # CUDA has operations without a deterministic kernel; there the promise is for CPU only, so nothing is refused.
    on_gpu = training.accelerator != "cpu" and torch.cuda.is_available()
    torch.use_deterministic_algorithms(not on_gpu)
    _filling().fill_uninitialized_memory = (
        False  # a debugging aid that costs a pass over every new tensor
    )
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        _filling().fill_uninitialized_memory = filled


def _filling() -> Any:
    return torch.utils.deterministic


@contextmanager
def _silence() -> Iterator[None]:
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
