"""Days told by names: every common form is read exactly, and what could mean two things is refused,
never guessed.
"""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.contract.day_names import days_in_name
from data_contracts.contract.day_paths import days_of, leads_to_days
from data_contracts.contract.days import Days, DayUnclear, coverage, merged

A_DAY, A_WEEK = "2026-11-26", "2026-11-23 to 2026-11-29"
A_MONTH, SEVEN = "2026-11-01 to 2026-11-30", "2026-11-01 to 2026-11-07"

TOLD = {
    **dict.fromkeys(
        (
            *("2026-11-26.csv", "20261126.csv", "mails_20261126.csv.gz", "2026_11_26.jsonl", "2026.11.26.csv"),
            *("mails20261126", "26-11-2026.csv", "11-26-2026.csv", "26112026.csv", "26.11.2026.csv"),
            "２０２６-11-26.csv",
            *("date=2026-11-26", "dt=20261126", "ts=2026-11-26 03%3A00%3A00", "2026年11月26日.csv", "2026年11月26号"),
            *("20261126T0300.csv", "2026-11-26T03:00:00Z.csv", "20261126_030000.csv", "20261126_201512.csv"),
            *("2026112603.csv", "202611260300.csv", "20261126030000.csv", "20261126030000123.csv", "2026-11-26-03.csv"),
            *("2026-11-26_03-15-00.csv", "2026-11-26 03.15.csv", "26-Nov-2026.csv", "26nov2026", "Nov-26-2026"),
            *("26 November 2026.csv", "2026-W48-4.csv", "part-0001_2026-11-26.csv", "2026-11-26_0001.csv"),
            *("12345678_2026-11-26.csv", "v2_20261126_12345678.csv", "2026-11_exported_2026-11-26.csv"),
            "part-0-20261125-12ab-4f6d-9e0a-1234567890ab-20261126.parquet",
        ),
        A_DAY,
    ),
    **dict.fromkeys(
        (
            *("2026-11-01_2026-11-07.csv", "20261101-20261107.csv", "2026-11-01-2026-11-07.csv"),
            *("2026-11-01_to_2026-11-07.csv", "2026-11-01..2026-11-07.csv", "2026-11-01~2026-11-07.csv"),
            *("2026年11月1日至7日.csv", "2026年11月1日-11月7日.csv", "2026年11月1日至2026年11月7日.csv"),
            "2026-11-01T00:00Z_2026-11-07T23:59Z.csv",
        ),
        SEVEN,
    ),
    **dict.fromkeys(("2026-11.csv", "202611.csv", "2026_11", "2026年11月", "nov-2026", "mails_2026.11.csv"), A_MONTH),
    **dict.fromkeys(("2026-W48.csv", "2026W48.csv", "mails_2026_w48.csv"), A_WEEK),
    "2026-W53.csv": "2026-12-28 to 2027-01-03",
    "2026-10_2026-11.csv": "2026-10-01 to 2026-11-30",
    "2024-02-29.csv": "2024-02-29",
    **dict.fromkeys(
        (
            *("mails.csv", "mails_12345678.csv", "part-00000.parquet", "mails-2026.csv", "1764201600.csv"),
            "v1.2.3.csv",
            *("261126.csv", "24-02-29.csv", "2026330.csv", "11月26日.csv", "3f2b8c1e-2026-1126-9e0a-20261126abcd.csv"),
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.csv",
        ),
        None,
    ),
}  # fmt: skip

