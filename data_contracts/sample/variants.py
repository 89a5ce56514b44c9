"""Further texts to ask a teacher about, made of the train texts: pure functions of (texts, seed).

After Tang et al. 2019 (https://arxiv.org/abs/1903.12136), who distil BERT into a BiLSTM on such
texts, with a splice of two texts in place of their rules by part of speech. A made-up text needs no
sense: what is learnt from it is what the teacher says of its words.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import regex as re

from data_contracts.contract.text import UNSPACED, UNSPACED_SCRIPTS

# A word is what stands between spaces, or one unit of a script that writes without them; a tsheg
# stays at its syllable. The sign for a long vowel, and the dot between names, belong to kana and to
# no script.
_OF_KANA = r"\u30fb\u30fc"
_UNIT = re.compile(rf"{UNSPACED}|[{_OF_KANA}]")
_WORD = re.compile(rf"[^\s{UNSPACED_SCRIPTS}{_OF_KANA}]+\s*|{UNSPACED}[\u0f0b\u0f0c]?\s*|\S\s*")
_SYLLABLE = re.compile(r"(?:(?=[\p{L}\p{M}])\p{Tibetan})+")
REPLACED = 0.25  # chance of a word to give way to another one of the train texts
_MOST_WORDS = 200_000  # to draw from


def words(text: str) -> list[str]:
    """The words of a text, each with the white space that follows it: joined they are the text
    again.
    """
    return _WORD.findall(text)


class Variants:
    """Draws variants of a text: words replaced (a half), its head before another's tail, a span of
    it (a quarter each).

    Args:
        texts: the train texts, which words and tails are taken from.
    """

    def __init__(self, texts: Sequence[str], seed: int) -> None:
        self.texts, self.seed = texts, seed
        self.pool: list[str] = []
        order = list(range(len(texts)))
        random.Random(f"{seed} pool").shuffle(order)
        for index in order:
            if len(self.pool) >= _MOST_WORDS:
                break
            self.pool += words(texts[index])

    def of(self, number: int, count: int) -> list[str]:
        """`count` variants of text `number`; the same ones whenever they are asked for."""
        draw, own = random.Random(f"{self.seed} {number}"), words(self.texts[number])
        return [self._variant(own, draw) for _ in range(count)]

    def _variant(self, own: list[str], draw: random.Random) -> str:
        kind = draw.random()
        if kind < 0.5 or not own:
            parts = [draw.choice(self.pool) if draw.random() < REPLACED else word for word in own]
        elif kind < 0.75:
            other = words(draw.choice(self.texts))
            parts = own[: draw.randint(1, len(own))] + other[draw.randint(0, len(other)) :]
        else:
            first = draw.randrange(len(own))
            parts = own[first : draw.randint(first + 1, len(own))]
        return _joined(parts)


def _joined(parts: Sequence[str]) -> str:
    """The last word of a text has no space or tsheg behind it, and needs one where it comes to
    stand within another.
    """
    whole = [part + "\u0f0b" if _SYLLABLE.fullmatch(part) else part for part in parts[:-1]] + list(
        parts[-1:]
    )
    return "".join(
        part if part[-1].isspace() or _UNIT.match(part) else part + " " for part in whole
    ).strip()
