"""Which days a file's folders and name tell together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from data_contracts.contract.day_forms import PATTERNS, day_of, month_of, read
from data_contracts.contract.day_names import days_in_name, plain
from data_contracts.contract.days import YEARS, Days, DayUnclear

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
        above: the folders before them, which may give the year and the month of 2026/11/26, and
            nothing else.
    Raises:
        DayUnclear: two of them contradict each other, or one is unclear by itself.
    """
    steps = [plain(part) for part in (*above, *parts)]
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
    """Whether a folder is one of those by which dated files are sorted: 2026, 11, date=2026-11-26,
    lang=zh.
    """
    name = plain(folder)
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
    """What year, month and day say that stand in steps of their own; `days` is None where there is
    but a year.
    """

    year: Days
    days: Days | None


def _of_folders(steps: list[str], varying: int, shown: str) -> tuple[_Folders | None, set[int]]:
    """year=2026/month=11/day=26, 2026/11/26 and 2026-11/26, and the places of the steps that are
    spoken for.
    """
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
    if year is not None and int(year[1]) in YEARS:
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
        match = PATTERNS[kind].fullmatch(step)
        if match and not match.groupdict().get("rest"):
            token = read(kind, match)
            return token.days if token else None
    return None


def _calendar(numbers: dict[str, int], shown: str) -> _Folders:
    year, month, day = (numbers.get(role) for role in ("year", "month", "day"))
    if year is None or year not in YEARS or (month is None and day is not None):
        raise DayUnclear(f"{shown} gives no year, month and day")
    whole = Days(first=date(year, 1, 1), last=date(year, 12, 31))
    if month is None:
        return _Folders(whole, None)
    return _Folders(
        whole, month_of(shown, year, month) if day is None else day_of(shown, year, month, day)
    )
