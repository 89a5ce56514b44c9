"""The metric points of a training, beside its checkpoints until somebody delivers them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


class MetricsLog:
    """`metrics.jsonl`: one point per line, {"key", "value", "step", "timestamp"} (milliseconds),
    flushed per step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, step: int, values: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        points = [
            {"key": key, "value": value, "step": step, "timestamp": now}
            for key, value in values.items()
        ]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(json.dumps(point) + "\n" for point in points))

    def rewind(self, step: int) -> None:
        """Drop what a killed attempt wrote after `step`, a torn last line included. Steps only grow
        within the file.

        What is kept is another file: whoever reads along knows by that that its place in the old
        one means nothing.
        """
        if not self.path.exists():
            return
        beside = self.path.with_name(f"{self.path.name}.tmp")
        with self.path.open("rb") as stream, beside.open("wb") as kept:
            for line in stream:
                try:
                    if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                        break
                except ValueError:
                    break
                kept.write(line)
        os.replace(beside, self.path)
