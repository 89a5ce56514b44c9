"""predict: rows of texts through a registered version, by the very file that serves it.

A text that is needed and blank or missing refuses its own row, and no other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.errors import NoisefoldError
from data_contracts.kinds.base import AnyTask, Param, TaskConfig
from tasks.serving.check import Unservable, fetch_version
from tasks.settings import Settings
from tasks.tracking.runs import connect, quiet_mlflow
from tasks.tracking.versions import find_version

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

_PLAIN = ("string", "boolean")  # types of columns that are no numbers


@dataclass(frozen=True)
class Answers:
    """What a model says to N rows, column by column; None in rows that have a reason instead."""

    columns: dict[str, list[Any]]
    reasons: list[str | None]

    @property
    def refused(self) -> list[int]:
        return [row for row, reason in enumerate(self.reasons) if reason is not None]

    def rows(self) -> Iterator[dict[str, Any]]:
        """The answers row by row."""
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, values, strict=True))


class Predictor:
    """A version of a registered model, loaded.

    `inputs` and `outputs` are columns by name, as the version's signature has them; `optional` are
    the inputs that a row may lack. `params` say how every row is answered, see `take_params`.
    """

    def __init__(self, model: Any, name: str, version: str) -> None:
        self.name, self.version, self._model = name, version, model
        # Of the version's own code, where this process has imported none of ours by now.
        self.bundle: Bundle = model.unwrap_python_model().bundle
        bundle, head = self.bundle, self.bundle.head
        self.inputs, self.optional = head.asked, head.optional
        self.outputs = {
            column.name: column.type.name if column.type.name in _PLAIN else "number"
            for column in model.metadata.get_output_schema().inputs
        }
        self.task: type[TaskConfig] = AnyTask.kinds.get(bundle.kind, TaskConfig)
        self.params: dict[str, Any] = {}

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def only_input(self) -> str:
        """The one column that is asked.

        Raises:
            NoisefoldError: there are several.
        """
        if len(self.inputs) == 1:
            return self.inputs[0]
        raise NoisefoldError(
            f"{self.name} is asked several columns: {', '.join(self.inputs)}.",
            "Give a table that has them: --input.",
        )

    def answer(
        self, columns: Mapping[str, Sequence[str | None]], reasons: Sequence[str | None] = ()
    ) -> Answers:
        """The answers to each row.

        Args:
            columns: texts (N,) by the names of `inputs`.
            reasons: (N,) why a row is refused for what its table says of it; null where it is not.
        """
        count = len(columns[self.inputs[0]])
        found = list(reasons) or [None] * count
        for name in self.inputs:
            if name in self.optional:
                continue
            for row, text in enumerate(columns[name]):
                if found[row] is None and not (text and text.strip()):
                    found[row] = f"the {name} is missing or empty"
        asked = [row for row, reason in enumerate(found) if reason is None]
        answers: dict[str, list[Any]] = {name: [None] * count for name in self.outputs}
        if asked:
            import pandas as pd

            question = {
                name: [columns[name][row] for row in asked]
                for name in self.inputs
                if name in columns
            }
            # Where nobody says any, none: a version from before its kind took some has no schema.
            frame = self._model.predict(pd.DataFrame(question), params=self.params or None)
            for name, values in answers.items():
                for row, value in zip(asked, frame[name].to_list(), strict=True):
                    values[row] = value
        return Answers(answers, found)

    def stream(self, text: str, params: Mapping[str, Any]) -> Iterator[Any]:
        """The answer to one text, piece by piece as it is made (`Head.stream`).

        Raises:
            NoisefoldError: models of this kind answer as a whole, or have no such parameter.
        """
        import pandas as pd

        self.check_params(params)
        yield from self._model.predict_stream(
            pd.DataFrame({self.only_input: [text]}), params=dict(params)
        )

    def take_params(self, written: Sequence[tuple[str, str]]) -> None:
        """Answer by these parameters from here on.

        Args:
            written: name and value as a person writes them; one that takes several values may stand
                there several times.
        Raises:
            NoisefoldError: the model has no such parameter, or it takes no such value.
        """
        self.check_params(dict(written))
        known = {one.name: one for one in self.task.params}
        values: dict[str, list[Any]] = {}
        for name, text in written:
            values.setdefault(name, []).append(_value(known[name], text))
        for name, several in values.items():
            if len(several) > 1 and not known[name].listed:
                raise NoisefoldError(
                    f"The parameter {name} is given {len(several)} times.", "Give it once."
                )
            self.params[name] = several if known[name].listed else several[0]

    def check_params(self, params: Mapping[str, Any]) -> None:
        """
        Raises:
            NoisefoldError: the model has no such parameter.
        """
        known = [one.name for one in self.task.params]
        for name in params:
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise NoisefoldError(
                    f"{self.name} has no parameter {name}.", f"Leave it out: {has}."
                )


def _value(param: Param, text: str) -> Any:
    """A parameter's value from how it is written."""
    kind, words = {
        "double": (float, "a number"),
        "long": (int, "a whole number"),
        "string": (str, "a text"),
    }[param.type]
    try:
        return kind(text)
    except ValueError:
        raise NoisefoldError(
            f"The parameter {param.name} is {text!r}, and has to be {words}.", param.words
        ) from None


@contextmanager
def load_predictor(settings: Settings, name: str, alias: str) -> Iterator[Predictor]:
    """The version, ready to be asked inside the block.

    Args:
        alias: an alias such as champion, or a version number.
    Raises:
        NoisefoldError: the registry has no such model, alias or version; it cannot be loaded, or
            refuses a text.
    """
    client, _ = connect(settings)
    found = find_version(client, name, alias)
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch, quiet_mlflow():
        try:
            folder = fetch_version(client, name, str(found.version), Path(scratch))
        except Unservable as error:
            raise _unloadable(name, str(found.version), error) from error
        predictor = predictor_of(folder, name, str(found.version))
        try:
            yield predictor
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise NoisefoldError(error.message.rstrip(".") + ".", "Mend what is asked.") from error


def predictor_of(folder: Path, name: str, version: str) -> Predictor:
    """A version whose files lie in `folder`, ready to be asked.

    Raises:
        NoisefoldError: it cannot be loaded.
    """
    import mlflow.pyfunc

    with quiet_mlflow():
        try:
            return Predictor(mlflow.pyfunc.load_model(str(folder)), name, version)
        except (ValueError, AttributeError) as error:  # BundleError is a ValueError
            raise _unloadable(name, version, error) from error


def _unloadable(name: str, version: str, error: Exception) -> NoisefoldError:
    return NoisefoldError(
        f"{name} version {version} cannot be loaded: {error}.",
        "`noisefold history` shows the others; --version chooses one.",
    )
