"""What a kind of task answers, and how that is compared: the half of a head that needs no network.

A model that is served without torch (`lightning_modules.exported`) answers by this half alone. A
kind of which that is enough has a room with a file `answering.py`, and in it a class `Answers`.
This file is shipped inside the registered model: it imports nothing of this repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

DEFAULT_KIND = "classify"  # of a description that names none
ROOMS = "lightning_modules.kinds"  # the package in which a kind's room is looked for
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class AskedWronglyError(ValueError):
    """What is asked beside the texts cannot be had; the text says which and what may be."""


class Answering:
    """Questions and answers of a kind: columns of texts in, columns of answers out."""

    kind: ClassVar[str]
    asked: ClassVar[tuple[str, ...]] = ("text",)  # columns of texts that `predict` is given
    optional: ClassVar[tuple[str, ...]] = ()  # of these, such as may be null in a row that counts

    @classmethod
    def fault(cls, facts: Mapping[str, Any]) -> str | None:
        """The field of the bundle's own facts that is not what it has to be; None where all are."""
        return None

    def check(self, facts: Mapping[str, Any], output: np.ndarray) -> str | None:
        """What of a trial's output, for one window, does not fit the facts; None where all does."""
        return None

    def predict(
        self, bundle: Any, columns: Mapping[str, Sequence[str]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        """Columns of answers to columns of questions, row by row.

        Args:
            bundle: what is asked, a `lightning_modules.loaded.Loaded`.
            columns: those of `asked`, each with as many rows.
        """
        raise NotImplementedError

    # Whether a text without anything but space in it is a question like any other.
    blank_is_asked: ClassVar[bool] = False

    def stream(
        self, bundle: Any, columns: Mapping[str, str], params: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]] | None:
        """The answer to one question as it is made: each has the `piece` of text, the last one
        the whole `answer`; None where it comes as a whole.
        """
        return None

    @classmethod
    def columns(cls, facts: Mapping[str, Any]) -> tuple[str, ...]:
        """The columns of a corpus' rows that `questions` reads."""
        return cls.asked

    @classmethod
    def questions(
        cls, facts: Mapping[str, Any], rows: Mapping[str, Sequence[Any]]
    ) -> dict[str, list[Any]]:
        """What a served model would be asked of a corpus' rows.

        Args:
            facts: what the data said, or those of a bundle.
        """
        return {name: list(rows[name]) for name in cls.asked}

    @classmethod
    def question(cls, measured: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """What a served model is asked of rows that its evaluation holds, before `differences`.

        Args:
            measured: columns of the evaluation's predictions.
        Raises:
            KeyError: a column is missing.
        """
        return {name: list(measured[name]) for name in cls.asked}

    compared: ClassVar[str] = "answers"  # what `differences` compares, in words

    @classmethod
    def differences(
        cls,
        facts: Mapping[str, Any],
        measured: Mapping[str, Sequence[Any]],
        answer: Mapping[str, Any],
    ) -> list[float]:
        """How far each row that was served lies from what its evaluation holds; 0: the same.

        Here: of the columns that both have, numbers by their distance, all else alike or not
        (infinity).
        Args:
            facts: of the bundle that was served.
            measured: columns of the evaluation's predictions.
            answer: columns that came from another process; not yet looked at.
        Raises:
            ValueError: what is missing in the answer, or no value of its kind.
        """
        rows = len(next(iter(measured.values())))
        away = [0.0] * rows
        shared = [name for name in answer if name in measured and name not in cls.asked]
        if not shared:
            raise ValueError("it answers without a column of its evaluation")
        for name in shared:
            values = answer[name]
            if not isinstance(values, list) or len(values) != rows:
                raise ValueError(f"it answers without {name}")
            for row, (one, other) in enumerate(zip(measured[name], values, strict=True)):
                away[row] = max(away[row], _apart(one, other))
        return away


def _apart(one: Any, other: Any) -> float:
    numbers = (int, float)
    if isinstance(one, numbers) and isinstance(other, numbers):
        return abs(one - other)
    return 0.0 if one == other else float("inf")


def room_of(kind: str, part: str) -> str | None:
    """The module of that name in a kind's room; None where there is none.

    The name may come from a file of anybody's, so nothing is looked for but in the package of
    rooms.
    """
    if not _NAME.fullmatch(kind):
        return None
    room = find_spec(f"{ROOMS}.{kind}")
    if room is None or not room.submodule_search_locations:
        return None
    name = f"{ROOMS}.{kind}.{part}"
    return name if find_spec(name) else None


def answers_of(kind: str) -> type[Answering]:
    """What answers for a kind without its network.

    Raises:
        LookupError: a kind that is not known here, or one that needs its network to answer.
    """
    module = room_of(kind, "answering")
    if module is None:
        raise LookupError(f"models of kind {kind[:64]!r} do not answer without torch")
    return import_module(module).Answers