UNCLEAR = {
    "05-06-2026.csv": "2026-05-06 or 2026-06-05",
    "05062026.csv": "2026-05-06 or 2026-06-05",
    "2026-13-01.csv": "2026-13-01 is no date",
    "2026-02-29.csv": "2026-02-29 is no date",
    "20261345.csv": "20261345 is no date",
    "20261345_2026-11-26.csv": "20261345 is no date",
    "2026-W54.csv": "2026-W54 is no week",
    "2026年13月1日.csv": "is no date",
    "2026-11-26_exported_2026-11-28.csv": "several dates: 2026-11-26, 2026-11-28",
    "2026-11-26_2026-11-27_2026-11-28.csv": "several dates",
    "2026-11-26 and 2026-11-27.csv": "several dates",
    "2026-11-07_2026-11-01.csv": "no range",
    "2026-11_2026-11-26.csv": "several dates",
    "2026-11-01_2026-11.csv": "several dates",
    "12_26_2026_11_26.csv": "2026-12-26 or 2026-11-26",
    "2026-11_26.csv": "may be a day, or a month and a number",
    "201012.csv": "may be a month or a day",
    "20261101-1107.csv": "may be a time or the last day of a range",
    "20261101~1107.csv": "does not name its last day in full",
    "2026-11-01至07.csv": "does not name its last day in full",
    "1-7-Nov-2026.csv": "one day or several",
    "2026年11月7日至1日.csv": "ends before it begins",
}


@pytest.mark.parametrize(("name", "told"), TOLD.items())
def test_a_name_tells_its_days_or_none(name: str, told: str | None) -> None:
    found = days_in_name(name)
    assert (str(found) if found is not None else None) == told


@pytest.mark.parametrize(("name", "why"), UNCLEAR.items())
def test_a_name_with_two_readings_or_a_broken_date_is_refused_with_the_reason(
    name: str, why: str
) -> None:
    with pytest.raises(DayUnclear) as refused:
        days_in_name(name)
    assert why in str(refused.value)


PATHS = {
    "date=2026-11-26/part-0.csv": A_DAY,
    "lang=zh/dt=20261126/part-0.csv": A_DAY,
    "year=2026/month=11/day=26/part.csv": A_DAY,
    "year=2026/region=eu/month=11/day=26/part.csv": A_DAY,
    "2026/11/26/mails.csv": A_DAY,
    "2026/11/26.csv.gz": A_DAY,
    "2026/11/26/03/part-7.csv": A_DAY,
    "2026-11/26/mails.csv": A_DAY,
    "202611/26.csv": A_DAY,
    "2026年/11月/26日/邮件.csv": A_DAY,
    "2026/11/2026-11-26.csv": A_DAY,
    "2026-W48/20261126.csv": A_DAY,
    "m=5/date=2026-11-26/part-0.csv": A_DAY,
    "2026/11/mails.csv": A_MONTH,
    "2026/2026-W48.csv": A_WEEK,
    "2026/mails.csv": None,
    "11/26/mails.csv": None,
    "month=11/day=26/part.csv": None,
    "26.csv": None,
}


@pytest.mark.parametrize(("path", "told"), PATHS.items())
def test_folders_tell_what_the_name_leaves_out(path: str, told: str | None) -> None:
    found = days_of(path.split("/"))
    assert (str(found) if found is not None else None) == told


@pytest.mark.parametrize(
    "path",
    [
        "date=2026-11-26/export-2026-11-27.csv",
        "2026/11/26/2026-11-27.csv",
        "2025/2026-01-01.csv",
        "2026/13/01/mails.csv",
        "2026/11/45.csv",
        "year=2026/day=26/part.csv",
    ],
)
def test_folders_and_name_that_contradict_each_other_are_refused(path: str) -> None:
    with pytest.raises(DayUnclear):
        days_of(path.split("/"))


def test_folders_that_the_url_fixes_give_year_and_month_and_nothing_else() -> None:
    day = Days(first=date(2026, 11, 26), last=date(2026, 11, 26))
    assert (
        days_of(["26", "a.csv"], ["data", "2026", "11"])
        == days_of(["11", "26.csv"], ["logs", "2026"])
        == day
    )
    assert days_of(["2026-11-26.csv"], ["backup-2025-01-01"]) == day
    assert days_of(["mails.csv"], ["data", "2026-11-26"]) is None


