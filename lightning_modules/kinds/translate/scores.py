"""chrF and BLEU of many samples of sentences at once, from sums of what sacrebleu counts of each.

    chrF = (1 + b^2) P R / (b^2 P + R),   P, R = means over the orders n that both sides have of
           matches_n / said_n, matches_n / wanted_n                    (Popovic 2015, 2017; b = 2)
    BLEU = min(1, exp(1 - wanted / said)) prod_n p_n^(1/4),   p_n = matches_n / said_n
                                                                 (Papineni 2002; Post 2018)

Where a BLEU has no match of some order, p_n is 1 / (2^k said_n) at the k-th such order (Chen &
Cherry 2014, method 3). What is counted is sacrebleu's own (`Metric._extract_corpus_statistics`), so
a sum over sentences is worth, to the last digits, what sacrebleu says of them together.

Shapes: N sentences, S sums, K = COUNTS columns: chrF's said, wanted, matches of orders 1 to 6; said
and wanted words of BLEU; its matches of orders 1 to 4; what was said of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from lightning_modules.evidence import Floats

ORDERS, WORDS = 6, 4  # characters and words in a row that are looked at, at most
SAID, WANTED = 3 * ORDERS, 3 * ORDERS + 1  # words
_MATCHES = slice(WANTED + 1, WANTED + 1 + WORDS)
_TOTALS = slice(WANTED + 1 + WORDS, WANTED + 1 + 2 * WORDS)
COUNTS = WANTED + 1 + 2 * WORDS
_BETA = 2

# Scripts, by their names in Unicode, in which no space stands between words.
UNSPACED = frozenset(
    {
        "Balinese",
        "Bopomofo",
        "Han",
        "Hiragana",
        "Javanese",
        "Katakana",
        "Khmer",
        "Lao",
        "Myanmar",
        "New_Tai_Lue",
        "Tai_Le",
        "Tai_Tham",
        "Tai_Viet",
        "Thai",
        "Tibetan",
        "Yi",
    }
)


def tokenize_of(script: str) -> str:
    """sacrebleu's name of the tokenizer that cuts a text of a script into what BLEU counts."""
    if script == "Han":
        return "zh"
    return "char" if script.replace(" ", "_") in UNSPACED else "13a"


@dataclass(frozen=True)
class Scores:
    """How translations into a script are scored."""

    script: str

    @property
    def signatures(self) -> dict[str, str]:
        """What sacrebleu prints of each figure for others to repeat it: `nrefs:1|case:mixed|…`."""
        chrf, bleu = _chrf(), _bleu(tokenize_of(self.script))
        for one in (chrf, bleu):
            one.sentence_score("a", ["a"])  # it knows how many references there are by counting
        return {"chrf": str(chrf.get_signature()), "bleu": str(bleu.get_signature())}

    def counts(self, said: Sequence[str], wanted: Sequence[str]) -> Floats:
        """(N, K) of translations and what a person wrote."""
        chrf, bleu = _chrf(), _bleu(tokenize_of(self.script))
        found = np.zeros((len(said), COUNTS))
        if not len(said):
            return found
        # (N, 6, 3): said, wanted, matches of an order stand together in sacrebleu.
        of_chrf = np.array(chrf._extract_corpus_statistics(said, [wanted]), dtype=np.float64)
        found[:, : 3 * ORDERS] = of_chrf.reshape(-1, ORDERS, 3).transpose(0, 2, 1).reshape(-1, SAID)
        found[:, SAID:] = bleu._extract_corpus_statistics(said, [wanted])
        return found


def chrf(sums: Floats) -> Floats:
    """(S,) shares, 0 to 1, of sums (S, K); of single rows, each sentence's own."""
    said, wanted, matches = sums[:, : 3 * ORDERS].reshape(-1, 3, ORDERS).transpose(1, 0, 2)
    both = (said > 0) & (wanted > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = np.where(both, matches / np.maximum(said, 1), 0).sum(axis=1) / orders
    recall = np.where(both, matches / np.maximum(wanted, 1), 0).sum(axis=1) / orders
    below = _BETA**2 * precision + recall
    return (1 + _BETA**2) * precision * recall / np.where(below > 0, below, 1)


def bleu(sums: Floats) -> Floats:
    """(S,) shares, 0 to 1, of sums (S, K)."""
    said, wanted = sums[:, SAID], sums[:, WANTED]
    matches, totals = sums[:, _MATCHES], sums[:, _TOTALS]
    missed = (matches == 0) & (totals > 0)
    smoothed = 1 / (2.0 ** np.cumsum(missed, axis=1) * np.maximum(totals, 1))
    precisions = np.where(missed, smoothed, matches / np.maximum(totals, 1))
    # Without four words in a row there is no BLEU: its sentences are too short for one.
    some = (totals > 0).all(axis=1) & (matches > 0).any(axis=1)
    mean = np.exp(np.log(np.where(some.reshape(-1, 1), precisions, 1)).mean(axis=1))
    short = np.where(said > 0, 1 - wanted / np.maximum(said, 1), -np.inf)
    return np.where(some, mean * np.exp(np.minimum(short, 0)), 0.0)


def length_ratio(sums: Floats) -> Floats:
    """(S,) words said for each that was wanted."""
    return sums[:, SAID] / np.maximum(sums[:, WANTED], 1)


@lru_cache(maxsize=1)
def _chrf() -> CHRF:
    return CHRF(char_order=ORDERS, word_order=0, beta=_BETA)


@lru_cache(maxsize=8)
def _bleu(tokenize: str) -> BLEU:
    # Forced: its warnings of spaces before full stops go to nobody here.
    return BLEU(tokenize=tokenize, max_ngram_order=WORDS, force=True)
