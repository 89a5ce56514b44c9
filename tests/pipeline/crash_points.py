"""The points of the crash matrix: drawn from a seed, spread over all stages and all kinds of
writes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

STAGES = ("start", "ingest", "validate", "tokenize", "train", "evaluate", "register", "promote")


@dataclass(frozen=True)
class Point:
    """Where to strike: `stage` and `share` of its time, or the call `fault` (see faulty.py)."""

    number: int
    victim: str  # flow | training
    stage: str = ""
    share: float = 0.0
    fault: str = ""
    store: str = "sqlite"  # sqlite | server

    def __str__(self) -> str:
        return (
            self.fault.replace(":", " ").replace("#", " no. ")
            if self.fault
            else f"{self.share:.0%} of {self.stage}"
        )


@dataclass
class Struck:
    """What became of a point."""

    point: Point
    stage: str = ""
    finished: list[str] = field(default_factory=list)
    first: int | None = None
    rerun: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    commit: str = ""

    @property
    def healed(self) -> bool:
        return not self.faults


# Instants per stage (of the flow, of the training process), and calls with how many there are of
# them to draw from.
INSTANTS = {
    "start": 1,
    "ingest": 1,
    "validate": 1,
    "tokenize": 1,
    "train": 3,
    "evaluate": 1,
    "register": 1,
    "promote": 3,
}
CHILD_INSTANTS = 3
CALLS = [
    ("schema", "before"), ("rows", "before"), ("rows", "before"),
    ("write_durably", "half"), ("write_durably", "half"), ("write_durably", "before"),
    ("_appear", "before"), ("_appear", "after"), ("rmtree", "before"),
    ("create_run", "after"), ("log_batch", "before"), ("log_inputs", "before"), ("log_artifacts", "after"),
    ("create_logged_model", "after"), ("log_model_artifacts", "after"), ("finalize_logged_model", "after"),
    ("create_registered_model", "after"), ("create_model_version", "before"), ("create_model_version", "after"),
    ("append_line", "half"), ("set_registered_model_tag", "after"), ("set_registered_model_alias", "after"),
    ("set_model_version_tag", "before"), ("set_terminated", "before"),
]  # fmt: skip
CHILD_CALLS = [("save_checkpoint", "half", 6), ("checkpoint_replace", "before", 6), ("checkpoint_replace", "after", 6),
               ("metrics_write", "half", 8), ("save_bundle", "after", 1)]  # fmt: skip


def points(seed: int, made: dict[str, int]) -> list[Point]:
    """The matrix: every point by its number, the kinds mixed so that any first part is spread over
    all stages.

    Args:
        made: how often an undisturbed run makes each call.
    """
    rng = random.Random(seed)
    drawn: list[dict[str, Any]] = []
    for stage, count in INSTANTS.items():
        drawn += [
            {"victim": "flow", "stage": stage, "share": round(rng.random(), 3)}
            for _ in range(count)
        ]
    drawn += [
        {"victim": "training", "stage": "train", "share": round(rng.uniform(0.05, 0.95), 3)}
        for _ in range(CHILD_INSTANTS)
    ]
    for name, when in CALLS:
        drawn.append({"victim": "flow", "fault": f"{name}#{rng.randint(1, made[name])}:{when}"})
    for name, when, most in CHILD_CALLS:
        drawn.append({"victim": "training", "fault": f"{name}#{rng.randint(1, most)}:{when}"})
    rng.shuffle(drawn)
    # Every seventh against `mlflow server`, unless it strikes the embedded store's own statements.
    found = []
    for number, one in enumerate(drawn, 1):
        by_server = number % 7 == 0 and not one.get("fault", "").startswith(("rows#", "schema#"))
        found.append(Point(number, store="server" if by_server else "sqlite", **one))
    return found
