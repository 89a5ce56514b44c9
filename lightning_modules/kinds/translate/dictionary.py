"""A dictionary that translates word by word: the floor that every translator stands beside.

Counted from the pairs of the train split by five rounds of EM: IBM Model 1 (Brown 1993) with the
place of a word in its text as fast_align weighs it (Dyer 2013),

    p(t_i comes from s_j) ~ p(t_i | s_j) exp(-4 |i / I - j / J|),   or from no word with p = .08.

It says the likeliest target word of each source word, in the source's order, and copies what it has
never seen. How words are written (their case, what stands between two of them) is counted too.
Nothing of it reaches a model: it tells what of a score is words alone.

Shapes: P pairs, A target words with each word that they may come from, U different such two.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from data_contracts.tables.take import evenly
from lightning_modules.kinds.translate.scores import UNSPACED
from lightning_modules.kinds.translate.scoring import pairs_of
from lightning_modules.network.tokenizer import load_lossless

ROUNDS = 5
_TENSION, _NO_WORD = 4.0, 0.08
_MOST = 8_000_000  # A: about eight seconds and half a gigabyte
_SPACED = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
_UNSPACED = re.compile(r"[A-Za-z0-9]+(?:[-'.][A-Za-z0-9]+)*|\S")


class Side(NamedTuple):
    """The words of one side of all pairs, as numbers from 1."""

    known: dict[str, int]
    flat: np.ndarray
    lengths: np.ndarray  # (P,)

    @classmethod
    def of(cls, texts: Sequence[str], words: re.Pattern[str]) -> Side:
        known: dict[str, int] = {}
        flat: list[int] = []
        lengths = []
        for text in texts:
            ids = [known.setdefault(one.lower(), len(known) + 1) for one in words.findall(text)]
            flat += ids
            lengths.append(len(ids))
        return cls(known, np.array(flat, np.int64), np.array(lengths, np.int64))


@dataclass(frozen=True)
class Written:
    """How words of a language are written, by what was commonest."""

    form: dict[str, str]  # of a word in small letters
    to_left: frozenset[str]  # signs before which there is no space (a full stop)
    to_right: frozenset[str]  # and such after which there is none
    capital: bool  # a text begins with a capital letter
    spaced: bool  # there is a space between two words

    @classmethod
    def of(cls, texts: Sequence[str], words: re.Pattern[str]) -> Written:
        forms: dict[str, Counter[str]] = defaultdict(Counter)
        left, right = Counter[str](), Counter[str]()
        capitals = 0
        for text in texts:
            found = list(words.finditer(text))
            capitals += bool(found) and found[0][0][:1].isupper()
            for before, one in zip([None, *found], found, strict=False):
                # A capital of the first word says nothing of it.
                forms[one[0].lower()][one[0]] += before is not None
                if before is not None:
                    touch = 1 if before.end() == one.start() else -1
                    left[one[0]] += touch
                    right[before[0]] += touch
        return cls(
            {word: seen.most_common(1)[0][0] for word, seen in forms.items()},
            frozenset(sign for sign, times in left.items() if times > 0 and _is_sign(sign)),
            frozenset(sign for sign, times in right.items() if times > 0 and _is_sign(sign)),
            2 * capitals > len(texts),
            words is _SPACED,
        )

    def joined(self, words: Sequence[str]) -> str:
        text = ""
        for before, word in zip(["", *words], words, strict=False):
            text += word if not text or self._touch(before, word) else f" {word}"
        return text[:1].upper() + text[1:] if self.capital else text

    def _touch(self, before: str, word: str) -> bool:
        if self.spaced:
            unseen = word not in self.form and _is_sign(word)  # most stand after a word
            return unseen or word in self.to_left or before in self.to_right
        return not (before.isascii() and word.isascii() and before.isalnum() and word.isalnum())


def _is_sign(word: str) -> bool:
    return not any(one.isalnum() for one in word)


@dataclass(frozen=True)
class Dictionary:
    """What each source word is translated to, where it has been seen."""

    words: re.Pattern[str]  # of the source
    target_of: dict[str, str]
    written: Written

    @classmethod
    def counted(
        cls, sources: Sequence[str], targets: Sequence[str], source_script: str, target_script: str
    ) -> Dictionary:
        """Count pairs; of many, some that are spread evenly."""
        one, other = _words_of(source_script), _words_of(target_script)
        source, target = Side.of(sources, one), Side.of(targets, other)
        written = Written.of(targets, other)
        names = ["", *target.known]
        best = _likeliest(source, target)
        found = {
            word: written.form[names[best[number]]]
            for word, number in source.known.items()
            if best[number]
        }
        return cls(one, found, written)

    @classmethod
    def of_tokens(cls, tokens: Path, source_script: str, target_script: str) -> Dictionary:
        """That of the train split of a folder of token tables."""
        sources, targets = texts_of(tokens / "train.parquet", tokens / "tokenizer.json")
        return cls.counted(sources, targets, source_script, target_script)

    def translate(self, texts: Sequence[str]) -> list[str]:
        return [
            self.written.joined(
                [self.target_of.get(one[0].lower(), one[0]) for one in self.words.finditer(text)]
            )
            for text in texts
        ]


def texts_of(table: Path, tokenizer: Path) -> tuple[list[str], list[str]]:
    """The texts of both sides of a token table, in its order."""
    rows = pq.read_table(table, columns=["input_ids", "context"])
    reader = load_lossless(tokenizer.read_bytes())
    sources, targets = [], []
    for source, target in pairs_of(rows):
        sources.append(reader.decode(source[:-1].tolist(), skip_special_tokens=False))
        targets.append(reader.decode(target[:-1].tolist(), skip_special_tokens=False))
    return sources, targets


def _words_of(script: str) -> re.Pattern[str]:
    return _UNSPACED if script in UNSPACED else _SPACED


def _likeliest(source: Side, target: Side) -> np.ndarray:
    """The target word of each source word, 0 where none was counted."""
    best = np.zeros(len(source.known) + 1, np.int64)
    given, said, of, weight = _alignments(source, target)
    if not len(given):
        return best
    width = len(target.known) + 1
    entries, place = np.unique(given * width + said, return_inverse=True)
    p = np.ones(len(entries))
    for _ in range(ROUNDS):
        share = p[place] * weight
        share /= np.bincount(of, share)[of]
        counts = np.bincount(place, share, len(entries))
        p = counts / np.bincount(entries // width, counts)[entries // width]
    # The last one that is written is the likeliest; of equals, the word that was seen first.
    order = np.lexsort((-(entries % width), p))
    best[entries[order] // width] = entries[order] % width
    best[0] = 0  # of no word
    return best


def _alignments(source: Side, target: Side) -> tuple[np.ndarray, ...]:
    """(A,) each: a source word or 0 for none, a target word of its pair, the number of that word
    in the text of all, and how near the two stand.
    """
    size = (source.lengths + 1) * target.lengths
    pairs = evenly(len(size), len(size) if size.sum() <= _MOST else _fitting(size))
    first = (np.cumsum(source.lengths) - source.lengths)[pairs]
    start = (np.cumsum(target.lengths) - target.lengths)[pairs]
    I, J = target.lengths[pairs], source.lengths[pairs]  # noqa: E741 - as the papers have them
    pair = np.repeat(np.arange(len(pairs)), I)
    i = _counting(I)
    of = np.repeat(np.arange(len(pair)), (J + 1)[pair])
    j = _counting((J + 1)[pair])
    words = J[pair][of]
    at = np.minimum(first[pair][of] + j - 1, max(0, len(source.flat) - 1))
    given = np.where(j > 0, source.flat[at], 0) if len(source.flat) else np.zeros_like(j)
    far = np.abs((j - 0.5) / np.maximum(words, 1) - ((i + 0.5) / I[pair])[of])
    near = np.where(j > 0, np.exp(-_TENSION * far), 0.0)
    near *= (1 - _NO_WORD) / np.maximum(np.bincount(of, near), 1e-9)[of]
    return given, target.flat[start[pair] + i][of], of, np.where(j > 0, near, _NO_WORD)


def _fitting(size: np.ndarray) -> int:
    """How many pairs, at most, are not too many to be counted at once."""
    return max(1, int(len(size) * _MOST / size.sum()))


def _counting(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … of each run, one run after the other."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
