"""Metric points from a file to MLflow, whatever happens to the server."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from tasks.progress import measured
from tasks.tracking.runs import Tracker


class Forwarder:
    """Delivers `metrics.jsonl` to MLflow while it grows: each point once, in order, whatever
    happens to the server.

    What the server has is asked of the server (the highest step per metric), so that a resumed
    training, which computes some points again, and a rerun after any crash repeat nothing.
    """

    def __init__(self, path: Path, tracker: Tracker, seconds: float = 2.0) -> None:
        self.path, self.tracker, self.seconds = path, tracker, seconds
        self._seen: dict[str, int] = {}
        self._asked: set[str] = set()
        self._offset, self._file = 0, 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="metrics-forwarder", daemon=True)

    def __enter__(self) -> Forwarder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _loop(self) -> None:
        wait = self.seconds
        while not self._stop.wait(wait):
            try:
                self.deliver()
                wait = self.seconds
            # Any fault of the server: the file keeps the points, a later round delivers them.
            except Exception:
                wait = min(60.0, wait * 2)

    def deliver(self) -> None:
        """Send every complete line that the server has not seen."""
        with self._lock:
            points, offset = self._read()
            if points:
                measured("train", points)
            for key in sorted({point["key"] for point in points} - self._asked):
                history = self.tracker.client.get_metric_history(self.tracker.run_id, key)
                self._seen[key] = max((metric.step for metric in history), default=-1)
                self._asked.add(key)
            fresh = [point for point in points if point["step"] > self._seen[point["key"]]]
            self.tracker.log_points(fresh)
            for point in fresh:
                self._seen[point["key"]] = point["step"]
            self._offset = offset

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        try:
            with self.path.open("rb") as stream:
                # A resumed child begins another file, with what it keeps of this one; what follows
                # is filtered by step.
                file = os.fstat(stream.fileno()).st_ino
                start = self._offset if file == self._file else 0
                stream.seek(start)
                data, self._file = stream.read(), file
        except FileNotFoundError:
            return [], 0
        whole = data[: data.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()], start + len(whole)
