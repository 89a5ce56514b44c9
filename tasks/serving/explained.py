"""explain: what carried the answers of a registered version.

A version is served by the code that it brings; what explains it is this repository's, which reads
its bundle as the stages do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_contracts.errors import NoisefoldError
from data_contracts.kinds.base import AnyTask, TaskConfig
from lightning_modules.bundle import Bundle
from lightning_modules.explaining.explain import Explanation, explain
from tasks.serving.check import Unservable, fetch_version
from tasks.settings import Settings
from tasks.tracking.runs import connect
from tasks.tracking.versions import find_version


@dataclass(frozen=True)
class Explainer:
    """A version of a registered model, whose answers are explained."""

    name: str
    version: str
    bundle: Bundle
    train_texts: np.ndarray  # hashes of the texts that it was trained on

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def task(self) -> type[TaskConfig]:
        return AnyTask.kinds.get(self.bundle.kind, TaskConfig)

    def explain(self, question: Mapping[str, str], target: str | None) -> Explanation:
        """
        Raises:
            NoisefoldError: models of this kind cannot be explained, or not with this question.
        """
        return explain(self.bundle, question, target)


@contextmanager
def load_explainer(settings: Settings, name: str, alias: str) -> Iterator[Explainer]:
    """The version, ready to be explained inside the block.

    Args:
        alias: an alias such as champion, or a version number.
    Raises:
        NoisefoldError: the registry has no such model, alias or version, or it cannot be read.
    """
    client, _ = connect(settings)
    version = str(find_version(client, name, alias).version)
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        try:
            folder = fetch_version(client, name, version, Path(scratch))
            bundle = Bundle.load(folder / "artifacts" / "bundle")
            hashes = np.load(folder / "artifacts" / "train_texts.npy", allow_pickle=False)
        except (Unservable, OSError, ValueError) as error:  # BundleError is a ValueError
            raise NoisefoldError(
                f"{name} version {version} cannot be read by this version of noisefold: {error}",
                "What it answers is told by `noisefold predict`, with the code that it brings; "
                "`noisefold history` shows the others; --version chooses one.",
            ) from error
        yield Explainer(name, version, bundle, hashes)
