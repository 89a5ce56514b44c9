"""What a model is made of: tokenizers, bundles, manifests; and the texts that it is asked about."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data_contracts.artifacts import File, RawCorpus
from data_contracts.recipe.tokenizer import WordTokenizer
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.network.network import build_network
from lightning_modules.network.tokenizer import (
    BundleError,
    load_tokenizer,
    special_ids,
    surrounding_ids,
)
from lightning_modules.network.windows import Windowing
from lightning_modules.network.words import ids_of
from tasks.artifacts.store import MANIFEST, ArtifactStore
from tasks.vocabulary import train_tokenizer
from tests.fuzz.configuration import (
    NUMBERS,
    PIECES,
    WORDS,
    edited,
    edits,
    quick_edits,
    quick_text,
    quick_value,
    texts,
)
from tests.fuzz.tables import Written
from tests.fuzz.target import Target, joined, refused
from tests.lightning_modules.conftest import WORDS as VOCABULARY
from tests.lightning_modules.conftest import make_tokenizer

with warnings.catch_warnings():
    # MLflow warns of its own classes' type hints while it is imported.
    warnings.filterwarnings("ignore", message=".*type hint", category=UserWarning)
    from mlflow.exceptions import MlflowException

    from tasks.serving.pyfunc import TextModel


def tokenizers() -> list[bytes]:
    """Small ones of each kind that a recipe can train or be given."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: index for index, word in enumerate([*special, "good", "bad", "##ly", "好"])}
    piece = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    piece.normalizer = normalizers.BertNormalizer()  # type: ignore[assignment]
    piece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    piece.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    piece.add_special_tokens(special)
    letters = {
        letter: index
        for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet())[:40])
    }
    bpe = Tokenizer(
        models.BPE(
            vocab={**letters, "ab": 40}, merges=[("a", "b")] if {"a", "b"} <= letters.keys() else []
        )
    )
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel()  # type: ignore[assignment]
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    unigram = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("a", -1.0), ("ab", -2.5)], unk_id=0, byte_fallback=False)
    )
    unigram.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Digits()]  # type: ignore[list-item]
    )
    return [
        make_tokenizer(VOCABULARY[:5]),
        *(one.to_str().encode() for one in (piece, bpe, unigram)),
    ]


TOKENIZER_WORDS = joined(
    ['"type"', '"model"', '"vocab"', '"unk_token"', '"added_tokens"', '"Regex": "("', '"Precompiled"', "null", "{", "}",
     "[", "]", ":", ",", '"', "-1", "4294967296", "1e400", '"id": 0', '"single_word": true', '"strip"', '"Sequence"',
     '"ByteLevel"', '"Metaspace"', '"NFC"', '"Replace"', '"TemplateProcessing"', '"truncation": {"max_length": 0}',
     '"continuing_subword_prefix": ""', "\\ud800", "true"]
)  # fmt: skip


def tokenizer(data: bytes) -> bool:
    try:
        loaded = load_tokenizer(data)
        pad, unknown = special_ids(loaded)
        before, after = surrounding_ids(loaded)
    except BundleError as error:
        return refused(error)
    assert all(isinstance(one, int) and one >= 0 for one in (pad, unknown, *before, *after))
    return True


class Words:
    """The word tokenizer's short cut, beside the tokenizer itself."""

    def __init__(self) -> None:
        texts = [[*VOCABULARY, "好 坏 é b x word ( . 1"]]
        self.tokenizer = train_tokenizer(WordTokenizer(min_frequency=1), lambda: iter(texts))

    def check(self, text: str) -> bool:
        try:
            [ids] = ids_of(self.tokenizer, [text])
        except BundleError as error:
            return refused(error)
        assert ids == self.tokenizer.encode(text, add_special_tokens=False).ids, "other ids"
        return True


def quick_words(random: Random) -> str:
    return "".join(
        random.choice((random.choice(PARTS), quick_text(random)))
        for _ in range(random.randrange(5))
    )


# --- bundles --------------------------------------------------------------------------------------

FACTS = [
    "format", "labels", "max_length", "overlap", "prefix_ids", "suffix_ids", "temperature", "pad_id", "unknown_id",
    "meta", "digest", "network", "network.vocab_size", "network.embedding_dim", "network.num_classes", "network.kind",
    "network.encoder", "network.encoder.kind", "network.encoder.hidden_size", "network.encoder.hidden_sizes",
    "network.encoder.max_length", "network.ngrams", "network.wide", "network.encoder.config", "network.encoder.pooling",
]  # fmt: skip
TEXTS = ["good table", "", "坏" * 40, "word1 " * 30]


