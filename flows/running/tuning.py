"""A search carried out by one run: trials one after the other (or several at once) within a budget,
then the best few with further seeds, and what they come to.
"""

from __future__ import annotations

import contextvars
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import TrainedModel, ValidatedCorpus
from data_contracts.errors import RecipeError, told_of
from data_contracts.recipe.search import Search
from data_contracts.recipe.searched import Searched
from data_contracts.urls import redacted, shown_url
from flows.running.due import Due
from flows.running.job import Work
from flows.running.part import OF_THE_PART, part_of
from flows.running.run import VERSIONS, Run
from flows.running.search_pages import log_search, open_search, publish
from tasks.artifacts.store import digest_of
from tasks.engines.local import ending_trainings
from tasks.progress import State, report, tell
from tasks.retries import Stopped
from tasks.searching.board import SearchBoard, key_of
from tasks.searching.study import Tried
from tasks.searching.table import (
    history_of,
)
from tasks.tracking.runs import Tracker

PAGE = "report.html"
STATE = "noisefold.trial_state"


class SearchRun(BaseModel):
    """What a search came to, and where it is to be seen."""

    model_config = ConfigDict(frozen=True)
    found: Searched
    experiment_id: str
    run_id: str
    tracking_uri: str
    flow_run_id: str


@dataclass
class Training:
    """One training of a search: a trial, or a trial again with another seed."""

    number: int
    seed: int
    title: str
    overrides: dict
    tried: Tried | None = None  # of a trial
    state: State = field(default="ran")


