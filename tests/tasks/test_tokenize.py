"""tokenize: vocabulary from train alone, nothing cut, Chinese by character, the same digest every
time.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_contracts.artifacts import ValidatedCorpus
from data_contracts.contract.text import text_hash
from data_contracts.errors import NoisefoldError, RecipeError
from data_contracts.recipe.tokenizer import (
    BpeTokenizer,
    FileTokenizer,
    WindowConfig,
    WordPieceTokenizer,
    WordTokenizer,
)
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.network.network import build_network
from lightning_modules.network.windows import Windowing
from tasks.artifacts.store import RowDigest
from tasks.vocabulary import blank_tokenizer
from tests.stages import tokenize_corpus

TEXTS = {
    "train": ["The screen is not bad at all", "屏幕很好，但是电池不行", "the battery is bad"] * 8,
    "valid": ["the screen is new"],
    "test": ["unseen words only here", "bad " * 40],
}


@pytest.fixture
def corpus(store) -> ValidatedCorpus:
    return make_corpus(store)


def make_corpus(store, texts=TEXTS, parts=1) -> ValidatedCorpus:
    rows = [
        (f"{s}-{i}", t, "ab"[i % 2], s) for s, many in texts.items() for i, t in enumerate(many)
    ]
    table = pa.table(
        dict(zip(("id", "text", "label", "split"), zip(*rows, strict=True), strict=True))
    )

    def build(workspace):
        (workspace.out / "corpus").mkdir()
        size = -(-table.num_rows // parts)
        for part in range(parts):
            pq.write_table(
                table.slice(part * size, size), workspace.out / "corpus" / f"part-{part:05}.parquet"
            )
        digest = RowDigest(["id", "text", "label", "split"])
        digest.update(table)
        return {
            "digest": digest.hexdigest(), "rows_in": len(rows), "rows_out": len(rows), "contract_name": "t",
            "contract_version": 1, "facts": {"labels": ["a", "b"]}, "splits": {s: len(t) for s, t in texts.items()},
            "quarantined": {},
        }  # fmt: skip

    return store.once(
        ValidatedCorpus, inputs=[str(parts)], config=None, version=1, build=build
    ).manifest


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
    assert (
        metadata
        == hashlib.sha256((store.open(dataset) / "tokenizer.json").read_bytes()).hexdigest()
    )
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


MIXED = "屏幕好，iPhone 4S很好! カメラー は2024年 ok_fine… e-mail\u200bs"


def pieces(config, text):
    tokenizer, _ = blank_tokenizer(config)
    return [
        piece
        for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(
            tokenizer.normalizer.normalize_str(text)
        )
    ]


def test_english_chinese_and_japanese_are_cut_as_they_always_were():
    """Frozen: what a model in production was trained on."""
    end = ["ok", "_", "fine", ".", ".", ".", "e", "-", "mails"]
    word = [*"屏幕好", ",", "iphone", "4s", *"很好", "!", *"カメラーは", "2024", "年", *end]
    assert pieces(WordTokenizer(), MIXED) == word
    wordpiece = [*"屏幕好", ",", "iphone", "4s", *"很好", "!", "カメラー", "は2024", "年", *end]
    assert pieces(WordPieceTokenizer(), MIXED) == wordpiece


@pytest.mark.parametrize(
    ("text", "clusters"),
    [
        (
            "เยี่ยมน้ำ",
            "เยี่ ย ม น้ํา",
        ),  # a vowel before its consonant, two marks, a vowel that NFKC takes apart
        ("iPhoneดีมาก100%๑๒๓บาทๆ", "iphone ดี มา ก 100 % ๑๒๓ บา ท ๆ"),
        ("ແຊບນ້ຳ", "ແຊ ບ ນ້ໍາ"),
        ("ក្រុងខ្ញុំ។", "ក្រុ ង ខ្ញុំ ។"),
        # A space of no width between words, as Khmer is often typed.
        ("ខ្ញុំ\u200bចូល", "ខ្ញុំ ចូ ល"),
        ("သတ္တဝါ၊", "သ တ္တ ဝါ ၊"),
        ("བཀྲ་ཤིས།", "བཀྲ ་ ཤིས །"),
        ("ꦲꦏ꧀ꦱꦫ", "ꦲ ꦏ꧀ꦱ ꦫ"),
        ("ᬅᬓ᭄ᬱᬭ", "ᬅ ᬓ᭄ᬱ ᬭ"),
        ("ꆈꌠ", "ꆈ ꌠ"),
        ("ㄅㄆ", "ㄅ ㄆ"),
        ("हिन्दी में 한국어", "हिन्दी में 한국어"),  # scripts with spaces stay words
    ],
)
def test_a_script_without_spaces_is_cut_by_cluster(text, clusters):
    for config in (WordTokenizer(), WordPieceTokenizer()):
        assert pieces(config, text) == clusters.split()


def test_wordpiece_gives_the_same_vocabulary_each_time(store, tmp_path):
    """Its trainer numbers pieces in the order of a hash map with a random seed."""
    from tasks.artifacts.store import ArtifactStore

    words = [f"{a}{b}{c}ing" for a in "brst" for b in "aeiou" for c in "lmnp"]
    texts = {**TEXTS, "train": [" ".join(words[i : i + 9]) for i in range(0, 80, 3)]}
    config, digests = WordPieceTokenizer(vocab_size=60, min_frequency=1), set()
    for attempt in range(3):
        own = ArtifactStore(str(tmp_path / str(attempt)), tmp_path / f"work-{attempt}")
        digests.add(tokenize_corpus(make_corpus(own, texts), config, own).manifest.digest)
    assert len(digests) == 1


def test_wordpiece_knows_the_pieces_of_a_word_of_any_length(store):
    texts = {**TEXTS, "train": ["カメラ" * 60, "x" * 300, "short"] * 4, "test": ["カメラ" * 50]}
    dataset = tokenize_corpus(
        make_corpus(store, texts), WordPieceTokenizer(min_frequency=1), store
    ).manifest
    assert dataset.unknown_shares["train"] == dataset.unknown_shares["test"] == 0.0


def test_unknown_tokens_are_counted_by_split_and_told_with_the_way_out(store, corpus):
    dataset = tokenize_corpus(corpus, WordTokenizer(min_frequency=1), store).manifest
    assert dataset.unknown_shares == {"train": 0.0, "valid": 0.25, "test": 4 / 44}
    (warning,) = dataset.warnings
    assert (
        warning.startswith("The vocabulary does not know 25% of the tokens of valid:")
        and "kind: bpe" in warning
    )
    assert "min_frequency" not in warning and "vocab_size" not in warning, "neither would help"
    small = tokenize_corpus(corpus, WordTokenizer(vocab_size=16), store).manifest
    assert (
        "min_frequency (it is 2)" in small.warnings[0]
        and "vocab_size 16 may be raised" in small.warnings[0]
    )
    assert not tokenize_corpus(corpus, BpeTokenizer(vocab_size=300), store).manifest.warnings


def test_byte_level_bpe_knows_every_text(store, corpus):
    dataset = tokenize_corpus(
        corpus, BpeTokenizer(vocab_size=300), store, WindowConfig(max_length=512)
    ).manifest
    assert dataset.unknown_share == 0.0


@pytest.mark.parametrize(
    "config", [WordTokenizer(vocab_size=16), WordPieceTokenizer(vocab_size=40)]
)
def test_vocabulary_stays_within_its_size(store, corpus, config):
    assert tokenize_corpus(corpus, config, store).manifest.vocab_size <= config.vocab_size


def test_long_document_becomes_overlapping_windows_and_loses_nothing(store, corpus):
    config = WordTokenizer(min_frequency=1)
    window = WindowConfig(max_length=16, overlap=4)
    dataset = tokenize_corpus(corpus, config, store, window).manifest
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
    from tasks.artifacts.store import ArtifactStore

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


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe", b'{"version": "1.0"}', "no_unknown"])
def test_unusable_tokenizer_file_is_refused(store, corpus, tmp_path, content):
    file = tmp_path / "tokenizer.json"
    if content == "no_unknown":
        Tokenizer(models.WordLevel({"b": 0}, unk_token="[UNK]")).save(str(file))
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError, match=r"tokenizer\.path"):
        tokenize_corpus(corpus, FileTokenizer(path=str(file)), store)


def backbone_tokenizer(folder):
    """BERT's way: [CLS] and [SEP] round a text, and a wish to cut that is not heard."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "bad", "the", "screen", "is"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=special
    )
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / "tokenizer.json"))


