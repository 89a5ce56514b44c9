"""Which tokens may follow so that no character is broken: UTF-8, over tokens that are pieces of it.

Tokens of byte-level BPE, and those of byte fallback (<0xE4>), may end in the midst of a character;
what a model then writes need not go on with it, and a reader would see U+FFFD. The states are those
of a decoder of UTF-8 (RFC 3629): how many bytes of a character are still to come, and, after four
first bytes, of which range the next one has to be.

Shapes: V tokens. This file is shipped inside the registered model: it imports numpy, torch and
tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_DEAD = 255
_WHOLE = 0  # no character is begun
# After these first bytes the next one is not any of 0x80 to 0xBF: a state, its range, and what then
# is to come.
_NARROW = {
    0xE0: (4, 0xA0, 0xBF, 1),
    0xED: (5, 0x80, 0x9F, 1),
    0xF0: (6, 0x90, 0xBF, 2),
    0xF4: (7, 0x80, 0x8F, 2),
}
STATES = 8


def _step(state: int, byte: int) -> int:
    """The state after a byte; `_DEAD` where it cannot stand there."""
    if state == _WHOLE:
        if byte < 0x80:
            return _WHOLE
        if byte in _NARROW:
            return _NARROW[byte][0]
        first = ((0xC2, 0xDF, 1), (0xE1, 0xEF, 2), (0xF1, 0xF3, 3))
        return next((to_come for low, high, to_come in first if low <= byte <= high), _DEAD)
    for narrow, low, high, to_come in _NARROW.values():
        if state == narrow:
            return to_come if low <= byte <= high else _DEAD
    return state - 1 if 0x80 <= byte <= 0xBF else _DEAD


_TABLE = np.array(
    [[_step(state, byte) for byte in range(256)] for state in range(STATES)], np.uint8
)


class Spelling:
    """The state after each token, from each state.

    Args:
        tokenizer: of the network.
        size: V of the network, which may have more than the tokenizer knows.
        end: the token that ends a text, which ends no character in its midst.
    """

    def __init__(self, tokenizer: Tokenizer, size: int, end: int) -> None:
        pieces = [_bytes_of(tokenizer.id_to_token(one) or "") for one in range(size)]
        self.after = np.tile(np.arange(STATES, dtype=np.uint8)[:, None], (1, size))
        for place in range(max(map(len, pieces), default=0)):
            some = np.array([one for one in range(size) if len(pieces[one]) > place])
            byte = np.array([pieces[one][place] for one in some])
            before = self.after[:, some]
            known = np.minimum(before, STATES - 1)
            self.after[:, some] = np.where(before == _DEAD, _DEAD, _TABLE[known, byte[None, :]])
        self.after[1:, end] = _DEAD
        barred = torch.from_numpy(self.after == _DEAD)
        self.barred = torch.zeros(STATES, size).masked_fill(barred, -torch.inf)

    def of(self, states: Sequence[int]) -> Tensor:
        """(K, V) 0, or minus infinity for tokens that would break a character."""
        return self.barred[list(states)]


def _bytes_of(token: str) -> bytes:
    """What a token stands for: a byte, the bytes that byte-level BPE writes as letters, or text."""
    if (byte := _BYTE.fullmatch(token)) is not None:
        return bytes([int(byte[1], 16)])
    if all(letter in _LETTERS for letter in token):
        return bytes(_LETTERS[letter] for letter in token)
    return token.encode()


def _letters() -> dict[str, int]:
    """The letters that byte-level BPE has for bytes (Radford 2019): those that can be seen are
    themselves, the others are moved behind.
    """
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in seen]
    found = {chr(byte): byte for byte in seen}
    return found | {chr(256 + place): byte for place, byte in enumerate(moved)}


_LETTERS = _letters()
