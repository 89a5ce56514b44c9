"""What words alone find: the sentence of the context that has most of the question's, as a whole.

    argmax over sentences of sum of idf(w) over the words w that it shares with the question

Words are those of a script with spaces; of one without, characters and pairs of them. idf is
counted over the sentences of the contexts at hand, so that nothing is trained. A reader that is not
above this has learnt nothing but to match words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from lightning_modules.kinds.span.scores import Scores, scores_of

# What ends a sentence, with the quotes that close after it; a full stop only before a space.
_CLOSING = "[”’」』\"')]*"
_END = re.compile(rf"[。！？!?；;]{_CLOSING}|\.{_CLOSING}(?=\s|$)|\n+")


def sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence begins and ends, without the white space round it."""
    ends = [match.end() for match in _END.finditer(text)]
    found: list[tuple[int, int]] = []
    begin = 0
    for end in [*ends, len(text)]:
        sentence = text[begin:end]
        bare = sentence.strip()
        if bare:
            start = begin + sentence.index(bare)
            found.append((start, start + len(bare)))
        begin = end
    return found


def best_sentences(questions: Sequence[str], contexts: Sequence[str]) -> list[str]:
    """The sentence of each context that matches its question best; of several the first."""
    pieces: dict[str, list[tuple[str, set[str]]]] = {}
    seen: Counter[str] = Counter()
    total = 0
    for context in contexts:
        if context in pieces:
            continue
        texts = [context[start:end] for start, end in sentences(context)]
        scores = scores_of(context)
        pieces[context] = [(text, _terms(text, scores)) for text in texts]
        total += len(texts)
        for _, terms in pieces[context]:
            seen.update(terms)
    found: list[str] = []
    for question, context in zip(questions, contexts, strict=True):
        asked = _terms(question, scores_of(context))
        worth = [
            sum(math.log((1 + total) / seen[term]) for term in sorted(asked & terms))
            for _, terms in pieces[context]
        ]
        best = max(range(len(worth)), key=worth.__getitem__, default=None)
        found.append("" if best is None else pieces[context][best][0])
    return found


def _terms(text: str, scores: Scores) -> set[str]:
    parts = scores.parts(text)
    if not scores.unspaced:
        return set(parts)
    return {*parts, *(one + other for one, other in pairwise(parts))}
