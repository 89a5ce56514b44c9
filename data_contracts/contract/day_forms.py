"""The forms in which a name may tell a date, and what each of them says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from data_contracts.contract.days import YEARS, Days, DayUnclear

Grain = Literal["day", "span", "week", "month"]


@dataclass(frozen=True)
class Token:
    """What one stretch of a name says."""

    start: int
    stop: int  # of the date itself
    end: int  # of a time of day after it too
    days: Days
    grain: Grain


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
FULL = {
    "digits": r"(?<!\d)(?P<digits>\d{8}|\d{10}|\d{12}|\d{14}|\d{17})(?!\d)",
    "ymd": rf"(?<!\d)(?P<y>\d{{4}}){_SEP}(?P<m>\d{{1,2}})(?P=sep)(?P<d>\d{{1,2}})(?!\d)",
    "numbers": rf"(?<!\d)(?P<a>\d{{1,2}}){_SEP}(?P<b>\d{{1,2}})(?P=sep)(?P<y>\d{{4}})(?!\d)",
    "chinese": r"(?<!\d)(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})(?!\d)[日号]?"
    r"(?:[至到~\-–—]{1,2}(?:(?P<m2>\d{1,2})月)?(?P<d2>\d{1,2})[日号])?",
    "d_name_y": r"(?<!\d)(?:(?P<before>\d{1,2})[-–~])?(?<!\d)(?P<d>\d{1,2})(?:st|nd|rd|th)?"
    rf"{_GAP}{_NAME}{_GAP}(?P<y>\d{{4}})(?!\d)",
    "y_name_d": rf"(?<!\d)(?P<y>\d{{4}}){_GAP}{_NAME}{_GAP}(?P<d>\d{{1,2}})(?!\d)",
    "name_d_y": rf"(?<![a-z]){_NAME}{_GAP}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[-_. "
    rf",]{{1,2}}(?P<y>\d{{4}})(?!\d)",
}
_COARSE = {
    "week": r"(?<!\d)(?P<y>\d{4})[-_]?w(?P<w>\d{2})(?:-(?P<day>[1-7]))?(?!\d)",
    "year_month": r"(?<!\d)(?P<y>\d{4})[-_.](?P<m>\d{2})(?!\d)(?P<rest>[-_.]\d{1,2}(?!\d))?",
    "six": r"(?<!\d)(?P<digits>\d{6})(?!\d)(?P<rest>[-_.]\d{1,2}(?!\d))?",
    "chinese_month": r"(?<!\d)(?P<y>\d{4})年(?P<m>\d{1,2})月(?!\d)",
    "name_year": rf"(?<![a-z]){_NAME}{_GAP}(?P<y>\d{{4}})(?!\d)",
    "year_name": rf"(?<!\d)(?P<y>\d{{4}}){_GAP}{_NAME}",
}
PATTERNS = {
    kind: re.compile(text, re.ASCII | re.IGNORECASE) for kind, text in {**FULL, **_COARSE}.items()
}


def read(kind: str, match: re.Match[str]) -> Token | None:
    """What a match says; None for a number that is no date and does not look like one."""
    groups = match.groupdict()
    year = int(groups.get("y") or 0)
    if "y" in groups and year not in YEARS:
        return None
    grain: Grain = "day"
    if kind == "digits":
        days = _of_digits(groups["digits"])
    elif kind == "numbers":
        days = _of_numbers(match[0], int(groups["a"]), int(groups["b"]), year)
    elif kind == "week":
        days, grain = _of_week(match[0], year, int(groups["w"]), groups["day"])
    elif kind in ("year_month", "six"):
        days, grain = _of_month(match, groups), "month"
    elif kind == "chinese_month":
        days, grain = month_of(match[0], year, int(groups["m"])), "month"
    elif kind in ("name_year", "year_name"):
        days, grain = Days.month(year, _month_number(groups["name"])), "month"
    else:
        days, grain = _of_day(match[0], year, groups)
    return None if days is None else Token(match.start(), match.end(), match.end(), days, grain)


def _of_day(text: str, year: int, groups: dict[str, str]) -> tuple[Days, Grain]:
    """One day, or from one to another."""
    month = _month_number(groups["name"]) if "name" in groups else int(groups["m"])
    days = day_of(text, year, month, int(groups["d"]))
    if groups.get("before"):
        raise DayUnclear(f"{text} may be one day or several")
    if not groups.get("d2"):
        return days, "day"
    end = day_of(text, year, int(groups["m2"] or month), int(groups["d2"]))
    if end.first < days.first:
        raise DayUnclear(f"{text} ends before it begins")
    return Days(first=days.first, last=end.last), "span"


def _of_digits(digits: str) -> Days | None:
    """20261126, 26112026, 2026112603, 202611260300, 20261126030000 and with milliseconds."""
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    if len(digits) > 8:
        found = day_or_none(year, month, day)
        hour, minute, second = (int(digits[at : at + 2] or 0) for at in (8, 10, 12))
        return (
            Days(first=found, last=found)
            if found and hour < 24 and minute < 60 and second < 61
            else None
        )
    a, b, last = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    readings = {day_or_none(year, month, day), day_or_none(last, b, a), day_or_none(last, a, b)} - {
        None
    }
    if len(readings) > 1:
        raise DayUnclear(
            f"{digits} may mean {' or '.join(map(str, sorted(filter(None, readings))))}"
        )
    if not readings:
        if year in YEARS:
            raise DayUnclear(f"{digits} is no date")
        return None
    (found,) = readings
    assert found is not None
    return Days(first=found, last=found)


def _of_numbers(text: str, a: int, b: int, year: int) -> Days:
    """26-11-2026 or 11-26-2026; which of the two numbers is the month must be certain."""
    readings = {day_or_none(year, b, a), day_or_none(year, a, b)} - {None}
    if not readings:
        raise DayUnclear(f"{text} is no date")
    if len(readings) > 1:
        raise DayUnclear(f"{text} may mean {' or '.join(map(str, sorted(filter(None, readings))))}")
    (found,) = readings
    assert found is not None
    return Days(first=found, last=found)


def _of_week(text: str, year: int, week: int, day: str | None) -> tuple[Days, Grain]:
    """ISO 8601: weeks begin on Monday, and the first one holds the year's first Thursday."""
    try:
        first = date.fromisocalendar(year, week, int(day or 1))
    except ValueError:
        raise DayUnclear(f"{text} is no week") from None
    return (
        (Days(first=first, last=first), "day")
        if day
        else (Days(first=first, last=first + 6 * timedelta(days=1)), "week")
    )


