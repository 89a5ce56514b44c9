"""The child of `tasks.engines.local`: `python -m tasks.engines.training_process JOB.json`. JSON
lines on stdout, nothing else.

Imports neither Prefect nor MLflow. Exit status 3: a fault that another attempt would meet again;
143: SIGTERM, after a checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_contracts.errors import NoisefoldError
from lightning_modules.training.job import TrainingJob


def main(job_file: str) -> int:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes to the error log, not between the JSON lines
    end_with_parent()

    def emit(event: dict[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")

    # An orphan of a killed flow may need a moment to notice; two trainings must not share one
    # folder, which is that of the job's file.
    with FileLock(Path(job_file).parent / "training.lock", timeout=60):
        from lightning_modules.training.fit import fit

        try:
            result = fit(TrainingJob.read(Path(job_file)), emit)
        except NoisefoldError as error:
            emit({"event": "error", "cause": error.cause, "remedy": error.remedy})
            return 3
        except SystemExit:  # so Lightning ends a fit on SIGTERM; there is a checkpoint by now
            return 128 + signal.SIGTERM
        emit({"event": "result", **asdict(result)})
    return 0


def own_packages_first() -> str:
    """PYTHONPATH for a process of ours: a user's own `tasks.py` or `flows/` on it does not stand
    before these.
    """
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def end_with_parent() -> None:
    """End this process when its standard input ends: the parent holds the other end, and is gone,
    however it went.
    """

    def wait() -> None:
        # Not sys.stdin: its lock, held by this thread, would abort the interpreter's shutdown.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
