"""The registered model as MLflow runs it: text in, label and a probability per class out.

Models-from-code: MLflow copies this file, and beside it the files of `lightning_modules` that a bundle needs, into
the model's folder. It is run there, outside this repository, so it imports nothing else of it.
"""

# No `from __future__ import annotations`: MLflow reads the hints of `predict` as they are.
import re
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

        A text that is missing or empty has none: its row is null (null in JSON, too), and the others are answered.
        Args:
            model_input: a frame with a column `text`, or a list of strings.
        Raises:
            MlflowException: (a 400 when served) naming the first row that is something else than a text.
        """
        texts = read_texts(model_input)
        asked = [row for row, text in enumerate(texts) if text is not None]
        questions = {"text": [text for text in texts if text is not None]}
        found = pd.DataFrame(self.bundle.predict(questions, params))
        if len(asked) == len(texts):
            return found
        # As objects: a column of numbers or strings would have NaN where no answer is, which JSON does not know.
        rows: list[Any] = [[None] * found.shape[1]] * len(texts)
        for row, answer in zip(asked, found.itertuples(index=False, name=None), strict=True):
            rows[row] = answer
        return pd.DataFrame(rows, columns=found.columns, dtype=object)


def read_texts(model_input: Any) -> list[str | None]:
    """The texts; null where one is missing or has nothing in it."""
    if isinstance(model_input, pd.DataFrame):
        if "text" not in model_input.columns:
            found = (
                ", ".join(map(str, model_input.columns))[:500]
                .encode("utf-8", "backslashreplace")
                .decode()
                or "none"
            )
            raise MlflowException.invalid_parameter_value(
                f"A column named text is needed; found: {found}."
            )
        model_input = model_input["text"]
    if isinstance(model_input, str | bytes | range) or not isinstance(
        model_input, Sequence | pd.Series
    ):
        kind = type(model_input).__name__
        raise MlflowException.invalid_parameter_value(
            f"A frame with a column text or a list of strings is needed: {kind}."
        )
    return [_read_text(text, row) for row, text in enumerate(model_input)]


def _read_text(text: Any, row: int) -> str | None:
    if pd.api.types.is_scalar(text) and pd.isna(text):
        return None
    if not isinstance(text, str):
        raise MlflowException.invalid_parameter_value(
            f"Row {row} (from 0): a {type(text).__name__}, not a text."
        )
    if not text.isascii():
        # Half of a surrogate pair, which JSON can hold and no text: as the rows that the model was trained on are read.
        text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    return str(text) if text.strip() else None


set_model(TextClassifier())
