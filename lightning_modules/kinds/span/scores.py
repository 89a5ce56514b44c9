"""Exact match and F1 of an answer, as the official programs count them.

A text of a script with spaces is counted as SQuAD 1.1 does (Rajpurkar 2016,
https://arxiv.org/abs/1606.05250): lower case, without punctuation and articles; F1 of the words
that both have. One of a script without spaces as CMRC 2018 does (Cui 2019,
https://arxiv.org/abs/1810.07366): without its list of punctuation, a character of that script or a
run of others by itself; F1 of the longest run of these that both have. An answer where there is
none, or the other way round, has 0 of both, and two that are empty have 1.

Shapes: N questions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from data_contracts.contract.scripts import script_of

COUNTS = 2  # exact match and F1
UNSPACED = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_MARKS = str.maketrans("", "", string.punctuation)
# Those that CMRC's program takes out; it leaves others, such as the ASCII comma, as they are.
_CMRC_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_CMRC_DOTS = "……"
_WORD = re.compile(r"\w+|[^\w\s]")


class Scores:
    """Of answers in a script."""

    def __init__(self, script: str) -> None:
        self.unspaced = script in UNSPACED

    @property
    def official(self) -> str:
        """Whose counting it is."""
        return "CMRC 2018" if self.unspaced else "SQuAD 1.1"

    def of(self, said: str, right: str) -> tuple[float, float]:
        """Exact match and F1 of one."""
        one, other = self.parts(said), self.parts(right)
        if not one or not other:
            same = float(one == other)
            return same, same
        exact = float(self.normal(said) == self.normal(right))
        shared = _longest_run(one, other) if self.unspaced else _in_both(one, other)
        return exact, 2 * shared / (len(one) + len(other))

    def normal(self, text: str) -> str:
        """What exact match compares."""
        text = text.lower()
        if self.unspaced:
            return "".join(one for one in text.strip().replace(_CMRC_DOTS, "") if _kept(one))
        return " ".join(_ARTICLES.sub(" ", text.translate(_ASCII_MARKS)).split())

    def parts(self, text: str) -> list[str]:
        """What F1 counts: words, or characters of a script without spaces."""
        if not self.unspaced:
            return self.normal(text).split()
        found: list[str] = []
        run = ""
        for one in text.lower().strip().replace(_CMRC_DOTS, ""):
            if not _kept(one):
                continue
            if one.isascii() or script_of(one) not in UNSPACED:
                run += one
                continue
            found += [*_WORD.findall(run), one]
            run = ""
        return [*found, *_WORD.findall(run)]


def counts(
    said: Sequence[str | None],
    right: Sequence[Sequence[str | None]],
    contexts: Sequence[str],
) -> np.ndarray:
    """(N, COUNTS) of answers, each beside that of the right ones which is best for it, counted as
    the script of its context asks; None or "": there is none.
    """
    rows = [
        np.max([scores_of(context).of(one or "", text or "") for text in texts], axis=0)
        for one, texts, context in zip(said, right, contexts, strict=True)
    ]
    return np.array(rows, np.float64).reshape(len(rows), COUNTS)


def officials(contexts: Sequence[str]) -> str:
    """Whose counting these texts ask for, in words."""
    return " and ".join(sorted({scores_of(context).official for context in contexts}))


def scores_of(context: str) -> Scores:
    """As the script of a context asks."""
    return _SCORES[script_of(context) in UNSPACED]


_SCORES = {True: Scores("Han"), False: Scores("Latin")}


def _kept(character: str) -> bool:
    return character not in _CMRC_MARKS


def _in_both(one: list[str], other: list[str]) -> int:
    return sum((Counter(one) & Counter(other)).values())


def _longest_run(one: list[str], other: list[str]) -> int:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.find_longest_match().size
