"""By whose clock a run's day is told: its schedule's, else its deployment's, else the machine's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import (
    CronSchedule,
    IntervalSchedule,
    NoSchedule,
    RRuleSchedule,
)

from data_contracts.errors import NoisefoldError
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.source import DataWindow
from flows.running.due import by_machine, by_schedules

EVENING = datetime(2026, 11, 28, 19, 0, tzinfo=UTC)  # 03:00 of the 29th in Shanghai
NIGHT = datetime(2026, 11, 29, 5, 0, tzinfo=UTC)  # 21:00 of the 28th in Los Angeles


def scheduled(rule: Any, active: bool = True) -> DeploymentSchedule:
    return DeploymentSchedule(id=uuid4(), schedule=rule, active=active)


def cron(zone: str | None, active: bool = True) -> DeploymentSchedule:
    return scheduled(CronSchedule(cron="0 3 * * *", timezone=zone), active)


@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        ("Asia/Shanghai", EVENING, date(2026, 11, 29)),
        ("America/Los_Angeles", NIGHT, date(2026, 11, 28)),
        ("UTC", NIGHT, date(2026, 11, 29)),
        (None, EVENING, date(2026, 11, 28)),
        ("Asia/Kolkata", datetime(2026, 11, 28, 18, 29, tzinfo=UTC), date(2026, 11, 28)),
        ("Asia/Kolkata", datetime(2026, 11, 28, 18, 30, tzinfo=UTC), date(2026, 11, 29)),
        ("Asia/Kathmandu", datetime(2026, 11, 28, 18, 15, tzinfo=UTC), date(2026, 11, 29)),
        ("Pacific/Kiritimati", datetime(2026, 11, 28, 10, 0, tzinfo=UTC), date(2026, 11, 29)),
        ("Pacific/Pago_Pago", datetime(2026, 11, 29, 10, 59, tzinfo=UTC), date(2026, 11, 28)),
        # Midnight in Berlin is 22:00 UTC in summer and 23:00 in winter, which begins on 25 October
        # 2026 at 01:00 UTC.
        ("Europe/Berlin", datetime(2026, 10, 24, 22, 0, tzinfo=UTC), date(2026, 10, 25)),
        ("Europe/Berlin", datetime(2026, 10, 25, 22, 30, tzinfo=UTC), date(2026, 10, 25)),
        ("Europe/Berlin", datetime(2026, 10, 25, 23, 0, tzinfo=UTC), date(2026, 10, 26)),
    ],
)
def test_a_run_is_due_on_the_day_of_its_schedules_own_zone(
    zone: str | None, at: datetime, day: date
) -> None:
    mine, other = cron(zone), cron("Pacific/Auckland")
    due = by_schedules(at, mine.id, [other, mine])
    assert due.day == day and "its schedule's time zone" in str(due)


@pytest.mark.parametrize(
    "rule",
    [
        IntervalSchedule(interval=timedelta(days=1), timezone="Asia/Shanghai"),
        RRuleSchedule(rrule="DTSTART:20261101T030000\nRRULE:FREQ=DAILY", timezone="Asia/Shanghai"),
    ],
)
def test_intervals_and_rules_have_a_zone_too(rule: Any) -> None:
    mine = scheduled(rule)
    assert by_schedules(EVENING, mine.id, [mine, cron("UTC")]).day == date(2026, 11, 29)


def test_a_run_by_hand_goes_by_the_zone_that_its_deployments_schedules_agree_on() -> None:
    """As does a retry of one whose schedule was deployed anew since."""
    for maker in (None, uuid4()):
        due = by_schedules(
            EVENING, maker, [cron("Asia/Shanghai"), cron("Asia/Shanghai"), scheduled(NoSchedule())]
        )
        assert (due.day, str(due)) == (
            date(2026, 11, 29),
            "2026-11-29 03:00 (Asia/Shanghai, its deployment's time zone)",
        )
    assert by_schedules(
        EVENING, None, [cron("Asia/Shanghai"), cron("UTC", active=False)]
    ).day == date(2026, 11, 29)
    assert by_schedules(EVENING, None, [cron("Asia/Shanghai", active=False)]).day == date(
        2026, 11, 29
    )


def test_where_schedules_disagree_or_are_none_the_machines_clock_counts_and_says_so(
    monkeypatch,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    torn = by_schedules(EVENING, None, [cron("America/Los_Angeles"), cron("Europe/Berlin")])
    assert torn.day == date(2026, 11, 29)
    assert (
        "schedules in America/Los_Angeles and Europe/Berlin; so by this machine's time zone"
        in str(torn)
    )
    for zone, day in (
        ("Asia/Shanghai", 29),
        ("America/Los_Angeles", 28),
        (":Asia/Kolkata", 29),
        ("Japan", 29),
        ("UTC", 28),
    ):
        monkeypatch.setenv("TZ", zone)
        due = by_schedules(EVENING, None, [])
        assert due.day == date(2026, 11, day) and "this machine's time zone" in str(due)


def test_a_zone_that_is_not_known_is_refused_and_not_taken_for_utc(monkeypatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shangai")
    with pytest.raises(NoisefoldError, match="does not know the time zone Asia/Shangai"):
        by_machine(EVENING)
    monkeypatch.delenv("TZ")
    assert by_machine(EVENING).at == EVENING and "UTC" in str(by_machine(EVENING))


def test_a_rolling_window_ends_on_the_day_before() -> None:
    recipe = parse_recipe(
        {"source": {"url": "days", "window": {"days": 2}}, "contract": "sample"}, origin="test"
    )
    mine = cron("Asia/Shanghai")
    fixed = recipe.on(by_schedules(EVENING, mine.id, [mine]).day).source
    assert fixed.window == DataWindow(start=date(2026, 11, 27), end=date(2026, 11, 28))  # type: ignore[union-attr]
