"""A body goes whole into another network, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data_contracts.errors import RecipeError
from data_contracts.recipe.tokenizer import CharacterTokenizer
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.network.windows import Windowing
from lightning_modules.starting.body import take_body
from tasks.vocabulary import train_tokenizer

TEXTS = ["a clean room", "a dark room"]
LSTM = {"kind": "lstm", "hidden_sizes": [6]}
CAUSAL = {"kind": "causal_transformer", "context": 16, "num_heads": 2, "feedforward_sizes": [8]}


def tokenizer_json(texts: list[str] = TEXTS) -> bytes:
    config = CharacterTokenizer(min_frequency=1)
    return train_tokenizer(config, lambda: iter([texts])).to_str().encode()


def language_model(folder: Path, encoder: dict[str, Any]) -> Bundle:
    tokens = tokenizer_json()
    torch.manual_seed(0)
    vocab_size = 400
    sizes = {"vocab_size": vocab_size, "embedding_dim": 8, "encoder": encoder, "ngrams": None}
    head = {"kind": "generate", "head_size": vocab_size, "eos_id": 2, "counted": None}
    facts = {"form": "text", "template": "{prompt}", "adaptive": False, "writing": {}}
    windowing = Windowing(max_length=16, overlap=4)
    save_bundle(
        folder,
        build_network({**sizes, **head}),
        tokenizer_json=tokens,
        windowing=windowing,
        facts=facts,
    )
    return Bundle.load(folder)


def classifier(encoder: dict[str, Any], size: int = 8) -> TextNetwork:
    torch.manual_seed(1)
    sizes = {"vocab_size": 400, "embedding_dim": size, "encoder": encoder, "ngrams": None}
    return build_network({**sizes, "num_classes": 2})


@pytest.mark.parametrize(
    ("given", "asked", "ahead"),
    [
        (LSTM, LSTM, "layers"),
        (
            LSTM,
            {"kind": "bilstm_attention", "hidden_sizes": [[6, 5]], "attention_size": 4},
            "forwards",
        ),
        (CAUSAL, {**CAUSAL, "context": 32}, None),
    ],
)
def test_what_is_taken_replaces_what_was_drawn(
    given: dict[str, Any], asked: dict[str, Any], ahead: str | None, tmp_path: Path
) -> None:
    source, network = language_model(tmp_path, given), classifier(asked)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    taken = take_body(network, source, "noisefold-lm", tokenizer_json())
    after = network.state_dict()
    assert torch.equal(after["embedding.weight"], source.network.embedding.weight)
    for name in taken.names:
        if before[name].unique().numel() > 1:  # biases and norms start alike in both
            assert not torch.equal(before[name], after[name]), name
    for name in after.keys() - taken.names:
        assert torch.equal(before[name], after[name]), name
    if ahead is not None:
        name = f"encoder.{ahead}.0.weight_hh_l0"
        assert torch.equal(after[name], source.network.encoder.layers[0].weight_hh_l0)
    count = sum(after[name].numel() for name in taken.names)
    assert f"its {count:,} weights" in taken.told and "head" in taken.told
    assert ("encoder.backwards" in taken.told) == (ahead == "forwards")


@pytest.mark.parametrize(
    ("asked", "size", "message"),
    [
        (LSTM, 4, "have size 8, and model.embedding.size is 4"),
        ({**LSTM, "hidden_sizes": [5]}, 8, "Set model.encoder to {kind: lstm, hidden_size: 6}"),
        ({"kind": "tanh", "hidden_size": 6}, 8, "this recipe's is tanh"),
        (
            {"kind": "bilstm_attention", "hidden_sizes": [[6, 6]] * 2, "attention_size": 4},
            8,
            "none of its weights would have a place",
        ),
    ],
)
def test_sizes_and_kinds_that_differ_are_refused(
    asked: dict[str, Any], size: int, message: str, tmp_path: Path
) -> None:
    source = language_model(tmp_path, LSTM)
    with pytest.raises(RecipeError, match=message.replace("{", r"\{")):
        take_body(classifier(asked, size), source, "noisefold-lm", tokenizer_json())


def test_a_backbone_is_refused(tmp_path: Path) -> None:
    source: Any = language_model(tmp_path, LSTM)
    described = {**source.network.describe(), "encoder": {"kind": "pretrained"}}
    source.network.describe = lambda: described
    with pytest.raises(RecipeError, match="not both from scratch"):
        take_body(classifier(LSTM), source, "noisefold-lm", tokenizer_json())


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    source = language_model(tmp_path, LSTM)
    with pytest.raises(RecipeError, match="made by another tokenizer"):
        take_body(classifier(LSTM), source, "noisefold-lm", tokenizer_json(["other text"]))