def write_bundle(folder: Path) -> None:
    torch.manual_seed(0)
    encoder = {"kind": "tanh", "hidden_size": 4}
    network = build_network(
        {"vocab_size": 45, "embedding_dim": 4, "encoder": encoder, "num_classes": 2}
    )
    tokenizer_json = make_tokenizer(VOCABULARY)
    windowing = Windowing(12, 3)
    save_bundle(
        folder,
        network,
        tokenizer_json=tokenizer_json,
        facts={"labels": ["a", "b"], "temperature": 1.0},
        windowing=windowing,
    )


class BundleCase(Written):
    """Facts with edits, one of the two other files damaged, and digests that fit: what an attacker
    would write.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "bundle", self._load)
        write_bundle(self.file)
        self.facts = json.loads((self.file / "bundle.json").read_text())
        self.parts = {
            name: (self.file / name).read_bytes()
            for name in ("model.safetensors", "tokenizer.json")
        }

    def prepare(self, case: Any) -> None:  # type: ignore[override]
        changes, name, at, byte, sealed = case
        parts = dict(self.parts)
        if name is not None:
            data = bytearray(parts[name])
            data[at % len(data)] = byte
            parts[name] = bytes(data)
        facts = {
            **self.facts,
            "weights_sha256": hashlib.sha256(parts["model.safetensors"]).hexdigest(),
            "tokenizer_sha256": hashlib.sha256(parts["tokenizer.json"]).hexdigest(),
        }
        facts = edited(facts, changes)
        if sealed:
            stated = {key: value for key, value in facts.items() if key not in ("digest", "meta")}
            text = json.dumps(
                json.loads(_json(stated)), sort_keys=True, ensure_ascii=False, separators=(",", ":")
            )
            facts["digest"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        for file, data in parts.items():
            (self.file / file).write_bytes(data)
        (self.file / "bundle.json").write_text(_json(facts), encoding="utf-8")

    def _load(self, _: Any) -> bool:
        try:
            bundle = Bundle.load(self.file)
            proba = predict_proba(bundle, TEXTS)
        except BundleError as error:
            return refused(error)
        assert proba.shape == (len(TEXTS), len(bundle.facts["labels"]))
        return True


def _json(value: Any) -> str:
    return json.dumps(_text_keys(value), default=str)


def _text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _text_keys(part) for key, part in value.items()}
    return [_text_keys(part) for part in value] if isinstance(value, list) else value


bundle_cases = st.tuples(
    edits(FACTS) | st.just([]),
    st.sampled_from([None, None, "model.safetensors", "tokenizer.json"]),
    st.integers(0, 5000),
    st.integers(0, 255),
    st.sampled_from([True, True, True, False]),
)


quick_facts = quick_edits(FACTS)


def quick_bundle(random: Random) -> Any:
    changes = quick_facts(random) if random.random() < 0.6 else []
    name = random.choice((None, "model.safetensors", "tokenizer.json"))
    return changes, name, random.randrange(5001), random.randrange(256), random.random() < 0.8


# --- manifests ------------------------------------------------------------------------------------

NAMES = [
    "a.txt",
    "../x",
    "/etc/passwd",
    "a//b",
    "./a",
    "a\\b",
    "a\0b",
    "..",
    "x" * 300,
    "b/c.txt",
    "\ud800",
    "manifest.json",
]
MANIFEST_FIELDS = ["key", "uri", "digest", "files", "rows_in", "rows_out", "fingerprint", "splits", "source_files",
                   "files.a·txt", "more"]  # fmt: skip


class ManifestCase(Written):
    """The manifest of an artifact in a store, with edits, and with other names in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "store" / RawCorpus.stage / "key" / MANIFEST, self._find)
        self.store = ArtifactStore(str(folder / "store"), folder / "work")
        self.file.parent.mkdir(parents=True)
        (self.file.parent / "a.txt").write_bytes(b"rows")
        file = {"sha256": hashlib.sha256(b"rows").hexdigest(), "size": 4}
        self.facts = RawCorpus(
            key="key", uri="x", digest="d", files={"a.txt": File.model_validate(file)}, rows_in=1, rows_out=1,
            fingerprint="f", splits={}, source_files=1,
        ).model_dump(mode="json")  # fmt: skip

    def prepare(self, case: Any) -> None:  # type: ignore[override]
        changes, names, cut = case
        facts = edited(self.facts, changes)
        if names:
            facts["files"] = dict.fromkeys(names, self.facts["files"]["a.txt"])
        text = _json(facts)
        self.file.write_text(text[: len(text) - cut], encoding="utf-8")

    def _find(self, _: Any) -> bool:
        found = self.store.find(RawCorpus, "key")
        if found is not None:
            assert set(found.files) <= {"a.txt"}, "a file that is not there is vouched for"
            assert found.uri == str(self.file.parent)
        return found is not None


