"""train: token windows → a folded model, in a process of its own.

The parent (here) starts `python -m tasks.engines.training_process`, relays its progress and delivers its metrics to
MLflow. The child knows neither server, so one that goes away stops no training; and a child that is killed is a failed
attempt of this task, not the death of the flow: the next attempt goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.artifacts import FetchedModel, Lessons, TokenDataset, TrainedModel
from data_contracts.errors import TrainingError
from tasks.engines.threads import environment
from tasks.engines.training_process import own_packages_first
from tasks.progress import report, tell
from tasks.retries import Interrupted
from tasks.stage import Here, RunContext, stage
from tasks.tokenize import SEEN_TEXTS, TEACHER_TEXTS, TRAIN_TEXTS
from tasks.tracking.runs import Tracker

_USER_ERROR = 3  # exit status of the child for a fault that no further attempt mends
_TERMINATED = 128 + signal.SIGTERM  # its exit status once it has saved a checkpoint on SIGTERM
STOP_SECONDS = 10  # for that checkpoint


def _tell(model: TrainedModel, run: RunContext) -> None:
    run.tracker.set_tags(
        {"noisefold.trained_in_run": model.run_id, "noisefold.bundle_digest": model.digest}
    )


@stage(TrainedModel, version=2, shaped_by=("model", "training", "teacher.weight"), tell=_tell)
def train(
    here: Here,
    tokens: TokenDataset,
    start: FetchedModel | None = None,
    lessons: Lessons | None = None,
) -> dict[str, Any]:
    """Train, from labels and a teacher's lessons where there are any; keep the best epoch, fold the noise away.

    Effects: checkpoints in the work folder, metric points in the MLflow run, the bundle below the store's key.
    Safe to repeat: an interrupted training resumes, and its metric points are delivered once.
    Raises:
        TrainingError: where the data or the recipe cannot give a model (one class, a NaN loss).
        Interrupted: where the child was killed or ran out of time; worth another attempt.
    """
    recipe = here.recipe
    if len(tokens.labels) < 2:
        raise TrainingError(
            "The train split has one label only.",
            "A classifier needs two or more; check the contract.",
        )
    spec = {
        "tokens": str(here.open(tokens)),
        "labels": tokens.labels,
        "vocab_size": tokens.vocab_size,
        "max_length": tokens.max_length,
        "overlap": tokens.overlap,
        "prefix_ids": tokens.prefix_ids,
        "suffix_ids": tokens.suffix_ids,
        "model": recipe.model.model_dump(mode="json"),
        "training": recipe.training.model_dump(mode="json"),
        "work": str(here.keep),
        "out": str(here.out),
        "warm_start": str(start.bundle) if start else None,
        "lessons": str(here.open(lessons) / "lessons.parquet") if lessons else None,
        "teacher_weight": recipe.teacher.weight if recipe.teacher else 0.0,
    }
    forwarder = Forwarder(here.keep / "metrics.jsonl", here.run.tracker)
    with forwarder:
        result = run_child(
            spec, here.keep, recipe.execution.train_timeout_seconds, recipe.training.threads
        )
    seen = np.load(here.open(tokens) / TRAIN_TEXTS, allow_pickle=False)
    if lessons is not None:
        taught = np.load(here.open(lessons) / TEACHER_TEXTS, allow_pickle=False)
        seen = np.union1d(seen, taught)
    np.save(here.out / SEEN_TEXTS, seen, allow_pickle=False)
    forwarder.deliver()  # what is left; a server that is still away fails this attempt, and nothing is lost
    return {
        "digest": result["bundle_digest"],
        "rows_in": result["windows"],
        "rows_out": result["windows"],
        "run_id": here.run.tracker.run_id,
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "steps": result["steps"],
        "best_macro_f1": result["best_macro_f1"],
        "parameters": result["parameters"],
        "cpu_seconds": round(result["cpu_seconds"], 2),
        "warm_started_from": start.digest if start else None,
        "taught_by": lessons.teacher if lessons else None,
    }


def run_child(
    spec: dict[str, Any], keep: Path, timeout_seconds: float, threads: int
) -> dict[str, Any]:
    """Run one training attempt to its end and return the child's result."""
    keep.mkdir(parents=True, exist_ok=True)
    spec_file, error_log = keep / "spec.json", keep / "stderr.log"
    spec_file.write_text(json.dumps(spec))
    variables = {
        **os.environ,
        **environment(threads),
        "PYTHONPATH": own_packages_first(),
        "PYTHONUNBUFFERED": "1",
    }
    with error_log.open("wb") as errors:
        # -P: the working directory must not shadow a module. stdin: its end tells the child that its parent is gone.
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "tasks.engines.training_process", str(spec_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=variables,
            start_new_session=True,
        )
        out_of_time = threading.Event()

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
            status = child.wait()
        except BaseException:
            _stop(child)
            raise
        finally:
            timer.cancel()
            timer.join()  # it may be stopping the child right now
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
    if status == 0 and events.result is not None:
        return events.result
    if status == _USER_ERROR and events.error is not None:
        raise TrainingError(events.error["cause"], events.error["remedy"])
    tail = _tail(error_log)
    if out_of_time.is_set():
        raise Interrupted(
            f"Training ran into its limit of {timeout_seconds:.0f} s (execution.train_timeout_seconds)."
        )
    if status < 0 or status == _TERMINATED:
        name = signal.Signals(-status if status < 0 else signal.SIGTERM).name
        hint = " (out of memory, or an operator)" if name == "SIGKILL" else ""
        raise Interrupted(
            f"The training process was ended by {name}{hint}; its checkpoints are kept."
        )
    raise TrainingError(
        f"The training process failed: {tail}", f"The whole message is in {error_log}."
    )


