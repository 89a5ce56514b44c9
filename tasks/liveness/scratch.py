"""Temporary files of a run: in one folder of the state folder, where the next run finds what a
killed one left.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".lock"


@contextmanager
def scratch(work: Path) -> Iterator[Path]:
    """A folder that `tempfile` uses meanwhile, here and in child processes (TMPDIR); gone at the
    end.

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
    """Remove the folders whose process is gone: the kernel dropped its lock. Returns what was
    removed.
    """
    return [folder for folder in _folders(work) if _if_dead(folder, shutil.rmtree)]


def sweep_dead(work: Path) -> list[Path]:
    """`sweep`, beside runs that may start meanwhile."""
    with _alone(work):
        return sweep(work)


def dead_folders(work: Path) -> list[Path]:
    """What `sweep_dead` would remove."""
    if not (work / "scratch").is_dir():
        return []
    with _alone(work):
        return [folder for folder in _folders(work) if _if_dead(folder, lambda *_, **__: None)]


def _folders(work: Path) -> list[Path]:
    return sorted((work / "scratch").glob("run-*"))


def _if_dead(folder: Path, act: Callable[..., object]) -> bool:
    try:
        with FileLock(folder / _LOCK, timeout=0):
            act(folder, ignore_errors=True)
    except Timeout:
        return False
    return True


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """A folder must not be swept between its creation and its lock."""
    for folder in ("scratch", "locks"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    with FileLock(work / "locks" / "scratch.lock"):
        yield
