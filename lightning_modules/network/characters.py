"""Characters as people see them, of one code point or of several.

This file is shipped inside the registered model: it imports nothing of this repository.
"""

from __future__ import annotations

import unicodedata

_JOINER = "\u200d"
_VARIATIONS = range(0xFE00, 0xFE10)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
# Vowels and ends of syllables of Hangul that is written letter by letter.
_WITHIN_SYLLABLES = range(0x1160, 0x1200)


def goes_on(text: str, place: int) -> bool:
    """Whether the code point at a place belongs to the one before it: marks, joiners, variants,
    letters within a syllable.
    """
    one = text[place]
    if unicodedata.combining(one) or unicodedata.category(one) in ("Mn", "Me", "Mc"):
        return True
    if one == _JOINER or text[place - 1 : place] == _JOINER:
        return True
    return any(ord(one) in some for some in (_VARIATIONS, _SKIN_TONES, _WITHIN_SYLLABLES))
