"""Made-up texts are made of the train texts' words, in any script, and are the same whenever they
are asked for.
"""

from __future__ import annotations

import pytest

from data_contracts.sample.variants import Variants, words

TEXTS = [
    "How far is it from Denver to Aspen ?",
    "这家酒店很好，服务也不错",
    "房间 iPhone 很好 very good",
    "ひらがなとカタカナ",
    "one",
    "ร้านนี้ อร่อยมาก iPhoneดี ๑๐๐",
    "བཀྲ་ཤིས་བདེ་ལེགས།",
]


@pytest.mark.parametrize("text", TEXTS)
def test_words_joined_are_the_text_again(text: str) -> None:
    assert "".join(words(text)) == text


def test_a_script_without_spaces_is_cut_by_character() -> None:
    assert words("很好 very good！") == ["很", "好 ", "very ", "good！"]


def test_other_scripts_without_spaces_are_cut_by_cluster_or_syllable() -> None:
    assert words("น้ำซุป good") == ["น้ำ", "ซุ", "ป ", "good"]
    assert words("བཀྲ་ཤིས།") == ["བཀྲ་", "ཤིས", "།"]
    thai = Variants(["ร้านนี้อร่อยมาก", "พนักงานบริการดี"], 0)
    assert not any(" " in text for number in range(2) for text in thai.of(number, 100))


def test_variants_are_made_of_words_of_the_train_texts() -> None:
    def bare(word: str) -> str:
        return word.strip().removesuffix("་")

    known = {bare(word) for text in TEXTS for word in words(text)}
    variants = Variants(TEXTS, seed=0)
    for number in range(len(TEXTS)):
        made = variants.of(number, 200)
        assert len(made) == 200 and all(made), "none is empty"
        assert {bare(word) for text in made for word in words(text)} <= known
        assert len(set(made)) > (1 if number == 4 else 50)


def test_chinese_stays_without_spaces_and_english_with_them() -> None:
    chinese, english = (
        ["我们喜欢这个地方", "天气今天不错"],
        ["the room is clean", "we liked the place"],
    )
    assert not any(
        " " in text for number in range(2) for text in Variants(chinese, 0).of(number, 100)
    )
    known = {word for text in english for word in text.split()}
    made = [text for number in range(2) for text in Variants(english, 0).of(number, 100)]
    assert {word for text in made for word in text.split()} == known


def test_the_same_seed_gives_the_same_texts_in_whatever_order_they_are_asked_for() -> None:
    one, other = Variants(TEXTS, 3), Variants(TEXTS, 3)
    backwards = [other.of(number, 5) for number in reversed(range(len(TEXTS)))]
    assert [one.of(number, 5) for number in range(len(TEXTS))] == backwards[::-1]
    assert Variants(TEXTS, 4).of(0, 5) != one.of(0, 5)
