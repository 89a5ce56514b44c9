"""Temporary files of a run: in one folder of the state folder, where the next run finds what a killed one left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".lock"


@contextmanager
def scratch(work: Path) -> Iterator[Path]:
    """A folder that `tempfile` uses meanwhile, here and in child processes (TMPDIR); gone at the end.

    Effects: folders of processes that are no more are removed first.
    """
    with _alone(work):
        sweep(work)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=work / "scratch"))
        mine = FileLock(folder / _LOCK)
        mine.acquire()
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        os.environ.pop("TMPDIR") if variable is None else os.environ.__setitem__("TMPDIR", variable)
        mine.release()
        shutil.rmtree(folder, ignore_errors=True)


def sweep(work: Path) -> list[Path]:
    """Remove the folders whose process is gone: the kernel dropped its lock. Returns what was removed."""
    removed = []
    for folder in (work / "scratch").glob("run-*"):
        try:
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            continue
        removed.append(folder)
    return removed


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """A folder must not be swept between its creation and its lock."""
    for folder in ("scratch", "locks"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    with FileLock(work / "locks" / "scratch.lock"):
        yield
