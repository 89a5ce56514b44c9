"""tokenize: vocabulary from train alone, nothing cut, Chinese by character, the same digest every time."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import ValidatedCorpus
from data_contracts.errors import NoisefoldError, RecipeError
from data_contracts.recipe import BpeTokenizer, FileTokenizer, WordPieceTokenizer, WordTokenizer
from data_contracts.text import text_hash
from tasks.store import RowDigest
from tasks.tokenize import blank_tokenizer, tokenize_corpus

TEXTS = {
    "train": ["The screen is not bad at all", "屏幕很好，但是电池不行", "the battery is bad"] * 8,
    "valid": ["the screen is new"],
    "test": ["unseen words only here", "bad " * 40],
}


@pytest.fixture
def corpus(store) -> ValidatedCorpus:
    return make_corpus(store)


def make_corpus(store, texts=TEXTS, parts=1) -> ValidatedCorpus:
    rows = [(f"{s}-{i}", t, "ab"[i % 2], s) for s, many in texts.items() for i, t in enumerate(many)]
    table = pa.table(dict(zip(("id", "text", "label", "split"), zip(*rows, strict=True), strict=True)))

    def build(workspace):
        (workspace.out / "corpus").mkdir()
        size = -(-table.num_rows // parts)
        for part in range(parts):
            pq.write_table(table.slice(part * size, size), workspace.out / "corpus" / f"part-{part:05}.parquet")
        digest = RowDigest(["id", "text", "label", "split"])
        digest.update(table)
        return {
            "digest": digest.hexdigest(), "rows_in": len(rows), "rows_out": len(rows), "contract_name": "t",
            "contract_version": 1, "labels": ("a", "b"), "splits": {s: len(t) for s, t in texts.items()},
            "quarantined": {},
        }  # fmt: skip

    return store.once(ValidatedCorpus, inputs=[str(parts)], config=None, version=1, build=build).manifest


def tokens_of(store, dataset, split):
    return pq.read_table(store.open(dataset) / f"{split}.parquet")


def test_columns_counts_and_metadata(store, corpus):
    dataset = tokenize_corpus(corpus, WordTokenizer(min_frequency=1), store).manifest
    table = tokens_of(store, dataset, "train")
    assert table.schema.names == ["id", "window", "input_ids", "length", "label"]
    assert table.schema.field("input_ids").type == pa.list_(pa.int32())
    assert dataset.splits == {"train": 24, "valid": 1, "test": 2}
    assert dataset.rows_in == 27 and dataset.rows_out == sum(dataset.windows.values())
    metadata = table.schema.metadata[b"noisefold.tokenizer"].decode()
    assert metadata == dataset.tokenizer_digest
    assert metadata == hashlib.sha256((store.open(dataset) / "tokenizer.json").read_bytes()).hexdigest()
    assert table["length"].to_pylist() == [len(ids) for ids in table["input_ids"].to_pylist()]


def test_vocabulary_comes_from_train_alone(store, corpus):
    dataset = tokenize_corpus(corpus, WordTokenizer(min_frequency=1), store).manifest
    vocabulary = json.loads((store.open(dataset) / "tokenizer.json").read_text())["model"]["vocab"]
    assert "screen" in vocabulary and "unseen" not in vocabulary and "new" not in vocabulary
    assert (vocabulary["[PAD]"], vocabulary["[UNK]"]) == (0, 1)
    assert tokens_of(store, dataset, "test")["input_ids"].to_pylist()[0] == [1, 1, 1, 1]
    assert dataset.unknown_share > 0


def test_word_tokenizer_splits_chinese_and_kana_by_character(store):
    corpus = make_corpus(store, {**TEXTS, "train": ["屏幕好 カメラ camera-phone"] * 4})
    dataset = tokenize_corpus(corpus, WordTokenizer(min_frequency=1), store).manifest
    vocabulary = json.loads((store.open(dataset) / "tokenizer.json").read_text())["model"]["vocab"]
    assert {"屏", "幕", "好", "カ", "メ", "ラ", "camera", "-", "phone"} <= set(vocabulary)


def test_byte_level_bpe_knows_every_text(store, corpus):
    dataset = tokenize_corpus(corpus, BpeTokenizer(vocab_size=300, max_length=512), store).manifest
    assert dataset.unknown_share == 0.0


@pytest.mark.parametrize("config", [WordTokenizer(vocab_size=16), WordPieceTokenizer(vocab_size=40)])
def test_vocabulary_stays_within_its_size(store, corpus, config):
    assert tokenize_corpus(corpus, config, store).manifest.vocab_size <= config.vocab_size


def test_long_document_becomes_overlapping_windows_and_loses_nothing(store, corpus):
    config = WordTokenizer(min_frequency=1, max_length=16, overlap=4)
    dataset = tokenize_corpus(corpus, config, store).manifest
    rows = [row for row in tokens_of(store, dataset, "test").to_pylist() if row["id"] == "test-1"]
    assert [row["window"] for row in rows] == list(range(len(rows)))
    assert max(row["length"] for row in rows) <= 16
    rebuilt = list(rows[0]["input_ids"])
    for before, after in pairwise(rows):
        assert before["input_ids"][-4:] == after["input_ids"][:4]
        rebuilt += after["input_ids"][4:]
    assert len(rebuilt) == 40
    assert dataset.over_length_share == pytest.approx(1 / 27)


def test_digest_does_not_depend_on_parts_and_repeats(tmp_path):
    from tasks.store import ArtifactStore

    digests = set()
    for parts in (1, 4):
        store = ArtifactStore(str(tmp_path / str(parts)), tmp_path / f"work-{parts}")
        corpus = make_corpus(store, parts=parts)
        digests.add(tokenize_corpus(corpus, WordTokenizer(min_frequency=1), store).manifest.digest)
    assert len(digests) == 1


def test_train_texts_name_what_the_model_will_have_seen(store, corpus):
    dataset = tokenize_corpus(corpus, WordTokenizer(min_frequency=1), store).manifest
    hashes = np.load(store.open(dataset) / "train_texts.npy", allow_pickle=False)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == sorted({text_hash(text) for text in TEXTS["train"]})


def test_given_tokenizer_is_used_and_known_by_its_bytes(store, corpus, tmp_path):
    tokenizer, trainer = blank_tokenizer(WordTokenizer(min_frequency=1))
    tokenizer.train_from_iterator(TEXTS["train"], trainer)
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    config = FileTokenizer(path=str(file))
    first = tokenize_corpus(corpus, config, store)
    file.rename(tmp_path / "moved.json")
    moved = tokenize_corpus(corpus, FileTokenizer(path=str(tmp_path / "moved.json")), store)
    assert moved.cached and moved.manifest == first.manifest
    tokenizer.add_tokens(["extra"])
    tokenizer.save(str(file))
    assert not tokenize_corpus(corpus, config, store).cached


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe", b'{"version": "1.0"}', "no_pad"])
def test_unusable_tokenizer_file_is_refused(store, corpus, tmp_path, content):
    file = tmp_path / "tokenizer.json"
    if content == "no_pad":
        from tokenizers import Tokenizer, models

        Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(file))
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError, match=r"tokenizer\.path"):
        tokenize_corpus(corpus, FileTokenizer(path=str(file)), store)


def test_no_vocabulary_is_refused(store, corpus):
    with pytest.raises(NoisefoldError, match="found no token that occurs 999 times"):
        tokenize_corpus(corpus, WordTokenizer(min_frequency=999), store)
