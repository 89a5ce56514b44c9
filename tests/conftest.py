"""Fixtures of the whole suite: no telemetry, debug-sized data, a store and an MLflow store in a
temporary folder.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from flows.running.environment import switches

switches()
os.environ.setdefault("OMP_NUM_THREADS", "2")
# A shell starts what it puts into the background with SIGINT ignored, and every process would
# inherit that: tests that send a Ctrl-C would wait for nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATA = REPOSITORY.parent / "shared" / "data"


# Files that take longest, or wait for a clock: begun first, so that none of them is what a worker
# has left at the end while the other is idle (`--no-loadscope-reorder` keeps this order).
_LONGEST = (
    "test_serving", "test_schedules", "test_deploy", "test_compare", "test_stop", "test_crash",
    "test_faults", "test_teacher", "test_start", "test_deployments", "test_writing",
    "test_operate", "test_hosting", "test_retrain", "test_installed_wheel", "test_translating",
    "test_releases", "test_memory", "test_train", "test_ui", "test_recovery",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture
def store(tmp_path: Path):
    from tasks.artifacts.store import ArtifactStore

    return ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")


@pytest.fixture
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(
            f"the public data sets are not beside the checkout ({REAL_DATA.name}/ is absent)"
        )
    return REAL_DATA
