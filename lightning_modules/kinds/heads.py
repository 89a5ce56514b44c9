"""What a kind of task ships with its models: a head on the document's vector, which also answers.

A head enters by being defined: a subclass of `Head` with a `kind` of its own is found by that name
in every bundle.
This file is shipped inside the registered model: it imports torch and what ships with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from lightning_modules.kinds.answering import Answering, room_of


class Positions(NamedTuple):
    """What a head is given that looks at each token of a document."""

    states_BTF: Tensor  # of each position, which may know what stands before and behind it
    embedding: nn.Module  # the table of token vectors, which a decoder may share


class Head(Answering, nn.Module):
    """From a document's vector to what the loss and the answers are computed from.

    Built, as `head_class(kind)(features, description)`, from the number of features of a document's
    vector and the description of the whole network, to which `describe` adds. A child must not be
    called as a part of the network's body is (see `TextNetwork.BODY`).
    """

    KINDS: ClassVar[dict[str, type[Head]]] = {}
    # What `forward` is given first: the document's vector (B, F); or the state (B, T, F) at each
    # position, which knows what stands up to it and needs an encoder from left to right; or
    # `Positions`, which know the whole document.
    reads: ClassVar[Literal["document", "states", "positions"]] = "document"
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


def head_class(kind: str) -> type[Head]:
    """The head of a kind: one that is defined by now, or that of the kind's room.

    The name may come from a file of anybody's, so nothing is imported but from the package of
    rooms.
    Raises:
        LookupError: there is none.
    """
    if kind not in Head.KINDS and (module := room_of(kind, "head")):
        import_module(module)
    if kind not in Head.KINDS:
        raise LookupError(f"the kind of task {kind[:64]!r} is not known here")
    return Head.KINDS[kind]
