"""Which words, and pieces of words, a text has, and what a question shares with texts by BM25.

    bm25(q, d) = sum_t idf(t) f(t, d) (k1 + 1) / (f(t, d) + k1 (1 - b + b |d| / mean |d|))
    idf(t) = log(1 + (N - n(t) + 1/2) / (n(t) + 1/2))

over the terms t of the question, each once (Robertson 1994, Okapi at TREC-3), divided by the sum of
their idf(t): from 0, nothing is shared, to k1 + 1; so a term that no text has tells that nobody has
written of it. A term is told by its
CRC-32, so that no vocabulary is stored; of 100,000 terms about one is taken for another.

Shapes: N texts, K terms, P occurrences of a term in a text.
This file is shipped inside the registered model: it imports numpy.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# Scripts that put no spaces between words: Thai and Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORDS = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_ONE_UNSPACED = re.compile(f"[{_UNSPACED}]")


def runs(text: str) -> list[str]:
    """Words, and runs of a script without spaces, in small letters."""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


def unspaced(run: str) -> bool:
    """Whether a run is of a script that puts no spaces between words."""
    return _ONE_UNSPACED.match(run) is not None


def words(text: str) -> list[str]:
    """Words in small letters; of scripts without spaces the characters."""
    found: list[str] = []
    for run in runs(text):
        found += run if unspaced(run) else [run]
    return found


def pieces(text: str, size: int) -> list[str]:
    """All strings of `size` letters within a word, its ends marked by spaces; of scripts without
    spaces all pairs of characters that stand together.
    """
    found: list[str] = []
    for run in runs(text):
        whole, length = (run, 2) if unspaced(run) else (f" {run} ", size)
        found += [whole[at : at + length] for at in range(max(1, len(whole) - length + 1))]
    return found


def term_keys(terms: Iterable[str]) -> np.ndarray:
    """(K,) uint32 of each."""
    return np.fromiter((zlib.crc32(one.encode()) for one in terms), np.uint32)


class Postings(NamedTuple):
    """Which texts have a term, and what it adds to their score: rows of terms, one after the
    other.
    """

    keys: np.ndarray  # (K,) uint32, ascending
    offsets: np.ndarray  # (K + 1,) int64: where each term's occurrences begin
    texts: np.ndarray  # (P,) int32, ascending within a term
    weights: np.ndarray  # (P,) float32
    idf: np.ndarray  # (K,) float32
    counted_texts: np.ndarray  # (1,) int64: N

    @property
    def size(self) -> int:
        """N."""
        return int(self.counted_texts[0])

    def looked_up(self, terms: Sequence[str]) -> tuple[np.ndarray, float]:
        """The places of the terms that any text has, each once; and the sum of all terms' idf."""
        asked = np.unique(term_keys(terms))
        place = np.searchsorted(self.keys, asked)
        inside = place < len(self.keys)
        known = place[inside][self.keys[place[inside]] == asked[inside]]
        unheard = (len(asked) - len(known)) * self.unheard
        return known, max(float(self.idf[known].sum()) + unheard, 1e-6)

    @property
    def unheard(self) -> float:
        """idf of a term that no text has."""
        return math.log1p((self.size + 0.5) / 0.5)

    def scores(self, terms: Sequence[str]) -> np.ndarray:
        """(N,) float32 of each text, divided as the head of this file says."""
        found = np.zeros(self.size, np.float32)
        places, total = self.looked_up(terms)
        for start, end in zip(self.offsets[places], self.offsets[places + 1], strict=True):
            # A text stands in a term's row once, so nothing is added twice.
            found[self.texts[start:end]] += self.weights[start:end]
        return found / np.float32(total)

    @classmethod
    def counted(
        cls,
        texts: Iterable[str],
        terms_of: Callable[[str], Iterable[str]],
        k1: float,
        b: float,
    ) -> Postings:
        """Count texts."""
        known: dict[str, int] = {}
        told = [Counter(terms_of(text)) for text in texts]
        flat = [known.setdefault(term, len(known)) for one in told for term in one]
        sizes = np.array([len(one) for one in told], np.int64)
        counts = np.fromiter((n for one in told for n in one.values()), np.float64)
        lengths = np.array([sum(one.values()) for one in told], np.float64)
        of = np.repeat(np.arange(len(told), dtype=np.int32), sizes)
        # Terms by key; two of one key are one from here on.
        by_term, place = np.unique(term_keys(known), return_inverse=True)
        row = place[np.array(flat, np.int64)] if flat else np.zeros(0, np.int64)
        order = np.lexsort((of, row))
        row, of, counts = row[order], of[order], counts[order]
        fresh = np.ones(len(row), bool)
        fresh[1:] = (row[1:] != row[:-1]) | (of[1:] != of[:-1])
        starts = np.flatnonzero(fresh)
        counts = np.add.reduceat(counts, starts) if len(starts) else counts
        row, of = row[starts], of[starts]
        seen = np.bincount(row, minlength=len(by_term))
        idf = np.log1p((len(told) - seen + 0.5) / (seen + 0.5))
        mean = max(float(lengths.mean()) if len(told) else 0.0, 1.0)
        length = k1 * (1 - b + b * lengths[of] / mean)
        weights = idf[row] * counts * (k1 + 1) / (counts + length)
        offsets = np.concatenate([[0], np.cumsum(seen)]).astype(np.int64)
        return cls(
            by_term,
            offsets,
            of,
            weights.astype(np.float32),
            idf.astype(np.float32),
            np.array([len(told)]),
        )

    def faults(self, texts: int) -> str | None:
        """What does not fit together, of postings from outside."""
        kinds = (np.uint32, np.int64, np.int32, np.float32, np.float32, np.int64)
        if any(one.dtype != kind or one.ndim != 1 for one, kind in zip(self, kinds, strict=True)):
            return "postings of another type"
        if self.counted_texts.shape != (1,) or self.size != texts:
            return "postings of other texts"
        occurrences = len(self.texts)
        if len(self.offsets) != len(self.keys) + 1 or len(self.idf) != len(self.keys):
            return "postings of another length"
        if len(self.weights) != occurrences or np.any(np.diff(self.keys.astype(np.int64)) <= 0):
            return "postings that are out of order"
        if (
            self.offsets[0] != 0
            or self.offsets[-1] != occurrences
            or np.any(np.diff(self.offsets) < 0)
        ):
            return "postings that end elsewhere"
        if occurrences and not (self.texts.min() >= 0 and self.texts.max() < texts):
            return "postings of texts that are not there"
        return None if np.isfinite(self.weights).all() and np.isfinite(self.idf).all() else "NaN"


class Lexicon(NamedTuple):
    """The terms that are looked at: `character_ngrams` letters of a piece, and BM25's k1 and b."""

    character_ngrams: int
    k1: float
    b: float
    pages: bool

    @classmethod
    def of(cls, options: Mapping[str, float]) -> Lexicon:
        return cls(
            int(options["character_ngrams"]),
            float(options["k1"]),
            float(options["b"]),
            bool(options["pages"]),
        )

    @property
    def views(self) -> tuple[Callable[[str], list[str]], ...]:
        """What a text is seen as: words, and pieces of words."""
        return words, lambda text: pieces(text, self.character_ngrams)

    def postings(self, texts: Sequence[str]) -> list[Postings]:
        """Of each view."""
        return [Postings.counted(texts, view, self.k1, self.b) for view in self.views]
