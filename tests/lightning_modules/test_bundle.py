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
from tokenizers import Tokenizer, models, processors

from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.classify.answering import log_proba_of_windows, predict_proba
from lightning_modules.network.network import build_network
from lightning_modules.network.tokenizer import (
    BundleError,
    load_tokenizer,
    special_ids,
    surrounding_ids,
)
from lightning_modules.network.windows import Windowing

LABELS = ("no", "yes", "perhaps")
TEXTS = ["good bad", "", "word1 " * 40, "unheard of", "good"]


@pytest.fixture
def folder(tmp_path: Path, tokenizer_json: bytes) -> Path:
    torch.manual_seed(0)
    encoder = {"kind": "bilstm_attention", "hidden_sizes": [[6, 6]], "attention_size": 6}
    network = build_network(
        {"vocab_size": 50, "embedding_dim": 8, "encoder": encoder, "num_classes": 3}
    )
    settings = {"tokenizer_json": tokenizer_json, "windowing": Windowing(12, 3)}
    facts = {"labels": list(LABELS), "temperature": 2.0}
    save_bundle(tmp_path / "bundle", network, **settings, facts=facts, meta={"note": 1})
    return tmp_path / "bundle"


def test_round_trip(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "bundle.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (bundle.facts, bundle.windowing, bundle.meta) == (
        {"labels": list(LABELS), "temperature": 2.0},
        Windowing(12, 3),
        {"note": 1},
    )
    settings = {
        "windowing": bundle.windowing,
        "tokenizer_json": bundle.tokenizer_json,
    }
    again = save_bundle(
        tmp_path / "again", bundle.network, **settings, facts=bundle.facts, meta={"note": 2}
    )
    assert again == bundle.digest, "meta has no part in the digest"
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    facts = {**bundle.facts, "temperature": 1.0}
    other = save_bundle(tmp_path / "other", bundle.network, **settings, facts=facts)
    assert other != bundle.digest, "the temperature has"
    assert np.array_equal(
        predict_proba(Bundle.load(tmp_path / "again"), TEXTS), predict_proba(bundle, TEXTS)
    )


def test_probabilities(folder: Path) -> None:
    bundle = Bundle.load(folder)
    proba = predict_proba(bundle, TEXTS)
    assert proba.shape == (5, 3)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    assert predict_proba(bundle, []).shape == (0, 3)


def test_document_is_the_mean_of_its_windows_and_temperature_comes_after(folder: Path) -> None:
    bundle = Bundle.load(folder)
    windows, document = bundle.encode(TEXTS)
    assert np.bincount(document).tolist() == [1, 1, 5, 1, 1]
    assert windows[1] == [1], "an empty text is one unknown token"
    own = [w for w, d in zip(windows, document, strict=True) if d == 2]
    each = np.exp(log_proba_of_windows(bundle, own, np.arange(len(own))))
    whole = np.exp(log_proba_of_windows(bundle, windows, document))
    np.testing.assert_allclose(whole[2], each.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1.0, atol=1e-9)
    tempered = whole**0.5 / (whole**0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict_proba(bundle, TEXTS), tempered, atol=1e-6)


def test_batches_do_not_matter(folder: Path) -> None:
    bundle = Bundle.load(folder)
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"word{i}" for i in rng.integers(0, 60, rng.integers(0, 30))) for _ in range(25)
    ]
    windows, document = bundle.encode(texts)
    whole = log_proba_of_windows(bundle, windows, document)
    for batch_tokens in (1, 40, 300):
        np.testing.assert_allclose(
            log_proba_of_windows(bundle, windows, document, batch_tokens), whole, atol=1e-6
        )
    alone = np.concatenate([predict_proba(bundle, [text]) for text in texts])
    np.testing.assert_allclose(alone, predict_proba(bundle, texts), atol=1e-6)
    shuffled = rng.permutation(len(windows))
    mixed = log_proba_of_windows(bundle, [windows[i] for i in shuffled], document[shuffled])
    np.testing.assert_allclose(mixed, whole, atol=1e-6)


def test_many_windows_are_predicted_with_little_padding(folder: Path) -> None:
    bundle = Bundle.load(folder)
    rng = np.random.default_rng(0)
    windows = [[3] * int(length) for length in rng.integers(1, 12, 4000)]
    sizes: list[int] = []
    hook = bundle.network.register_forward_pre_hook(
        lambda _, inputs: sizes.append(inputs[0].numel())
    )
    log_proba_of_windows(bundle, windows, np.arange(len(windows)))
    hook.remove()
    assert sum(sizes) < 1.25 * sum(map(len, windows))
    assert len(sizes) < 20, "and a network is called for many at a time"


