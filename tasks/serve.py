"""The registered model as MLflow runs it: text in, label and a probability per class out.

Models-from-code: MLflow copies this file, and beside it the files of `lightning_modules` that a bundle needs, into
the model's folder. It is run there, outside this repository, so it imports nothing else of it.
"""

# No `from __future__ import annotations`: MLflow reads the hints of `predict` as they are.
from collections.abc import Sequence
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class TextClassifier(PythonModel):
    """A `lightning_modules.bundle.Bundle` behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        from lightning_modules.bundle import Bundle

        self.bundle = Bundle.load(context.artifacts["bundle"])

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] - MLflow's abstract method has no return type
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row per text: `label`, and `probability_<label>` for every class.

        Args:
            model_input: a frame with a column `text`, or a list of strings.
        Raises:
            MlflowException: (a 400 when served) naming the first row whose text is missing or empty.
        """
        texts = read_texts(model_input)
        proba = self.bundle.predict_proba(texts)
        labels = self.bundle.labels
        columns: dict[str, Any] = {"label": [labels[index] for index in proba.argmax(axis=1)]}
        columns |= {f"probability_{label}": proba[:, index] for index, label in enumerate(labels)}
        return pd.DataFrame(columns)


def read_texts(model_input: Any) -> list[str]:
    """The texts, each a string with something in it."""
    if isinstance(model_input, pd.DataFrame):
        if "text" not in model_input.columns:
            found = (
                ", ".join(map(str, model_input.columns))[:500].encode("utf-8", "backslashreplace").decode() or "none"
            )
            raise MlflowException.invalid_parameter_value(f"A column named text is needed; found: {found}.")
        model_input = model_input["text"]
    if isinstance(model_input, str | bytes | range) or not isinstance(model_input, Sequence | pd.Series):
        kind = type(model_input).__name__
        raise MlflowException.invalid_parameter_value(
            f"A frame with a column text or a list of strings is needed: {kind}."
        )
    texts = list(model_input)
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise MlflowException.invalid_parameter_value(f"Row {row} (from 0): the text is missing or empty.")
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise MlflowException.invalid_parameter_value(f"Row {row} (from 0): half of a surrogate pair in the text.")
    return [str(text) for text in texts]


set_model(TextClassifier())
