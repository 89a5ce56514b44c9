"""How far a stage is. Stages report; a terminal and the page of the Prefect run listen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["running", "told", "measured", "ran", "cached", "retried", "pruned", "failed"]


@dataclass(frozen=True)
class Progress:
    stage: str
    done: float
    total: float | None = None
    note: str = ""
    state: State = "running"
    points: tuple[dict[str, Any], ...] = ()  # of what was measured: {key, value, step}


_listeners: tuple[Callable[[Progress], None], ...] = ()


def report(
    stage: str, done: float, total: float | None = None, note: str = "", state: State = "running"
) -> None:
    _tell_all(Progress(stage, done, total, note, state))


def measured(stage: str, points: Sequence[dict[str, Any]]) -> None:
    """Points of curves: what was measured since the last ones."""
    _tell_all(Progress(stage, 0, state="measured", points=tuple(points)))


def _tell_all(progress: Progress) -> None:
    for listener in _listeners:
        listener(progress)


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
    """While this lasts the listener hears what stages report, beside those that hear it already."""
    global _listeners
    _listeners = (*_listeners, listener)
    try:
        yield
    finally:
        _listeners = tuple(one for one in _listeners if one is not listener)
