"""Will the nights come? For `noisefold doctor`: schedules that make no run, runs that nobody
starts, late runs.

A scheduler that fails at every round looks like peace from outside: no run, so no failed run. What
shows it is an active schedule without a run ahead of it, since Prefect's scheduler keeps the next
ones planned at all times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterCreatedBy,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from tasks.liveness.dead_runs import FLOWS, prefect_client
from tasks.operate.finding import Line

LATE_MINUTES = 10.0
# Prefect's scheduler goes round once a minute; a schedule that was set up or resumed since is not
# judged yet.
GRACE_MINUTES = 3.0
CHECK = "schedules"


def schedules(grace_minutes: float = GRACE_MINUTES) -> Iterator[Line]:
    """Every finding about the deployments of our flows; where there is none, that all is well."""
    ours = FlowFilter(name=FlowFilterName(any_=FLOWS))
    with prefect_client() as client:
        deployments = client.read_deployments(flow_filter=ours)
        if not deployments:
            yield Line(CHECK, "ok", "Nothing is deployed on this server.")
            return
        names = {deployment.id: deployment.name for deployment in deployments}
        found = [*_late_runs(client, ours, names)]
        scheduled = [
            one for one in deployments if any(schedule.active for schedule in one.schedules)
        ]
        ahead: list[str] = []
        for deployment in scheduled:
            found += _of_deployment(client, deployment, timedelta(minutes=grace_minutes), ahead)
        found += of_pools(client, [one for one in scheduled if not one.paused])
        yield from found
        if not any(closes_zombies(automation) for automation in client.read_automations()):
            text = "No automation closes the runs of a worker that dies."
            remedy = "prefect automation create --from-file prefect-automations.yaml"
            yield Line(CHECK, "warn", text, remedy)
        if not found:
            known = f": {'; '.join(ahead)}" if ahead else ""
            yield Line(
                CHECK, "ok", f"{len(scheduled)} deployments are scheduled, and none is late{known}."
            )


# --- what was due ---------------------------------------------------------------------------------


def _late_runs(
    client: SyncPrefectClient, ours: FlowFilter, names: dict[Any, str]
) -> Iterator[Line]:
    before = datetime.now(UTC) - timedelta(minutes=LATE_MINUTES)
    overdue = FlowRunFilter(
        state=_SCHEDULED,
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": before}),
    )
    runs = client.read_flow_runs(flow_filter=ours, flow_run_filter=overdue, limit=200)
    dated = [(run.expected_start_time, run) for run in runs if run.expected_start_time]
    for due, run in sorted(dated, key=lambda one: one[0])[:10]:
        name = names.get(run.deployment_id, "A run")
        text = f"{name} was due at {due:%Y-%m-%d %H:%M} UTC and is {run.state_name}."
        pool = run.work_pool_name or "noisefold"
        yield Line(CHECK, "fail", text, f"Start a worker: prefect worker start --pool {pool}")


# --- what comes next ------------------------------------------------------------------------------


def _of_deployment(
    client: SyncPrefectClient, deployment: DeploymentResponse, grace: timedelta, ahead: list[str]
) -> Iterator[Line]:
    """A line per active schedule that is wrong; what is well is added to `ahead` as "NAME next at
    TIME".
    """
    name = deployment.name
    if deployment.paused:
        text = f"{name} is paused as a whole, so its active schedules start nothing."
        yield Line(
            CHECK,
            "warn",
            text,
            "Switch it on on its page in Prefect, or make its schedules inactive.",
        )
        return
    if deployment.work_pool_name is None:
        text = f"{name} has no work pool: no worker starts what its schedules plan."
        yield Line(CHECK, "warn", text, "Give it one in prefect.yaml (work_pool) and deploy again.")
    active = [schedule for schedule in deployment.schedules if schedule.active]
    following = {schedule.id: next_due(schedule) for schedule in active}
    for schedule in active:
        due = following[schedule.id]
        if due is None:
            others = any(time is not None for time in following.values())
            text = f"{name}: its schedule {shown(schedule)} is active and never comes due again."
            pause = _pause(client, deployment, schedule)
            remedy = (
                f"Correct it (noisefold deploy --cron, or prefect.yaml) and deploy, or: {pause}"
            )
            yield Line(CHECK, "warn" if others else "fail", text, remedy)
        elif (run := _next_run(client, schedule)) is not None:
            ahead.append(f"{name} next at {run.expected_start_time:%Y-%m-%d %H:%M} UTC")
        elif due > datetime.now(UTC) + _planned():
            ahead.append(
                f"{name} next at {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC, too far ahead to be "
                f"planned yet"
            )
        elif _age(schedule) < grace:
            ahead.append(f"{name} was scheduled just now")
        else:
            text = (
                f"{name}: its schedule {shown(schedule)} is active and no run is planned; the next "
                f"is due at "
                f"{due.astimezone(UTC):%Y-%m-%d %H:%M} UTC. The server's scheduler makes no runs."
            )
            remedy = (
                "Look for errors of schedule_deployments in the Prefect server's log: it needs "
                "SQLAlchemy below 2.1 "
                "(make setup), and PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED must not be false. "
                "Then start it again."
            )
            yield Line(CHECK, "fail", text, remedy)


def next_due(schedule: DeploymentSchedule) -> datetime | None:
    """When Prefect's scheduler would plan the next run; None where it never finds a time."""
    return next(iter(due_times(schedule.schedule, 1)), None)


