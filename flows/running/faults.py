"""What Prefect's log says of a fault that a person can mend: cause and remedy, and no traceback.

Prefect logs every exception of a task and of a flow with its traceback. A `NoisefoldError` is no
bug: who reads it at night needs its two sentences.
"""

from __future__ import annotations

import logging

from data_contracts.errors import NoisefoldError, told_of

_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class WithoutTraceback(logging.Filter):
    """Rewrites a record about a `NoisefoldError`; others pass as they are. The flow ends with the
    fault of its task, which is told once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, NoisefoldError):
            return True
        record.exc_info = record.exc_text = None
        told = "The run ends with the fault above." if error is self._last else told_of(error)
        record.msg, record.args = "%s", (told,)
        self._last = error
        return True


_FILTER = WithoutTraceback()


def install() -> None:
    """Safe to repeat: a logger holds a filter once."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
