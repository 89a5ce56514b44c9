"""How a document becomes windows of token ids: a longer one than a window holds is never cut off.

This file is shipped inside the registered model: it imports numpy, tokenizers and, of this
repository, what ships with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lightning_modules.network.batching import cut as cut_by_size
from lightning_modules.network.words import ids_of

# A token and what the tokenizer notes about it take some 200 bytes, a token id in a list 36.
ENCODE_CHARACTERS = 1 << 19


@dataclass(frozen=True)
class Windowing:
    """Windows [prefix ids suffix] of at most `max_length` ids, neighbours of which share at least
    `overlap` ids.

    `prefix_ids` and `suffix_ids` are the special tokens round each window; they count towards
    `max_length`.
    """

    max_length: int
    overlap: int
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    unknown_id: int = 1

    @classmethod
    def of(cls, given: Any) -> Windowing:
        """The same from whatever has these five fields, such as a manifest's `windowing`."""
        return cls(
            given.max_length,
            given.overlap,
            tuple(given.prefix_ids),
            tuple(given.suffix_ids),
            given.unknown_id,
        )

    @property
    def room(self) -> int:
        """Ids of a document that one window holds."""
        return self.max_length - len(self.prefix_ids) - len(self.suffix_ids)

    def cut(self, ids: Sequence[int]) -> list[list[int]]:
        """The windows of one document, none of whose ids is lost.

        The last window ends where the document ends and is as long as the others, so it may share
        more. An empty document is one window of prefix and suffix, or, where there are none, of the
        unknown token.
        """
        if not len(ids):
            return [[*self.prefix_ids, *self.suffix_ids] or [self.unknown_id]]
        last = max(len(ids) - self.room, 0)
        starts = [*range(0, last, self.room - self.overlap), last]
        return [
            [*self.prefix_ids, *ids[start : start + self.room], *self.suffix_ids]
            for start in starts
        ]

    def encode(
        self, tokenizer: Tokenizer, texts: Sequence[str]
    ) -> tuple[list[list[int]], np.ndarray]:
        """Windows of token ids, and for each window the index of its text.

        Raises:
            BundleError: the tokenizer fails at one of the texts.
        """
        windows: list[list[int]] = []
        document: list[int] = []
        for some in cut_by_size([len(text) for text in texts], ENCODE_CHARACTERS):
            for index, ids in enumerate(ids_of(tokenizer, texts[some]), some.start):
                parts = self.cut(ids)
                windows += parts
                document += [index] * len(parts)
        return windows, np.asarray(document, dtype=np.int64)


def encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, whole, in parts of bounded size.

    Raises:
        BundleError: the tokenizer fails at one of the texts.
    """
    found: list[list[int]] = []
    for some in cut_by_size([len(text) for text in texts], ENCODE_CHARACTERS):
        found += ids_of(tokenizer, texts[some])
    return found
