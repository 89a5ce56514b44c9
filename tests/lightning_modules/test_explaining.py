"""What carried an answer: contributions add up, stand where their characters stand, and say what a
model was made to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from data_contracts.errors import NoisefoldError
from data_contracts.recipe.tokenizer import (
    BpeTokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
)
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.explaining.asked import MOST_TOKENS, tokens_of
from lightning_modules.explaining.explain import explain
from lightning_modules.explaining.gradients import TOLERANCE
from lightning_modules.explaining.pieces import pieces_of, without
from lightning_modules.network.encoders.ngrams import hashed_ngrams
from lightning_modules.network.network import build_network
from lightning_modules.network.windows import Windowing
from tasks.vocabulary import train_tokenizer
from tests.lightning_modules.conftest import WORDS, make_tokenizer

LABELS = ["no", "yes", "perhaps"]
ENCODERS: dict[str, dict[str, Any]] = {
    "tanh": {"kind": "tanh", "hidden_size": 6},
    "lstm": {"kind": "lstm", "hidden_sizes": [6]},
    "bilstm": {"kind": "bilstm_attention", "hidden_sizes": [[6, 6]], "attention_size": 6},
    "transformer": {
        "kind": "transformer", "max_length": 12, "num_heads": 2, "feedforward_sizes": [16],
    },
    "causal": {
        "kind": "causal_transformer", "context": 8, "num_heads": 2, "feedforward_sizes": [16],
    },
    "backbone": {
        "kind": "pretrained", "pooling": "mean",
        "config": {
            "model_type": "bert", "vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 16,
        },
    },
}  # fmt: skip
BESIDE: dict[str, dict[str, Any]] = {
    "alone": {},
    "ngrams": {"ngrams": {"buckets": 64, "size": 5, "max_n": 3}},
    "wide": {"wide": {"buckets": 64, "max_n": 2, "scale": 10.0}},
}
SHORT = "good bad word1 word2 word3 table"
LONG = "word1 word2 bad word9 " * 10  # several windows, and every n-gram several times


def made(
    folder: Path, description: Mapping[str, Any], tokenizer_json: bytes, *, special: bool = False
) -> Bundle:
    """A network of random weights, large enough to be far from linear."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "embedding_dim": 8, "num_classes": 3}
    network = build_network({**sizes, **description})
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and parameter.dim() > 1:
                parameter.normal_(0, 0.7)
            elif "backbone" in name:  # left as the memory held it
                parameter.fill_(1.0 if "LayerNorm.weight" in name else 0.1)
    around = {"prefix_ids": (3,), "suffix_ids": (4,)} if special else {}
    settings: dict[str, Any] = {"windowing": Windowing(12, 3, **around)}
    facts = {"labels": LABELS, "temperature": 2.0}
    save_bundle(folder, network, tokenizer_json=tokenizer_json, facts=facts, **settings)
    return Bundle.load(folder)


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_contributions_add_up_to_what_the_score_is_above_its_baseline(
    encoder: str, beside: str, tokenizer_json: bytes, tmp_path: Path
) -> None:
    bundle = made(tmp_path, {"encoder": ENCODERS[encoder], **BESIDE[beside]}, tokenizer_json)
    for text in (SHORT, LONG):
        found = explain(bundle, {"text": text}, check=False)
        sizes = sum(abs(part.contribution) for part in found.parts)
        total = sum(part.contribution for part in found.parts) + found.elsewhere
        assert total == pytest.approx(found.score - found.baseline - found.error, abs=1e-9)
        assert abs(found.error) <= TOLERANCE * sizes + 1e-6, found.steps
        assert sizes > 0.05
        shares = bundle.predict({"text": [text]})
        likely = shares[f"probability_{found.target}"][0]
        assert found.target == shares["label"][0]
        assert found.score == pytest.approx(np.log(likely / (1 - likely)), abs=1e-4)


