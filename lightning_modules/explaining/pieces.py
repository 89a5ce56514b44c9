"""What of a text is shown and taken away as one: tokens, in whole characters as people see them.

A tokenizer may give several tokens to one character (its bytes, or what NFKC makes of it), none to
another, and a token of no width. Offsets are code points of the text as it was given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from lightning_modules.network.characters import goes_on


class Token(NamedTuple):
    """A token, and which characters of which text it stands for."""

    column: str
    start: int
    end: int


class Piece(NamedTuple):
    """Whole characters of a text, and the numbers of the tokens that stand for them."""

    column: str
    start: int
    end: int
    tokens: tuple[int, ...]


def pieces_of(texts: Mapping[str, str], tokens: Sequence[Token]) -> list[Piece]:
    """The pieces of each text, in order: tokens that share a character are one piece.

    Every token is in one piece; one of no width is in that before it, or else behind it.
    """
    found: list[Piece] = []
    for column, text in texts.items():
        own = [place for place, token in enumerate(tokens) if token.column == column]
        own.sort(key=lambda place: (tokens[place].start, tokens[place].end))
        found += _merged(column, text, tokens, own)
    return found


def _merged(column: str, text: str, tokens: Sequence[Token], places: Sequence[int]) -> list[Piece]:
    pieces: list[Piece] = []
    waiting: tuple[int, ...] = ()  # of no width, before any other
    for place in places:
        start, end = _trimmed(text, tokens[place].start, tokens[place].end)
        last = pieces[-1] if pieces else None
        if end == start and last is None:
            waiting += (place,)
        elif last is not None and (end == start or start < last.end or goes_on(text, start)):
            pieces[-1] = Piece(column, last.start, max(last.end, end), (*last.tokens, place))
        else:
            pieces.append(Piece(column, start, end, (*waiting, place)))
            waiting = ()
    return pieces


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space round it, unless it is nothing else; to the end of its last
    character.
    """
    inner = text[start:end]
    if inner.strip():
        start += len(inner) - len(inner.lstrip())
        end -= len(inner) - len(inner.rstrip())
    while start < end < len(text) and goes_on(text, end):
        end += 1
    return start, end


def without(
    texts: Mapping[str, str], pieces: Sequence[Piece], removed: Collection[int]
) -> dict[str, str]:
    """The texts without some pieces, given by their numbers; where two spaces would meet, one."""
    found = {}
    for column, text in texts.items():
        gone = sorted(pieces[one] for one in removed if pieces[one].column == column)
        kept, at = "", 0
        for piece in gone:
            kept = _joined(kept, text[at : piece.start])
            at = piece.end
        found[column] = _joined(kept, text[at:])
    return found


def _joined(before: str, behind: str) -> str:
    doubled = behind[:1].isspace() and (not before or before[-1:].isspace())
    return before + (behind[1:] if doubled else behind)
