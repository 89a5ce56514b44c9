"""What a kind of task ships with its models: a head on the document's vector, which also answers.

A head enters by being defined: a subclass of `Head` with a `kind` of its own is found by that name
in every bundle.
This file is shipped inside the registered model: it imports torch and nothing of this repository.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

DEFAULT_KIND = "classify"  # of a description that names none
ROOMS = "lightning_modules.kinds"  # the package in which a kind's room is looked for
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class AskedWronglyError(ValueError):
    """What is asked beside the texts cannot be had; the text says which and what may be."""


class Positions(NamedTuple):
    """What a head is given that looks at each token of a document."""

    states_BTF: Tensor  # of each position, which may know what stands before and behind it
    embedding: nn.Module  # the table of token vectors, which a decoder may share


class Head(nn.Module):
    """From a document's vector to what the loss and the answers are computed from.

    Built, as `head_class(kind)(features, description)`, from the number of features of a document's
    vector and the description of the whole network, to which `describe` adds. A child must not be
    called as a part of the network's body is (see `TextNetwork.BODY`).
    """

    KINDS: ClassVar[dict[str, type[Head]]] = {}
    kind: ClassVar[str]
    asked: ClassVar[tuple[str, ...]] = ("text",)  # columns of texts that `predict` is given
    # What `forward` is given first: the document's vector (B, F); or the state (B, T, F) at each
    # position, which knows what stands up to it and needs an encoder from left to right; or
    # `Positions`, which know the whole document.
    reads: ClassVar[Literal["document", "states", "positions"]] = "document"
    optional: ClassVar[tuple[str, ...]] = ()  # of these, such as may be null in a row that counts
    new_with_the_task: ClassVar[bool] = True  # so a method that freezes weights trains it whole

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            Head.KINDS[cls.kind] = cls

    def __init__(self, features: int, description: Mapping[str, Any]) -> None:
        super().__init__()

    def describe(self) -> dict[str, Any]:
        """JSON-able sizes, read from the weights as they are now."""
        return {}

    def readers(self) -> list[nn.Linear]:
        """The layers whose columns read the document's vector: what pruning follows. Empty: nothing
        is pruned.
        """
        return []

    def share_rows(self, shared: Callable[[nn.Module], nn.Module]) -> None:
        """Put `shared(table)` in the place of each table of which equal rows may stand once."""

    def take_files(self, files: Mapping[str, bytes]) -> None:
        """Read what the bundle holds for this head beside the weights, before anything is answered.

        Raises:
            Exception: any, where a file is missing or not what it has to be.
        """

    def forward(self, read: Any, input_ids_BT: Tensor, lengths_B: Tensor, /) -> Tensor:
        """What answers and losses are computed from, of what `reads` says."""
        raise NotImplementedError

    @classmethod
    def fault(cls, facts: Mapping[str, Any]) -> str | None:
        """The field of the bundle's own facts that is not what it has to be; None where all are."""
        return None

    def check(self, facts: Mapping[str, Any], output: Tensor) -> str | None:
        """What of a trial's output, for one window, does not fit the facts; None where all does."""
        return None

    def predict(
        self, bundle: Bundle, columns: Mapping[str, Sequence[str]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        """Columns of answers to columns of questions, row by row.

        Args:
            bundle: the loaded bundle whose network this is the head of.
            columns: those of `asked`, each with as many rows.
        """
        raise NotImplementedError

    # Whether a text without anything but space in it is a question like any other.
    blank_is_asked: ClassVar[bool] = False

    def stream(
        self, bundle: Bundle, columns: Mapping[str, str], params: Mapping[str, Any]
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


def head_class(kind: str) -> type[Head]:
    """The head of a kind: one that is defined by now, or that of the kind's room.

    The name may come from a file of anybody's, so nothing is imported but from the package of
    rooms.
    Raises:
        LookupError: there is none.
    """
    if kind not in Head.KINDS and _NAME.fullmatch(kind):
        room = find_spec(f"{ROOMS}.{kind}")
        if room is not None and room.submodule_search_locations:
            import_module(f"{ROOMS}.{kind}.head")
    if kind not in Head.KINDS:
        raise LookupError(f"the kind of task {kind[:64]!r} is not known here")
    return Head.KINDS[kind]
