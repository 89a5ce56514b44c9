"""Rows worth labelling: doubt as the papers measure it, and no two rows that are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data_contracts.errors import NoisefoldError
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.doubting import diverse, doubt_of, doubting_of, pool_of
from lightning_modules.network.network import build_network
from lightning_modules.network.windows import Windowing


def test_doubt_is_0_where_all_is_said_and_1_where_nothing_is() -> None:
    proba = np.array(
        [[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0.7, 0.1, 0.1, 0.1]]
    )
    assert doubt_of(proba, "margin").tolist() == pytest.approx([0, 1, 1, 0.4])
    assert doubt_of(proba, "entropy").tolist() == pytest.approx([0, 1, 0.5, 0.6784], abs=1e-3)
    assert doubt_of(proba, "least_confident").tolist() == pytest.approx([0, 1, 2 / 3, 0.4])


def test_of_rows_that_are_alike_one_is_chosen() -> None:
    """Ten directions, twenty near-duplicates of each, the first of them doubted most of all."""
    generator = np.random.default_rng(0)
    centres = np.eye(10, 16)
    vectors = np.repeat(centres, 20, axis=0) + generator.normal(0, 1e-3, (200, 16))
    doubt = np.concatenate([np.linspace(1, 0.9, 20), np.linspace(0.8, 0.1, 180)])
    assert pool_of(doubt, 10).tolist() == [*range(50)]
    chosen = diverse(doubt, vectors, 10)
    assert {place // 20 for place in chosen} == {*range(10)}
    assert chosen.tolist() == sorted(chosen), "those first that are doubted most"
    assert all(place % 20 == 0 for place in chosen), "of each the one that is doubted most"
    same = np.ones((6, 4))
    assert diverse(np.ones(6), same, 3).tolist() == [0, 1, 2]
    assert (
        diverse(np.zeros(200), vectors, 10).tolist() == diverse(np.zeros(200), vectors, 10).tolist()
    )


def test_a_classifier_doubts_alike_alone_and_among_others(
    tokenizer_json: bytes, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    encoder = {"kind": "bilstm_attention", "hidden_sizes": [[6, 6]], "attention_size": 6}
    network = build_network(
        {"vocab_size": 50, "embedding_dim": 8, "encoder": encoder, "num_classes": 3}
    )
    facts = {"labels": ["a", "b", "c"], "temperature": 1.0}
    save_bundle(
        tmp_path, network, tokenizer_json=tokenizer_json, windowing=Windowing(12, 3), facts=facts
    )
    bundle = Bundle.load(tmp_path)
    texts = ["good bad", "word1 " * 40, "table word2 word3"]
    doubting = doubting_of(bundle)
    together = doubting.of(bundle, bundle.predict({"text": texts}), "entropy")
    vectors = doubting.vectors(bundle, {"text": texts})
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    for place, text in enumerate(texts):
        alone = doubting.of(bundle, bundle.predict({"text": [text]}), "entropy")
        assert alone.doubt[0] == pytest.approx(together.doubt[place], abs=1e-6)
        assert alone.suggestions == [together.suggestions[place]]
        own = doubting.vectors(bundle, {"text": [text]})[0]
        np.testing.assert_allclose(own, vectors[place], atol=1e-5)
    assert together.suggestions == bundle.predict({"text": texts})["label"]


def test_a_kind_without_a_queue_is_refused(tmp_path: Path, tokenizer_json: bytes) -> None:
    encoder = {"kind": "lstm", "hidden_sizes": [6]}
    network = build_network(
        {
            "kind": "generate", "vocab_size": 50, "embedding_dim": 8, "encoder": encoder,
            "head_size": 50, "eos_id": 1,
        }
    )  # fmt: skip
    facts = {"form": "text", "template": "{prompt}", "writing": {}}
    save_bundle(
        tmp_path, network, tokenizer_json=tokenizer_json, windowing=Windowing(12, 3), facts=facts
    )
    with pytest.raises(NoisefoldError, match="cannot be put into a queue"):
        doubting_of(Bundle.load(tmp_path))
