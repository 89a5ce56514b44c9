"""Days and spans of days, and which days of a window are there.

Which days a file holds is read from its name and its folders (`day_paths`, `day_names`): exact,
never clever. A name that can mean two things, or looks like a date and is none, is refused with the
reason (`DayUnclear`), and a name without a date gives None. Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta

from pydantic import BaseModel, ConfigDict

# What `days_of` understands, for the messages that ask for another name.
FORMS = (
    "2026-11-26, 20261126, 2026_11_26, 2026.11.26, 26-11-2026, 26-Nov-2026, 2026年11月26日, each "
    "also with a time after it; a range 2026-11-01_2026-11-07; a month 2026-11; a week 2026-W48; "
    "folders date=2026-11-26, year=2026/month=11/day=26 or 2026/11/26"
)
YEARS = range(1970, 2100)
_ONE = timedelta(days=1)
_SHOWN = 4  # spans of missing days that a sentence names


class DayUnclear(ValueError):
    """A name that holds something like a date and does not tell one day, or one span of days,
    beyond doubt.
    """


class Days(BaseModel):
    """A span of days, both inclusive."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    first: date
    last: date

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __contains__(self, other: Days) -> bool:
        return self.first <= other.first and other.last <= self.last

    def touches(self, other: Days) -> bool:
        return self.first <= other.last and other.first <= self.last

    @classmethod
    def month(cls, year: int, month: int) -> Days:
        following = date(year + month // 12, month % 12 + 1, 1)
        return cls(first=date(year, month, 1), last=following - _ONE)


class Coverage(BaseModel):
    """Which days of a window the files of a source are named for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    split: str | None = None
    window: Days
    found: int
    missing: tuple[Days, ...]
    newest: date
    beyond: tuple[Days, ...] = ()

    @property
    def missing_days(self) -> int:
        return len(self.window) - self.found

    @property
    def age_days(self) -> int:
        """Days from the newest one found to the last one of the window."""
        return (self.window.last - self.newest).days

    def __str__(self) -> str:
        text = f"{self.split}: " if self.split else ""
        text += (
            f"{self.found} of {len(self.window)} days, {self.window.first} to {self.window.last}"
        )
        if self.missing:
            text += f"; missing {shown_spans(self.missing)}; newest {self.newest}"
        if self.beyond:
            text += f"; the same files hold {shown_spans(self.beyond)} too, outside the window"
        return text


def coverage(window: Days, spans: Iterable[Days], split: str | None = None) -> Coverage:
    """What spans that touch the window tell of it.

    Raises:
        ValueError: no span touches it.
    """
    held = merged(spans)
    inside = [
        Days(first=max(s.first, window.first), last=min(s.last, window.last))
        for s in held
        if s.touches(window)
    ]
    return Coverage(
        split=split,
        window=window,
        found=sum(map(len, inside)),
        missing=tuple(_without(window, inside)),
        newest=max(span.last for span in inside),
        beyond=tuple(rest for span in held for rest in _without(span, [window])),
    )


class WindowRead(BaseModel):
    """What of its window a source holds, as far as names tell; `coverage` is empty where the URLs
    hold the dates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    window: Days
    coverage: tuple[Coverage, ...] = ()
    always: tuple[str, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        told = [str(one) for one in self.coverage] or [
            f"{self.window}; names do not tell which of these days are there"
        ]
        return (
            *told,
            *(f"{name} is named by itself and read whatever the window" for name in self.always),
        )


def merged(spans: Iterable[Days]) -> tuple[Days, ...]:
    """The same days as few spans, in order."""
    result: list[Days] = []
    for span in sorted(spans, key=lambda span: (span.first, span.last)):
        if result and span.first <= result[-1].last + _ONE:
            result[-1] = Days(first=result[-1].first, last=max(result[-1].last, span.last))
        else:
            result.append(span)
    return tuple(result)


def _without(span: Days, taken: Sequence[Days]) -> Iterator[Days]:
    """The parts of a span that none of the others (in order, apart) hold."""
    first = span.first
    for other in taken:
        if other.first > span.last:
            break
        if first < other.first:
            yield Days(first=first, last=other.first - _ONE)
        first = max(first, other.last + _ONE)
    if first <= span.last:
        yield Days(first=first, last=span.last)


def shown_spans(spans: Sequence[Days]) -> str:
    """The newest few, and how many days there are in all: "2026-11-03, 2026-11-07 to 2026-11-09 (4
    days)".
    """
    shown = ", ".join(map(str, spans[-_SHOWN:]))
    days = sum(map(len, spans))
    more = "… " if len(spans) > _SHOWN else ""
    return f"{more}{shown}" + (f" ({days} days)" if days > 1 else "")
