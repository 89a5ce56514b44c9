"""Draft a contract from rows: each kind says whether they are its own. A person reads it next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """A contract of the first kind that the rows fit.

    Raises:
        SourceError: where they fit none, as the first kind that was asked says it.
    """
    refused: SourceError | None = None
    for kind in AnyContract.kinds.values():
        try:
            draft = kind.infer(undescribed)
        except SourceError as error:
            refused = refused or error
            continue
        if draft is not None:
            return draft
    raise refused or SourceError("The rows fit no kind of contract.", "Write one by hand.")
