"""The engine of this machine: a training runs in a child process, which may be killed without the
flow.

The parent has `tasks.engines.training_process` carried out in a child that need not import
(`tasks.engines.fork_server`), relays its progress and keeps its result. The child knows no server,
so one that goes away stops no training.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from data_contracts.errors import TrainingError
from lightning_modules.training.job import TrainingJob
from tasks.engines.fork_server import Child, ForkServer, Request
from tasks.engines.threads import environment
from tasks.engines.training_process import own_packages_first
from tasks.progress import report, tell
from tasks.retries import Abandoned, Interrupted, Stopped

CHILD = "tasks.engines.training_process"
USER_ERROR = 3  # exit status of the child for a fault that no further attempt mends
HALTED = 4  # once it has been told to end after an epoch
TERMINATED = 128 + signal.SIGTERM  # its exit status once it has saved a checkpoint on SIGTERM
STOP_SECONDS = 10  # for that checkpoint


# -P: the working directory must not shadow a module.
_fork_server = ForkServer(("lightning_modules.training.fit",), options=("-P",))
_running: set[Child] = set()
_ending = threading.Event()

# Whether a training goes on after an epoch: its number, what validation measured, CPU seconds.
AfterEpoch = Callable[[dict[str, Any]], bool]


def start_imports(threads: int) -> None:
    """Begin what a training's child imports, where a training is to come. Returns at once."""
    _fork_server.start(_variables(threads))


def run_child(
    job: TrainingJob, timeout_seconds: float, goes_on: AfterEpoch | None = None
) -> dict[str, Any]:
    """Run one training attempt to its end and return the child's result.

    Args:
        goes_on: what a job that `asks` is answered after each epoch.
    Raises:
        TrainingError: the data or the recipe cannot give a model.
        Interrupted: the child was killed or ran out of time; worth another attempt.
        Stopped: `goes_on` said no.
        Abandoned: within `ending_trainings`.
    """
    job.work.mkdir(parents=True, exist_ok=True)
    job_file, error_log = job.work / "job.json", job.work / "stderr.log"
    job.write(job_file)
    out_of_time = threading.Event()
    with error_log.open("wb") as errors:
        child = _start(job, job_file, errors)
        _running.add(child)

        def end() -> None:
            out_of_time.set()
            _stop(child)

        timer = threading.Timer(timeout_seconds, end)
        timer.start()
        try:
            events = Relay()
            assert child.stdout is not None
            for line in child.stdout:
                events(line)
                _answer(child, events.question(), goes_on)
            status = child.wait()
        except BaseException:
            _stop(child)
            raise
        finally:
            timer.cancel()
            timer.join()  # it may be stopping the child right now
            _running.discard(child)
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
    if status == 0 and events.result is not None:
        return events.result
    fault = _fault(status, events, error_log)
    if out_of_time.is_set() and status not in (HALTED, USER_ERROR):
        fault = Interrupted(
            f"Training ran into its limit of {timeout_seconds:.0f} s (execution.limits.train)."
        )
    raise fault


@contextmanager
def ending_trainings() -> Iterator[None]:
    """End the trainings that other threads wait for, each after a checkpoint; while this lasts they
    are not taken for faults. A signal reaches the main thread alone.
    """
    _ending.set()
    try:
        for child in list(_running):
            child.terminate()
        yield
    finally:
        _ending.clear()


def _start(job: TrainingJob, job_file: Path, errors: IO[bytes]) -> Child:
    # Its standard input's end tells the child that its parent is gone.
    request = Request(
        name="noisefold-train",
        module=CHILD,
        arguments=[str(job_file)],
        environment=_variables(job.execution.threads),
        folder=os.getcwd(),
    )
    return _fork_server.spawn(request, errors=errors)


def _variables(threads: int) -> dict[str, str]:
    return {
        **os.environ,
        **environment(threads),
        "PYTHONPATH": own_packages_first(),
        "PYTHONUNBUFFERED": "1",
    }


def _answer(child: Child, epoch: dict[str, Any] | None, goes_on: AfterEpoch | None) -> None:
    if epoch is None:
        return
    answer = "1" if goes_on is None or goes_on(epoch) else "0"
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # it has died since, which its exit status tells
        child.stdin.write(answer)
        child.stdin.flush()


def _fault(status: int, events: Relay, error_log: Path) -> BaseException:
    """Why there is no result, by what was told and by the exit status."""
    if _ending.is_set():
        return Abandoned("The training was ended with its flow.")
    if status == HALTED and events.halted is not None:
        return Stopped(**events.halted)
    if status == USER_ERROR and events.error is not None:
        return TrainingError(events.error["cause"], events.error["remedy"])
    if status < 0 or status == TERMINATED:
        name = signal.Signals(-status if status < 0 else signal.SIGTERM).name
        hint = " (out of memory, or an operator)" if name == "SIGKILL" else ""
        return Interrupted(
            f"The training process was ended by {name}{hint}; its checkpoints are kept."
        )
    return TrainingError(
        f"The training process failed: {_tail(error_log)}", f"The whole message is in {error_log}."
    )


class Relay:
    """Reads the child's JSON lines: progress and notes go to whoever listens, result and error are
    kept.
    """

    def __init__(self) -> None:
        self.result: dict[str, Any] | None = None
        self.error: dict[str, str] | None = None
        self.halted: dict[str, Any] | None = None
        self._asked: dict[str, Any] | None = None
        self._best = ""

    def question(self) -> dict[str, Any] | None:
        """The epoch after which the child waits for an answer; once."""
        asked, self._asked = self._asked, None
        return asked

    def __call__(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # a library printed something
        match event.get("event"):
            case "progress":
                note = f"epoch {event['epoch']} · loss {event['loss']:.3f}{self._best}"
                report("train", event["step"], event["total_steps"], note)
            case "epoch":
                monitored = event["monitored"]
                self._best = f" · val {monitored['words']} {monitored['value']:.3f}"
            case "note":
                tell("train", event["message"])
            case "resumed":
                tell(
                    "train",
                    f"Training goes on from step {event['step']:,} of {event['total_steps']:,}.",
                )
            case "asked":
                self._asked = event
            case "halted":
                self.halted = {name: event[name] for name in ("epochs", "cpu_seconds")}
            case "result":
                self.result = event
            case "error":
                self.error = event


def _stop(child: Child) -> None:
    """Leave no process behind: ask, wait for its checkpoint, then kill."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _tail(path: Path) -> str:
    lines: deque[str] = deque(path.read_text(errors="replace").splitlines(), maxlen=1)
    return lines[0] if lines else "no message"
