"""Which words of a question carried its match with an answer: their score, and what it is made of.

    s(q, a) = e^w_0 cos(Q f(q), A f(a)) + sum_k e^w_k bm25_k(q, a)

The cosine's share is found by integrated gradients. The shared words are a sum over the question's
terms, each with an exact share: it goes to the characters of the term, wherever that stands in the
question.

Shapes: K copies, W windows, D size of a vector, A answers, N tokens, L characters. Does not ship.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data_contracts.errors import NoisefoldError
from lightning_modules.explaining.asked import EXPLAINED, Asked, body_lookups, read_text
from lightning_modules.explaining.pieces import Token
from lightning_modules.kinds.retrieve.head import RetrieveHead, vectors_of
from lightning_modules.kinds.retrieve.terms import (
    Lexicon,
    Postings,
    pieces,
    runs,
    term_keys,
    unspaced,
    words,
)
from lightning_modules.network.characters import goes_on

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle


def explained(bundle: Bundle, question: Mapping[str, str], target: str | None) -> Asked:
    """
    Args:
        target: the place of an answer in the ranking, from 1; None: the best one.
    Raises:
        NoisefoldError: there is no such place, or the question cannot be explained.
    """
    text, network = question["question"], bundle.network
    head = cast(RetrieveHead, network.head)
    assert head.answers is not None  # a bundle that is loaded has them
    read = read_text(bundle, "question", text)
    number, place = _number(bundle, text, target)
    answer_D = torch.from_numpy(head.answers.vectors[number]).double()
    weight = float(head.log_weights[0].detach().double().exp())

    def scores(copies: int) -> Tensor:
        total_KD = read.run(network, copies).double().sum(dim=1)
        return weight * (F.normalize(total_KD, dim=-1) @ answer_D)

    def again(texts: Sequence[Mapping[str, str]]) -> np.ndarray:
        asked = [one["question"] for one in texts]
        vectors = vectors_of(bundle, asked)
        rows = zip(vectors, asked, strict=True)
        return np.array([head.parts(vector, one)[:, number].sum() for vector, one in rows])

    return Asked(
        texts={"question": text},
        target=head.answers.texts[number],
        words=f"score of answer {place}",
        tokens=read.tokens,
        positions_WT=read.positions_WT,
        lookups=body_lookups(bundle, read),
        scores=scores,
        again=again,
        exact=shared_by_token(head, text, number, read.tokens),
    )


def _number(bundle: Bundle, text: str, target: str | None) -> tuple[int, int]:
    """The number of an answer, and its place in the ranking from 1."""
    head = cast(RetrieveHead, bundle.network.head)
    assert head.answers is not None
    count = len(head.answers)
    place = int(target) if target is not None and target.isdecimal() else 1
    if target is not None and not (target.isdecimal() and 1 <= place <= count):
        raise NoisefoldError(
            f"The target is {target!r}, and the model has answers from place 1 to {count:,}.",
            "Give the place of an answer in the ranking: 1 is the best one.",
        )
    parts = head.parts(vectors_of(bundle, [text])[0], text)
    return int(head.ranked(parts, place).numbers[place - 1]), place


# --- the words that question and answer share


class Term(NamedTuple):
    """A term of a question, and the characters (code points) that it stands for."""

    term: str
    characters: tuple[int, ...]


def shared_by_token(
    head: RetrieveHead, text: str, number: int, tokens: Sequence[Token]
) -> np.ndarray:
    """(N,) what each token has of the shared words' part of the score."""
    if head.lexicon is None or head.answers is None:
        return np.zeros(len(tokens))
    answers, weights = head.answers, head.log_weights.detach().double().exp().numpy()[1:]
    page = int(answers.pages[number])
    looked = [(one, number) for one in answers.postings]
    looked += [(one, page) for one in answers.page_postings]
    by_character = np.zeros(len(text))
    views = _located(text, head.lexicon)
    for place, (postings, row) in enumerate(looked):
        terms = views[place % len(views)]
        for term, share in _shares(postings, terms, row).items():
            stands = [one.characters for one in terms if one.term == term]
            for characters in stands:
                value = weights[place] * share / len(stands) / len(characters)
                np.add.at(by_character, list(characters), value)
    return _to_tokens(by_character, tokens)


def _shares(postings: Postings, terms: Sequence[Term], row: int) -> dict[str, float]:
    """What each term adds to one text's BM25."""
    if row < 0:  # no page
        return {}
    named = {int(key): one.term for key, one in zip(_keys(terms), terms, strict=True)}
    places, total = postings.looked_up([one.term for one in terms])
    found = {}
    for place in places.tolist():
        start, end = postings.offsets[place], postings.offsets[place + 1]
        at = start + np.searchsorted(postings.texts[start:end], row)
        if at < end and postings.texts[at] == row:
            found[named[int(postings.keys[place])]] = float(postings.weights[at]) / total
    return found


def _keys(terms: Sequence[Term]) -> np.ndarray:
    return term_keys(one.term for one in terms)


def _located(text: str, lexicon: Lexicon) -> list[list[Term]]:
    """The terms of each view, with their places; where a text cannot be followed through its
    normal form, each term stands for all of it.
    """
    size = lexicon.character_ngrams
    views = [list(_words(text)), list(_pieces(text, size))]
    whole = tuple(range(len(text)))
    for number, known in enumerate((words(text), pieces(text, size))):
        if [one.term for one in views[number]] != known:
            views[number] = [Term(one, whole) for one in known]
    return views


def _words(text: str) -> Iterator[Term]:
    for run, origin in _runs(text):
        if unspaced(run):
            yield from (Term(one, (at,)) for one, at in zip(run, origin, strict=True))
        else:
            yield Term(run, origin)


def _pieces(text: str, size: int) -> Iterator[Term]:
    for run, origin in _runs(text):
        whole, length, before = (run, 2, 0) if unspaced(run) else (f" {run} ", size, 1)
        for at in range(max(1, len(whole) - length + 1)):
            inside = origin[max(0, at - before) : at - before + length]
            yield Term(whole[at : at + length], inside)


def _runs(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The runs that words are made of, and for each of their letters the place of its character."""
    letters, origin = "", []
    start = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and goes_on(text, end):
            continue
        folded = unicodedata.normalize("NFKC", text[start:end]).casefold()
        letters += folded
        origin += [start] * len(folded)
        start = end
    at = 0
    for run in runs(text):
        at = letters.find(run, at)
        if at < 0:
            return
        yield run, tuple(origin[at : at + len(run)])
        at += len(run)


def _to_tokens(by_character: np.ndarray, tokens: Sequence[Token]) -> np.ndarray:
    """(N,) of what each character has: to the tokens that stand for it, or else to the nearest."""
    found = np.zeros(len(tokens))
    starts = np.array([token.start for token in tokens])
    ends = np.array([token.end for token in tokens])
    for place in np.flatnonzero(by_character):
        covering = np.flatnonzero((starts <= place) & (place < ends))
        if not len(covering):
            away = np.maximum(starts - place, place - ends + 1)
            covering = np.array([int(away.argmin())])
        found[covering] += by_character[place] / len(covering)
    return found


EXPLAINED["retrieve"] = explained