def test_windows_carry_the_special_tokens_of_a_given_tokenizer(store, corpus, tmp_path):
    backbone_tokenizer(tmp_path)
    config = FileTokenizer(path=str(tmp_path))
    window = WindowConfig(max_length=18, overlap=4)
    dataset = tokenize_corpus(corpus, config, store, window).manifest
    assert (dataset.windowing.prefix_ids, dataset.windowing.suffix_ids) == ((2,), (3,))
    assert tokens_of(store, dataset, "valid")["input_ids"].to_pylist() == [[2, 5, 6, 7, 1, 3]]
    rows = [
        row["input_ids"]
        for row in tokens_of(store, dataset, "test").to_pylist()
        if row["id"] == "test-1"
    ]
    assert rows == [[2, *[4] * 16, 3]] * 3, "40 words in windows of 16, 4 shared"
    folder = store.open(dataset)
    network = build_network(
        {
            "vocab_size": 8,
            "embedding_dim": 4,
            "encoder": {"kind": "tanh", "hidden_size": 4},
            "num_classes": 2,
        }
    )
    save_bundle(
        tmp_path / "bundle", network, tokenizer_json=(folder / "tokenizer.json").read_bytes(), facts={"labels": ["a", "b"], "temperature": 1.0},
        windowing=Windowing.of(dataset.windowing),
    )  # fmt: skip
    assert Bundle.load(tmp_path / "bundle").encode([TEXTS["test"][1]])[0] == rows, (
        "serving makes the same windows"
    )
    plain = tokenize_corpus(
        corpus, config, store, window.model_copy(update={"special_tokens": False})
    ).manifest
    assert (plain.windowing.prefix_ids, plain.windowing.suffix_ids) == ((), ())
    assert tokens_of(store, plain, "valid")["input_ids"].to_pylist() == [[5, 6, 7, 1]]
    assert plain.digest != dataset.digest


def test_a_byte_level_tokenizer_without_padding_and_unknown_token_is_used(store, corpus, tmp_path):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    dataset = tokenize_corpus(
        corpus, FileTokenizer(path=str(tmp_path / "tokenizer.json")), store
    ).manifest
    assert dataset.windowing.suffix_ids == (end,)
    assert dataset.unknown_share == 0.0, "the token that ends a window stands for no unknown text"


def test_a_window_without_room_for_text_is_refused(store, corpus, tmp_path):
    backbone_tokenizer(tmp_path)
    config = FileTokenizer(path=str(tmp_path))
    window = WindowConfig(max_length=4, overlap=2)
    with pytest.raises(RecipeError, match=r"Set window\.max_length to 5 or more"):
        tokenize_corpus(corpus, config, store, window)


def test_no_vocabulary_is_refused(store, corpus):
    with pytest.raises(NoisefoldError, match="found no token that occurs 999 times"):
        tokenize_corpus(corpus, WordTokenizer(min_frequency=999), store)
