"""How far a stage is. Stages report; whoever runs the flow in a terminal listens; under a worker
nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

State = Literal["running", "told", "ran", "cached", "retried", "failed"]


@dataclass(frozen=True)
class Progress:
    stage: str
    done: float
    total: float | None = None
    note: str = ""
    state: State = "running"


_listener: Callable[[Progress], None] | None = None


def report(
    stage: str, done: float, total: float | None = None, note: str = "", state: State = "running"
) -> None:
    if _listener is not None:
        _listener(Progress(stage, done, total, note, state))


def tell(stage: str, message: str) -> None:
    """A sentence for people: into the log of the Prefect run, and to the terminal."""
    # Here: whoever shows a flow in a terminal imports this module before Prefect's settings are
    # made.
    from prefect import get_run_logger
    from prefect.exceptions import MissingContextError

    with suppress(MissingContextError):
        get_run_logger().info("%s", message)
    report(stage, 0, note=message, state="told")


@contextmanager
def listening(listener: Callable[[Progress], None]) -> Iterator[None]:
    global _listener
    previous, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = previous
