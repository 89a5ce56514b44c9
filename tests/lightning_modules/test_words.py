"""The word tokenizer's short cut: the ids and the vocabulary of Hugging Face's tokenizers for every
text, whatever stands in it.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv
from tokenizers import Tokenizer

from data_contracts.recipe.tokenizer import WordTokenizer
from lightning_modules.network.tokenizer import BundleError
from lightning_modules.network.words import KNOWN, cut_words, ids_of
from tasks.vocabulary import blank_tokenizer, train_tokenizer

# Of every way in which a text may be hard: signs and white space of all sorts, what is dropped,
# joined, reordered, folded or lower-cased by its neighbours, scripts cut by cluster, special tokens.
HARD = [
    "a", "B", "9", " ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\xad", "\0", "\x7f",
    "\u2028", "\u200b", "\u200d", "\u202e", "\ufeff", "\ufffd", "\ue000", "\u0378", "\u0301", "\u0345", "\u0327",
    "e", "é", "İ", "I", "ı", "ß", "ẞ", "Σ", "ς", "ΟΔΟΣ", "ſ", "K", "Å", "ﬁ", "²", "½", "¨", "´", "㈱", "㋿",
    "中", "文", "々", "〇", "\u3021", "豈", "\u9fa6", "\U00020000", "か", "゙", "ガ", "ｶ", "ﾞ", "ー", "カ", "한", "\u1112",
    "\u1161", "\u11ab", "ไ", "เ", "ที่", "น้ำ", "ខ្មែរ", "မြန်", "ལྷ་", "ㄅ", "ㆠ", "ا", "ل", "ُ", "हि", "न्दी", "\U0001f600",
    "\u2764\ufe0f", "\U0001d518", "，", "。", "「", "…", "—", "€", "+", "＋", "_", "'", "’", "[PAD]", "[UNK]", "[pad]", "[", "]",
]  # fmt: skip
texts = st.lists(
    st.sampled_from(HARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    max_size=12,
).map("".join)


def trained(some: list[str], **options) -> Tokenizer:
    return train_tokenizer(WordTokenizer(**options), lambda: iter([some]))


def trained_by_tokenizers(some: list[str], **options) -> Tokenizer:
    tokenizer, trainer = blank_tokenizer(WordTokenizer(**options))
    tokenizer.train_from_iterator([some], trainer)
    return tokenizer


def by_tokenizers(tokenizer: Tokenizer, some: list[str]) -> list[list[int]]:
    return [one.ids for one in tokenizer.encode_batch(some, add_special_tokens=False)]


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_character_of_the_short_cut_is_cut_alike(lowercase: bool) -> None:
    """Each beside a letter, a digit, white space and itself; and none joins what is before it."""
    tokenizer, _ = blank_tokenizer(WordTokenizer(lowercase=lowercase))
    known = re.findall(f"[{KNOWN}]", "".join(map(chr, range(sys.maxunicode + 1))))
    assert len(known) > 40_000
    for sign in known:
        text = f"a{sign}b {sign}{sign} 1{sign}Z"
        normal = tokenizer.normalizer.normalize_str(text)
        pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
        assert cut_words(text, lowercase) == pieces, f"U+{ord(sign):04X}"
        first = unicodedata.normalize("NFKC", sign)[0]
        assert not unicodedata.combining(first) and not "\u1160" <= first <= "\u11ff"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(texts, min_size=1, max_size=6), st.booleans())
def test_ids_and_vocabulary_are_the_same_for_hostile_texts(some: list[str], fold: bool) -> None:
    ours = trained([*some, "a"], min_frequency=1, lowercase=fold)
    theirs = trained_by_tokenizers([*some, "a"], min_frequency=1, lowercase=fold)
    assert ours.to_str() == theirs.to_str()
    assert ids_of(ours, some) == by_tokenizers(theirs, some)
    few = trained([*some, "a"], min_frequency=1, vocab_size=16, lowercase=fold)
    assert ids_of(few, some) == by_tokenizers(few, some)


def test_special_tokens_in_a_text_are_what_they_were() -> None:
    ours = trained(["the [UNK] and the [PAD]"], min_frequency=1)
    some = ["the[UNK]the", "[PAD]", "[pad] [unk]"]
    assert ids_of(ours, some) == by_tokenizers(ours, some)
    ours = Tokenizer.from_str(ours.to_str())
    ours.encode_special_tokens = True
    assert ids_of(ours, some) == by_tokenizers(ours, some)


def test_a_tokenizer_that_only_looks_like_ours_goes_its_own_way() -> None:
    """A given file may say anything: one word other than what is trained here, and it is asked."""
    stated = json.loads(trained(["cafe café b-c B 中文"], min_frequency=1).to_str())
    for change in (
        lambda d: d["normalizer"]["normalizers"][1].update(strip_accents=True),
        lambda d: d["normalizer"]["normalizers"][1].update(lowercase=False),
        lambda d: d.update(pre_tokenizer={"type": "WhitespaceSplit"}),
        lambda d: d.update(normalizer=None),
        lambda d: d["added_tokens"].append({**d["added_tokens"][0], "id": 9, "content": "b-c"}),
        lambda d: d["model"]["vocab"].update({"cafe": 1}),
    ):
        given = json.loads(json.dumps(stated))
        change(given)
        theirs = Tokenizer.from_str(json.dumps(given))
        some = ["Café cafe b-c B 中文", "b-c"]
        assert ids_of(theirs, some) == by_tokenizers(theirs, some)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(BundleError, match="cannot encode a text"):
        ids_of(trained(["a"], min_frequency=1), ["a", "\ud800"])


@pytest.mark.real_data
def test_ids_and_vocabulary_are_the_same_on_public_data(real_data: Path) -> None:
    read = 0
    for path in sorted(real_data.glob("*/*.csv*")):
        parse = csv.ParseOptions(newlines_in_values=True)
        block = csv.ReadOptions(block_size=1 << 27)
        rows = csv.read_csv(path, block, parse).slice(0, 500)
        columns = [column for column in rows.columns if pa.types.is_string(column.type)]
        some = [cell or "" for column in columns for cell in column.to_pylist()]
        ours, theirs = trained(some), trained_by_tokenizers(some)
        assert ours.to_str() == theirs.to_str(), path.name
        assert ids_of(ours, some) == by_tokenizers(theirs, some), path.name
        read += len(some)
    assert read > 20_000
