"""Tokenizers of models that write: whatever text goes in comes back, to the letter."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from data_contracts.errors import RecipeError
from data_contracts.recipe.tokenizer import (
    BpeTokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    FileTokenizer,
    WindowConfig,
    WordPieceTokenizer,
    WordTokenizer,
)
from lightning_modules.network.tokenizer import (
    HARD_TEXTS,
    eos_id,
    is_lossless,
    load_lossless,
    special_ids,
)
from tasks.vocabulary import load_given, train_tokenizer

TEXTS = [
    "The screen is not bad at all.\n",
    "屏幕很好，但是电池不行。",
    "the battery is bad\r\n",
] * 4
LOSSLESS = [
    CharacterTokenizer(),
    CharacterTokenizer(min_frequency=9),
    ByteTokenizer(),
    BpeTokenizer(vocab_size=300, lossless=True),
]


def trained(config, texts=TEXTS) -> Tokenizer:
    """As a bundle holds it and a served model loads it."""
    return load_lossless(train_tokenizer(config, lambda: iter([texts])).to_str().encode())


def ids_of(tokenizer, text) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def back(tokenizer, text) -> str:
    return tokenizer.decode(ids_of(tokenizer, text), skip_special_tokens=False)


def random_texts(count: int) -> list[str]:
    """Of every plane and of every kind of character, short ones and long ones."""
    rng = random.Random(17)
    ranges = [(0, 0x7F), (0, 0x2FF), (0x300, 0x36F), (0x2000, 0x206F), (0x4E00, 0x9FFF),
              (0xAC00, 0xD7A3), (0xE000, 0xFFFF), (0x1F300, 0x1FAFF), (0x20000, 0x10FFFF)]  # fmt: skip
    pieces = ["[EOS]", "[PAD]", "[UNK]", "<0x41>", "</s>", " ", "\n", "\r\n", "\t", "The screen"]
    found = []
    for _ in range(count):
        parts = []
        for _ in range(rng.choice((0, 1, 2, 5, 40))):
            parts += [chr(rng.randint(*rng.choice(ranges))), rng.choice(pieces) * rng.randint(0, 2)]
        found.append("".join(parts))
    return found


@pytest.mark.parametrize("config", LOSSLESS, ids=repr)
def test_any_text_comes_back_as_it_was(config):
    tokenizer = trained(config)
    for text in ["", *HARD_TEXTS, *TEXTS, *random_texts(400)]:
        ids = ids_of(tokenizer, text)
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert not {0, 1, 2} & set(ids), "a special token in a text is text"
    assert is_lossless(tokenizer)


@pytest.mark.parametrize("config", LOSSLESS, ids=repr)
def test_a_megabyte_without_a_space_comes_back(config):
    rng = random.Random(3)
    text = "".join(rng.choices("abcdefghij中é", k=1 << 20))
    assert back(trained(config), text) == text


@pytest.mark.parametrize("config", LOSSLESS, ids=repr)
def test_padding_unknown_and_end_of_text_have_the_ids_0_1_and_2(config):
    tokenizer = trained(config)
    assert special_ids(tokenizer) == (0, 1)
    assert eos_id(tokenizer) == 2
    assert tokenizer.decode([*ids_of(tokenizer, "bad"), 2]) == "bad", "an end is no text"


def test_a_character_is_a_token_where_train_has_it_often_enough():
    tokenizer = trained(CharacterTokenizer(min_frequency=8))
    encoded = tokenizer.encode("bé", add_special_tokens=False)
    assert encoded.tokens == ["b", "<0xC3>", "<0xA9>"]
    characters = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)[3 + 256 :]
    counts = {one: "".join(TEXTS).count(one) for one in set("".join(TEXTS))}
    assert characters == sorted(one for one, times in counts.items() if times >= 8)


def test_bytes_are_numbered_by_themselves_whatever_the_texts():
    tokenizer = trained(ByteTokenizer(), [])
    assert ids_of(tokenizer, "é\0") == [3 + 0xC3, 3 + 0xA9, 3]
    assert tokenizer.get_vocab_size() == 3 + 256


def test_the_vocabulary_is_the_same_in_every_process():
    program = (
        "from tests.tasks.test_lossless_tokenizers import LOSSLESS, trained\n"
        "import hashlib\n"
        "for one in LOSSLESS: print(hashlib.sha256(trained(one).to_str().encode()).hexdigest())"
    )
    found = {
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1


@pytest.mark.parametrize("config", [WordTokenizer(), BpeTokenizer(), WordPieceTokenizer()])
def test_the_tokenizers_of_classifiers_fold_texts_and_say_so(config):
    assert config.lossless is False
    assert not is_lossless(trained(config))
    assert eos_id(trained(config)) is None


@pytest.mark.parametrize("lowercase", [True, False])
def test_lower_case_beside_lossless_is_refused(lowercase):
    with pytest.raises(ValidationError, match="lowercase has no effect beside it"):
        BpeTokenizer(lossless=True, lowercase=lowercase)


@pytest.mark.parametrize("field", ["vocab_size", "min_frequency", "lowercase"])
def test_bytes_have_nothing_to_choose(field):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ByteTokenizer.model_validate({field: 1})


# --- a given tokenizer.json -----------------------------------------------------------------------


def saved(tokenizer: Tokenizer, folder) -> FileTokenizer:
    path = folder / "tokenizer.json"
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    return FileTokenizer(path=str(path))


def byte_level(special: list[str]) -> Tokenizer:
    """What GPT-2's is, with fewer merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate([*alphabet, "th"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer


def test_a_given_byte_level_tokenizer_ends_texts_by_its_own_token(tmp_path):
    given = saved(byte_level(["<|endoftext|>"]), tmp_path)
    tokenizer = load_given(given, WindowConfig(), lossless=True)
    assert eos_id(tokenizer) == 257
    assert 257 not in ids_of(tokenizer, "the <|endoftext|> of a page on tokenizers")


def test_a_given_tokenizer_that_folds_texts_is_refused(tmp_path):
    tokenizer = byte_level(["<|endoftext|>"])
    tokenizer.normalizer = normalizers.NFC()
    given = saved(tokenizer, tmp_path)
    load_given(given, WindowConfig())
    with pytest.raises(RecipeError, match=r"tokenizer\.json: it changes texts") as fault:
        load_given(given, WindowConfig(), lossless=True)
    assert "tokenizer.kind character, byte" in fault.value.remedy


def test_a_given_tokenizer_without_an_end_of_text_is_refused(tmp_path):
    given = saved(byte_level([]), tmp_path)
    with pytest.raises(RecipeError, match=r"no token that ends a text \(looked for \[EOS\], </s>"):
        load_given(given, WindowConfig(), lossless=True)
