"""On which day a run was due: the day of its schedule, by the clock of the schedule's own time
zone.

A rolling window ends on the day before. Prefect gives a run's due time in UTC, where another day
may be written than on the clock by which the schedule was set: 03:00 in Shanghai is 19:00 UTC of
the day before. The time stays the same when a run is late or retried, and is what `prefect
deployment run --start-at` says for one that fills a gap.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from data_contracts.errors import NoisefoldError

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import DeploymentSchedule


@dataclass(frozen=True)
class Due:
    """When a run was due, by the clock that counts, and whose clock that is."""

    at: datetime
    clock: str

    @property
    def day(self) -> date:
        return self.at.date()

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} ({self.clock})"


def run_name() -> str:
    """What a flow run is called in Prefect: its recipe, comparison or search, and when it was
    due.
    """
    from prefect.runtime import flow_run

    given = flow_run.parameters or {}
    subject = given.get("recipe") or given.get("comparison") or given.get("search")
    name = subject.get("name") if isinstance(subject, dict) else getattr(subject, "name", None)
    if given.get("recipe_file"):
        name = Path(given["recipe_file"]).stem
    as_of = given.get("as_of")
    asked = datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of
    when = due() if asked is None else as_asked(asked)
    return f"{name or flow_run.flow_name} {when.at:%Y-%m-%d %H:%M}"


def due() -> Due:
    """When the flow run around this call was due; within another flow, when that one was."""
    from prefect.context import FlowRunContext
    from prefect.exceptions import ObjectNotFound
    from prefect.runtime import flow_run

    from tasks.liveness.dead_runs import prefect_client

    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or (run.deployment_id is None and run.parent_task_run_id is None):
        return by_machine(run.expected_start_time if run is not None else None)
    with prefect_client() as client:
        if run.parent_task_run_id is not None:
            run = client.read_flow_run(flow_run.root_flow_run_id)
        try:
            schedules = (
                client.read_deployment(run.deployment_id).schedules if run.deployment_id else []
            )
        except ObjectNotFound:  # deleted since
            schedules = []
    maker = (
        run.created_by.id
        if run.created_by is not None and run.created_by.type == "SCHEDULE"
        else None
    )
    return by_schedules(run.expected_start_time or datetime.now(UTC), maker, schedules)


def as_asked(at: datetime) -> Due:
    """The instant that a person has named for the run: its own offset says on which day it lies,
    without one this machine's clock.
    """
    if at.tzinfo is None:
        return by_machine(at.astimezone())
    zone = getattr(at.tzinfo, "key", None) or f"UTC{at.isoformat()[-6:]}"
    return Due(at, f"{zone}, as asked for")


def by_schedules(at: datetime, maker: UUID | None, schedules: Iterable[DeploymentSchedule]) -> Due:
    """By the schedule that made the run; else by the zone in which all of the deployment's
    schedules are set, those that are active before those that are not; else by this machine's
    clock.
    """
    zones = [(one, zone) for one in schedules if (zone := _zone(one)) is not None]
    made = next((zone for one, zone in zones if maker is not None and one.id == maker), None)
    if made is not None:
        return _in_zone(at, made, "its schedule's time zone")
    agreed = {zone for one, zone in zones if one.active} or {zone for _, zone in zones}
    if len(agreed) == 1:
        return _in_zone(at, agreed.pop(), "its deployment's time zone")
    if agreed:
        return by_machine(
            at, f"its deployment has schedules in {' and '.join(sorted(agreed))}; so by "
        )
    return by_machine(at)


def by_machine(at: datetime | None = None, why: str = "") -> Due:
    """By the clock of this machine, which the variable TZ may set.

    Raises:
        NoisefoldError: TZ names a zone that is not known, which the system would take for UTC
            without a word.
    """
    at = at or datetime.now(UTC)
    name = os.environ.get("TZ", "").removeprefix(":")
    if name and not name.startswith("/") and ("/" in name or _known(name)):
        # A slim system has no table of its own to look in.
        return _in_zone(at, name, f"{why}this machine's time zone")
    local = _plain(at).astimezone()
    return Due(
        local,
        f"{local:%Z}, UTC{local.isoformat(timespec='minutes')[16:]}, {why}this machine's time zone",
    )


def _known(zone: str) -> bool:
    try:
        return bool(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        return False


def _in_zone(at: datetime, zone: str, whose: str) -> Due:
    if not _known(zone):
        raise NoisefoldError(
            f"This machine does not know the time zone {zone}.",
            "Correct its name where it is set (the schedule, or the variable TZ), or pip install "
            "tzdata.",
        )
    return Due(_plain(at).astimezone(ZoneInfo(zone)), f"{zone}, {whose}")


def _zone(schedule: DeploymentSchedule) -> str | None:
    """Prefect takes a schedule without a zone to be in UTC; None for one that never fires."""
    rule: Any = schedule.schedule
    return (rule.timezone or "UTC") if hasattr(rule, "timezone") else None


def _plain(at: datetime) -> datetime:
    """Prefect's own kinds of datetime do not take every zone."""
    return datetime.fromtimestamp(at.timestamp(), UTC)
