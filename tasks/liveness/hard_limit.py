"""The last line of a time limit: the process itself is ended, whatever it hangs in."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hard_limit(seconds: float) -> Iterator[None]:
    """End this process where the block takes longer, after the stack of every thread on standard
    error; exit status 1.

    Prefect ends an attempt by an exception in the main thread. It never comes out of a native call
    that does not return, nor out of a library that swallows it. This one is a thread without
    Python, which no lock can hold up.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