@pytest.mark.parametrize("beside", ["wide", "ngrams"])
def test_an_ngram_is_shared_among_the_tokens_that_it_is_made_of(
    beside: str, tokenizer_json: bytes, tmp_path: Path
) -> None:
    """By hand: nothing counts but "bad table", which stands twice."""
    many = {**BESIDE[beside][beside], "buckets": 1 << 16}
    description = {"encoder": ENCODERS["tanh"], beside: many}
    bundle = made(tmp_path, description, tokenizer_json)
    network = bundle.network
    table = network.head.wide.table if beside == "wide" else network.ngrams.table
    ids = torch.tensor([bundle.tokenizer.encode("bad table").ids])
    bucket = hashed_ngrams(ids, torch.tensor([2]), 2, 1 << 16)[0][0, 2]
    with torch.no_grad():
        row = table.weight[bucket].clone()
        table.weight.zero_()
        table.weight[bucket] = row
        network.embedding.weight.zero_()
    found = explain(bundle, {"text": "good bad table word1 bad table"}, "yes", check=False)
    shares = [part.contribution for part in found.parts]
    assert shares[0] == shares[3] == 0
    assert shares[1] == shares[2] == shares[4] == shares[5] != 0
    assert 4 * shares[1] == pytest.approx(found.score - found.baseline, rel=1e-3)


def test_special_tokens_stand_in_the_baseline(tokenizer_json: bytes, tmp_path: Path) -> None:
    """So that all of the score's difference is the text's own."""
    description = {"encoder": ENCODERS["bilstm"]}
    bundle = made(tmp_path, description, tokenizer_json, special=True)
    found = explain(bundle, {"text": LONG}, check=False)
    assert found.elsewhere == 0
    nothing = made(
        tmp_path / "more", {**description, **BESIDE["wide"]}, tokenizer_json, special=True
    )
    assert explain(nothing, {"text": LONG}, check=False).elsewhere != 0


def planted(folder: Path, kind: str = "bilstm") -> Bundle:
    """One that says "yes" for a word, "no" without it, and looks at nothing else."""
    words = [*WORDS, "看", "好", "戏"]
    bundle = made(
        folder,
        {"vocab_size": 2 + len(words), "encoder": {"kind": "tanh", "hidden_size": 4}},
        make_tokenizer(words),
    )
    network = bundle.network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.embedding.weight[:, 1:] = torch.randn(2 + len(words), 7) * 0.5
        for word in ("good", "好"):
            network.embedding.weight[words.index(word) + 2, 0] = 3.0
        network.encoder.project.weight[0, 0] = 1.0
        network.head.decoder.weight[1, 4] = 6.0  # the highest, over all positions, of unit 0
        network.head.decoder.bias[0] = 1.5
    return bundle


@pytest.mark.parametrize(
    ("text", "word"), [("word1 word2 good word3 table word4", "good"), ("看 戏 好 看 戏 看", "好")]
)
def test_the_word_that_a_model_looks_at_is_found(text: str, word: str, tmp_path: Path) -> None:
    bundle = planted(tmp_path)
    found = explain(bundle, {"text": text})
    assert (found.target, found.strongest[0].text) == ("yes", word)
    others = sum(abs(part.contribution) for part in found.strongest[1:])
    assert found.strongest[0].contribution > 20 * others
    assert found.deletion is not None and found.deletion.removed == 2
    assert found.deletion.strongest > found.deletion.random > 0
    against = explain(bundle, {"text": text}, "no")
    assert against.parts[text.split().index(word)].contribution < 0


def test_a_text_that_nothing_speaks_for_is_told_of(tmp_path: Path) -> None:
    found = explain(planted(tmp_path), {"text": "word1 word2 word3 table word4 bad"})
    assert found.deletion is not None and not found.deletion.better
    assert any("no further than without others chosen at random" in one for one in found.notes)
    short = explain(planted(tmp_path / "short"), {"text": "good table"})
    assert short.deletion is None
    assert any("too short" in one for one in short.notes)


def test_an_explanation_is_the_same_alone_and_after_others(
    tokenizer_json: bytes, tmp_path: Path
) -> None:
    description = {"encoder": ENCODERS["bilstm"], **BESIDE["wide"]}
    bundle = made(tmp_path, description, tokenizer_json)
    first = explain(bundle, {"text": LONG})
    answer = bundle.predict({"text": [SHORT, LONG]})
    explain(bundle, {"text": SHORT}, "perhaps")
    assert explain(bundle, {"text": LONG}) == first
    assert bundle.predict({"text": [SHORT, LONG]}) == answer, "it leaves the network as it was"
    told = json.loads(json.dumps(first.as_json()))
    assert [LONG[one["start"] : one["end"]] for one in told["tokens"]] == LONG.split()