class Tuning:
    """A run with a study to fill: in MLflow a parent run, and under it a run for each training.

    Args:
        command: how a person runs this search again.
    """

    def __init__(self, search: Search, due: Due, command: str) -> None:
        self.search, self.command = search, command
        # Alone: a trial that is running belongs to a process that has ended.
        work = Work("tune", search.name, (f"search {search.name}",), self._open)
        self.run = Run(search.recipe, due, work)
        self._board: SearchBoard | None = None
        self._under_way = 0
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self.run.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None and self._board is not None:
                with suppress(Exception):  # the fault that ends the run is the one to tell
                    log_search(self.run.tracker, self.board.found())
        finally:
            self.run.__exit__(kind, error, trace)

    @property
    def board(self) -> SearchBoard:
        assert self._board is not None, "the rows have not been read"
        return self._board

    def read(self, corpus: ValidatedCorpus) -> None:
        """The trials that there are by now of this search on these rows."""
        self.key = key_of(self.search, corpus)
        settings = self.run.settings
        self._board = SearchBoard(self.search, corpus, self.key, settings, self.command)
        if before := len(self.board.results()):
            tell("search", f"{before} trials are over; the search goes on.")

    # --- what is to be trained --------------------------------------------------------------------

    def trials(self) -> Iterator[Training]:
        """A trial after the other, as long as one more is worth it."""
        seed = self.search.seeds[0]
        while (tried := self._next()) is not None:
            if self._again(tried):
                continue
            try:
                self.search.recipe_of(tried.overrides, seed)
            except RecipeError as error:  # values that are each fine, and not together
                self._over(partial(self.board.study.fail, tried, redacted(error.cause)))
                continue
            name = f" · {tried.candidate}" if tried.candidate else ""
            title = f"trial {tried.number}{name}"
            yield Training(tried.number, seed, title, tried.overrides, tried)

    def _next(self) -> Tried | None:
        with self._lock:
            if not self.board.goes_on(self._under_way):
                return None
            self._under_way += 1
            return self.board.study.ask()

    def _again(self, tried: Tried) -> bool:
        """Whether an earlier trial has had the same, whose end it takes over."""
        with self._lock:
            known = self.board.study.again(tried)
            self._under_way -= known
            return known

    def _over(self, write_down: Callable[[], None]) -> None:
        with self._lock:
            write_down()
            self._under_way -= 1

    def finals(self) -> Iterator[Training]:
        """The best few again, seed by seed, as long as the budget lasts."""
        best = self.board.best()
        for seed in self.search.seeds[1:]:
            for one in best:
                with self._lock:
                    if self.board.spent() >= self.search.budget_seconds:
                        return
                    self._under_way += 1
                name = f" · {one.candidate}" if one.candidate else ""
                title = f"trial {one.number}{name} · seed {seed}"
                yield Training(one.number, seed, title, one.overrides)

    # --- training ---------------------------------------------------------------------------------

    def each(self, trainings: Iterator[Training], work: Callable[[Training], None]) -> None:
        """Carry out one after the other, or as many at once as the search says."""
        if self.search.parallel == 1:
            for one in trainings:
                work(one)
            return
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self.search.parallel, "training") as pool:
            try:
                for one in trainings:
                    # Prefect knows the flow run by its context.
                    running.add(pool.submit(contextvars.copy_context().run, work, one))
                    if len(running) == self.search.parallel:
                        done, running = wait(running, return_when=FIRST_COMPLETED)
                        for future in done:
                            future.result()
                for future in running:
                    future.result()
            except BaseException:
                with ending_trainings():
                    wait(running)
                raise

    @contextmanager
    def training(self, one: Training) -> Iterator[Run]:
        """The run of a training while it is worked on.

        A fault of its own ends here, and so does the pruner's word: it is written down, and the
        next one has its turn.
        """
        started = time.monotonic()
        report("trial", 0, None, one.title)
        recipe = self.search.recipe_of(one.overrides, one.seed)
        key = digest_of("trial", self.key, one.number, one.seed)
        tags = {
            "mlflow.source.name": "flows/tune.py",
            "noisefold.trial": str(one.number),
            "noisefold.seed": str(one.seed),
        }
        try:
            with part_of(self.run, recipe, one.title, key, tags) as part:
                if (tried := one.tried) is not None:
                    part.goes_on = lambda epoch: self._goes_on_after(tried, epoch)
                try:
                    yield part
                except Stopped as stopped:
                    self._prune(one, stopped, part.tracker)
        except OF_THE_PART as error:
            self._fail(one, redacted(told_of(error)))
        report("trial", 1, 1, f"{one.title}, {time.monotonic() - started:.0f} s", one.state)
        self._tell_history()

    def _goes_on_after(self, tried: Tried, epoch: dict) -> bool:
        with self._lock:
            return tried.goes_on(self.search.figure, epoch)

    def done(self, one: Training, model: TrainedModel, part: Run) -> None:
        """The training has ended well: what it came to is told, last of all to the study."""
        value, tried = model.validation[self.search.figure], one.tried
        one.state = next(record.state for record in reversed(part.stages))
        part.tracker.log_metrics({"tune/value": value})
        part.tracker.set_tags({STATE: "finished"})
        if tried is None:
            self._over(lambda: self._with_seed(one, model))
            return
        history = part.store.open(model) / "history.json"
        epochs = json.loads(history.read_text(encoding="utf-8"))
        tried.epochs, tried.cpu_seconds = model.epochs, model.cpu_seconds
        self._over(lambda: self.board.study.finish(tried, value, epochs))

    def _prune(self, one: Training, stopped: Stopped, tracker: Tracker) -> None:
        tried = one.tried
        assert tried is not None, "only trials are pruned"
        one.state = "pruned"
        tracker.set_tags({STATE: "pruned"})
        tried.epochs, tried.cpu_seconds = stopped.epochs, stopped.cpu_seconds
        self._over(lambda: self.board.study.prune(tried))

    def _fail(self, one: Training, cause: str) -> None:
        tried = one.tried
        one.state = "failed"
        if tried is None:
            self._over(lambda: self._with_seed(one, cause))
        else:
            self._over(lambda: self.board.study.fail(tried, cause))

    def _with_seed(self, one: Training, found: TrainedModel | str) -> None:
        self.board.again.setdefault(one.number, {})[one.seed] = found

    # --- what it has come to ----------------------------------------------------------------------

    def result(self) -> SearchRun:
        run, found = self.run, self.board.found()
        run.tell_needs()
        run.attempt(publish)(run.tracker, found, self.search, run.pages.links)
        return SearchRun(
            found=found,
            experiment_id=run.tracker.experiment_id,
            run_id=run.tracker.run_id,
            tracking_uri=shown_url(run.tracker.tracking_uri),
            flow_run_id=str(flow_run.id or ""),
        )

    def _tell_history(self) -> None:
        """The values of the trials as curves of the parent run."""
        tracker = self.run.tracker
        if tracker.closed:
            return
        now = int(time.time() * 1000)
        known = tracker.client.get_metric_history(tracker.run_id, "tune/best")
        steps = {point.step for point in known}
        points = [
            {"key": key, "value": value, "step": number, "timestamp": now}
            for number, value, best in history_of(self.board.trials())
            if number not in steps
            for key, value in (("tune/value", value), ("tune/best", best))
        ]
        with suppress(Exception):  # a curve that cannot be drawn ends no search
            tracker.log_points(points)

    def _open(self, run: Run) -> Tracker:
        identity = [self.search.identity_of_search(), run.recipe.identity_of_run()]
        key = digest_of("tune", self.search.name, identity, run.source.fingerprint, VERSIONS)
        return run.attempt(open_search)(run.settings, self.search, key, run.opened_by)
