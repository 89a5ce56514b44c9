"""`python -m tests.pipeline.faulty …`: the `noisefold` command with one fault planted.

FAULT="<stage>:<how>", or "every:<how>" for one in each stage. The fault strikes at the worst moment: a stage's work is
done and nothing is committed yet; for register after the model is logged and before it has a version; for promote
before the alias moves. `io` raises an OSError once (then the stage works), `kill` sends SIGKILL to this process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def plant(fault: str) -> None:
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

        setattr(owner, method, patched)

    from mlflow import MlflowClient

    from tasks.store import ArtifactStore

    before(ArtifactStore, "_commit", lambda _, manifest, *__: manifest.stage)
    before(MlflowClient, "create_model_version", lambda *_: "register")
    before(MlflowClient, "set_registered_model_alias", lambda *_: "promote")


if __name__ == "__main__":
    from flows.cli import main
    from flows.environment import switches

    switches()
    plant(os.environ["FAULT"])
    main()
