"""Which days a file holds, read from its name and its folders, and which days of a window are there.

Exact, never clever: a name that can mean two things, or looks like a date and is none, is refused with the reason
(`DayUnclear`), and a name without a date gives None. Nothing here opens a file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

# What `days_of` understands, for the messages that ask for another name.
FORMS = (
    "2026-11-26, 20261126, 2026_11_26, 2026.11.26, 26-11-2026, 26-Nov-2026, 2026年11月26日, each also with a time "
    "after it; a range 2026-11-01_2026-11-07; a month 2026-11; a week 2026-W48; folders date=2026-11-26, "
    "year=2026/month=11/day=26 or 2026/11/26"
)
_YEARS = range(1970, 2100)
_ONE = timedelta(days=1)
_SHOWN = 4  # spans of missing days that a sentence names


class DayUnclear(ValueError):
    """A name that holds something like a date and does not tell one day, or one span of days, beyond doubt."""


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


# --- one name ---------------------------------------------------------------------------------------------------------

_Grain = Literal["day", "span", "week", "month"]


@dataclass(frozen=True)
class _Token:
    """What one stretch of a name says."""

    start: int
    stop: int  # of the date itself
    end: int  # of a time of day after it too
    days: Days
    grain: _Grain


_MONTH_NAMES = (
    *(
        "jan(?:uary)?",
        "feb(?:ruary)?",
        "mar(?:ch)?",
        "apr(?:il)?",
        "may",
        "june?",
        "july?",
        "aug(?:ust)?",
    ),
    *("sept?(?:ember)?", "oct(?:ober)?", "nov(?:ember)?", "dec(?:ember)?"),
)
_NAME = rf"(?P<name>{'|'.join(_MONTH_NAMES)})(?![a-z])"
_GAP = r"[-_. ,]{0,2}"
_SEP = r"(?P<sep>[-_. ])"
# A date in full. Of two that begin at the same place the longer one counts.
_FULL = {
    "digits": r"(?<!\d)(?P<digits>\d{8}|\d{10}|\d{12}|\d{14}|\d{17})(?!\d)",
    "ymd": rf"(?<!\d)(?P<y>\d{{4}}){_SEP}(?P<m>\d{{1,2}})(?P=sep)(?P<d>\d{{1,2}})(?!\d)",
    "numbers": rf"(?<!\d)(?P<a>\d{{1,2}}){_SEP}(?P<b>\d{{1,2}})(?P=sep)(?P<y>\d{{4}})(?!\d)",
    "chinese": r"(?<!\d)(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})(?!\d)[日号]?"
    r"(?:[至到~\-–—]{1,2}(?:(?P<m2>\d{1,2})月)?(?P<d2>\d{1,2})[日号])?",
    "d_name_y": r"(?<!\d)(?:(?P<before>\d{1,2})[-–~])?(?<!\d)(?P<d>\d{1,2})(?:st|nd|rd|th)?"
    rf"{_GAP}{_NAME}{_GAP}(?P<y>\d{{4}})(?!\d)",
    "y_name_d": rf"(?<!\d)(?P<y>\d{{4}}){_GAP}{_NAME}{_GAP}(?P<d>\d{{1,2}})(?!\d)",
    "name_d_y": rf"(?<![a-z]){_NAME}{_GAP}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[-_. ,]{{1,2}}(?P<y>\d{{4}})(?!\d)",
}
_COARSE = {
    "week": r"(?<!\d)(?P<y>\d{4})[-_]?w(?P<w>\d{2})(?:-(?P<day>[1-7]))?(?!\d)",
    "year_month": r"(?<!\d)(?P<y>\d{4})[-_.](?P<m>\d{2})(?!\d)(?P<rest>[-_.]\d{1,2}(?!\d))?",
    "six": r"(?<!\d)(?P<digits>\d{6})(?!\d)(?P<rest>[-_.]\d{1,2}(?!\d))?",
    "chinese_month": r"(?<!\d)(?P<y>\d{4})年(?P<m>\d{1,2})月(?!\d)",
    "name_year": rf"(?<![a-z]){_NAME}{_GAP}(?P<y>\d{{4}})(?!\d)",
    "year_name": rf"(?<!\d)(?P<y>\d{{4}}){_GAP}{_NAME}",
}
_PATTERNS = {
    kind: re.compile(text, re.ASCII | re.IGNORECASE) for kind, text in {**_FULL, **_COARSE}.items()
}
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
# Words between two days that never stand before a time: what follows is meant as the end of a range.
_RANGE_TO_A_PART = re.compile(r"\s*(?:~|\.\.|至|到)\s*\d", re.ASCII)
# Random identifiers, in which eight digits may stand side by side.
_RANDOM = re.compile(
    r"(?<![0-9a-f])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?=[0-9]*[a-f])[0-9a-f]{24,})(?![0-9a-f])",
    re.IGNORECASE,
)


def days_in_name(name: str) -> Days | None:
    """The days that one file or folder name tells; None where it holds no date.

    Raises:
        DayUnclear: it holds a number like a date that is none, one that has two readings, or several that are no range.
    """
    text = _plain(name)
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


def _plain(name: str) -> str:
    """Full-width digits as digits; random identifiers blotted out."""
    text = unicodedata.normalize("NFKC", name)
    return _RANDOM.sub(lambda found: "x" * len(found[0]), text)


def _tokens(text: str) -> list[_Token]:
    """Dates from left to right; a time of day after one belongs to it."""
    tokens, position = [], 0
    while (found := _first(text, position)) is not None:
        kind, match = found
        token = _read(kind, match)
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
        (kind, m) for kind, pattern in _PATTERNS.items() if (m := pattern.search(text, position))
    ]
    return min(matches, key=lambda found: (found[1].start(), -found[1].end()), default=None)


def _after_time(text: str, token: _Token) -> int:
    """Where the time of day after a date ends, if there is one; what may be the end of a range is refused."""
    if _RANGE_TO_A_PART.match(text, token.end) and not _dated(text, token.end):
        raise DayUnclear(f"the range from {token.days} on does not name its last day in full")
    time = _TIME.match(text, token.end)
    if time is None or _dated(text, token.end):
        return token.end
    hours, minutes = int(time["h"]), int(time["m"])
    undivided = time["in"] == "" and time["lead"] in "T_ "
    if not time["s"] and time["lead"] != "T" and time["in"] != ":" and not undivided:
        end = _date(token.days.first.year, hours, minutes)
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


def _refuse_other_readings(text: str, tokens: list[_Token]) -> None:
    """12_26_2026_11_26 holds two dates that share their year: neither may be chosen."""
    inside = {place for token in tokens for place in range(token.start, token.stop)}
    for start in range(len(text)):
        for kind in _FULL:
            match = _PATTERNS[kind].match(text, start)
            if match is None or start not in inside:
                continue
            digits = {place for place in range(*match.span()) if text[place].isdigit()}
            token = next(token for token in tokens if token.start <= start < token.stop)
            if digits <= inside:
                continue
            other = _read(kind, match)
            if other is not None and other.days != token.days:
                raise DayUnclear(f"it may mean {token.days} or {other.days}")


def _read(kind: str, match: re.Match[str]) -> _Token | None:
    """What a match says; None for a number that is no date and does not look like one."""
    groups = match.groupdict()
    year = int(groups.get("y") or 0)
    if "y" in groups and year not in _YEARS:
        return None
    grain: _Grain = "day"
    if kind == "digits":
        days = _of_digits(groups["digits"])
    elif kind == "numbers":
        days = _of_numbers(match[0], int(groups["a"]), int(groups["b"]), year)
    elif kind == "week":
        days, grain = _of_week(match[0], year, int(groups["w"]), groups["day"])
    elif kind in ("year_month", "six"):
        days, grain = _of_month(match, groups), "month"
    elif kind == "chinese_month":
        days, grain = _month(match[0], year, int(groups["m"])), "month"
    elif kind in ("name_year", "year_name"):
        days, grain = Days.month(year, _month_number(groups["name"])), "month"
    else:
        month = _month_number(groups["name"]) if "name" in groups else int(groups["m"])
        days = _one(match[0], year, month, int(groups["d"]))
        if groups.get("before"):
            raise DayUnclear(f"{match[0]} may be one day or several")
        if groups.get("d2"):
            end = _one(match[0], year, int(groups["m2"] or month), int(groups["d2"]))
            if end.first < days.first:
                raise DayUnclear(f"{match[0]} ends before it begins")
            days, grain = Days(first=days.first, last=end.last), "span"
    return None if days is None else _Token(match.start(), match.end(), match.end(), days, grain)


def _of_digits(digits: str) -> Days | None:
    """20261126, 26112026, 2026112603, 202611260300, 20261126030000 and with milliseconds."""
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    if len(digits) > 8:
        found = _date(year, month, day)
        hour, minute, second = (int(digits[at : at + 2] or 0) for at in (8, 10, 12))
        return (
            Days(first=found, last=found)
            if found and hour < 24 and minute < 60 and second < 61
            else None
        )
    a, b, last = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    readings = {_date(year, month, day), _date(last, b, a), _date(last, a, b)} - {None}
    if len(readings) > 1:
        raise DayUnclear(
            f"{digits} may mean {' or '.join(map(str, sorted(filter(None, readings))))}"
        )
    if not readings:
        if year in _YEARS:
            raise DayUnclear(f"{digits} is no date")
        return None
    (found,) = readings
    assert found is not None
    return Days(first=found, last=found)


def _of_numbers(text: str, a: int, b: int, year: int) -> Days:
    """26-11-2026 or 11-26-2026; which of the two numbers is the month must be certain."""
    readings = {_date(year, b, a), _date(year, a, b)} - {None}
    if not readings:
        raise DayUnclear(f"{text} is no date")
    if len(readings) > 1:
        raise DayUnclear(f"{text} may mean {' or '.join(map(str, sorted(filter(None, readings))))}")
    (found,) = readings
    assert found is not None
    return Days(first=found, last=found)


def _of_week(text: str, year: int, week: int, day: str | None) -> tuple[Days, _Grain]:
    """ISO 8601: weeks begin on Monday, and the first one holds the year's first Thursday."""
    try:
        first = date.fromisocalendar(year, week, int(day or 1))
    except ValueError:
        raise DayUnclear(f"{text} is no week") from None
    return (
        (Days(first=first, last=first), "day")
        if day
        else (Days(first=first, last=first + 6 * _ONE), "week")
    )


