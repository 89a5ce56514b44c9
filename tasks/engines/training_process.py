"""The child of `tasks.engines.local`: `python -m tasks.engines.training_process JOB.json`. JSON
lines on stdout, nothing else.

Imports neither Prefect nor MLflow. Exit status 3: a fault that another attempt would meet again; 4:
ended after an epoch, as the parent has answered; 143: SIGTERM, after a checkpoint. A job that
`asks` tells each epoch and waits for one byte on standard input, 1 (go on) or 0.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_contracts.errors import NoisefoldError
from lightning_modules.training.job import TrainingJob

STOP = b"0"


def main(job_file: str) -> int:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes to the error log, not between the JSON lines
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    end_with_parent(answers)

    def emit(event: dict[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")

    def goes_on(epoch: dict[str, Any]) -> bool:
        emit({**epoch, "event": "asked"})
        return answers.get() != STOP

    # An orphan of a killed flow may need a moment to notice; two trainings must not share one
    # folder, which is that of the job's file.
    with FileLock(Path(job_file).parent / "training.lock", timeout=60):
        from lightning_modules.training.fit import fit
        from lightning_modules.training.keep_best import Halted

        try:
            job = TrainingJob.read(Path(job_file))
            result = fit(job, emit, goes_on if job.asks else None)
        except Halted as halted:
            emit({"event": "halted", "epochs": halted.epochs, "cpu_seconds": halted.cpu_seconds})
            return 4
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


def end_with_parent(answers: queue.SimpleQueue[bytes] | None = None) -> None:
    """End this process when its standard input ends: the parent holds the other end, and is gone,
    however it went. What it says there meanwhile are answers.
    """

    def wait() -> None:
        # Not sys.stdin: its lock, held by this thread, would abort the interpreter's shutdown.
        while answer := os.read(0, 1):
            if answers is not None:
                answers.put(answer)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