def _of_month(match: re.Match[str], groups: dict[str, str]) -> Days | None:
    """2026-11 or 202611; what may be a day as well (2026-11_26, 101112) is refused."""
    digits = groups.get("digits")
    year, month = (
        (int(digits[:4]), int(digits[4:])) if digits else (int(groups["y"]), int(groups["m"]))
    )
    if year not in YEARS or not 1 <= month <= 12:
        return None
    if digits:
        a, b, c = int(digits[:2]), int(digits[2:4]), int(digits[4:])
        if any(day_or_none(2000 + y, m, d) for y, m, d in ((a, b, c), (c, b, a), (c, a, b))):
            raise DayUnclear(f"{digits} may be a month or a day with a year of two digits")
    if groups["rest"] and day_or_none(year, month, int(groups["rest"][1:])) is not None:
        raise DayUnclear(f"{match[0]} may be a day, or a month and a number")
    return Days.month(year, month)


def month_of(text: str, year: int, month: int) -> Days:
    if not 1 <= month <= 12:
        raise DayUnclear(f"{text} is no month")
    return Days.month(year, month)


def day_of(text: str, year: int, month: int, day: int) -> Days:
    found = day_or_none(year, month, day)
    if found is None:
        raise DayUnclear(f"{text} is no date")
    return Days(first=found, last=found)


def day_or_none(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day) if year in YEARS else None
    except ValueError:
        return None


def _month_number(name: str) -> int:
    return next(
        n for n, known in enumerate(_MONTH_NAMES, 1) if re.fullmatch(known, name, re.IGNORECASE)
    )
