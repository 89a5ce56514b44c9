"""One flow run as a whole: its MLflow run, its steps with their states and times, its end.

Any flow is carried out by it: it knows no recipe beyond name, source and execution.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from prefect import Task, get_run_logger, task
from prefect.client.schemas import State
from prefect.context import TagsContext
from prefect.runtime import flow_run
from prefect.task_engine import TaskRunTimeoutError

from data_contracts.artifacts import Artifact, RegisteredModel, Snapshot
from data_contracts.contract.days import WindowRead
from data_contracts.errors import stop_signal, told_of
from data_contracts.results import PromotionDecision
from flows.running import faults
from flows.running.due import Due
from flows.running.pages import Pages
from flows.running.signals import dropped_are_sent_again
from tasks.artifacts.store import ArtifactStore
from tasks.engines.threads import threads
from tasks.ingest import survey
from tasks.liveness.dead_runs import close_left
from tasks.liveness.hard_limit import hard_limit
from tasks.liveness.lease import Held, Leases, Owner, this_process
from tasks.liveness.scratch import scratch
from tasks.progress import report as report_progress
from tasks.progress import tell
from tasks.reports.story import HowItWent, StageRecord
from tasks.retries import STAGE, Interrupted, Stopped, healing
from tasks.settings import Settings
from tasks.stage import C, Made, RunContext, Step, as_task
from tasks.tracking.bookkeeping import ARTIFACT, OWNER
from tasks.tracking.runs import Tracker, connect, git_commit

faults.install()
GRACE_SECONDS = 60.0  # for an attempt that is ended at its limit to come to its end


R = TypeVar("R")


@dataclass(frozen=True)
class Work:
    """What a run is for: what is done with what, what nobody else may hold, how its MLflow run is
    opened.
    """

    verb: str
    subject: str
    holds: tuple[str, ...]
    open: Callable[[Any], Tracker]

    @property
    def name(self) -> str:
        return f"{self.verb} {self.subject}"


class Job(RunContext[C]):
    """One flow run: it carries steps out as Prefect tasks; leaving it closes the MLflow run,
    however it ends.

    Args:
        recipe: what it is described by.
        due: the instant it was to start at, which says what days of a window it reads.
        work: what it is for.
    """

    def __init__(self, recipe: C, due: Due, work: Work) -> None:
        self.recipe, self.due, self.settings = recipe, due, Settings()
        self.work = work
        self.store = ArtifactStore(self.settings.artifacts_url, self.settings.work)
        self.title = ""  # of a part
        self.goes_on = None
        self.current = ""  # the stage in work
        self.made = Made()
        self.stages: list[StageRecord] = []
        self.warnings: list[str] = []
        self._artifacts: dict[str, str] = {}
        self._untold: list[tuple[Tracker, dict[str, str]]] = []
        self._failed_attempts: Counter[str] = Counter()
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            # Here too, since a worker runs flows without the command.
            opened.enter_context(dropped_are_sent_again())
            self.lease = opened.enter_context(self._take_lease())
            # The process is named on the flow run, once.
            opened.enter_context(TagsContext(current_tags=set()))
            opened.enter_context(scratch(self.settings.work))
            opened.enter_context(threads(self.recipe.execution.threads))
            self.pages = self._pages()
            try:
                self._begin()
            except BaseException as error:
                if self.pages.tracker is None:
                    self.pages.failed(error)
                else:  # it is open in MLflow by now
                    self._close(type(error), error)
                raise
            opened.enter_context(self.pages.following())
            opened.enter_context(self.tracker.system_metrics())
            self._opened = opened.pop_all()
        return self

    @property
    def name(self) -> str:
        """What it is called in MLflow, as in Prefect."""
        return f"{self.recipe.name} {self.due.at:%Y-%m-%d %H:%M}"

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return round(time.monotonic() - self._started, 1)

    def _begin(self) -> None:
        # A server that does not answer ends the run before any work is done.
        self.client, _ = connect(self.settings)
        self.source: Snapshot = self.attempt(_survey)(self.recipe.source)
        window = self.source.window
        days = self._tell_window(window) if window is not None else {}
        self.lineage = {
            "noisefold.flow_run_id": str(flow_run.id or ""),
            "noisefold.flow_run_name": str(flow_run.name or ""),
            "noisefold.git_commit": git_commit(),
        }
        self.opened_by = {**self.lineage, **days, OWNER: self.lease.lease.owner.model_dump_json()}
        self.tracker = self.work.open(self)
        self.lease.update(run_id=self.tracker.run_id)
        for line in self.attempt(_close_left)(self.tracker, self.lease.left):
            tell("lease", line)
        self.lease.update(left=())
        self.pages.opened()

    def _pages(self) -> Pages:
        return Pages(self)

    def _tell_window(self, window: WindowRead) -> dict[str, str]:
        """Say what of the window is there; returns it as tags of the MLflow run."""
        days = "; ".join(window.sentences())
        tell("window", f"Due {self.due}. {days}.")
        return {"noisefold.due": str(self.due), "noisefold.window": days}

    def _take_lease(self) -> Held:
        owner = this_process(
            flow_run_id=str(flow_run.id or ""), flow_run_name=str(flow_run.name or "")
        )
        leases, wait = Leases(self.settings.root), self.recipe.execution.wait_seconds
        return leases.take(
            self.work.name, list(self.work.holds), owner, wait, lambda text: tell("lease", text)
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._opened:  # the lease goes last, when the MLflow run is closed
            self._close(kind, error)

    def _close(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        if kind is None:
            self.tracker.end("FINISHED")
            return
        # A signal is no fault of the run: MLflow calls it killed. Telling so must not hide the
        # fault itself.
        stop = stop_signal(error)
        status = "FAILED" if issubclass(kind, Exception) and stop is None else "KILLED"
        assert error is not None
        self.pages.failed(error)
        try:
            self.tracker.end(status, told_of(error))
        except Exception as unreachable:
            error.add_note(
                f"The MLflow run {self.tracker.run_id} could not be closed: {unreachable}"
            )
        if stop is not None and stop is not error:
            raise stop from error

    def carry_out(self, step: Step[..., R], *inputs: Any) -> R:
        """One step as a Prefect task with the recipe's retries; how it went is written down."""
        name, started = step.name, time.monotonic()
        self.current = name
        self.lease.check()
        report_progress(name, 0)
        task = as_task(step, self)
        with hard_limit(self._hard_limit(task)):
            state: State = self.attempt(task)(*inputs, return_state=True)
        if state.is_failed() or state.is_crashed():
            report_progress(name, 0, state="failed")
            seconds = round(time.monotonic() - started, 1)
            record = StageRecord(name=name, state="failed", rows_in=0, rows_out=0, seconds=seconds)
            self.stages.append(record)
        with self._in_time(task):
            result: Any = state.result()
        if isinstance(result, Stopped):
            report_progress(name, 1, 1, state="ran")
            self.current = ""
            raise result
        ran = "retried" if self._failed_attempts[name] else "ran"
        self._write_down(name, "cached" if state.name == "Cached" else ran, result, started)
        self.current = ""
        return result

    def _write_down(self, name: str, how: HowItWent, result: Any, started: float) -> None:
        rows_in, rows_out = _rows(result)
        seconds = round(time.monotonic() - started, 1)
        counted = result.counted if isinstance(result, Artifact) else ("rows", "rows")
        self.stages.append(
            StageRecord(
                name=name,
                state=how,
                rows_in=rows_in,
                rows_out=rows_out,
                counted=counted,
                seconds=seconds,
            )
        )
        if isinstance(result, Artifact):
            self.made.add(result)
            self.warnings += result.warnings
            if result.files:
                self._artifacts[name] = result.uri
            if not isinstance(result, RegisteredModel):
                self._tell_need(result)
        told = (name, how, rows_in, counted[0], rows_out, counted[1], seconds)
        get_run_logger().info("%s %s: %d %s in, %d %s out, %.1f s", *told)
        report_progress(name, 1, 1, state=how)

    def _tell_need(self, artifact: Artifact) -> None:
        """What this run has of the store, for `noisefold gc`. A server that is away for now is told
        with the next.
        """
        self._untold.append((self.tracker, {f"{ARTIFACT}{artifact.stage}": artifact.key}))
        with suppress(Exception):
            self.tell_needs()

    def tell_needs(self) -> None:
        """What could not be told while the server was away."""
        with suppress(IndexError):  # parts that work at once tell each other's
            while True:
                tracker, tags = self._untold.pop(0)
                try:
                    tracker.set_tags(tags)
                except BaseException:
                    self._untold.insert(0, (tracker, tags))
                    raise

    def attempt(self, stage: Task[..., Any]) -> Callable[..., Any]:
        """The task with the recipe's retries and limits."""
        execution = self.recipe.execution
        attempt = stage.with_options(
            retries=execution.retries,
            retry_delay_seconds=self._delays(),
            retry_condition_fn=healing(self._failed_attempts),
            timeout_seconds=self._limit(stage),
            task_run_name=f"{stage.name} · {self.title}" if self.title else None,
        )
        return self._in_time(stage)(attempt)

    def _limit(self, stage: Task[..., Any]) -> float:
        """Seconds that one attempt may take. Training is ended by `train` itself, so that it can
        save a checkpoint.
        """
        execution = self.recipe.execution
        own = execution.limits.train if stage.name == "train" else 0.0
        return own + execution.limits.stage

    def _hard_limit(self, stage: Task[..., Any]) -> float:
        """Seconds in which all attempts, each ended at its own limit, are over with certainty."""
        retries = self.recipe.execution.retries
        return (retries + 1) * (self._limit(stage) + GRACE_SECONDS) + sum(self._delays())

    def _delays(self) -> list[float]:
        execution = self.recipe.execution
        return [execution.retry_delay_seconds * 2**attempt for attempt in range(execution.retries)]

    @contextmanager
    def _in_time(self, stage: Task[..., Any]) -> Iterator[None]:
        """Prefect's word for an attempt that was ended says neither which stage it was nor which
        field to change.
        """
        try:
            yield
        except TaskRunTimeoutError as error:
            raise Interrupted(
                f"{stage.name} was ended at its limit of {self._limit(stage):g} s "
                f"(execution.limits.stage)."
            ) from error


def _rows(result: Any) -> tuple[int, int]:
    if isinstance(result, PromotionDecision):
        return result.rows_compared + result.rows_left_out, result.rows_compared
    return result.rows_in, result.rows_out


@task(name="fingerprint", **STAGE)
def _survey(source: Any) -> Snapshot:
    return survey(source)


@task(name="close-dead-runs", **STAGE)
def _close_left(tracker: Tracker, left: tuple[Owner, ...]) -> list[str]:
    return close_left(left, tracker.client, tracker.run_id)
