"""A monitor's flow run: what it came to, and the event that others may act on."""

from __future__ import annotations

from prefect import Task
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from data_contracts.artifacts import Drift, SignalDrift
from data_contracts.recipe.monitor import MonitorRecipe
from flows.running.asking_run import AskingRun, Came
from flows.running.due import Due
from tasks.monitor import monitor
from tasks.operate.notify import DRIFTED
from tasks.reports.drifted import drift_page
from tasks.retries import STAGE


class Monitored(Came):
    """What a monitor came to: the flow's result."""

    drifted: bool
    looked_at: int  # rows that were compared
    reference_rows: int
    signals: tuple[SignalDrift, ...]


class MonitorRun(AskingRun[MonitorRecipe]):
    """The flow run of a monitor."""

    def __init__(self, recipe: MonitorRecipe, due: Due) -> None:
        super().__init__(recipe, due, monitor)

    def finish(self, drift: Drift) -> Monitored:
        """The end of a monitor: its pages, and, where the rows have moved, an event."""
        self.tell_needs()
        beside = f"{drift.rows_out:,} rows beside {drift.reference_rows:,} of {drift.model}"
        moved = sum(one.drifted for one in drift.signals)
        line = f"{moved} of {len(drift.signals)} signals moved: {beside}."

        def publish() -> str:
            ended = "Drift" if drift.drifted else "No drift"
            return self.pages.publish(ended, (line,), drift_page(drift), bad=drift.drifted)

        report = self.attempt(Task(publish, name="publish", **STAGE))()
        self.tracker.set_tags({"noisefold.drifted": drift.drifted})
        if drift.drifted:
            self._tell(drift)
        return Monitored(
            **self.came(drift.rows_in, report),
            drifted=drift.drifted,
            looked_at=drift.rows_out,
            reference_rows=drift.reference_rows,
            signals=drift.signals,
        )

    def _tell(self, drift: Drift) -> None:
        """An event of the model, which an automation may turn into a retrain. A temporary server
        tells nobody.
        """
        if not PREFECT_API_URL.value():
            return
        emit_event(
            DRIFTED,
            {
                "prefect.resource.id": f"noisefold.model.{self.recipe.model}",
                "prefect.resource.name": self.recipe.model,
                "noisefold.monitor": self.recipe.name,
            },
            payload={
                "name": self.recipe.model,
                "version": self.version,
                "why": " ".join(drift.warnings),
                "run": self.pages.links.mlflow,
                "flow_run": str(flow_run.id or ""),
            },
        )
