"""The pages of a retrain: figures, the gate, and one page of everything."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.artifacts import EvaluationReport
from data_contracts.results import Interval, PromotionDecision
from flows.running.pages import PAGE, Pages
from tasks.evaluate import headlines
from tasks.reports.run_page import run_page
from tasks.reports.story import Story
from tasks.reports.summary import description, summary
from tasks.tracking.runs import quiet_mlflow

if TYPE_CHECKING:
    from flows.running.run import Run


class RetrainPages(Pages):
    """What people see of a retrain."""

    run: Run

    def decided(self, decision: PromotionDecision) -> str:
        """The end of a retrain that came to a decision; returns the file that holds its page.

        Safe to repeat. The pages of the night that did the work stay in a finished MLflow run;
        Prefect and the file have this one's.
        """
        run = self.run
        story = self.story(decision=decision)
        page = run_page(story, run, self._lineage(), self._before(decision))
        text = summary(story)
        tracker = self.run.tracker
        if not tracker.closed:
            tracker.log_text(page, PAGE)
            tracker.log_text(text, "summary.md")
            self._describe(description(story))
        self._artifact(text)
        return str(self._write(page))

    def _headline(self) -> dict[str, Interval]:
        report = self.run.made.get(EvaluationReport)
        return {} if report is None else headlines(report, self.run.recipe.task)

    def _page(self, story: Story, error: BaseException) -> str:
        refused = getattr(error, "report", None)
        return run_page(story, self.run, self._lineage(), refused=refused)

    def _before(self, decision: PromotionDecision) -> dict[str, Any] | None:
        """What validation said of the champion's data; None where its run no longer tells."""
        version = decision.champion_before
        if version is None or version == decision.version:
            return None
        client = self.run.tracker.client
        with suppress(Exception), tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
            run_id = client.get_model_version(decision.name, version).run_id or ""
            with quiet_mlflow():
                file = client.download_artifacts(run_id, "validation/report.json", scratch)
            return json.loads(Path(file).read_text(encoding="utf-8"))
        return None
