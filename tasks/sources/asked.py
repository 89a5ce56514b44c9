"""What a contract asks of a source: the columns, and how their cells are read."""

from __future__ import annotations

from collections.abc import Iterable

from data_contracts.contract.contract import DataContract
from data_contracts.contract.raw import wanted_columns
from data_contracts.recipe.source import FileSource
from data_contracts.tables.batch import Ask
from data_contracts.tables.categories import unselected_rejects

ANSWER = "answer"  # what an annotator said of a row, in Prodigy's files


def asked(source: FileSource, contract: DataContract) -> Ask:
    """What `tasks.sources.files.read_rows` reads for a contract."""
    columns = contract.sources
    wanted = wanted_columns(contract, source.splits)
    texts = [columns[role.name] for role in contract.texts if role.name in columns]
    categories = {
        columns[role.name]: contract.known(role.name)
        for role in contract.categories
        if role.name in columns
    }
    return Ask(
        columns=wanted,
        texts=texts,
        categories=categories,
        # Where the contract names it, it is read for what it means there.
        optional=() if ANSWER in wanted else (ANSWER,),
    )


def rejected(answers: Iterable[str | None], contract: DataContract) -> list[str]:
    """Answers that speak against rows which the contract does not leave out: Prodigy keeps what the
    annotator rejected, so such a row says the opposite of what it seems to."""
    named = ANSWER in contract.select or ANSWER in contract.sources.values()
    return unselected_rejects(set(answers), named)