# --- pieces of texts

HARD = [
    "Café THE fine ﬁne Straße naïve",
    "cafe\u0301 e\u0301te\u0301 \uff21\uff22\uff23",
    "这家酒店的服务非常好，房间很干净！",
    "👩\u200d👩\u200d👧 ❤️ 👍🏽 ok",
    "한국어 \u1112\u1161\u11ab good 好",
    "x² \u00a0 tab\tend \u200b zero",
]


def tokenizers() -> dict[str, Tokenizer]:
    texts = [text for text in HARD[:3] for _ in range(3)]
    options = {"vocab_size": 400, "min_frequency": 1}
    kinds = {
        "word": WordTokenizer(vocab_size=400, min_frequency=1),
        "wordpiece": WordPieceTokenizer(vocab_size=400, min_frequency=1),
        "bpe": BpeTokenizer(**options),
        "lossless": BpeTokenizer(**options, lossless=True),
        "character": CharacterTokenizer(min_frequency=1),
        "byte": ByteTokenizer(),
    }
    found = {name: train_tokenizer(kind, lambda: iter([texts])) for name, kind in kinds.items()}
    stripped = Tokenizer.from_str(found["wordpiece"].to_str())
    stripped.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    stripped.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return {**found, "stripped": stripped}


@pytest.mark.parametrize("name", list(tokenizers()))
def test_pieces_are_whole_characters_of_the_text_as_it_was_given(name: str) -> None:
    tokenizer = tokenizers()[name]
    for text in HARD:
        tokens = [token for _, token in tokens_of(tokenizer, "text", text)]
        pieces = pieces_of({"text": text}, tokens)
        assert sorted(place for piece in pieces for place in piece.tokens) == [*range(len(tokens))]
        ends = [0, *(piece.end for piece in pieces)]
        assert all(end <= piece.start for end, piece in zip(ends, pieces, strict=False))
        shown = [text[piece.start : piece.end] for piece in pieces]
        covered = set("".join(shown)) - {"\u200d", "\ufe0f", "\u200b"}
        assert covered >= {one for one in text if one.isalnum()}, (name, shown)
        # No mark, joiner or skin tone begins a piece.
        assert not any(one[:1] in "\u0301\u200d\ufe0f🏽" for one in shown if one), shown
    chinese = pieces_of({"t": HARD[2]}, [t for _, t in tokens_of(tokenizer, "t", HARD[2])])
    if name in ("word", "wordpiece", "character", "byte"):
        assert [HARD[2][one.start : one.end] for one in chinese] == list(HARD[2])


def test_what_is_taken_away_leaves_one_space() -> None:
    text = "one two three four"
    tokenizer = Tokenizer.from_buffer(make_tokenizer(WORDS))
    pieces = pieces_of({"t": text}, [t for _, t in tokens_of(tokenizer, "t", text)])
    assert without({"t": text}, pieces, [1, 2]) == {"t": "one four"}
    assert without({"t": text}, pieces, [0]) == {"t": "two three four"}
    assert without({"t": text}, pieces, []) == {"t": text}


# --- what cannot be explained


def test_what_cannot_be_explained_is_refused(tokenizer_json: bytes, tmp_path: Path) -> None:
    bundle = made(tmp_path, {"encoder": ENCODERS["tanh"]}, tokenizer_json)
    for text, target, said in (
        (" \n", None, "The text is empty"),
        ("good " * (MOST_TOKENS + 1), None, "8,193 tokens, and can have 8,192"),
        ("good", "perhap", "no label 'perhap'. Did you mean perhaps?"),
    ):
        with pytest.raises(NoisefoldError, match=said) as refused:
            explain(bundle, {"text": text}, target)
        assert refused.value.remedy
    silent = Tokenizer.from_buffer(tokenizer_json)
    silent.normalizer = normalizers.Replace("x", "")
    with pytest.raises(NoisefoldError, match="finds no token"):
        tokens_of(silent, "text", "x")