def _of_month(match: re.Match[str], groups: dict[str, str]) -> Days | None:
    """2026-11 or 202611; what may be a day as well (2026-11_26, 101112) is refused."""
    digits = groups.get("digits")
    year, month = (
        (int(digits[:4]), int(digits[4:])) if digits else (int(groups["y"]), int(groups["m"]))
    )
    if year not in _YEARS or not 1 <= month <= 12:
        return None
    if digits:
        a, b, c = int(digits[:2]), int(digits[2:4]), int(digits[4:])
        if any(_date(2000 + y, m, d) for y, m, d in ((a, b, c), (c, b, a), (c, a, b))):
            raise DayUnclear(f"{digits} may be a month or a day with a year of two digits")
    if groups["rest"] and _date(year, month, int(groups["rest"][1:])) is not None:
        raise DayUnclear(f"{match[0]} may be a day, or a month and a number")
    return Days.month(year, month)


def _month(text: str, year: int, month: int) -> Days:
    if not 1 <= month <= 12:
        raise DayUnclear(f"{text} is no month")
    return Days.month(year, month)


def _one(text: str, year: int, month: int, day: int) -> Days:
    found = _date(year, month, day)
    if found is None:
        raise DayUnclear(f"{text} is no date")
    return Days(first=found, last=found)


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day) if year in _YEARS else None
    except ValueError:
        return None


