"""How much memory something takes, measured where it runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    megabytes: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """The most memory (10^6 bytes, resident) that this process had inside the block, beyond what it
    had before it.
    """
    gc.collect()
    _RESET.write_text("5")  # the kernel's high-water mark starts anew from what is resident now
    before, peak = _high_water(), Peak()
    yield peak
    peak.megabytes = (_high_water() - before) / 1e6


def _high_water() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
