"""When two texts count as the same one, and which split a text belongs to: pure functions of the text."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from hashlib import blake2b

from data_contracts.contract import SPLIT_SALT, Split, SplitShares

# How sources write the splits, in any case.
SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip


def normalise(text: str) -> str:
    """NFKC, casefold, white space collapsed and stripped: what is left when only the writing differs."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_hash(text: str) -> int:
    """64-bit BLAKE2b of the normalised text. Among 5 million texts two collide with a chance below one in a million."""
    return int.from_bytes(blake2b(normalise(text).encode(), digest_size=8).digest(), "little")


def draw_split(text: str, shares: SplitShares, drawn: Collection[Split] = ("valid", "test")) -> Split:
    """The split of a text, the same in every run and on every machine.

    A text's place u in [0, 1) is a hash of it and a salt that never changes. Test takes the places from 0 upward,
    valid those from 1 downward, train what is between: a share that grows takes rows from train alone, so no row ever
    passes between valid and test. A split that is not in `drawn` (the source gives it) takes nothing.
    """
    digest = blake2b((SPLIT_SALT + normalise(text)).encode(), digest_size=8).digest()
    u = int.from_bytes(digest, "little") / 2**64
    if "test" in drawn and u < shares.test:
        return "test"
    if "valid" in drawn and u >= 1 - shares.valid:
        return "valid"
    return "train"
