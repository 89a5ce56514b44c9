"""An exported network gives what torch's gives, for any number of texts of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import BertConfig, GPT2Config

from lightning_modules.exporting.graph import graph_of, with_int8
from lightning_modules.kinds.answering import answers_of
from lightning_modules.network.network import TextNetwork, build_network

IDS = 50
TANH: dict[str, Any] = {"kind": "tanh", "hidden_size": 6}
BERT = BertConfig(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
    vocab_size=IDS, max_position_embeddings=64,
)  # fmt: skip
GPT2 = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=IDS, n_positions=64, eos_token_id=0, bos_token_id=0)  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "tanh": {"encoder": TANH},
    "lstm": {"encoder": {"kind": "lstm", "hidden_sizes": [6, 5]}},
    "bilstm": {"encoder": {"kind": "bilstm_attention", "hidden_sizes": [[6, 5], [4, 3]], "attention_size": 4}},
    "transformer": {"encoder": {"kind": "transformer", "max_length": 64, "num_heads": 2, "feedforward_sizes": [8, 8]}},
    "causal": {"encoder": {"kind": "causal_transformer", "context": 16, "num_heads": 2, "feedforward_sizes": [8, 8]}},
    "bert": {"encoder": {"kind": "pretrained", "pooling": "mean", "config": BERT.to_dict()}},
    "gpt2": {"encoder": {"kind": "pretrained", "pooling": "last", "config": GPT2.to_dict()}},
    "ngrams": {"encoder": TANH, "ngrams": {"buckets": 64, "size": 4, "max_n": 3}},
    "wide": {"encoder": TANH, "wide": {"buckets": 64, "max_n": 3, "scale": 3.0}},
    "compact": {"encoder": TANH, "embedding_rows": 20, "wide": {"buckets": 64, "max_n": 2, "scale": 3.0, "rows": 30}},
}  # fmt: skip


def network_of(name: str) -> TextNetwork:
    torch.manual_seed(0)
    network = build_network(
        {"num_classes": 3, "vocab_size": IDS, "embedding_dim": 8, **NETWORKS[name]}
    )
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    return network.eval()


def outputs(model: bytes, ids: torch.Tensor, lengths: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": ids.numpy(), "lengths": lengths.numpy()})[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_answers_as_in_torch(name):
    network = network_of(name)
    model = graph_of(network)
    for rows, most in [(1, 1), (1, 2), (3, 2), (2, 7), (5, 40)]:
        ids, lengths = torch.randint(0, IDS, (rows, most)), torch.randint(1, most + 1, (rows,))
        lengths[0] = most
        with torch.inference_mode():
            expected = network(ids, lengths).numpy()
        np.testing.assert_allclose(outputs(model, ids, lengths), expected, atol=5e-6)
    eight = outputs(with_int8(model), ids, lengths)
    assert 0 < np.abs(eight - expected).max() < 0.2


def test_exporting_leaves_the_network_as_it_was():
    network = network_of("wide")
    ids, lengths = torch.randint(0, IDS, (2, 9)), torch.tensor([9, 4])
    before = network(ids, lengths)
    graph_of(network)
    assert torch.equal(network(ids, lengths), before)


@pytest.mark.parametrize("kind", ["generate", "translate", "span", "retrieve", "../etc"])
def test_a_kind_that_needs_torch_to_answer_says_so(kind):
    with pytest.raises(LookupError, match="do not answer without torch"):
        answers_of(kind)
