"""predict: texts through a registered version, by the very file that serves it.

A text that is blank or missing refuses its own row, and no other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.errors import NoisefoldError
from tasks.serving.check import Unservable, fetch_version
from tasks.settings import Settings
from tasks.tracking.runs import connect, quiet_mlflow
from tasks.tracking.versions import find_version

BLANK = "the text is missing or empty"
_PROBABILITY = "probability_"


@dataclass(frozen=True)
class Answers:
    """What a model says to N texts. A refused one has a reason, no label, and NaN in its row of `proba` (N, C)."""

    labels: list[str | None]
    proba: np.ndarray
    reasons: list[str | None]

    @property
    def refused(self) -> list[int]:
        return [row for row, reason in enumerate(self.reasons) if reason is not None]


class Predictor:
    """A version of a registered model, loaded."""

    def __init__(self, model: Any, name: str, version: str) -> None:
        self.name, self.version, self._model = name, version, model
        columns = model.metadata.get_output_schema().input_names()
        self.classes = [
            column.removeprefix(_PROBABILITY)
            for column in columns
            if column.startswith(_PROBABILITY)
        ]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    def answer(self, texts: Sequence[str | None], reasons: Sequence[str | None] = ()) -> Answers:
        """Label and probabilities of each text.

        Args:
            reasons: (N,) why a text is refused for what its table says of it; null where it is not.
        """
        found = [
            reason or (None if text and text.strip() else BLANK)
            for text, reason in _paired(texts, reasons)
        ]
        asked = [row for row, reason in enumerate(found) if reason is None]
        labels: list[str | None] = [None] * len(texts)
        proba = np.full((len(texts), len(self.classes)), np.nan)
        if asked:
            import pandas as pd

            frame = self._model.predict(pd.DataFrame({"text": [texts[row] for row in asked]}))
            for row, label in zip(asked, frame["label"].to_list(), strict=True):
                labels[row] = label
            proba[asked] = frame[[f"{_PROBABILITY}{label}" for label in self.classes]].to_numpy(
                np.float64
            )
        return Answers(labels, proba, found)


def _paired(
    texts: Sequence[str | None], reasons: Sequence[str | None]
) -> Iterator[tuple[str | None, str | None]]:
    return zip(texts, reasons or [None] * len(texts), strict=True)


@contextmanager
def load_predictor(settings: Settings, name: str, alias: str) -> Iterator[Predictor]:
    """The version, ready to be asked inside the block.

    Args:
        alias: an alias such as champion, or a version number.
    Raises:
        NoisefoldError: the registry has no such model, alias or version; it cannot be loaded, or refuses a text.
    """
    client, _ = connect(settings)
    found = find_version(client, name, alias)
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch, quiet_mlflow():
        try:
            folder = fetch_version(client, name, str(found.version), Path(scratch))
            predictor = Predictor(mlflow.pyfunc.load_model(str(folder)), name, str(found.version))
        except (Unservable, ValueError, AttributeError) as error:  # BundleError is a ValueError
            raise NoisefoldError(
                f"{name} version {found.version} cannot be loaded: {error}.",
                "`noisefold history` shows the others; --version chooses one.",
            ) from error
        try:
            yield predictor
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise NoisefoldError(error.message.rstrip(".") + ".", "Mend the text.") from error