def due_times(
    rule: Any, most: int, after: datetime | None = None, until: datetime | None = None
) -> list[datetime]:
    """When Prefect's scheduler plans runs by a rule, in UTC, the earliest first.

    Args:
        rule: a cron, interval or rrule schedule of Prefect's; any other never comes due.
        after: from when on; without it from now on.
    """
    from prefect.server.schemas import schedules as server

    kinds: dict[type, Any] = {
        CronSchedule: server.CronSchedule,
        IntervalSchedule: server.IntervalSchedule,
        RRuleSchedule: server.RRuleSchedule,
    }
    kind = kinds.get(type(rule))
    if kind is None:
        return []
    begin = after or datetime.now(UTC)
    try:
        dates = asyncio.run(kind(**rule.model_dump()).get_dates(most, begin, until))
    except ValueError:  # 30 February; an end that its start cannot be compared with
        return []
    return [datetime.fromtimestamp(date.timestamp(), UTC) for date in dates]


def shown(schedule: DeploymentSchedule) -> str:
    rule = schedule.schedule
    if isinstance(rule, CronSchedule):
        text = f"cron {rule.cron}"
    elif isinstance(rule, IntervalSchedule):
        text = f"every {rule.interval}"
    else:
        text = " ".join(getattr(rule, "rrule", "without a rule").split())
    return f"{schedule.slug} ({text})" if schedule.slug else f"({text})"


def _pause(
    client: SyncPrefectClient, deployment: DeploymentResponse, schedule: DeploymentSchedule
) -> str:
    flow = client.read_flow(deployment.flow_id).name
    return f"prefect deployment schedule pause {flow}/{deployment.name} {schedule.id}"


def _next_run(client: SyncPrefectClient, schedule: DeploymentSchedule) -> FlowRun | None:
    mine = FlowRunFilter(
        state=_SCHEDULED,
        created_by=FlowRunFilterCreatedBy(id_=[schedule.id]),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate(
            {"after_": datetime.now(UTC)}
        ),
    )
    runs = client.read_flow_runs(
        flow_run_filter=mine, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=1
    )
    return runs[0] if runs else None


def _planned() -> timedelta:
    """How far ahead the scheduler plans."""
    return get_current_settings().server.services.scheduler.max_scheduled_time


def _age(schedule: DeploymentSchedule) -> timedelta:
    # Not the deployment's: that one is updated whenever a worker asks for work.
    changed = schedule.updated or schedule.created
    return datetime.now(UTC) - changed if changed is not None else timedelta.max


# --- who starts it --------------------------------------------------------------------------------


def of_pools(client: SyncPrefectClient, scheduled: list[DeploymentResponse]) -> Iterator[Line]:
    """Work pools and queues that hand out no run, and pools without a worker."""
    for pool in sorted({one.work_pool_name for one in scheduled if one.work_pool_name}):
        there = client.read_work_pool(pool)
        if there.is_paused:
            text = f"The work pool {pool} is paused: no run of it starts."
            yield Line(CHECK, "fail", text, f"prefect work-pool resume {pool}")
        if there.concurrency_limit == 0:
            text = f"The work pool {pool} lets 0 runs go at once: no run of it starts."
            yield Line(CHECK, "fail", text, f"prefect work-pool clear-concurrency-limit {pool}")
        if not any(
            worker.status == WorkerStatus.ONLINE
            for worker in client.read_workers_for_work_pool(pool)
        ):
            text = f"The work pool {pool} has no worker online; its schedules will be late."
            yield Line(CHECK, "warn", text, f"Start one: prefect worker start --pool {pool}")
    for pool, queue in sorted(
        {(d.work_pool_name, d.work_queue_name) for d in scheduled if d.work_pool_name}
    ):
        yield from _of_queue(client, pool, queue or "default")


def _of_queue(client: SyncPrefectClient, pool: str, queue: str) -> Iterator[Line]:
    try:
        there = client.read_work_queue_by_name(queue, work_pool_name=pool)
    except ObjectNotFound:
        text = f"The work queue {queue} of the work pool {pool} is gone: no run of it starts."
        yield Line(CHECK, "fail", text, f"prefect work-queue create {queue} --pool {pool}")
        return
    if there.is_paused:
        text = f"The work queue {queue} of the work pool {pool} is paused: no run of it starts."
        yield Line(CHECK, "fail", text, f"prefect work-queue resume {queue} --pool {pool}")
    if there.concurrency_limit == 0:
        text = (
            f"The work queue {queue} of the work pool {pool} lets 0 runs go at once: no run of it "
            "starts."
        )
        yield Line(
            CHECK, "fail", text, f"prefect work-queue clear-concurrency-limit {queue} --pool {pool}"
        )


def closes_zombies(automation: object) -> bool:
    trigger = getattr(automation, "trigger", None)
    return bool(getattr(automation, "enabled", False)) and "prefect.flow-run.heartbeat" in getattr(
        trigger, "after", ()
    )


_SCHEDULED = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
