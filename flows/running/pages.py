"""What people see of a run in both UIs: links when it opens, progress while it works, its summary
and its page when it ends, well or not.

Nothing here may hide how the run itself ended: pages of a fault are written where that can be done,
and the fault goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import flow_run
from slugify import slugify

from data_contracts.errors import NoisefoldError, stop_signal, told_of
from data_contracts.results import Interval
from data_contracts.urls import redacted
from flows.running.addresses import addresses
from flows.running.progress_page import ProgressPage
from tasks.artifacts.store import write_durably
from tasks.progress import tell
from tasks.reports.story import Fault, Links, Story
from tasks.reports.summary import description, summary
from tasks.tracking.bookkeeping import OUTCOME
from tasks.tracking.data_sets import shown_source
from tasks.tracking.runs import Tracker

if TYPE_CHECKING:
    from flows.running.job import Job

PAGE = "report.html"
_BUG = "The traceback is in the log of this run. What is finished is kept."


class Pages:
    """The pages of one run.

    Args:
        run: whose pages they are; what it knows by now is asked when something is written.
    """

    def __init__(self, run: Job[Any]) -> None:
        self.run = run
        self.addresses = addresses(run.settings)
        self.flow_run_id = str(flow_run.id or "")

    @property
    def tracker(self) -> Tracker | None:
        """The MLflow run; None before it is open."""
        return getattr(self.run, "tracker", None)

    @property
    def links(self) -> Links:
        prefect = self.addresses.flow_run(self.flow_run_id)
        tracker = self.tracker
        if tracker is None:
            return Links(prefect=prefect)
        ui = self.addresses.mlflow
        return Links(tracker.run_url(ui), prefect, tracker.run_url(ui, PAGE))

    def opened(self) -> None:
        """Each page names the other from now on."""
        links = self.links
        tell("open", f"MLflow run: {links.mlflow}")
        what = f"{self.run.work.name} in MLflow"
        create_link_artifact(links.mlflow, "The MLflow run", key="mlflow-run", description=what)
        self._describe(description(self.story()))

    @contextmanager
    def following(self) -> Iterator[None]:
        """The Prefect page shows how far the run is."""
        if not self.flow_run_id:
            yield
            return
        with ProgressPage(self.flow_run_id, self.run.recipe.name).shown():
            yield

    def story(self, fault: Fault | None = None, **more: Any) -> Story:
        """The run as it stands, with what its flow has to say of it (`Story`'s own fields)."""
        run = self.run
        window = run.source.window if hasattr(run, "source") else None
        return Story(
            subject=run.work.subject,
            due=str(run.due),
            links=self.links,
            days=window.sentences() if window is not None else (),
            stages=tuple(run.stages),
            warnings=tuple(run.warnings),
            headline=self._headline(),
            fault=fault,
            again=self._again() if fault is not None else "",
            seconds=run.seconds,
            **more,
        )

    def _headline(self) -> dict[str, Interval]:
        """The figures that a reader looks for first, where there are any by now."""
        return {}

    def _page(self, story: Story, error: BaseException) -> str | None:
        """The page of a run that failed, as HTML; None: its summary is all."""
        return None

    # --- the end ----------------------------------------------------------------------------------

    def publish(
        self, ended: str, lines: tuple[str, ...] = (), page: str = "", *, bad: bool = False
    ) -> str:
        """The end of a run that went well: its summary in both UIs, and its page where it has one;
        returns the file that holds it, "" without one.

        Safe to repeat.
        Args:
            ended: the outcome, in a word or two.
            lines: what a person should know of it, a sentence each.
            bad: whether somebody has to look at it though it went well.
        """
        story = self.story(ended=ended, lines=lines, bad=bad)
        text = summary(story)
        tracker = self.run.tracker
        if not tracker.closed:
            if page:
                tracker.log_text(page, PAGE)
            tracker.log_text(text, "summary.md")
            self._describe(description(story))
        self._artifact(text)
        return str(self._write(page)) if page else ""

    def failed(self, error: BaseException) -> None:
        """The end of a run that came to none: why, what to do, and how far it was."""
        fault = self._fault(error)
        story = self.story(fault=fault)
        with suppress(Exception):
            self._artifact(summary(story))
        tracker = self.tracker
        if tracker is None or tracker.closed:
            return
        with suppress(Exception):
            self._describe(description(story))
            tracker.set_tags({OUTCOME: story.outcome.lower()})
        if not fault.stopped:  # who stops a run does not wait for a page
            with suppress(Exception):
                if (page := self._page(story, error)) is not None:
                    tracker.log_text(page, PAGE)
                    self._write(page)

    def _fault(self, error: BaseException) -> Fault:
        stage = self.run.current
        if stop_signal(error) is not None or not isinstance(error, Exception):
            return Fault(stage, told_of(error), "Nothing that is finished is lost.", stopped=True)
        if isinstance(error, NoisefoldError):
            return Fault(stage, redacted(error.cause), redacted(error.remedy))
        return Fault(stage, redacted(f"{type(error).__name__}: {error}"), _BUG)

    def _again(self) -> str:
        """How the run goes on: by a button where a worker may take it up, else by its command."""
        if getattr(flow_run, "deployment_id", None):
            return "Then press Retry on the page of the Prefect run: it goes on from there."
        return "Then type the same command again: it goes on from there."

    def _artifact(self, text: str) -> None:
        about = f"{self.run.work.name}: what it came to"
        key = f"{self.run.work.verb}-summary"
        create_markdown_artifact(text, key=key, description=about)

    def _describe(self, text: str) -> None:
        """MLflow shows it as the run's description. A closed run keeps its own."""
        if not self.run.tracker.closed:
            self.run.tracker.describe(text)

    def _write(self, page: str) -> Path:
        """The page as a file of this machine, for the terminal."""
        run = self.run
        folder = run.settings.reports / (slugify(run.work.subject, allow_unicode=True) or "run")
        path = folder / f"{run.tracker.run_id}.html"  # one that a kill left half is written anew
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, page.encode())
        return path

    def _lineage(self) -> dict[str, str]:
        run = self.run
        return {
            "source": shown_source(run.recipe.source),
            "fingerprint of the source": run.source.fingerprint,
            "commit": run.lineage["noisefold.git_commit"],
            "MLflow run": run.tracker.run_id,
            "Prefect run": f"{flow_run.name or ''} {self.flow_run_id}".strip(),
        }
