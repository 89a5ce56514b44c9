"""Runs whose process died: found in Prefect and MLflow, and closed there, so that no UI shows work
that nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun, TaskRun
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed
from pydantic import ValidationError

from tasks.liveness.lease import Owner
from tasks.tracking.bookkeeping import ERROR, OWNER, RUN_KEY, of_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FLOWS = ["retrain", "compare", "score", "queue", "explain", "monitor", "tune"]
_OPEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_ENDED = [StateType.CRASHED, StateType.FAILED, StateType.CANCELLED]
_UNDER_WAY = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_OPEN)))
_PAGE = 200


@contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def open_flow_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Every retrain and comparison that Prefect takes to be under way."""
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=FLOWS)),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_OPEN))
            ),
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found


def close_flow_run(client: SyncPrefectClient, run: FlowRun, message: str) -> None:
    """Crashed, and so are its tasks that were under way. Safe to repeat."""
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task in client.read_task_runs(
        flow_run_filter=mine, task_run_filter=_UNDER_WAY, limit=_PAGE
    ):
        close_task_run(client, task, message)
    client.set_flow_run_state(run.id, Crashed(message=message), force=True)


def close_task_run(client: SyncPrefectClient, run: TaskRun, message: str) -> None:
    client.set_task_run_state(run.id, Crashed(message=message), force=True)


def orphaned_task_runs(client: SyncPrefectClient) -> list[tuple[FlowRun, TaskRun]]:
    """Tasks under way in a run of ours that has ended: a worker or an automation that closes a run
    leaves its tasks.
    """
    ours = FlowFilter(name=FlowFilterName(any_=FLOWS))
    ended = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ENDED)))
    tasks: list[TaskRun] = []
    while not tasks or len(tasks) % _PAGE == 0:
        page = client.read_task_runs(
            flow_filter=ours,
            flow_run_filter=ended,
            task_run_filter=_UNDER_WAY,
            limit=_PAGE,
            offset=len(tasks),
        )
        if not page:
            break
        tasks += page
    runs = {
        run_id: client.read_flow_run(run_id)
        for run_id in dict.fromkeys(task.flow_run_id for task in tasks)
        if run_id
    }
    return [
        (runs[task.flow_run_id], task)
        for task in tasks
        if task.flow_run_id and task.flow_run_id in runs
    ]


def open_tracked_runs(client: MlflowClient) -> list[Run]:
    """Every run of ours that MLflow takes to be under way."""
    experiments = [experiment.experiment_id for experiment in pages(client.search_experiments)]
    wanted = f"attributes.status = 'RUNNING' and tags.`{RUN_KEY}` != ''"
    return list(pages(client.search_runs, experiments, wanted)) if experiments else []


def close_tracked_run(client: MlflowClient, run_id: str, message: str) -> None:
    client.set_tag(run_id, ERROR, message)
    client.set_terminated(run_id, "KILLED")


def owner_of(run: Run) -> Owner | None:
    """The process that opened an MLflow run last."""
    try:
        return Owner.model_validate_json(of_run(run).get(OWNER, ""))
    except ValidationError:
        return None


def close_left(owners: Collection[Owner], client: MlflowClient, run_id: str) -> list[str]:
    """Close what dead owners left in Prefect and MLflow, `run_id` excepted: a rerun has opened it
    again.

    Flow runs that died before they had a lease are known by the tag that names their process.
    Returns:
        A sentence per run that was closed.
    """
    dead, said = {owner.flow_run_id: owner for owner in owners if owner.flow_run_id}, []
    with prefect_client() as prefect:
        for run in open_flow_runs(prefect):
            owner = dead.get(str(run.id)) or died(Owner.of_tags(run.tags))
            if owner is not None:
                close_flow_run(prefect, run, obituary(owner))
                said.append(f"Prefect run {run.name}: crashed. {obituary(owner)}")
        for run, task in orphaned_task_runs(prefect):
            owner = dead.get(str(run.id)) or died(Owner.of_tags(run.tags))
            if owner is not None:
                close_task_run(prefect, task, obituary(owner))
    for run in open_tracked_runs(client):
        owner = dead.get(of_run(run).get("noisefold.flow_run_id", "")) or died(owner_of(run))
        if owner is not None and run.info.run_id != run_id:
            close_tracked_run(client, run.info.run_id, obituary(owner))
            said.append(f"MLflow run {run.info.run_name}: killed. {obituary(owner)}")
    return said


def died(owner: Owner | None) -> Owner | None:
    """The owner, where it is known to be dead: of another machine's processes this one knows
    nothing.
    """
    return owner if owner is not None and owner.here and not owner.running else None


def obituary(owner: Owner) -> str:
    host = f" on {owner.host}" if owner.host else ""
    return f"Its process ({owner.pid}{host}) is gone."


def pages(search: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """All that a search of MLflow's client finds, page by page."""
    token = None
    while True:
        page = search(*arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
