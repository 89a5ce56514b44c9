"""A process that hangs where no Python runs is ended all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HANGS = """
import ctypes, time
from tasks.liveness.hard_limit import hard_limit
with hard_limit(0.2):
    pass
time.sleep(0.4)
print("alive", flush=True)
with hard_limit(0.2):
    ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock: no thread and no signal handler of Python's runs
"""


def test_a_native_call_that_never_returns_ends_with_the_process_and_its_stack():
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (1, "alive\n")
    assert "Timeout" in done.stderr and 'File "<string>", line 9' in done.stderr
