"""Runs, leases and temporary folders whose process died without a word: found, closed, and told one
by one.

A rerun of the same recipe does this for its own predecessors
(`tasks.liveness.dead_runs.close_left`). This is for the
rest: the runs that nobody starts again, on every server that the settings name. Safe to repeat, and
beside runs that live.

# Note [what counts as dead]
A run whose owner is of this machine is dead when the kernel says so. One of another machine is dead
when its lease in this state folder has expired, or else when a server says so: Prefect has heard
its heartbeat, and not for `SILENT_SECONDS`; an MLflow run belongs to a Prefect run that has ended.
What none of these tells is left as it is, and
named: its own machine can judge it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.exceptions import ObjectNotFound

from tasks.liveness.dead_runs import (
    close_flow_run,
    close_task_run,
    close_tracked_run,
    died,
    obituary,
    open_flow_runs,
    open_tracked_runs,
    orphaned_task_runs,
    owner_of,
    prefect_client,
)
from tasks.liveness.lease import Lease, Leases, Owner
from tasks.liveness.scratch import dead_folders, sweep_dead
from tasks.settings import Settings
from tasks.tracking.bookkeeping import of_run
from tasks.tracking.runs import connect

if TYPE_CHECKING:
    from mlflow.entities import Run

# Five of Prefect's own heartbeats (180 s); a server that was away for a while has lost some.
SILENT_SECONDS = 900.0
# Prefect writes down a task's end some moments after its run's.
SETTLED_SECONDS = 60.0
Kind = Literal["Prefect run", "Prefect task", "MLflow run", "lease", "temporary folder"]
_DONE: dict[Kind, str] = {
    "Prefect run": "marked Crashed",
    "Prefect task": "marked Crashed",
    "MLflow run": "marked KILLED",
    "lease": "removed",
    "temporary folder": "removed",
}


@dataclass(frozen=True)
class Item:
    """Something that looks as if it were under way, and why it is not, or why it cannot be told."""

    kind: Kind
    name: str
    id: str
    why: str

    def sentence(self, how: Literal["done", "would", "unknown"]) -> str:
        what = {
            "done": _DONE[self.kind],
            "would": f"would be {_DONE[self.kind]}",
            "unknown": "left as it is",
        }[how]
        return f"{self.kind} {self.name}: {what}. {self.why}"


@dataclass
class Reconciled:
    """What is dead and was closed (in a dry run: would be), and what cannot be judged from here."""

    dry_run: bool
    dead: list[Item] = field(default_factory=list)
    unknown: list[Item] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        said = [item.sentence("would" if self.dry_run else "done") for item in self.dead]
        said += [item.sentence("unknown") for item in self.unknown]
        return said if self.dead else [*said, "Nothing to do."]

    def add(self, item: Item, dead: bool) -> bool:
        """Returns whether it is to be closed now."""
        (self.dead if dead else self.unknown).append(item)
        return dead and not self.dry_run


def reconcile(settings: Settings, *, prefect: bool = True, dry_run: bool = False) -> Reconciled:
    """Close every dead run of ours in Prefect and MLflow, then remove dead leases and temporary
    folders.

    Leases go last: until then they name the dead, so that an attempt that ends half-way forgets
    nobody.
    Args:
        prefect: False where there is no Prefect server and none has been.
        dry_run: change nothing.
    Raises:
        ServiceUnavailable: MLflow's server does not answer; Prefect's own errors where that one
            does not.
    """
    found, leases = Reconciled(dry_run), Leases(settings.root)
    judge = RunJudge(leases.all().values())
    if prefect:
        with prefect_client() as server:
            _flow_runs(server, judge, found)
            _task_runs(server, judge, found)
            _tracked_runs(settings, judge, found, server)
    else:
        _tracked_runs(settings, judge, found, None)
    for path, lease in leases.all().items():
        if not lease.alive and found.add(
            Item("lease", lease.work, path.name, _of_lease(lease)), dead=True
        ):
            # A lease's name is never given twice: this one is nobody else's by now.
            with leases.alone():
                path.unlink(missing_ok=True)
    for folder in dead_folders(settings.work) if dry_run else sweep_dead(settings.work):
        found.add(
            Item("temporary folder", folder.name, str(folder), "Its process is gone."), dead=True
        )
    return found


class RunJudge:
    """What this state folder's leases say about the flow runs. See Note [what counts as dead]."""

    def __init__(self, leases: Iterable[Lease]) -> None:
        self.living: set[str] = set()
        self.dead: dict[str, str] = {}
        for lease in leases:
            if lease.alive:  # it closes what its predecessors left (`lease.left`) itself
                self.living.add(lease.owner.flow_run_id)
                continue
            self.dead |= {owner.flow_run_id: obituary(owner) for owner in lease.left}
            self.dead[lease.owner.flow_run_id] = _of_lease(lease)

    def knows(self, flow_run_id: str, owner: Owner | None) -> tuple[bool | None, str]:
        """Whether it is dead, None where this machine cannot tell, and why."""
        if flow_run_id in self.living:
            return False, ""
        if flow_run_id and flow_run_id in self.dead:
            return True, self.dead[flow_run_id]
        if owner is None:
            return None, "Nothing says which process it was."
        if owner.here:
            return died(owner) is not None, obituary(owner)
        return (
            None,
            f"Its process ({owner.pid}) is of another "
            f"machine{f', {owner.host}' if owner.host else ''}.",
        )

    def note(self, flow_run_id: str, dead: bool | None, why: str) -> None:
        """What Prefect's run showed holds for the MLflow run that belongs to it."""
        if dead:
            self.dead[flow_run_id] = why
        elif dead is False:
            self.living.add(flow_run_id)