manifest_cases = st.tuples(
    edits(MANIFEST_FIELDS) | st.just([]),
    st.lists(st.sampled_from(NAMES) | texts, max_size=2) | st.just([]),
    st.sampled_from([0] * 9 + [1, 50]),
)


quick_fields = quick_edits(MANIFEST_FIELDS)


def quick_manifest(random: Random) -> Any:
    names = [
        random.choice((random.choice(NAMES), quick_text(random)))
        for _ in range(random.choice((0, 0, 1, 2)))
    ]
    return (
        quick_fields(random) if random.random() < 0.6 else [],
        names,
        random.choice((0, 0, 0, 0, 0, 0, 1, 50)),
    )


# --- serving --------------------------------------------------------------------------------------

LARGE = [
    "x" * 100_000,
    "好" * 20_000,
    "word1 " * 5_000,
    "\u0301" * 5_000,
    " " * 9_999 + "a",
    "\U0001f600" * 2_000,
]
PARTS = ["good ", "word1 ", "坏", " ", "\n", "\0", "\x1b[2J", "\ud83d", "\u202e", "é", "[PAD]"]
anything = st.one_of(
    st.text(st.characters(), min_size=1, max_size=30),
    st.lists(st.sampled_from(PARTS), max_size=9).map("".join),
    st.sampled_from([*WORDS, *NUMBERS, b"bytes", [], {}, ("a",), np.nan, pd.NA, pd.NaT, np.str_("good"), 10**400]),
)  # fmt: skip
lists = st.lists(anything, max_size=4)
inputs = st.one_of(
    st.tuples(st.just("frame"), lists),
    st.tuples(st.sampled_from(["list", "series", "tuple", "array", "set", "generator"]), lists),
    st.tuples(st.just("column"), texts),
    st.tuples(st.just("as it is"), anything | st.sampled_from(PIECES)),
    st.tuples(st.just("large"), st.tuples(st.integers(0, 200), st.integers(0, len(LARGE) - 1))),
)

KINDS = ["frame", "frame", "list", "series", "tuple", "array", "set", "generator"]


def quick_input(random: Random) -> Any:
    def one() -> Any:
        good = random.random() < 0.6
        return (
            "".join(random.choices(PARTS, k=random.randrange(1, 9)))
            if good
            else quick_value(random)
        )

    if random.random() < 0.1:
        return random.choice((("column", quick_text(random)), ("as it is", quick_value(random))))
    if random.random() < 0.002:
        return "large", (0, random.randrange(len(LARGE)))
    return random.choice(KINDS), [one() for _ in range(random.randrange(5))]


class Serving:
    """`TextModel.predict`, as MLflow calls it."""

    def __init__(self, folder: Path) -> None:
        write_bundle(folder / "served")
        self.model = TextModel()
        self.model.bundle = Bundle.load(folder / "served")

    def given(self, case: tuple[str, Any]) -> Any:
        kind, value = case
        match kind:
            case "frame":
                return pd.DataFrame({"text": pd.Series(value, dtype=object)})
            case "column":
                return pd.DataFrame([["good"]], columns=pd.Index([value], dtype=object))
            case "series":
                return pd.Series(value, dtype=object)
            case "tuple":
                return tuple(value)
            case "array":
                made = np.empty(len(value), dtype=object)
                made[:] = value
                return made
            case "set":
                return {str(one) for one in value}
            case "generator":
                return iter(value)
            case "large":
                return [LARGE[value[1]]] if value[0] == 0 else ["good"]
            case _:
                return value

    def __call__(self, case: tuple[str, Any]) -> bool:
        try:
            found = self.model.predict(None, self.given(case))
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            return refused(error)
        assert list(found.columns) == ["label", "probability_a", "probability_b"]
        answered = found["label"].notna()
        assert found[~answered].isna().all(axis=None), "a row without a text has no answer at all"
        proba = found.loc[answered, ["probability_a", "probability_b"]].to_numpy(np.float64)
        assert np.isfinite(proba).all() and np.allclose(proba.sum(axis=1), 1)
        return True


def model_targets(folder: Path) -> list[Target]:
    intact = ([], None, 0, 0, True)
    return [
        Target("tokenizer", "tokenizer.json", 8, tokenizer, seeds=tokenizers(), tokens=TOKENIZER_WORDS),
        Target("words", "texts by the word tokenizer's short cut", 4, Words().check, texts, quick_words,
               warm=["a"]),
        Target("bundle", "a bundle's three files, digests that fit", 0.4, BundleCase(folder), bundle_cases,
               quick_bundle, warm=[intact]),
        Target("manifest", "an artifact's manifest", 3, ManifestCase(folder), manifest_cases, quick_manifest,
               warm=[([], [], 0)]),
        Target("serving", "what a served model is asked", 1, Serving(folder), inputs, quick_input,
               warm=[("list", ["good"])]),
    ]  # fmt: skip
