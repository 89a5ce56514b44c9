"""Draft a contract from rows: each kind says whether they are its own. A person reads it next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from data_contracts.contract.contract import AnyContract, DataContract
from data_contracts.contract.rows import Found, Rows
from data_contracts.errors import SourceError


class Closer(Protocol):
    """Reads the rows again by the columns that matter, as a retrain reads them."""

    def __call__(
        self, columns: Sequence[str], texts: Sequence[str], categories: Sequence[str]
    ) -> Rows: ...


@dataclass(frozen=True)
class UndescribedRows:
    """Some rows of a source that nobody has described yet."""

    rows: Rows  # all columns
    name: str  # of the data set
    closer: Closer
    given: Mapping[str, str] = field(default_factory=dict)  # columns that a person named for a role
    found: Found = field(default_factory=Found)  # what had to be found out to read them
    kind: str | None = None  # that a person chose; None: told by the rows


@dataclass(frozen=True)
class Draft:
    """A contract that its own rows pass, and what a person should know of it."""

    contract: DataContract
    rows: int
    counts: Mapping[str, Counter[str]]  # by category: rows per value
    found: Found = field(default_factory=Found)
    told: tuple[str, ...] = ()  # for the draft
    warned: tuple[str, ...] = ()  # for the draft and the terminal
    seen: Rows = field(default_factory=Rows)  # the rows, read as the contract reads them


def infer(undescribed: UndescribedRows) -> Draft:
    """A contract of the kind that was chosen, or of the first one that the rows fit.

    Raises:
        SourceError: where they fit none, as the first kind that was asked says it.
    """
    refused: SourceError | None = None
    for kind in _asked(undescribed):
        try:
            draft = kind.infer(undescribed)
        except SourceError as error:
            if kind.claims(undescribed):
                raise
            refused = refused or error
            continue
        if draft is not None:
            return replace(draft, told=(_why(draft.contract, undescribed.kind), *draft.told))
    if refused is None:
        raise SourceError("The rows fit no kind of contract.", "Write one by hand.")
    kinds = [] if undescribed.kind is not None else list(AnyContract.kinds)
    others = [kind for kind in kinds if _drafts(undescribed, kind)]
    hint = f" Or, for another kind of task: --kind {' or '.join(others)}."
    raise SourceError(refused.cause, refused.remedy + (hint if others else ""))


def _why(contract: DataContract, chosen: str | None) -> str:
    return contract.why() if chosen is None else f"Kind {contract.kind}, as --kind says."


def _drafts(undescribed: UndescribedRows, kind: str) -> bool:
    """Whether a kind would take these rows if it were chosen."""
    try:
        return AnyContract.kinds[kind].infer(replace(undescribed, kind=kind)) is not None
    except SourceError:
        return False


def _asked(undescribed: UndescribedRows) -> list[type[DataContract]]:
    """The kinds in the order in which they are asked, those first that claim the rows."""
    kinds = AnyContract.kinds
    if undescribed.kind is None:
        return sorted(kinds.values(), key=lambda kind: -kind.claims(undescribed))
    kind = AnyContract.named(undescribed.kind)
    if kind is None:
        raise SourceError(
            f"--kind {undescribed.kind}: there is no such kind of task.",
            f"There are {', '.join(kinds)}.",
        )
    return [kind]
