"""`python -m tests.pipeline.faulty …`: the `noisefold` command with one fault planted.

FAULT="<stage>:<how>". The fault strikes at the worst moment: a stage's work is done and nothing is committed yet; for
register after the model is logged and before it has a version; for promote before the alias moves. `io` raises an
OSError once (then the stage works), `kill` sends SIGKILL to this process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def plant(fault: str) -> None:
    stage, _, how = fault.partition(":")
    struck: list[str] = []

    def strike() -> None:
        if stage in struck:
            return
        struck.append(stage)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(5, "planted I/O error")

    def before(original: Callable[..., Any], applies: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
        def patched(*arguments: Any, **options: Any) -> Any:
            if applies(*arguments):
                strike()
            return original(*arguments, **options)

        return patched

    if stage == "register":
        from mlflow import MlflowClient

        MlflowClient.create_model_version = before(MlflowClient.create_model_version)
        MlflowClient._create_model_version = before(MlflowClient._create_model_version)
    elif stage == "promote":
        from mlflow import MlflowClient

        MlflowClient.set_registered_model_alias = before(MlflowClient.set_registered_model_alias)
    else:
        from tasks.store import ArtifactStore

        ArtifactStore._commit = before(ArtifactStore._commit, lambda _, manifest, *__: manifest.stage == stage)


if __name__ == "__main__":
    from flows.cli import main
    from flows.environment import switches

    switches()
    plant(os.environ["FAULT"])
    main()
