"""How far a run is, on its Prefect page while it works: a progress artifact, and learning curves.

A thread of its own writes them, a few seconds apart: a server that is slow or away holds no work
up, and what it missed is told with the next round.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from tasks.progress import Progress, listening
from tasks.reports.curves import Curves, as_image

SECONDS = 5.0  # between two rounds
PROGRESS, CURVES = "progress", "learning-curves"


class ProgressPage:
    """Listens to what stages report, and shows the newest of it.

    Args:
        flow_run_id: of the Prefect run whose page it is.
    """

    def __init__(self, flow_run_id: str, title: str, seconds: float = SECONDS) -> None:
        self.flow_run_id, self.title, self.seconds = UUID(flow_run_id), title, seconds
        self.curves = Curves()
        self._newest: Progress | None = None
        self._changed: set[str] = set()
        self._ids: dict[str, UUID] = {}
        self._stop, self._lock = threading.Event(), threading.Lock()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While this lasts the page is kept up to date; it is told its end."""
        context = contextvars.copy_context()  # Prefect's settings are in it
        thread = threading.Thread(target=context.run, args=(self._loop,), name="progress-page")
        thread.daemon = True
        thread.start()
        try:
            with listening(self):
                yield
        finally:
            self._stop.set()
            thread.join(timeout=15)

    def __call__(self, report: Progress) -> None:
        with self._lock:
            if report.state == "measured":
                self.curves.add(report.points)
                self._changed.add(CURVES)
            elif report.state != "told":
                if report.stage in ("cell", "trial") and report.state == "running":
                    self.curves = Curves()  # of another model
                self._newest = report
                self._changed.add(PROGRESS)

    def _loop(self) -> None:
        with get_client(sync_client=True) as client:
            last = False
            while not last:
                last = self._stop.wait(self.seconds)
                try:
                    self._write(client)
                except Exception:  # a page that cannot be written stops no run
                    continue

    def _write(self, client: SyncPrefectClient) -> None:
        with self._lock:
            changed, newest = set(self._changed), self._newest
            image = as_image(self.curves.panels()) if CURVES in changed else ""
            self._changed.clear()
        try:
            if PROGRESS in changed and newest is not None:
                self._put(client, PROGRESS, "progress", *_progress(newest))
            if image:
                text = f"![learning curves]({image})\n"
                self._put(client, CURVES, "markdown", text, f"Learning curves of {self.title}")
        except Exception:
            with self._lock:
                self._changed |= changed
            raise

    def _put(
        self, client: SyncPrefectClient, key: str, kind: str, data: str | float, description: str
    ) -> None:
        """Make the artifact of this run, or replace what it shows."""
        if key in self._ids:
            update = ArtifactUpdate(data=data, description=description)
            client.update_artifact(self._ids[key], update)
            return
        new = ArtifactCreate(
            key=key, type=kind, data=data, description=description, flow_run_id=self.flow_run_id
        )
        self._ids[key] = client.create_artifact(new).id


def _progress(report: Progress) -> tuple[float, str]:
    """Percent of the stage in work, and it in words."""
    ended = report.state != "running"
    whole = ended and report.state != "failed"
    share = 1.0 if whole else min(report.done / report.total, 1.0) if report.total else 0.0
    state = report.state if ended else f"{100 * share:.0f} %" if report.total else "under way"
    note = f" · {report.note}" if report.note and not ended else ""
    return round(100 * share, 1), f"{report.stage}: {state}{note}"
