"""A bundle is self-contained, checked to the byte, and indifferent to how its inputs are batched."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from lightning_modules.bundle import Bundle, BundleError, load_tokenizer, save_bundle, special_ids, split_windows
from lightning_modules.network import build_network

LABELS = ("no", "yes", "perhaps")
TEXTS = ["good bad", "", "word1 " * 40, "unheard of", "good"]


@pytest.fixture
def folder(tmp_path: Path, tokenizer_json: bytes) -> Path:
    torch.manual_seed(0)
    encoder = {"kind": "bilstm_attention", "hidden_sizes": [[6, 6]], "attention_size": 6}
    network = build_network({"vocab_size": 50, "embedding_dim": 8, "encoder": encoder, "num_classes": 3})
    settings = {"tokenizer_json": tokenizer_json, "labels": LABELS, "max_length": 12, "overlap": 3}
    save_bundle(tmp_path / "bundle", network, **settings, temperature=2.0, meta={"note": 1})
    return tmp_path / "bundle"


def test_round_trip(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["bundle.json", "model.safetensors", "tokenizer.json"]
    assert (bundle.labels, bundle.temperature, bundle.max_length, bundle.meta) == (LABELS, 2.0, 12, {"note": 1})
    settings = {"labels": bundle.labels, "max_length": 12, "overlap": 3, "tokenizer_json": bundle.tokenizer_json}
    again = save_bundle(tmp_path / "again", bundle.network, **settings, temperature=2.0, meta={"note": 2})
    assert again == bundle.digest, "meta has no part in the digest"
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    other = save_bundle(tmp_path / "other", bundle.network, **settings, temperature=1.0)
    assert other != bundle.digest, "the temperature has"
    assert np.array_equal(Bundle.load(tmp_path / "again").predict_proba(TEXTS), bundle.predict_proba(TEXTS))


def test_probabilities(folder: Path) -> None:
    bundle = Bundle.load(folder)
    proba = bundle.predict_proba(TEXTS)
    assert proba.shape == (5, 3)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    assert bundle.predict_proba([]).shape == (0, 3)


def test_document_is_the_mean_of_its_windows_and_temperature_comes_after(folder: Path) -> None:
    bundle = Bundle.load(folder)
    windows, document = bundle.encode(TEXTS)
    assert np.bincount(document).tolist() == [1, 1, 5, 1, 1]
    assert windows[1] == [1], "an empty text is one unknown token"
    own = [w for w, d in zip(windows, document, strict=True) if d == 2]
    each = np.exp(bundle.log_proba_of_windows(own, np.arange(len(own))))
    whole = np.exp(bundle.log_proba_of_windows(windows, document))
    np.testing.assert_allclose(whole[2], each.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1.0, atol=1e-9)
    tempered = whole**0.5 / (whole**0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(bundle.predict_proba(TEXTS), tempered, atol=1e-6)


def test_batches_do_not_matter(folder: Path) -> None:
    bundle = Bundle.load(folder)
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{i}" for i in rng.integers(0, 60, rng.integers(0, 30))) for _ in range(25)]
    windows, document = bundle.encode(texts)
    whole = bundle.log_proba_of_windows(windows, document)
    for batch_tokens in (1, 40, 300):
        np.testing.assert_allclose(bundle.log_proba_of_windows(windows, document, batch_tokens), whole, atol=1e-6)
    alone = np.concatenate([bundle.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(alone, bundle.predict_proba(texts), atol=1e-6)
    shuffled = rng.permutation(len(windows))
    mixed = bundle.log_proba_of_windows([windows[i] for i in shuffled], document[shuffled])
    np.testing.assert_allclose(mixed, whole, atol=1e-6)


def test_a_document_without_window_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="document 1 has no window"):
        Bundle.load(folder).log_proba_of_windows([[3], [4]], np.array([0, 2]))


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors", "tokenizer.json"])
def test_changed_bytes_are_named(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    changed = (
        data.replace(b'"yes"', b'"yep"') if name == "bundle.json" else data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    )
    (folder / name).write_bytes(changed)
    with pytest.raises(BundleError, match=f"{name} has changed"):
        Bundle.load(folder)


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps({"format": 99})])
def test_unknown_format_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"JSON|format"):
        Bundle.load(folder)


@given(st.integers(0, 60), st.integers(4, 16), st.integers(0, 8))
def test_windows_lose_no_token(count: int, max_length: int, overlap: int) -> None:
    overlap = min(overlap, max_length // 2)
    ids = list(range(100, 100 + count))
    windows = split_windows(ids, max_length, overlap)
    if not ids:
        assert windows == [[1]]
        return
    assert windows[0][0] == ids[0]
    assert windows[-1][-1] == ids[-1]
    assert all(len(w) == min(count, max_length) for w in windows)
    for before, after in pairwise(windows):
        assert after[0] > before[0]
        shared = before[-1] - after[0] + 1
        assert shared == overlap or (after is windows[-1] and shared >= overlap)
    assert sorted({i for w in windows for i in w}) == ids


def test_special_tokens_are_found_by_their_usual_names(tokenizer_json: bytes) -> None:
    assert special_ids(load_tokenizer(tokenizer_json)) == (0, 1)
    other = Tokenizer(models.BPE({"<unk>": 0, "<pad>": 1, "a": 2}, [], unk_token="<unk>"))
    assert special_ids(other) == (1, 0)
    with pytest.raises(BundleError, match="padding"):
        special_ids(Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")))
    with pytest.raises(BundleError, match="cannot be read"):
        load_tokenizer(b"{}")


def test_a_tokenizer_file_cannot_cut_or_pad(tokenizer_json: bytes) -> None:
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    loaded = load_tokenizer(tokenizer.to_str().encode())
    assert len(loaded.encode("good bad good bad").ids) == 4
