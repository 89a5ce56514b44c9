"""Questions that nobody wrote: a span that stands twice in a context, asked for by what stands
round one of the two (after Splinter, Ram 2021, https://arxiv.org/abs/2101.00438).

The words round one occurrence, with a token in place of the span, become the question; they are
taken out of the context, in which the other occurrence is the answer. Of some recurring spans,
which torch's generator draws, that of the rarest tokens is asked for: a name rather than a word of
grammar. So made-up rows are a function of (seed, step), as all noise of a training is.

Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_DRAWN = 16  # occurrences that are looked at
_LONGEST = 12  # tokens of a span
_ROUND = (5, 13)  # tokens of a question on each side, from and below


class Cloze(NamedTuple):
    """A made-up row: its question, its context and where the answer stands in that."""

    question: list[int]
    context: list[int]
    start: int
    end: int


def with_recurring(
    batch: Mapping[str, Tensor], share: float, idf: np.ndarray, mask_id: int
) -> dict[str, Tensor]:
    """A batch of rows with made-up ones behind them: `share` for each that it has.

    Args:
        batch: input_ids (B, T), lengths, context (where it begins), start, end; opening and
            closing, the special tokens at both ends.
        mask_id: the token in place of a span.
    """
    ids, lengths = batch["input_ids"].cpu().numpy(), batch["lengths"].cpu().numpy()
    begins = batch["context"].cpu().numpy()
    opening, closing = int(batch["opening"][0]), int(batch["closing"][0])
    rows = torch.randint(len(ids), (round(share * len(ids)),)).numpy()
    made: list[tuple[list[int], int, int, int]] = []
    for row in rows:
        begin, end = int(begins[row]), int(lengths[row]) - closing
        found = cloze(ids[row, begin:end], idf, mask_id)
        if found is None:
            continue
        before = [*ids[row, :opening].tolist(), *found.question, int(ids[row, begin - 1])]
        whole = [*before, *found.context, *ids[row, end : int(lengths[row])].tolist()]
        made.append((whole, len(before), len(before) + found.start, len(before) + found.end))
    return _joined(batch, made)


def cloze(context: np.ndarray, idf: np.ndarray, mask_id: int) -> Cloze | None:
    """A row made from a context; None: nothing recurs in what was drawn."""
    places = _recurring(context)
    if len(places) < 2:
        return None
    best: tuple[float, int, int, int] | None = None
    for draw in torch.randint(len(places), (_DRAWN,)).tolist():
        others = places[context[places] == context[places[draw]]]
        other = int(others[int(torch.randint(len(others), ()))])
        span = _widest(context, int(places[draw]), other)
        if span is not None:
            one, two, length = span
            worth = float(idf[context[one : one + length]].sum())
            best = max(best or (0.0, 0, 0, 0), (worth, one, two, length))
    if best is None or best[0] <= 0:
        return None
    _, asked, answer, length = best
    left, right = torch.randint(*_ROUND, (2,)).tolist()
    first, last = max(0, asked - left), min(len(context), asked + length + right)
    if answer + length > first and answer < last:  # the answer may not be in its own question
        first = max(first, answer + length) if answer < asked else first
        last = min(last, answer) if answer > asked else last
    question = [*context[first:asked], mask_id, *context[asked + length : last]]
    if len(question) < 2:
        return None
    rest = np.concatenate([context[:first], context[last:]])
    start = answer if answer < first else answer - (last - first)
    return Cloze([int(one) for one in question], rest.tolist(), start, start + length - 1)


def _recurring(context: np.ndarray) -> np.ndarray:
    """Places of the tokens that stand there more than once."""
    _, which, times = np.unique(context, return_inverse=True, return_counts=True)
    return np.flatnonzero(times[which] > 1)


def _widest(context: np.ndarray, one: int, two: int) -> tuple[int, int, int] | None:
    """Where both occurrences begin, and how long they are, as far as they go on alike without
    meeting.
    """
    apart = abs(one - two)
    length = 1
    if apart < length:
        return None
    most = min(_LONGEST, apart)
    low, high = min(one, two), max(one, two)
    while length < most and low > 0 and context[low - 1] == context[high - 1]:
        one, two, low, high, length = one - 1, two - 1, low - 1, high - 1, length + 1
    while length < most and high + length < len(context):
        if context[low + length] != context[high + length]:
            break
        length += 1
    return one, two, length


def _joined(
    batch: Mapping[str, Tensor], made: list[tuple[list[int], int, int, int]]
) -> dict[str, Tensor]:
    found = dict(batch)
    if not made:
        return found
    ids_BT = batch["input_ids"]
    width = max(ids_BT.shape[1], *(len(ids) for ids, *_ in made))
    wide = ids_BT.new_zeros((len(ids_BT) + len(made), width))
    wide[: len(ids_BT), : ids_BT.shape[1]] = ids_BT
    for row, (ids, *_) in enumerate(made, len(ids_BT)):
        wide[row, : len(ids)] = torch.tensor(ids)
    found["input_ids"] = wide
    lengths = [len(ids) for ids, *_ in made]
    columns = [list(column) for column in zip(*(rest for _, *rest in made), strict=True)]
    names = ("lengths", "context", "start", "end")
    for name, values in zip(names, (lengths, *columns), strict=True):
        found[name] = torch.cat([batch[name], batch[name].new_tensor(values)])
    return found
