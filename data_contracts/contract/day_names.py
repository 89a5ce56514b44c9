"""Which days one name of a file or folder tells."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from data_contracts.contract.day_forms import FULL, PATTERNS, Token, day_or_none, read
from data_contracts.contract.days import Days, DayUnclear

_NUMBER = re.compile(r"\d+", re.ASCII)
# After a date: 0300, 03:00:00, T030000Z, 03-00-00.123+08:00.
_TIME = re.compile(
    r"(?P<lead>T|[T_\-. ])(?P<h>\d{2})(?P<in>[:.\-_h]?)(?P<m>\d{2})"
    r"(?P<s>(?P=in)\d{2}(?:[.,]\d{1,9}|\d{3})?)?(?!\d)(?:Z|[+-]\d{2}:?\d{2}(?!\d))?",
    re.ASCII,
)
_RANGE = re.compile(
    r"\s*(?:[-_–—~]{1,2}|\.{2,3}|至|到|[-_. ](?:to|until|through|bis)[-_. ])\s*", re.IGNORECASE
)
# Words between two days that never stand before a time: what follows is meant as the end of a
# range.
_RANGE_TO_A_PART = re.compile(r"\s*(?:~|\.\.|至|到)\s*\d", re.ASCII)
# Random identifiers, in which eight digits may stand side by side.
_RANDOM = re.compile(
    r"(?<![0-9a-f])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?=[0-9]*[a-f])[0-9a-f]{24,})(?![0-9a-f])",
    re.IGNORECASE,
)


def days_in_name(name: str) -> Days | None:
    """The days that one file or folder name tells; None where it holds no date.

    Raises:
        DayUnclear: it holds a number like a date that is none, one that has two readings, or
            several that are no range.
    """
    text = plain(name)
    tokens = _tokens(text)
    _refuse_other_readings(text, tokens)
    distinct = list(dict.fromkeys((token.days.first, token.days.last) for token in tokens))
    if len(distinct) < 2:
        return tokens[0].days if tokens else None
    if len(tokens) == 2:
        one, other = tokens
        if one.grain == other.grain and _RANGE.fullmatch(text[one.end : other.start]):
            if one.days.first <= other.days.first:
                return Days(first=one.days.first, last=other.days.last)
            raise DayUnclear(f"{one.days} and {other.days} are no range, the second comes first")
        for inner, outer in ((one.days, other.days), (other.days, one.days)):
            if inner in outer and not _RANGE.fullmatch(text[one.end : other.start]):
                return inner
    raise DayUnclear(
        f"it holds several dates: {', '.join(str(token.days) for token in tokens[:4])}"
    )


def plain(name: str) -> str:
    """Full-width digits as digits; random identifiers blotted out."""
    text = unicodedata.normalize("NFKC", name)
    return _RANDOM.sub(lambda found: "x" * len(found[0]), text)


def _tokens(text: str) -> list[Token]:
    """Dates from left to right; a time of day after one belongs to it."""
    tokens, position = [], 0
    while (found := _first(text, position)) is not None:
        kind, match = found
        token = read(kind, match)
        if token is None:  # a mere number; a date may begin right after it
            number = _NUMBER.match(text, match.start())
            position = number.end() if number else match.end()
            continue
        position = token.end
        if token.grain == "day":
            position = _after_time(text, token)
        tokens.append(replace(token, end=position))
    return tokens


def _first(text: str, position: int) -> tuple[str, re.Match[str]] | None:
    matches = [
        (kind, m) for kind, pattern in PATTERNS.items() if (m := pattern.search(text, position))
    ]
    return min(matches, key=lambda found: (found[1].start(), -found[1].end()), default=None)


def _after_time(text: str, token: Token) -> int:
    """Where the time of day after a date ends, if there is one; what may be the end of a range is
    refused.
    """
    if _RANGE_TO_A_PART.match(text, token.end) and not _dated(text, token.end):
        raise DayUnclear(f"the range from {token.days} on does not name its last day in full")
    time = _TIME.match(text, token.end)
    if time is None or _dated(text, token.end):
        return token.end
    hours, minutes = int(time["h"]), int(time["m"])
    undivided = time["in"] == "" and time["lead"] in "T_ "
    if not time["s"] and time["lead"] != "T" and time["in"] != ":" and not undivided:
        end = day_or_none(token.days.first.year, hours, minutes)
        if end is not None and end > token.days.last:
            raise DayUnclear(
                f"{time[0][1:]} after {token.days} may be a time or the last day of a range"
            )
    return time.end() if hours < 24 and minutes < 60 else token.end


def _dated(text: str, position: int) -> bool:
    """Whether a date follows, after at most a word that joins two of them."""
    found = _first(text, position)
    return (
        found is not None
        and found[0] != "six"
        and _RANGE.fullmatch(text[position : found[1].start()]) is not None
    )


def _refuse_other_readings(text: str, tokens: list[Token]) -> None:
    """12_26_2026_11_26 holds two dates that share their year: neither may be chosen."""
    inside = {place for token in tokens for place in range(token.start, token.stop)}
    for start in range(len(text)):
        for kind in FULL:
            match = PATTERNS[kind].match(text, start)
            if match is None or start not in inside:
                continue
            digits = {place for place in range(*match.span()) if text[place].isdigit()}
            token = next(token for token in tokens if token.start <= start < token.stop)
            if digits <= inside:
                continue
            other = read(kind, match)
            if other is not None and other.days != token.days:
                raise DayUnclear(f"it may mean {token.days} or {other.days}")
