"""Which two columns of a table are a text and its translation, by what they are called: source and
target, or two languages.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_contracts.contract.columns import INDEX, NOT_TEXT, SeenColumn

Pair = tuple[SeenColumn, SeenColumn]

# What the two columns are called, the plainest first.
PAIRS = (
    ("source", "target"),
    ("src", "tgt"),
    ("src", "trg"),
    ("source_text", "target_text"),
    ("source_sentence", "target_sentence"),
    ("src_text", "tgt_text"),
    ("source", "translation"),
    ("original", "translation"),
    ("text", "translation"),
    ("sentence", "translation"),
    ("原文", "译文"),
    ("源文", "译文"),
    ("原文", "翻译"),
)
NESTED = "translation"  # Hugging Face's column of objects, one text for each language
# ISO 639-1, and the codes of three letters that data sets of pairs use.
_CODES = frozenset(
    (
        "af am ar as az be bg bn bo br bs ca cs cy da de dv dz el en eo es et eu fa fi fo fr fy ga "
        "gd gl gu ha he hi hr ht hu hy id ig is it ja jv ka kk km kn ko ku ky lb lo lt lv mg mi mk "
        "ml mn mr ms mt my nb ne nl nn no oc or pa pl ps pt qu ro ru rw sa sd se si sk sl sn so sq "
        "sr st su sv sw ta te tg th ti tk tl tn tr tt ug uk ur uz vi wo xh yi yo zh zu "
        "eng deu ger fra fre spa ita por nld dut rus ukr pol ces cze zho chi cmn yue jpn kor ara "
        "arb heb hin ben tur vie tha ind swe dan nor nob fin est lav lit hun ron rum bul ell gre "
        "srp hrv slk slo slv cat"
    ).split()
)
_NAMES = frozenset(
    (
        "english german french spanish italian portuguese dutch russian ukrainian polish czech "
        "chinese mandarin cantonese japanese korean arabic hebrew hindi bengali turkish vietnamese "
        "thai indonesian swedish danish norwegian finnish estonian latvian lithuanian hungarian "
        "romanian bulgarian greek serbian croatian slovak slovenian catalan latin persian urdu "
        "deutsch englisch französisch spanisch italienisch russisch chinesisch anglais français "
        "allemand espagnol inglés español alemán francés italiano português русский английский "
        "немецкий"
    ).split()
)
_CHINESE = (
    "中文 汉语 英文 英语 德文 德语 法文 法语 日文 日语 韩文 韩语 俄文 俄语 西班牙语 西班牙文 "
    "阿拉伯语 意大利语 葡萄牙语 越南语 泰语"
).split()
_BESIDE = ("text", "sentence", "sentences", "sent", "translation", "lang")


def pair_by_name(columns: Sequence[SeenColumn]) -> Pair | None:
    """Two columns of texts that are called source and target, or as such columns are."""
    by_name = {"_".join(one.name.casefold().split()): one for one in columns if one.filled}
    for source, target in PAIRS:
        if source in by_name and target in by_name:
            pair = by_name[source], by_name[target]
            if _is_pair(pair):
                return pair
    return None


def by_language(columns: Sequence[SeenColumn]) -> list[SeenColumn]:
    """The columns of texts that are called after a language each."""
    named = [one for one in columns if one.filled and language(one.name) is not None]
    texts = [one for one in named if is_prose(one) and _varied(one)]
    return texts if len({language(one.name) for one in texts}) == len(texts) else []


def pair_by_language(columns: Sequence[SeenColumn]) -> Pair | None:
    """The two columns that are called after a language, where there are two."""
    found = by_language(columns)
    if len(found) != 2:
        return None
    pair = found[0], found[1]
    return pair if _is_pair(pair) else None


def language(name: str) -> str | None:
    """The language that a column is called after: `de`, `zh-CN`, `text_en`, `eng_Latn`, `German`,
    `中文`; None where it is called something else.
    """
    folded = name.strip().casefold()
    for one in _CHINESE:
        if one in folded and len(folded) <= len(one) + 2:
            return one
    first, *rest = [word for word in SeenColumn(name, ()).words if word not in _BESIDE] or [""]
    if first in _NAMES and not rest:
        return first
    # Behind a code may stand a region or a script.
    whole = first in _CODES and len(rest) <= 1 and all(2 <= len(one) <= 4 for one in rest)
    return "-".join((first, *rest)) if whole else None


def is_prose(column: SeenColumn) -> bool:
    return column.kind not in NOT_TEXT and not INDEX.fullmatch(column.name)


def _varied(column: SeenColumn) -> bool:
    """Whether its cells hardly come again, as those of a category would."""
    return 2 * len(column.counts) > column.filled


def _is_pair(pair: Pair) -> bool:
    """Whether both are texts, and a row that has one has the other."""
    if not all(is_prose(one) and _varied(one) for one in pair):
        return False
    if not any(one.of_words for one in pair):
        return False
    rows = list(zip(*(one.cells for one in pair), strict=True))
    both = sum(bool(one) and bool(other) for one, other in rows)
    either = sum(bool(one) or bool(other) for one, other in rows)
    return 10 * both >= 9 * either