class Relay:
    """Reads the child's JSON lines: progress and notes go to whoever listens, result and error are kept."""

    def __init__(self) -> None:
        self.result: dict[str, Any] | None = None
        self.error: dict[str, str] | None = None
        self._best = ""

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
                self._best = f" · val macro-F1 {event['val/macro_f1']:.3f}"
            case "note":
                tell("train", event["message"])
            case "resumed":
                tell(
                    "train",
                    f"Training goes on from step {event['step']:,} of {event['total_steps']:,}.",
                )
            case "result":
                self.result = event
            case "error":
                self.error = event


class Forwarder:
    """Delivers `metrics.jsonl` to MLflow while it grows: each point once, in order, whatever happens to the server.

    What the server has is asked of the server (the highest step per metric), so that a resumed training, which computes
    some points again, and a rerun after any crash repeat nothing.
    """

    def __init__(self, path: Path, tracker: Tracker, seconds: float = 2.0) -> None:
        self.path, self.tracker, self.seconds = path, tracker, seconds
        self._seen: dict[str, int] = {}
        self._asked: set[str] = set()
        self._offset, self._file = 0, 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="metrics-forwarder", daemon=True)

    def __enter__(self) -> Forwarder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _loop(self) -> None:
        wait = self.seconds
        while not self._stop.wait(wait):
            try:
                self.deliver()
                wait = self.seconds
            except (
                Exception
            ):  # any fault of the server: the file keeps the points, a later round delivers them
                wait = min(60.0, wait * 2)

    def deliver(self) -> None:
        """Send every complete line that the server has not seen."""
        with self._lock:
            points, offset = self._read()
            for key in sorted({point["key"] for point in points} - self._asked):
                history = self.tracker.client.get_metric_history(self.tracker.run_id, key)
                self._seen[key] = max((metric.step for metric in history), default=-1)
                self._asked.add(key)
            fresh = [point for point in points if point["step"] > self._seen[point["key"]]]
            self.tracker.log_points(fresh)
            for point in fresh:
                self._seen[point["key"]] = point["step"]
            self._offset = offset

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        try:
            with self.path.open("rb") as stream:
                # A resumed child begins another file, with what it keeps of this one; what follows is filtered by step.
                file = os.fstat(stream.fileno()).st_ino
                start = self._offset if file == self._file else 0
                stream.seek(start)
                data, self._file = stream.read(), file
        except FileNotFoundError:
            return [], 0
        whole = data[: data.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()], start + len(whole)


def _stop(child: subprocess.Popen[str]) -> None:
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