def _flow_runs(server: SyncPrefectClient, judge: RunJudge, found: Reconciled) -> None:
    for run in open_flow_runs(server):
        dead, why = judge.knows(str(run.id), Owner.of_tags(run.tags))
        if dead is None:
            dead, why = _by_heartbeat(server, run, why)
        judge.note(str(run.id), dead, why)
        if dead is not False and found.add(
            Item("Prefect run", run.name, str(run.id), why), dead is True
        ):
            close_flow_run(server, run, why)


def _task_runs(server: SyncPrefectClient, judge: RunJudge, found: Reconciled) -> None:
    for run, task in orphaned_task_runs(server):
        dead, why = judge.knows(str(run.id), Owner.of_tags(run.tags))
        ended = run.end_time
        if dead is None and ended is not None and _seconds_since(ended) > SETTLED_SECONDS:
            dead, why = True, f"Its run has ended as {run.state_name}."
        item = Item("Prefect task", f"{task.name} of {run.name}", str(task.id), why)
        if dead and found.add(item, dead=True):
            close_task_run(server, task, why)


def _by_heartbeat(server: SyncPrefectClient, run: FlowRun, why: str) -> tuple[bool | None, str]:
    last = last_heartbeat(server, run.id)
    if last is None:
        return (
            None,
            f"{why} Prefect has heard no heartbeat of it; `noisefold reconcile` on its machine can "
            f"tell.",
        )
    silent = _seconds_since(last)
    if silent <= SILENT_SECONDS:
        return False, ""
    return True, f"Prefect has heard no heartbeat of it for {silent / 60:,.0f} minutes."


def last_heartbeat(server: SyncPrefectClient, flow_run_id: UUID) -> datetime | None:
    """When Prefect heard it last, as far as it keeps events (seven days, unless told otherwise)."""
    events = server.read_events(
        EventFilter(
            occurred=EventOccurredFilter.model_validate(
                {"since": datetime.now(UTC) - timedelta(days=30)}
            ),
            event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{flow_run_id}"]),
        ),
        limit=1,  # the newest comes first
    ).events
    return events[0].occurred if events else None


def _tracked_runs(
    settings: Settings, judge: RunJudge, found: Reconciled, server: SyncPrefectClient | None
) -> None:
    if (
        settings.tracking_uri.startswith("sqlite:///")
        and not Path(settings.tracking_uri[10:]).exists()
    ):
        return
    client, _ = connect(settings)
    for run in open_tracked_runs(client):
        dead, why = _tracked(run, judge, server)
        name = run.info.run_name or run.info.run_id
        if dead is False or not found.add(
            Item("MLflow run", name, run.info.run_id, why), dead is True
        ):
            continue
        # A rerun may have opened it again since it was read; the owner is written down before the
        # run is RUNNING.
        now = client.get_run(run.info.run_id)
        if now.info.status == "RUNNING" and owner_of(now) == owner_of(run):
            close_tracked_run(client, run.info.run_id, why)


def _tracked(
    run: Run, judge: RunJudge, server: SyncPrefectClient | None
) -> tuple[bool | None, str]:
    flow_run_id = of_run(run).get("noisefold.flow_run_id", "")
    dead, why = judge.knows(flow_run_id, owner_of(run))
    if dead is not None:
        return dead, why
    if server is not None and flow_run_id:
        try:
            flow_run = server.read_flow_run(UUID(flow_run_id))
        except (ObjectNotFound, ValueError):
            return (
                None,
                f"{why} Prefect does not know its flow run; `noisefold reconcile` on its machine "
                f"can tell.",
            )
        if flow_run.state is not None and flow_run.state.is_final():
            return True, f"Its Prefect run {flow_run.name} has ended as {flow_run.state.name}."
    return None, f"{why} `noisefold reconcile` on its machine can tell."


def _seconds_since(when: datetime) -> float:
    return (datetime.now(UTC) - when).total_seconds()


def _of_lease(lease: Lease) -> str:
    if lease.owner.here:
        return obituary(lease.owner)
    return f"The lease of {lease.owner} expired at {lease.expires_at:%Y-%m-%d %H:%M:%S} UTC."
