"""How far a stage is. Stages report; whoever runs the flow in a terminal listens; under a worker nobody does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

State = Literal["running", "ran", "cached", "retried", "failed"]


@dataclass(frozen=True)
class Progress:
    stage: str
    done: float
    total: float | None = None
    note: str = ""
    state: State = "running"


_listener: Callable[[Progress], None] | None = None


def report(stage: str, done: float, total: float | None = None, note: str = "", state: State = "running") -> None:
    if _listener is not None:
        _listener(Progress(stage, done, total, note, state))


@contextmanager
def listening(listener: Callable[[Progress], None]) -> Iterator[None]:
    global _listener
    previous, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = previous
