"""What no case may do, however hostile: write, connect, start a process, unpickle, take seconds or
a lot of memory.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 5.0  # of CPU, per case
MEGABYTES = 300.0  # that one case may add to the most this process ever had
_FORBIDDEN = (
    *(
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
    ),
    *(
        "os.system",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.putenv",
        "os.unsetenv",
    ),
    *("subprocess.Popen", "socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"),
    *("pickle.find_class", "shutil.rmtree", "shutil.move", "shutil.copyfile", "ctypes.dlopen"),
)


class Trespass(BaseException):
    """A case reached for something that is no reader's business."""


class TooMuch(BaseException):
    """A case took more time or memory than a reader may."""


_watching: list[str] = []  # what the case in hand did; empty and unused between cases
_inside = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _inside:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = any(c in (mode or "") for c in "wax+") or (flags or 0) & (
            os.O_WRONLY | os.O_RDWR | os.O_CREAT
        )
        if not writes or str(path) == os.devnull:
            return
    elif event not in _FORBIDDEN:
        return
    told = f"{event} {str(arguments)[:200]}"
    _watching.append(told)
    raise Trespass(told)


def _too_long(*_: object) -> None:
    raise TooMuch(f"more than {SECONDS:g} s of CPU time")


_installed = False


@contextmanager
def watch() -> Iterator[Callable[[Callable[[Any], bool], Any], bool]]:
    """A function that runs a check on a case within the bounds above, and raises where it breaks
    one.

    An audit hook of Python's stays for the life of the process; outside a case it does nothing.
    """
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    before, bytecode = signal.signal(signal.SIGPROF, _too_long), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a module that a case is the first to need is no trespass
    try:
        yield _run
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        sys.dont_write_bytecode = bytecode


def _run(check: Callable[[Any], bool], case: Any) -> bool:
    global _inside
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _watching.clear()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _inside = True
    try:
        accepted = check(case)
    finally:
        _inside = False
        signal.setitimer(signal.ITIMER_PROF, 0)
    if _watching:  # raised, and caught by somebody on the way
        raise Trespass(_watching[0])
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1000
    if more > MEGABYTES:
        raise TooMuch(f"{more:.0f} MB more memory")
    return accepted


class LastCase:
    """The case in hand, in a file: what a crash of the whole process (a fault of a C library)
    leaves to look at.
    """

    def __init__(self, file: Path | None) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC) if file else None

    def note(self, target: str, case: Any) -> None:
        if self._descriptor is not None:
            data = f"{target} {time.time():.0f}\n".encode() + (
                case if isinstance(case, bytes) else repr(case).encode()
            )
            os.pwrite(self._descriptor, data, 0)
            os.ftruncate(self._descriptor, len(data))

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
