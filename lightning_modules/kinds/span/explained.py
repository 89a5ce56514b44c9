"""Which words of question and context carried the chosen span: its log-odds in the window where it
is likeliest.

    s = log p(span | window) - log p(none | window)

Beside token vectors, the network looks up how tokens match the question
(`lightning_modules.kinds.span.matching`): what a match adds is counted where it stands, at the
token of the context.

Shapes: K copies, W windows, T positions, L longest answer in tokens, N tokens. Does not ship.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from data_contracts.errors import NoisefoldError
from lightning_modules.explaining.asked import EXPLAINED, Asked, Read, body_lookups, tokens_of
from lightning_modules.explaining.gradients import Lookup
from lightning_modules.kinds.span.choosing import answer_of
from lightning_modules.kinds.span.head import SpanHead
from lightning_modules.kinds.span.windows import (
    Window,
    starts,
    whole_characters,
    windows_of,
)
from lightning_modules.kinds.span.windows import tokens_of as tokens_within

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

_GONE = -30.0  # nats: of a span that the model has no longer


class Place(NamedTuple):
    """Where a span stands: its window, first token and length, and its log-odds there."""

    window: int
    first: int
    length: int
    odds: float


def explained(bundle: Bundle, question: Mapping[str, str], target: str | None) -> Asked:
    """
    Args:
        target: words of the context that are to be explained as the answer; None: the model's own.
    Raises:
        NoisefoldError: they do not stand there, or the question cannot be explained.
    """
    head = cast(SpanHead, bundle.network.head)
    texts = {name: question[name] for name in head.asked}
    asked, context = (
        tokens_of(bundle.lossless_tokenizer, name, text) for name, text in texts.items()
    )
    windows = _windows(bundle, texts)
    log_proba = head.log_proba(bundle, windows)
    if target is None:
        found = answer_of(log_proba, windows, bundle.facts["choose"])
        span = whole_characters(texts["context"], found.start, found.end)
        place = place_of(head, log_proba, windows, [span])
    else:
        spans = [one.span() for one in re.finditer(re.escape(target), texts["context"])]
        place = place_of(head, log_proba, windows, spans) if target.strip() else None
    if place is None:
        raise NoisefoldError(
            f"{target!r} is no span of the context that the model can answer.",
            "Give words as they stand there, of at most as many tokens as its answers have.",
        )
    said = _text_of(texts["context"], windows[place.window], place)
    read = _read(bundle, windows, place.window, [asked, context])
    matches = Lookup(head.matches, lambda values_WT: values_WT)

    def scores(copies: int) -> Tensor:
        rows = read.run(bundle.network, copies)[:, 0].double()
        return rows[:, 1 + place.first * len(head.lengths) + place.length] - rows[:, 0]

    def again(others: Sequence[Mapping[str, str]]) -> np.ndarray:
        return np.array([_odds_of(bundle, other, said) for other in others])

    own = {
        number + len(asked)
        for number, (_, token) in enumerate(context)
        if token.start < said.end and token.end > said.start
    }
    return Asked(
        texts=texts,
        target=said.text,
        words="log-odds of the span against none, in nats",
        tokens=read.tokens,
        positions_WT=read.positions_WT,
        lookups=[*body_lookups(bundle, read), matches],
        scores=scores,
        again=again,
        fixed=frozenset(own),
    )


def _windows(bundle: Bundle, texts: Mapping[str, str]) -> list[Window]:
    head = cast(SpanHead, bundle.network.head)
    columns = [[texts[name]] for name in head.asked]
    made = windows_of(bundle.lossless_tokenizer, bundle.windowing, head.sep_id, *columns)
    return next(iter(made))


def place_of(
    head: SpanHead,
    log_proba_WS: Tensor,
    windows: Sequence[Window],
    spans: Sequence[tuple[int, int]],
) -> Place | None:
    """The likeliest of some spans, given in characters; None: no window has any as a whole."""
    most = len(head.lengths)
    found: list[Place] = []
    for number, window in enumerate(windows):
        row = log_proba_WS[number]
        for start, end in spans:
            tokens = tokens_within(window.offsets, start, end)
            if tokens is None or tokens[1] - tokens[0] >= most:
                continue
            if not _whole(window, tokens, start, end):
                continue
            length = tokens[1] - tokens[0]
            place = 1 + (window.begin + tokens[0]) * most + length
            odds = float(row[place] - row[0])
            found.append(Place(number, window.begin + tokens[0], length, odds))
    return max(found, key=lambda one: one.odds, default=None)


def _whole(window: Window, tokens: tuple[int, int], start: int, end: int) -> bool:
    """Whether a window cuts nothing off of a span of which it has these tokens."""
    offsets = window.offsets
    begun = tokens[0] > 0 or offsets[0, 0] <= start
    ended = tokens[1] < len(offsets) - 1 or offsets[-1, 1] >= end
    return bool(begun and ended)


class _Said(NamedTuple):
    text: str
    start: int
    end: int


def _text_of(context: str, window: Window, place: Place) -> _Said:
    first = place.first - window.begin
    offsets = window.offsets[first : first + place.length + 1]
    start, end = whole_characters(context, int(offsets[0, 0]), int(offsets[:, 1].max()))
    return _Said(context[start:end], start, end)


def _odds_of(bundle: Bundle, texts: Mapping[str, str], said: _Said) -> float:
    """Of the same words in other texts, where they are likeliest."""
    head = cast(SpanHead, bundle.network.head)
    windows = _windows(bundle, texts)
    spans = [one.span() for one in re.finditer(re.escape(said.text), texts["context"])]
    if not spans or not len(windows[0].offsets):
        return _GONE
    place = place_of(head, head.log_proba(bundle, windows), windows, spans)
    return _GONE if place is None else place.odds


def _read(bundle: Bundle, windows: Sequence[Window], number: int, tokens: Sequence[list]) -> Read:
    """The window as it is read, with the numbers of its tokens: those of the question first."""
    asked, context = tokens
    window, around = windows[number], bundle.windowing
    count = window.begin - len(around.prefix_ids) - 1
    room = around.room - 1 - count
    first = starts(len(context), room, around.overlap)[number]
    positions = np.full((1, len(window.ids)), -1, np.int64)
    positions[0, len(around.prefix_ids) : window.begin - 1] = np.arange(count)
    positions[0, window.begin : window.begin + len(window.offsets)] = (
        len(asked) + first + np.arange(len(window.offsets))
    )
    return Read([token for _, token in (*asked, *context)], torch.tensor([window.ids]), positions)


EXPLAINED["span"] = explained
