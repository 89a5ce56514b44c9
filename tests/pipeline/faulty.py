"""`python -m tests.pipeline.faulty …`: the `noisefold` command with one fault planted, named by
FAULT.

"<stage>:<how>", or "every:<how>" for one in each stage, strikes at the worst moment: a stage's work
is done and nothing is committed yet; for register after the model is logged and before it has a
version; for promote before the alias moves. `io` raises an OSError once (then the stage works),
`kill` sends SIGKILL to this process.

"<call>#<n>:<when>" sends SIGKILL at the n-th call of one of CALLS: `before` it, `after` it, or
`half` way through the write; `segfault` reads from address 0 instead. What stands in CHILD_CALLS
strikes in the training process. The file STRUCK is made first, and where it is there already
nothing strikes, so that an attempt which follows in the same flow goes through. "count" strikes
nowhere and writes how often each call was made into STRUCK. Several faults are separated by "+".
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# In the flow's process, by their owners.
CALLS = {
    "write_durably": "tasks.artifacts.store",
    "_appear": "tasks.artifacts.store",
    "rmtree": "shutil",
    "append_line": "tasks.tracking.aliases",
    **dict.fromkeys(
        (
            "create_experiment",
            "create_run",
            "log_batch",
            "log_inputs",
            "log_artifacts",
            "create_logged_model",
            "log_outputs",
            "log_model_artifacts",
            "finalize_logged_model",
            "create_registered_model",
            "create_model_version",
            "set_registered_model_tag",
            "set_registered_model_alias",
            "set_model_version_tag",
            "set_terminated",
        ),
        "mlflow.MlflowClient",
    ),
}
# What SQLAlchemy sends to the embedded store, by the verb it begins with.
STATEMENTS = {"schema": ("CREATE", "ALTER", "DROP"), "rows": ("INSERT", "UPDATE", "DELETE")}
CHILD_CALLS = {
    "save_checkpoint": "pytorch_lightning.Trainer",
    "checkpoint_replace": "os",
    "metrics_write": "lightning_modules.training.metrics_log.MetricsLog",
    "save_bundle": "lightning_modules.training.fit",
}
_NAMES = {"checkpoint_replace": "replace", "metrics_write": "write"}


def plant(faults: str) -> None:
    for fault in faults.split("+"):
        if "#" in fault or fault == "count":
            Strike(fault).plant()
        else:
            plant_in_stage(fault)


def plant_in_stage(fault: str, patch: Callable[[type, str, Any], None] = setattr) -> None:
    """A fault of a stage, planted with `patch`: a test that shares its process takes it back
    afterwards.
    """
    wanted, _, how = fault.partition(":")
    struck: set[str] = set()

    def strike(stage: str) -> None:
        if wanted not in (stage, "every") or stage in struck:
            return
        struck.add(stage)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(5, "planted I/O error")

    def before(owner: type, method: str, stage_of: Callable[..., str]) -> None:
        original = getattr(owner, method)

        def patched(*arguments: Any, **options: Any) -> Any:
            strike(stage_of(*arguments))
            return original(*arguments, **options)

        patch(owner, method, patched)

    from mlflow import MlflowClient

    from tasks.artifacts.store import ArtifactStore

    before(ArtifactStore, "_commit", lambda _, manifest, *__: manifest.stage)
    before(MlflowClient, "create_model_version", lambda *_: "register")
    before(MlflowClient, "set_registered_model_alias", lambda *_: "promote")


class Strike:
    """SIGKILL at the n-th call of one name; counts all of them."""

    def __init__(self, fault: str) -> None:
        self.name, _, rest = fault.partition("#")
        nth, _, self.when = rest.partition(":")
        self.nth, self.file, self.made = int(nth or 0), Path(os.environ["STRUCK"]), Counter[str]()

    def plant(self) -> None:
        if self.name == "count":
            atexit.register(lambda: self.file.write_text(json.dumps(self.made)))
        elif self.file.exists():
            return
        if self.name in CHILD_CALLS:
            _child_runs_this_module()
        for name, owner in CALLS.items() if self.name not in CHILD_CALLS else ():
            self.watch(owner, name)
        self.watch_statements()

    def plant_in_child(self) -> None:
        if self.name in CHILD_CALLS and not self.file.exists():
            self.watch(CHILD_CALLS[self.name], self.name)

    def watch(self, owner_name: str, name: str) -> None:
        import pkgutil

        owner, attribute = (
            pkgutil.resolve_name(owner_name.replace(".MlflowClient", ":MlflowClient")),
            _NAMES.get(name),
        )
        attribute = attribute or name
        original = getattr(owner, attribute)

        def watched(*arguments: Any, **options: Any) -> Any:
            self.made[name] += 1
            mine = name == self.name and self.made[name] == self.nth
            if mine and self.when == "segfault":
                self.file.write_text(name)
                ctypes.string_at(0)
            if mine and self.when == "half":
                half_written(name, *arguments)
            if mine and self.when != "after":
                self.kill()
            result = original(*arguments, **options)
            if mine:
                self.kill()
            return result

        setattr(owner, attribute, watched)

    def watch_statements(self) -> None:
        from sqlalchemy import Engine, event

        @event.listens_for(Engine, "before_cursor_execute")
        def _(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            kind = next(
                (
                    k
                    for k, verbs in STATEMENTS.items()
                    if statement.lstrip().upper().startswith(verbs)
                ),
                None,
            )
            if kind is not None:
                self.made[kind] += 1
                if kind == self.name and self.made[kind] == self.nth:
                    self.kill()

    def kill(self) -> None:
        self.file.write_text(f"{self.name}#{self.nth}:{self.when}")
        os.kill(os.getpid(), signal.SIGKILL)


def half_written(name: str, *arguments: Any) -> None:
    """What the disk holds where the power went in the middle of the write."""
    if name == "write_durably":
        path, data = arguments
        path.with_name(path.name + ".tmp").write_bytes(data[: len(data) // 2])
    elif name == "append_line":
        path, entry = arguments
        with path.open("a") as stream:
            stream.write(json.dumps(entry)[:40])
    elif name == "metrics_write":
        log, step, _ = arguments
        with log.path.open("a") as stream:
            stream.write(f'{{"key": "train/loss", "value": 0.5, "step": {step}')
    elif name == "save_checkpoint":
        Path(arguments[1]).write_bytes(b"PK\x03\x04 half a checkpoint")
    else:
        raise ValueError(f"{name} writes nothing that could be cut in half")


def _child_runs_this_module() -> None:
    from tasks.engines import local

    local.CHILD = "tests.pipeline.faulty"


if __name__ == "__main__":
    if sys.argv[1].endswith("job.json"):
        from tasks.engines.training_process import main as train

        for fault in os.environ["FAULT"].split("+"):
            Strike(fault).plant_in_child()
        sys.exit(train(sys.argv[1]))
    from flows.cli.main import main
    from flows.running.environment import switches

    switches()
    plant(os.environ["FAULT"])
    main()
