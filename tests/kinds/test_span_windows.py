"""Offsets are of the text as it was given, whatever its Unicode form and whatever the tokenizer."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_contracts.recipe.tokenizer import (
    BpeTokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
)
from lightning_modules.kinds.span.windows import (
    Window,
    separator,
    tokens_of,
    whole_characters,
    windows_of,
)
from lightning_modules.network.tokenizer import load_lossless, surrounding_ids
from lightning_modules.network.windows import Windowing
from tasks.vocabulary import train_tokenizer

TOKENIZERS: dict[str, Any] = {
    "word": WordTokenizer(min_frequency=1),
    "wordpiece": WordPieceTokenizer(min_frequency=1),
    "bpe": BpeTokenizer(vocab_size=400),
    "lossless bpe": BpeTokenizer(vocab_size=400, lossless=True),
    "character": CharacterTokenizer(min_frequency=1),
    "byte": ByteTokenizer(),
}
# What is before, the answer, what is behind it.
HARD = {
    "composed": ("Chez ", "Café Zoé", ", rue Émile."),
    "decomposed": unicodedata.normalize("NFD", "Chez |Café Zoé|, rue Émile.").split("|"),
    "astral": ("Die Zeichen 𐍈𐍂 und ", "𠮷野家", " stehen 😀 hier."),
    "emoji": ("Wir 👩‍👩‍👧 mögen ", "❤️ Herzen 👍🏽", " sehr."),
    "line ends": ("Erste Zeile.\r\n\r\n", "Zweite\r\nZeile", "\r\nDritte."),
    "full width": ("番号は", "ＡＢＣ１２３", "です。ｶﾞｷﾞ"),
    "Han": ("《战国无双3》是由", "光荣和ω-force", "开发的。"),
    "Thai": ("เมืองหลวงของไทยคือ", "กรุงเทพ", " ครับ"),
    "controls": ("a\x00b\u200b \ufeffc ", "d\u00a0e", " \u2028f"),
}


def tokenizer(kind: str) -> Tokenizer:
    texts = ["".join(parts) for parts in HARD.values()] * 3
    made = train_tokenizer(TOKENIZERS[kind], lambda: iter([texts]))
    return load_lossless(made.to_str().encode())


def windows(
    one: Tokenizer, question: str, context: str, length: int = 512, overlap: int = 8
) -> list[Window]:
    windowing = Windowing(length, overlap)
    sep_id = separator(one, windowing)
    assert sep_id is not None
    (found,) = windows_of(one, windowing, sep_id, [question], [context])
    return found


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", HARD)
def test_an_answer_comes_back_letter_by_letter(kind: str, text: str) -> None:
    before, answer, behind = HARD[text]
    context = before + answer + behind
    (window,) = windows(tokenizer(kind), "Was?", context)
    place = tokens_of(window.offsets, len(before), len(before) + len(answer))
    assert place is not None
    first, last = place
    start, end = whole_characters(
        context, int(window.offsets[first, 0]), int(window.offsets[first : last + 1, 1].max())
    )
    assert context[start:end].strip() == context[start:end]
    # Tokens of words may hold more than the answer, never less.
    assert answer in context[start:end]
    if kind in ("character", "byte"):
        assert context[start:end] == answer


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_long_context_is_read_whole_in_windows_that_overlap(kind: str) -> None:
    one = tokenizer(kind)
    context = " ".join("".join(parts) for parts in HARD.values()) * 3
    (whole,) = windows(one, "Was?", context, length=8192)
    some = windows(one, "Was?", context, length=48, overlap=12)
    assert len(some) > 3
    assert len({len(window.ids) for window in some}) == 1
    assert {tuple(window.ids[: window.begin]) for window in some} == {
        tuple(whole.ids[: whole.begin])
    }
    seen = np.concatenate([window.offsets for window in some])
    assert {*map(tuple, seen.tolist())} == {*map(tuple, whole.offsets.tolist())}
    for before, behind in pairwise(some):
        shared = {*map(tuple, before.offsets.tolist())} & {*map(tuple, behind.offsets.tolist())}
        assert shared


def test_a_question_leaves_half_of_a_window_to_its_context() -> None:
    one = tokenizer("character")
    (*_, last) = windows(one, "Was? " * 100, "".join(HARD["composed"]), length=33, overlap=16)
    assert last.begin == 17 and len(last.ids) == 33
    assert last.offsets[-1, 1] == len("".join(HARD["composed"]))


def test_a_separator_that_stands_in_a_text_is_text() -> None:
    one = tokenizer("character")
    windowing = Windowing(64, 8)
    sep_id = separator(one, windowing)
    (window,) = windows(one, "[EOS]?", "Was [EOS] [PAD] ist")
    assert window.ids.count(sep_id or 0) == 1 and window.ids[window.begin - 1] == sep_id


def test_special_tokens_of_a_given_tokenizer_stand_where_it_puts_them() -> None:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", "cat", "the"]
    made = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(names[:4])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    one = load_lossless(made.to_str().encode())
    prefix, suffix = surrounding_ids(one)
    windowing = Windowing(16, 2, prefix, suffix)
    assert separator(one, windowing) == 3
    ((window,),) = windows_of(one, windowing, 3, ["who"], ["the cat"])
    assert window.ids == [2, 4, 3, 6, 5, 3] and window.begin == 3
    assert window.offsets.tolist() == [[0, 3], [4, 7]]


def test_a_tokenizer_without_a_token_between_is_known() -> None:
    bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    assert separator(bare, Windowing(16, 2)) is None


@pytest.mark.parametrize(
    ("text", "start", "end", "whole"),
    [
        ("  a b  ", 0, 7, "a b"),
        ("Cafe\u0301s", 0, 4, "Cafe\u0301"),
        ("Cafe\u0301s", 4, 6, "e\u0301s"),
        ("x \U0001f44d\U0001f3fd y", 2, 3, "\U0001f44d\U0001f3fd"),
        ("\U0001f469\u200d\U0001f467!", 0, 1, "\U0001f469\u200d\U0001f467"),
        ("\u2764\ufe0f", 0, 1, "\u2764\ufe0f"),
        ("\u0928\u093f", 0, 1, "\u0928\u093f"),
        (" \r\n ", 0, 4, ""),
    ],
)
def test_no_character_is_cut_in_two(text: str, start: int, end: int, whole: str) -> None:
    first, last = whole_characters(text, start, end)
    assert text[first:last] == whole
