"""A question and its context as windows [prefix question separator context suffix] of token ids.

A context longer than a window has room for is read in several, which overlap, each with the whole
question before it. What a token stands for is kept as offsets in characters (code points) of the
context as it was given, whatever the tokenizer makes of case, width or composition.

This file is shipped inside the registered model: it imports numpy, tokenizers and what ships with
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from lightning_modules.network.batching import cut
from lightning_modules.network.characters import goes_on
from lightning_modules.network.tokenizer import PAD_NAMES, eos_id, readable
from lightning_modules.network.windows import ENCODE_CHARACTERS, Windowing


class Window(NamedTuple):
    """What is read at once of a question and its context."""

    ids: list[int]
    begin: int  # position of the first token of the context
    offsets: np.ndarray  # (C, 2) int32, of each token of the context: where it begins and ends


def separator(tokenizer: Tokenizer, windowing: Windowing) -> int | None:
    """Id of the token between question and context, which no text holds; None where there is none.

    That which the tokenizer puts after a text ([SEP]), or the one that ends or pads it.
    """
    if windowing.suffix_ids:
        return windowing.suffix_ids[0]
    end = eos_id(tokenizer)
    if end is not None:
        return end
    found = (tokenizer.token_to_id(name) for name in PAD_NAMES)
    return next((number for number in found if number is not None), None)


def windows_of(
    tokenizer: Tokenizer,
    windowing: Windowing,
    sep_id: int,
    questions: Sequence[str],
    contexts: Sequence[str],
) -> Iterator[list[Window]]:
    """The windows of each question and its context, in order.

    A question has at most half of the room of a window, so that a context always has the rest: of a
    longer one the first tokens are read.

    Args:
        tokenizer: one that takes special tokens in a text for text (`load_lossless`).
    Raises:
        BundleError: the tokenizer fails at one of them.
    """
    sizes = [len(one) + len(other) for one, other in zip(questions, contexts, strict=True)]
    room = windowing.room - 1
    for some in cut(sizes, ENCODE_CHARACTERS):
        with readable("The tokenizer cannot encode a text"):
            asked = tokenizer.encode_batch(list(questions[some]), add_special_tokens=False)
            given = tokenizer.encode_batch(list(contexts[some]), add_special_tokens=False)
        for one, other in zip(asked, given, strict=True):
            question = one.ids[: max(1, room // 2)]
            before = [*windowing.prefix_ids, *question, sep_id]
            offsets = np.array(other.offsets, np.int32).reshape(-1, 2)
            left = room - len(question)
            yield [
                Window(
                    [*before, *other.ids[start : start + left], *windowing.suffix_ids],
                    len(before),
                    offsets[start : start + left],
                )
                for start in starts(len(other.ids), left, windowing.overlap)
            ]


def starts(tokens: int, room: int, overlap: int) -> list[int]:
    """Where the windows of a context begin; the last ends where the context does."""
    last = max(tokens - room, 0)
    step = room - min(overlap, room // 2)
    return [*range(0, last, step), last]


def tokens_of(offsets: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """The first and the last token that hold characters from `start` up to `end`; None: there is
    none.

    Args:
        offsets: (C, 2) of the tokens of a context, or of a part of it.
    """
    inside = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def whole_characters(text: str, start: int, end: int) -> tuple[int, int]:
    """The piece of a text without white space round it, and with no character that people see cut
    in two: marks, joiners and variants stay with the letter that they belong to.
    """
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while 0 < start < end and goes_on(text, start):
        start -= 1
    while start < end < len(text) and goes_on(text, end):
        end += 1
    return start, end
