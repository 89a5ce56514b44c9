"""Signals that Python drops: what a handler raises in a finalizer or in a weakref's callback goes
no further.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data_contracts.errors import stop_signal

AGAIN_SECONDS = 0.05


@contextmanager
def dropped_are_sent_again() -> Iterator[None]:
    """A SIGTERM or Ctrl-C whose exception was dropped (`sys.unraisablehook`) arrives once more, a
    moment later.
    """

    def send_again(dropped: Any) -> None:
        if (stop := stop_signal(dropped.exc_value)) is None:
            hook(dropped)
            return
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
        # Not from here: what a signal raises within this hook would be dropped as well.
        timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    hook, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