def test_served_windows_carry_the_special_tokens_of_the_training(
    folder: Path, tmp_path: Path
) -> None:
    plain = Bundle.load(folder)
    settings = {
        "facts": plain.facts,
        "tokenizer_json": plain.tokenizer_json,
    }
    without = save_bundle(tmp_path / "none", plain.network, **settings, windowing=Windowing(12, 3))
    around = Windowing(12, 3, prefix_ids=(2,), suffix_ids=(3, 4))
    digest = save_bundle(tmp_path / "both", plain.network, **settings, windowing=around)
    assert digest != without
    assert "prefix_ids" not in json.loads((tmp_path / "none" / "bundle.json").read_text())
    windows, document = Bundle.load(tmp_path / "both").encode(["good bad", "", "word1 " * 20])
    assert windows[0][0] == 2 and windows[0][-2:] == [3, 4] and len(windows[0]) == 5
    assert windows[1] == [2, 3, 4], "an empty text is its special tokens"
    assert {len(w) for w, d in zip(windows, document, strict=True) if d == 2} == {12}


def test_a_document_without_window_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="document 1 has no window"):
        log_proba_of_windows(Bundle.load(folder), [[3], [4]], np.array([0, 2]))


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors", "tokenizer.json"])
def test_changed_bytes_are_named(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    changed = (
        data.replace(b'"yes"', b'"yep"')
        if name == "bundle.json"
        else data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    )
    (folder / name).write_bytes(changed)
    with pytest.raises(BundleError, match=f"{name} has changed"):
        Bundle.load(folder)


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps({"format": 99})])
def test_unknown_format_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"JSON|format"):
        Bundle.load(folder)


@given(
    st.integers(0, 60),
    st.integers(4, 16),
    st.integers(0, 8),
    st.sampled_from([([], []), ([7], [8, 9]), ([7], [])]),
)
def test_windows_lose_no_token(
    count: int, max_length: int, overlap: int, special: tuple[list[int], list[int]]
) -> None:
    overlap, (prefix, suffix) = min(overlap, max_length // 2), special
    ids = list(range(100, 100 + count))
    max_length += len(prefix + suffix)
    windows = Windowing(max_length, overlap, tuple(prefix), tuple(suffix)).cut(ids)
    if not ids:
        assert windows == [prefix + suffix or [1]]
        return
    assert all(w[: len(prefix)] == prefix and w[len(w) - len(suffix) :] == suffix for w in windows)
    assert all(len(w) <= max_length for w in windows)
    max_length -= len(prefix + suffix)
    windows = [w[len(prefix) : len(w) - len(suffix)] for w in windows]
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
    gpt2 = Tokenizer(models.BPE({"a": 0, "b": 1, "<|endoftext|>": 2}, []))
    assert special_ids(gpt2) == (2, 2)
    assert special_ids(Tokenizer(models.BPE({"a": 0}, []))) == (0, 0), (
        "padding is not read, and no text is unknown"
    )
    with pytest.raises(BundleError, match="cannot be read"):
        load_tokenizer(b"{}")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, ([], [])),
        ("[CLS] $A [SEP]", ([2], [3])),
        ("[CLS] $A", ([2], [])),
        ("$A [SEP] [SEP]", ([], [3, 3])),
    ],
)
def test_special_tokens_round_a_text_are_those_of_the_post_processor(
    template: str | None, expected: tuple[list[int], list[int]]
) -> None:
    tokenizer = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="[UNK]")
    )
    if template:
        special = [("[CLS]", 2), ("[SEP]", 3)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=special
        )
    found = surrounding_ids(load_tokenizer(tokenizer.to_str().encode()))
    assert tuple(map(list, found)) == expected
    nothing_unknown = Tokenizer(models.WordLevel({"b": 0}, unk_token="[UNK]"))
    with pytest.raises(BundleError, match=r"cannot encode.*\[UNK\]"):
        surrounding_ids(nothing_unknown)


def test_a_tokenizer_file_cannot_cut_or_pad(tokenizer_json: bytes) -> None:
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    loaded = load_tokenizer(tokenizer.to_str().encode())
    assert len(loaded.encode("good bad good bad").ids) == 4