def _month_number(name: str) -> int:
    return next(
        n for n, known in enumerate(_MONTH_NAMES, 1) if re.fullmatch(known, name, re.IGNORECASE)
    )


# --- a path -----------------------------------------------------------------------------------------------------------

_KEYS = {
    **dict.fromkeys(("year", "yyyy", "yr", "y", "年"), "year"),
    **dict.fromkeys(("month", "mm", "mon", "m", "月"), "month"),
    **dict.fromkeys(("day", "dd", "d", "日"), "day"),
}
_KEYED = re.compile(r"([^=]+)=(\d{1,4})", re.ASCII)
_YEAR = re.compile(r"(\d{4})年?", re.ASCII)
_TWO = {
    "month": re.compile(r"(\d{1,2})月?", re.ASCII),
    "day": re.compile(r"(\d{1,2})[日号]?", re.ASCII),
}


def days_of(parts: Sequence[str], above: Sequence[str] = ()) -> Days | None:
    """The days that a file's folders and name tell; None where they hold no date.

    Args:
        parts: folders and file name as far as they differ from file to file.
        above: the folders before them, which may give the year and the month of 2026/11/26, and nothing else.
    Raises:
        DayUnclear: two of them contradict each other, or one is unclear by itself.
    """
    steps = [_plain(part) for part in (*above, *parts)]
    stem = steps[-1].partition(".")[0]
    steps[-1] = stem if _pure(stem) else steps[-1]
    told, used = _of_folders(steps, len(above), "/".join(parts))
    found = [told.days] if told is not None and told.days is not None else []
    for place, part in enumerate(parts, len(above)):
        if place not in used and (days := days_in_name(part)) is not None:
            found.append(days)
    if not found:
        return None
    narrowest = min(found, key=len)
    # A year alone is too wide to be read as the day of a file; it bounds what the rest tells.
    for days in [*found, *([told.year] if told is not None else [])]:
        if narrowest not in days:
            raise DayUnclear(f"its folders and its name tell {days} and {narrowest}")
    return narrowest


