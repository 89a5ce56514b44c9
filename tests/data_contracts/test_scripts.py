"""The script of a text, by Unicode's names."""

from __future__ import annotations

import unicodedata

import pytest
import regex

from data_contracts.contract.scripts import COMMON, SCRIPTS, script_of, written_with


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Where is my parcel?", "Latin"),
        ("ＡＢＣ", "Latin"),
        ("我的包裹在哪里？", "Han"),
        ("我的 iPhone 坏了", "Han"),
        ("the sign 店 says shop", "Latin"),
        ("東京タワーに行きます", "Hiragana"),
        ("소포가 어디에 있나요?", "Hangul"),
        ("Где моя посылка?", "Cyrillic"),
        ("Πού είναι;", "Greek"),
        ("أين طردي؟", "Arabic"),
        ("मेरा पार्सल कहाँ है", "Devanagari"),
        ("พัสดุของฉันอยู่ที่ไหน", "Thai"),
        ("12:30, 50 %!", COMMON),
        ("", COMMON),
    ],
)
def test_the_script_of_most_letters_is_told(text: str, script: str) -> None:
    assert script_of(text) == script


def test_letters_have_the_script_that_unicode_says() -> None:
    """Of those that Python knows by name, but for marks that stand above or behind a letter."""
    named = [chr(code) for code in range(0x3000) if unicodedata.name(chr(code), "")]
    letters = [one for one in named if one.isalpha()]
    told = {one: script_of(one) for one in letters}
    for script in sorted(set(told.values()) - {COMMON}):
        of_it = regex.compile(rf"\p{{Script={script}}}")
        wrong = [one for one in letters if told[one] == script and not of_it.match(one)]
        assert len(wrong) <= 1, (script, wrong)
    assert sum(script == COMMON for script in told.values()) < 0.05 * len(letters)


def test_japanese_is_written_in_several_scripts_and_a_number_in_any() -> None:
    assert {"Hiragana", "Katakana", "Han", COMMON} == set(written_with("Hiragana"))
    assert written_with("Latin") == ("Latin", COMMON)
    assert {"Latin", "Han", "Cyrillic", "Hangul"} < SCRIPTS
