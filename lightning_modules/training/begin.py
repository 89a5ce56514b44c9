"""The network that a training begins with: sizes from the recipe, weights from wherever it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from data_contracts.errors import TrainingError
from data_contracts.recipe.files import is_backbone
from data_contracts.recipe.model import (
    BiLSTMConfig,
    CausalTransformerConfig,
    LSTMConfig,
    ModelConfig,
    PretrainedConfig,
    TanhConfig,
)
from data_contracts.recipe.sections import WarmStartConfig
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.base import Objective
from lightning_modules.kinds.heads import head_class
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.network.tokenizer import load_tokenizer
from lightning_modules.reparameterizations import reparameterize
from lightning_modules.reparameterizations.course import Course
from lightning_modules.starting.backbone import describe, load_weights
from lightning_modules.starting.body import take_body
from lightning_modules.starting.vectors import BiasedEmbedding, load_vectors, project_vectors
from lightning_modules.training.data import TokenData
from lightning_modules.training.job import TrainingJob
from lightning_modules.training.recorder import OnProgress
from lightning_modules.training.warm_start import warm_start


def starting_network(
    job: TrainingJob, objective: Objective, data: TokenData, on_progress: OnProgress
) -> tuple[TextNetwork, dict[str, float]]:
    """The reparameterized network at step 0, and how much of the vocabulary and of the text has a
    given vector.

    Of a training without an epoch it is the champion's, plain.

    Order matters: what is drawn comes in the order of the layers, what is taken over replaces it,
    and what the kind and the method make of a layer takes the weights that it finds.

    Raises:
        TrainingError: the method cannot start from these weights.
    """
    model = job.model
    length = job.windowing.max_length
    pooled = head_class(objective.kind).reads != "positions"
    sizes = body_description(model, job.vocab_size, length, pooled=pooled)
    # A head that says every token has so many, whatever the body is.
    head = {"kind": objective.kind, "head_size": job.vocab_size, **objective.head()}
    network = build_network({**sizes, **head})
    pretrained = isinstance(model.encoder, PretrainedConfig)
    if isinstance(model.encoder, PretrainedConfig):
        load_weights(network, model.encoder, vocab_size=job.vocab_size, max_length=length)
        objective.start_from(network, model.encoder.path)
    else:
        torch.nn.init.normal_(network.embedding.weight, std=model.embedding.init_std)
    objective.weigh(network, data.given)
    coverage = _start_from_vectors(network, job, data, on_progress)
    known = {name for name in network.state_dict() if pretrained and not name.startswith("head.")}
    if job.start is not None:
        known |= _start_from_model(network, objective, job, job.start, on_progress)
    if job.training.max_epochs == 0:
        _check_taken({name for name, _ in network.named_parameters()} - known)
        return network, coverage
    _check_start(job, set(network.state_dict()) - known)
    if model.embedding.bias:
        network.embedding = BiasedEmbedding(network.embedding)
    objective.wrap(network, data.given)
    network = cast(TextNetwork, reparameterize(network, model.reparameterization, model.dropout))
    return network, coverage


def _start_from_model(
    network: TextNetwork,
    objective: Objective,
    job: TrainingJob,
    start: Path,
    on_progress: OnProgress,
) -> set[str]:
    """The names of the tensors that were taken over."""
    named = job.training.warm_start
    if not isinstance(named, WarmStartConfig):
        return warm_start(network, objective, start, job.tokenizer_json)
    taken = take_body(network, Bundle.load(start), named.model, job.tokenizer_json)
    on_progress({"event": "note", "message": taken.told})
    return taken.names


def body_description(
    model: ModelConfig, vocab_size: int, max_length: int, *, pooled: bool = True
) -> dict[str, Any]:
    """The sizes of the network that a recipe asks for, without its head (see `TextNetwork`).

    Args:
        pooled: whether a document becomes one vector; otherwise its positions are looked at.
    """
    config = model.encoder
    if isinstance(config, PretrainedConfig):
        return {"encoder": describe(config)}
    if isinstance(config, TanhConfig):
        encoder: dict[str, Any] = {"kind": "tanh", "hidden_size": config.hidden_size}
    elif isinstance(config, LSTMConfig):
        encoder = {"kind": "lstm", "hidden_sizes": [config.hidden_size] * config.num_layers}
    elif isinstance(config, BiLSTMConfig):
        encoder = {
            "kind": "bilstm_attention",
            "hidden_sizes": [[config.hidden_size, config.hidden_size]] * config.num_layers,
            "attention_size": config.hidden_size if pooled else None,
        }
    elif isinstance(config, CausalTransformerConfig):
        encoder = {
            "kind": "causal_transformer",
            "context": max_length,
            "num_heads": config.num_heads,
            "feedforward_sizes": [config.feedforward_size] * config.num_layers,
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
        "embedding_dim": model.embedding.size,
        "encoder": encoder,
        "ngrams": model.ngrams and model.ngrams.model_dump(),
    }


def _start_from_vectors(
    network: TextNetwork, job: TrainingJob, data: TokenData, on_progress: OnProgress
) -> dict[str, float]:
    """Word vectors into the embedding; returns the share of the vocabulary, and of the train
    tokens, that has one.
    """
    model = job.model
    if model.embedding.vectors is None:
        return {}
    table, tokenizer = network.embedding.weight, load_tokenizer(job.tokenizer_json)
    if is_backbone(model.embedding.vectors):
        known = project_vectors(table, tokenizer, model.embedding.vectors, model.embedding.init_std)
    else:
        known = load_vectors(table, tokenizer.get_vocab(), model.embedding.vectors)
    train = data.table("train")
    of_vocabulary = float(known.float().mean())
    of_tokens = float(known.numpy()[train.ids_of(train.given)].mean())
    message = (
        f"Word vectors: {of_vocabulary:.1%} of the vocabulary, {of_tokens:.1%} of the train tokens "
        "have one."
    )
    on_progress({"event": "note", "message": message})
    return {
        "train/vector_coverage_vocabulary": of_vocabulary,
        "train/vector_coverage_tokens": of_tokens,
    }


def _check_taken(fresh: set[str]) -> None:
    """
    Raises:
        TrainingError: a weight that nobody trains is not the champion's.
    """
    if fresh:
        raise TrainingError(
            f"training.max_epochs is 0, and {len(fresh)} of the weights cannot be the champion's, "
            f"the first of them {min(fresh)}: the recipe describes another network.",
            "Describe the champion's (sections model, window and task), or train an epoch at "
            "least.",
        )


def _check_start(job: TrainingJob, fresh: set[str]) -> None:
    course = Course(job.model.reparameterization, total=1)
    if (why := course.needs(fresh, job.start is not None)) is not None:
        raise TrainingError(
            why,
            "Train a champion of the same sizes with another method first, or give model.encoder a "
            "pretrained path.",
        )
