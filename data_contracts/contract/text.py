"""When two texts count as the same one, which split a text belongs to, and where scripts without
spaces are cut.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from hashlib import blake2b

from data_contracts.contract.sections import SPLIT_SALT, Split, SplitShares

# How sources write the splits, in any case.
SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip

# Scripts that put no spaces between words (UAX 14 calls them ideographic, aksara and
# complex-context), and the units that stand in a word's place there. The patterns are read by
# `regex` and by the Oniguruma of `tokenizers` alike.
_BY_CHARACTER = r"\p{Han}\p{Hiragana}\p{Katakana}"
_BY_CLUSTER = (
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}\p{Ahom}\p{Balinese}"
    r"\p{Javanese}\p{Buginese}\p{Batak}\p{Rejang}\p{Makasar}\p{Yi}\p{Bopomofo}\p{Tangut}\p{Nushu}"
)
UNSPACED_SCRIPTS = rf"{_BY_CHARACTER}{_BY_CLUSTER}\p{{Tibetan}}"  # to stand within [ ]
# What follows a letter within its cluster: a letter that the sign before it puts underneath (Khmer
# coeng, Myanmar and Tai Tham, Balinese and Javanese have one each), marks, and the vowels that Thai
# and Lao write as letters.
_FOLLOWING = (
    r"[\u17d2\u1039\u1a60\u1b44\ua9c0]\p{L}|\p{M}|[\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3]"
)
# One orthographic cluster (a vowel that is written before its consonant belongs to that one), or a
# Tibetan syllable: what stands between two tshegs.
CLUSTERS = (
    rf"\p{{Logical_Order_Exception}}?(?=\p{{L}})[{_BY_CLUSTER}](?:{_FOLLOWING})*"
    r"|(?:(?=[\p{L}\p{M}])\p{Tibetan})+"
)
UNSPACED = rf"(?:[{_BY_CHARACTER}]|{CLUSTERS})"


def normalise(text: str) -> str:
    """NFKC, casefold, white space collapsed and stripped: what is left when only the writing
    differs.
    """
    if text.isascii():  # NFKC leaves it, and to casefold it is to lower it
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_hash(text: str) -> int:
    """64-bit BLAKE2b of the normalised text. Among 5 million texts two collide with a chance below
    one in a million.
    """
    return int.from_bytes(blake2b(normalise(text).encode(), digest_size=8).digest(), "little")


def hash64(text: str) -> int:
    """64-bit BLAKE2b of the text as it is."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def draw_split(
    text: str, shares: SplitShares, drawn: Collection[Split] = ("valid", "test")
) -> Split:
    """The split of a text, the same in every run and on every machine.

    A text's place u in [0, 1) is a hash of it and a salt that never changes. Test takes the places
    from 0 upward, valid those from 1 downward, train what is between: a share that grows takes rows
    from train alone, so no row ever passes between valid and test. A split that is not in `drawn`
    (the source gives it) takes nothing.
    """
    digest = blake2b((SPLIT_SALT + normalise(text)).encode(), digest_size=8).digest()
    u = int.from_bytes(digest, "little") / 2**64
    if "test" in drawn and u < shares.test:
        return "test"
    if "valid" in drawn and u >= 1 - shares.valid:
        return "valid"
    return "train"