def leads_to_days(folder: str) -> bool:
    """Whether a folder is one of those by which dated files are sorted: 2026, 11, date=2026-11-26, lang=zh."""
    name = _plain(folder)
    if "=" in name or _pure(name):
        return True
    try:
        return days_in_name(folder) is not None
    except DayUnclear:
        return True


def _pure(name: str) -> bool:
    return re.fullmatch(r"\d{1,2}[月日号]?|\d{4}年?", name, re.ASCII) is not None


@dataclass(frozen=True)
class _Folders:
    """What year, month and day say that stand in steps of their own; `days` is None where there is but a year."""

    year: Days
    days: Days | None


def _of_folders(steps: list[str], varying: int, shown: str) -> tuple[_Folders | None, set[int]]:
    """year=2026/month=11/day=26, 2026/11/26 and 2026-11/26, and the places of the steps that are spoken for."""
    keyed = {}
    for place, step in enumerate(steps):
        match = _KEYED.fullmatch(step)
        if (
            match
            and (role := _KEYS.get(match[1].casefold()))
            and (len(match[2]) == 4) == (role == "year")
        ):
            keyed[role] = (place, int(match[2]))
    if "year" in keyed and max(place for place, _ in keyed.values()) >= varying:
        numbers = {role: number for role, (_, number) in keyed.items()}
        return _calendar(numbers, shown), {place for place, _ in keyed.values()}
    for start in reversed(range(len(steps))):
        numbers, used = _numbered(steps, start)
        if numbers and max(used) >= varying:
            return _calendar(numbers, shown), used
    return None, set()


def _numbered(steps: list[str], start: int) -> tuple[dict[str, int], set[int]]:
    """2026/11/26 from a step on: the numbers, and where they stand."""
    year, numbers, used = _YEAR.fullmatch(steps[start]), {}, {start}
    if year is not None and int(year[1]) in _YEARS:
        numbers["year"], wanted = int(year[1]), ("month", "day")
    else:
        month = _whole_month(steps[start])
        if month is None or start + 1 >= len(steps) or not _TWO["day"].fullmatch(steps[start + 1]):
            return {}, set()
        numbers, wanted = {"year": month.first.year, "month": month.first.month}, ("day",)
    for place, role in enumerate(wanted, start + 1):
        match = _TWO[role].fullmatch(steps[place]) if place < len(steps) else None
        if match is None:
            break
        numbers[role] = int(match[1])
        used.add(place)
    return numbers, used


def _whole_month(step: str) -> Days | None:
    """A step that is a month and nothing else."""
    for kind in ("year_month", "six", "chinese_month"):
        match = _PATTERNS[kind].fullmatch(step)
        if match and not match.groupdict().get("rest"):
            token = _read(kind, match)
            return token.days if token else None
    return None


def _calendar(numbers: dict[str, int], shown: str) -> _Folders:
    year, month, day = (numbers.get(role) for role in ("year", "month", "day"))
    if year is None or year not in _YEARS or (month is None and day is not None):
        raise DayUnclear(f"{shown} gives no year, month and day")
    whole = Days(first=date(year, 1, 1), last=date(year, 12, 31))
    if month is None:
        return _Folders(whole, None)
    return _Folders(
        whole, _month(shown, year, month) if day is None else _one(shown, year, month, day)
    )


# --- a window ---------------------------------------------------------------------------------------------------------


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
    """What of its window a source holds, as far as names tell; `coverage` is empty where the URLs hold the dates."""

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
    """The newest few, and how many days there are in all: "2026-11-03, 2026-11-07 to 2026-11-09 (4 days)"."""
    shown = ", ".join(map(str, spans[-_SHOWN:]))
    days = sum(map(len, spans))
    more = "… " if len(spans) > _SHOWN else ""
    return f"{more}{shown}" + (f" ({days} days)" if days > 1 else "")