def test_folders_by_which_files_are_sorted_are_known() -> None:
    assert all(
        map(leads_to_days, ("2026", "11", "date=x", "lang=zh", "2026-11-26", "2026年", "20261345"))
    )
    assert not any(map(leads_to_days, ("archive", "old mails", "v12")))


DAYS = st.dates(date(1970, 1, 1), date(2099, 12, 31))
FORMATS = (
    "%Y-%m-%d",
    "%Y%m%d",
    "%Y_%m_%d",
    "%Y.%m.%d",
    "%d%b%Y",
    "%d-%B-%Y",
    "%Y年%m月%d日",
    "%G-W%V-%u",
    "%Y%m%dT0300Z",
)
AROUND = st.sampled_from(("", "mails_", "邮件-", "part-0001_", "v2.", "A ", "export.final."))


@given(DAYS, st.sampled_from(FORMATS), AROUND)
def test_every_day_is_read_in_every_form(day: date, form: str, before: str) -> None:
    assert days_in_name(f"{before}{day:{form}}.csv") == Days(first=day, last=day)


@given(
    DAYS,
    DAYS,
    st.sampled_from(("%Y-%m-%d", "%Y%m%d", "%Y.%m.%d")),
    st.sampled_from(("_", "--", "_to_", "至", "~")),
)
def test_every_range_is_read_or_refused_where_it_runs_backwards(
    one: date, other: date, form: str, between: str
) -> None:
    name = f"{one:{form}}{between}{other:{form}}.csv"
    if one <= other:
        assert days_in_name(name) == Days(first=one, last=other)
    else:
        with pytest.raises(DayUnclear):
            days_in_name(name)


@given(st.text("0123456789-_./年月日至wWT=nov ", max_size=30))
def test_no_name_is_read_as_days_outside_the_calendar_or_ends_in_another_error(name: str) -> None:
    try:
        found = days_of(name.split("/"))
    except DayUnclear:
        return
    assert found is None or date(1969, 12, 29) <= found.first <= found.last <= date(2100, 1, 3)


def span(first: int, last: int) -> Days:
    start = date(2026, 11, 1)
    return Days(first=start + timedelta(days=first - 1), last=start + timedelta(days=last - 1))


def test_coverage_counts_days_and_names_what_is_missing_and_what_is_beyond() -> None:
    every = coverage(span(1, 28), [span(n, n) for n in range(28, 0, -1)])
    assert str(every) == "28 of 28 days, 2026-11-01 to 2026-11-28" and every.age_days == 0
    some = coverage(span(1, 10), [span(1, 3), span(2, 4), span(6, 6)])
    assert (some.found, some.missing, some.missing_days) == (5, (span(5, 5), span(7, 10)), 5)
    assert (some.newest, some.age_days) == (date(2026, 11, 6), 4)
    assert str(some).endswith(
        "missing 2026-11-05, 2026-11-07 to 2026-11-10 (5 days); newest 2026-11-06"
    )
    month = coverage(span(26, 27), [span(1, 30)])
    assert (month.found, month.beyond, month.newest) == (
        2,
        (span(1, 25), span(28, 30)),
        date(2026, 11, 27),
    )
    assert (
        "the same files hold 2026-11-01 to 2026-11-25, 2026-11-28 to 2026-11-30 (28 days) too"
        in str(month)
    )


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), min_size=1, max_size=12))
def test_coverage_agrees_with_sets_of_days(given_spans: list[tuple[int, int]]) -> None:
    spans = [span(first, first + more) for first, more in given_spans]
    window = span(10, 30)
    held = {n for first, more in given_spans for n in range(first, first + more + 1)}
    wanted = set(range(10, 31))
    if not held & wanted:
        return
    found = coverage(window, spans)

    def numbers(parts) -> set[int]:
        return {
            (part.first - date(2026, 11, 1)).days + 1 + n
            for part in parts
            for n in range(len(part))
        }

    assert (found.found, numbers(found.missing)) == (len(held & wanted), wanted - held)
    assert numbers(found.beyond) == held - wanted and numbers(merged(spans)) == held
