"""The registered model as MLflow runs it: columns of texts in, columns of answers out.

Models-from-code: MLflow copies this file, and beside it the files of `lightning_modules` that a
bundle needs, into the model's folder. It is run there, outside this repository, so it imports
nothing else of it. Which columns are asked and answered, the head of the bundle's kind says.
"""

# No `from __future__ import annotations`: MLflow reads the hints of `predict` as they are.
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class TextModel(PythonModel):
    """A `lightning_modules.bundle.Bundle` behind MLflow's pyfunc interface; of an exported model a
    `lightning_modules.exported.Exported`, which needs no torch.
    """

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["bundle"])
        if (folder / "model.onnx").exists():
            from lightning_modules.exported import Exported

            self.bundle: Any = Exported.load(folder)
        else:
            from lightning_modules.bundle import Bundle

            self.bundle = Bundle.load(folder)

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] - MLflow's abstract method has no return type
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of answers per row that is asked.

        A row in which a text that is needed is missing or empty has none: it is null (null in JSON,
        too), and the others are answered.
        Args:
            model_input: a frame with the columns that the kind asks (`text`, say), or, where that
                is one, a list of strings.
        Raises:
            MlflowException: (a 400 when served) naming the first row that is something else than a
                text.
        """
        head = self.bundle.head
        columns = read_columns(model_input, head.asked, head.optional, head.blank_is_asked)
        needed = [columns[name] for name in head.asked if name not in head.optional]
        rows = len(columns[head.asked[0]])
        asked = [row for row in range(rows) if all(texts[row] is not None for texts in needed)]
        questions = {name: [texts[row] for row in asked] for name, texts in columns.items()}
        found = self._answers(questions, params)
        if len(asked) == rows:
            return found
        # As objects: a column of numbers or strings would have NaN where no answer is, which JSON
        # does not know.
        answers: list[Any] = [[None] * found.shape[1]] * rows
        for row, answer in zip(asked, found.itertuples(index=False, name=None), strict=True):
            answers[row] = answer
        return pd.DataFrame(answers, columns=found.columns, dtype=object)

    def predict_stream(
        self, context: Any, model_input: Any, params: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The answer to one row as it is made: pieces of text, and last the whole answer.

        Raises:
            MlflowException: (a 400 when served) there is more than one row, or the kind answers as
                a whole.
        """
        from lightning_modules.kinds.answering import AskedWronglyError

        head = self.bundle.head
        if isinstance(model_input, dict):  # as MLflow hands one row on
            model_input = pd.DataFrame({name: [text] for name, text in model_input.items()})
        columns = read_columns(model_input, head.asked, head.optional, head.blank_is_asked)
        question = {name: texts[0] or "" for name, texts in columns.items() if len(texts) == 1}
        if len(question) < len(columns):
            raise MlflowException.invalid_parameter_value("One row at a time is streamed.")
        try:
            pieces = head.stream(self.bundle, question, params or {})
        except AskedWronglyError as error:
            raise MlflowException.invalid_parameter_value(f"{error}.") from error
        if pieces is None:
            raise MlflowException.invalid_parameter_value(
                f"A model of kind {self.bundle.kind} answers as a whole: predict."
            )
        yield from pieces

    def _answers(
        self, questions: dict[str, list[str | None]], params: dict[str, Any] | None
    ) -> pd.DataFrame:
        from lightning_modules.kinds.answering import AskedWronglyError

        try:
            answers = self.bundle.predict(questions, params)
        except AskedWronglyError as error:
            raise MlflowException.invalid_parameter_value(f"{error}.") from error
        found = pd.DataFrame(answers)
        # As objects, for the same reason.
        gaps = any(None in values for values in answers.values())
        return pd.DataFrame(answers, dtype=object) if gaps else found


def read_columns(
    model_input: Any, asked: Sequence[str], optional: Sequence[str] = (), blank: bool = False
) -> dict[str, list[str | None]]:
    """The texts of each column that is asked; null where one is missing or, unless `blank`, has
    nothing in it.
    """
    first = asked[0]
    if not isinstance(model_input, pd.DataFrame):
        if len(asked) > 1:
            kind = type(model_input).__name__
            raise MlflowException.invalid_parameter_value(
                f"A frame with the columns {', '.join(asked)} is needed: {kind}."
            )
        return {first: read_texts(model_input, first, blank)}
    missing = [name for name in asked if name not in model_input.columns and name not in optional]
    if missing:
        found = (
            ", ".join(map(str, model_input.columns))[:500]
            .encode("utf-8", "backslashreplace")
            .decode()
            or "none"
        )
        raise MlflowException.invalid_parameter_value(
            f"A column named {missing[0]} is needed; found: {found}."
        )
    return {
        name: read_texts(model_input[name], name, blank)
        if name in model_input.columns
        else [None] * len(model_input)
        for name in asked
    }


def read_texts(column: Any, name: str, blank: bool = False) -> list[str | None]:
    """The texts of one column."""
    if isinstance(column, str | bytes | range) or not isinstance(column, Sequence | pd.Series):
        kind = type(column).__name__
        raise MlflowException.invalid_parameter_value(
            f"A frame with a column {name} or a list of strings is needed: {kind}."
        )
    return [_read_text(text, row, blank) for row, text in enumerate(column)]


def _read_text(text: Any, row: int, blank: bool) -> str | None:
    if pd.api.types.is_scalar(text) and pd.isna(text):
        return None
    if not isinstance(text, str):
        raise MlflowException.invalid_parameter_value(
            f"Row {row} (from 0): a {type(text).__name__}, not a text."
        )
    if not text.isascii():
        # Half of a surrogate pair, which JSON can hold and no text: as the rows that the model was
        # trained on are read.
        text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    return str(text) if blank or text.strip() else None


set_model(TextModel())
