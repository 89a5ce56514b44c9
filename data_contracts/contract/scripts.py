"""Which script a text is written in, by Unicode's own names: Latin, Han, Cyrillic, …"""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache

COMMON = "Common"  # Unicode's word for what belongs to no script, or to all
LOOKED_AT = 200  # characters of a text

# Python knows the names of characters and not their scripts. A name begins with that of the script,
# but for those in _OTHERWISE.
SCRIPTS = frozenset(
    (
        "Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak "
        "Bengali Bhaiksuki Bopomofo Brahmi Buginese Buhid Canadian_Aboriginal Carian "
        "Caucasian_Albanian Chakma Cham Cherokee Chorasmian Coptic Cuneiform Cypriot Cypro_Minoan "
        "Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan "
        "Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi "
        "Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic "
        "Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kayah_Li "
        "Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A "
        "Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen "
        "Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Miao Modi Mongolian "
        "Mro Multani Myanmar Nabataean Nandinagari New_Tai_Lue Newa Nko Nushu "
        "Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian "
        "Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage "
        "Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang "
        "Runic Samaritan Saurashtra Sharada Shavian Siddham Signwriting Sinhala Sogdian "
        "Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham "
        "Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto "
        "Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square"
    ).split()
)
_OTHERWISE = {
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "HENTAIGANA": "Hiragana",
    "CANADIAN": "Canadian_Aboriginal",
    "EGYPTIAN": "Egyptian_Hieroglyphs",
    "ANATOLIAN": "Anatolian_Hieroglyphs",
}
_WIDTHS = ("FULLWIDTH ", "HALFWIDTH ")
# A character of these says about what three letters of an alphabet do, and counts as much: a
# Chinese sentence with the name of a telephone in it stays Chinese.
_DENSE = frozenset(("Han", "Hiragana", "Katakana", "Hangul", "Bopomofo"))
_TIMES = 3
# Japanese and Korean are written in several at once.
_TOGETHER = {
    "Hiragana": ("Katakana", "Han"),
    "Katakana": ("Hiragana", "Han"),
    "Hangul": ("Han",),
    "Bopomofo": ("Han",),
}


def script_of(text: str) -> str:
    """The script of most letters among the first `LOOKED_AT` characters; `COMMON` where there is no
    letter.
    """
    letters: Counter[str] = Counter()
    for character, times in Counter(text[:LOOKED_AT]).items():
        if (script := _script(character)) != COMMON:
            letters[script] += times * (_TIMES if script in _DENSE else 1)
    return max(letters, key=lambda script: (letters[script], script), default=COMMON)


def written_with(script: str) -> tuple[str, ...]:
    """Every script that a text may be mostly in that is written in this one; one without letters
    has none of its own.
    """
    return (script, *_TOGETHER.get(script, ()), COMMON)


@cache
def _script(character: str) -> str:
    if not character.isalpha():
        return COMMON
    name = unicodedata.name(character, "")
    for width in _WIDTHS:
        name = name.removeprefix(width)
    words = name.replace("-", " ").split()
    for count in (3, 2, 1):
        script = "_".join(word.capitalize() for word in words[:count])
        if script in SCRIPTS:
            return script
    return _OTHERWISE.get(words[0], COMMON) if words else COMMON
