"""The child of `tasks.train`: `python -m tasks.engines.training_process SPEC.json`. JSON lines on stdout, nothing else.

Imports neither Prefect nor MLflow. Exit status 3: a fault that another attempt would meet again; 143: SIGTERM, after a
checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_contracts.errors import NoisefoldError
from data_contracts.recipe.recipe import ModelConfig, TrainingConfig


def main(spec_file: str) -> int:
    spec = json.loads(Path(spec_file).read_text())
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes to the error log, not between the JSON lines
    end_with_parent()

    def emit(event: dict[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")

    work = Path(spec["work"])
    # An orphan of a killed flow may need a moment to notice; two trainings must not share one folder.
    with FileLock(work / "training.lock", timeout=60):
        from dataclasses import asdict

        from lightning_modules.training.fit import fit

        tokens = Path(spec["tokens"])
        try:
            result = fit(
                tokens,
                vocab_size=spec["vocab_size"],
                labels=tuple(spec["labels"]),
                tokenizer_json=(tokens / "tokenizer.json").read_bytes(),
                max_length=spec["max_length"],
                overlap=spec["overlap"],
                prefix_ids=spec["prefix_ids"],
                suffix_ids=spec["suffix_ids"],
                model=ModelConfig.model_validate(spec["model"]),
                training=TrainingConfig.model_validate(spec["training"]),
                work=work,
                out=Path(spec["out"]),
                on_progress=emit,
                warm_start=Path(spec["warm_start"]) if spec["warm_start"] else None,
                lessons=Path(spec["lessons"]) if spec["lessons"] else None,
                teacher_weight=spec["teacher_weight"],
            )
        except NoisefoldError as error:
            emit({"event": "error", "cause": error.cause, "remedy": error.remedy})
            return 3
        except SystemExit:  # so Lightning ends a fit on SIGTERM; there is a checkpoint by now
            return 128 + signal.SIGTERM
        emit({"event": "result", **asdict(result)})
    return 0


def own_packages_first() -> str:
    """PYTHONPATH for a process of ours: a user's own `tasks.py` or `flows/` on it does not stand before these."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def end_with_parent() -> None:
    """End this process when its standard input ends: the parent holds the other end, and is gone, however it went."""

    def wait() -> None:
        while os.read(
            0, 1
        ):  # not sys.stdin: its lock, held by this thread, would abort the interpreter's shutdown
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
