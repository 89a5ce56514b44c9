"""Look at what a recipe would read, before a retrain does: the first rows of its source, judged by
its contract.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data_contracts.contract.contract import DataContract
from data_contracts.contract.counts import per_split
from data_contracts.contract.judge import Corpus, Foretold, Limit, corpus_of, judge, limits
from data_contracts.contract.notes import spelled_alike
from data_contracts.contract.rows import Rows
from data_contracts.contract.rules import Role
from data_contracts.errors import ContractViolation, SourceError
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.source import FileSource, SqlSource
from tasks.sources import sql
from tasks.sources.asked import ANSWER, asked, rejected
from tasks.sources.files import list_files
from tasks.sources.look import first_rows, hint
from tasks.sources.source_file import SourceFile

FIRST = 10_000  # rows that are looked at, of a source or of each of its splits
EXAMPLES = 3


@dataclass(frozen=True)
class Checked:
    """What a check found, in sentences; `doubts` are worth a look and no fault."""

    lines: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def check_source(recipe: Recipe) -> Checked:
    """Read the first rows as `ingest` would and judge them as `validate` would.

    Raises:
        SourceError: where the source cannot be read with this contract.
        ContractViolation: where the rows go past a limit of the contract, naming each.
    """
    if isinstance(recipe.source, SqlSource):
        with tempfile.TemporaryDirectory(prefix="noisefold-") as folder:
            file = Path(folder) / sql.NAME
            sql.write_rows(recipe.source, file, FIRST + 1)
            return _checked(FileSource(url=str(file)), recipe.contract)
    assert isinstance(recipe.source, FileSource)
    return _checked(recipe.source, recipe.contract)


def _checked(source: FileSource, contract: DataContract) -> Checked:
    files = list_files(source)
    rows = _read(source, contract, files)
    if not rows:
        raise SourceError(
            f"{_named(files)}: no rows, a header at most.", "Check the export that writes it."
        )
    _refuse_rejected(rows, contract)
    corpus = corpus_of(rows, contract)
    if not len(corpus):
        wanted = "; ".join(
            f"{name}: {' or '.join(map(repr, values))}" for name, values in contract.select.items()
        )
        raise SourceError(
            f"The contract selects none of {len(rows):,} rows ({wanted}).",
            "Change select in the contract.",
        )
    foretold = judge(corpus, contract)
    judged = [one for one in limits(contract, foretold) if rows.complete or _by_row(one, contract)]
    broken = [limit for limit in judged if not limit.holds]
    told = _told(rows, corpus, files, contract, foretold)
    if broken:
        rest = "" if rows.complete else " if the rest is like these"
        raise ContractViolation(
            f"{' '.join(told)} A retrain would stop{rest}: {'; '.join(map(str, broken))}.",
            _way_out(broken, contract),
        )
    return Checked(tuple(told), tuple(_doubts(rows, corpus, contract, foretold)))


def _doubts(rows: Rows, corpus: Corpus, contract: DataContract, foretold: Foretold) -> list[str]:
    found = []
    for role in contract.categories:
        cells = Counter(cell for cell in corpus.cells(role.name) if cell is not None)
        found += spelled_alike(cells, role)
        found += _absent(role, foretold) if rows.complete else []
    return found


def _absent(role: Role, foretold: Foretold) -> list[str]:
    """Values that have rows, and none in one of the splits: not learned there, or not measured."""
    rows = per_split(foretold.counts, role.name)
    seen = set().union(*rows.values())
    absent = {split: sorted(seen - counts.keys()) for split, counts in rows.items()}
    return [
        f"{role.plural.capitalize()} without a row in {split}: {_some(values)}."
        for split, values in absent.items()
        if values
    ]


def _some(values: list[str], most: int = 12) -> str:
    return ", ".join(values[:most]) + (" …" if len(values) > most else "")


def _by_row(limit: Limit, contract: DataContract) -> bool:
    """Whether some rows show what all will come to: shares of faults do, counts do not."""
    shares = {f"{reason}_share" for reason in contract.reasons}
    return limit.name in shares or limit.name == "quarantine_share"


def _read(source: FileSource, contract: DataContract, files: list[SourceFile]) -> Rows:
    splits = max(1, len(source.splits))
    read = len(files) // max(1, len(source.roles))  # parallel ones are read as one
    most = max(100, FIRST * splits // read)
    try:
        return first_rows(source, most, asked(source, contract))
    except SourceError as error:
        found = hint(source)
        raise SourceError(error.cause, f"{found} {error.remedy}".strip()) from None


def _refuse_rejected(rows: Rows, contract: DataContract) -> None:
    """As `ingest` does: Prodigy keeps the label of what the annotator rejected."""
    answers = rejected(rows.columns.get(ANSWER, ()), contract)
    if answers:
        raise SourceError(
            f"The column answer holds {', '.join(answers)}, as Prodigy writes it, and labels of "
            "rejected rows say the opposite of what they seem to.",
            "Set select: {answer: [accept]} in the contract, or name all the answers that count "
            "there.",
        )


def _told(
    rows: Rows, corpus: Corpus, files: list[SourceFile], contract: DataContract, foretold: Foretold
) -> list[str]:
    kept, refused = foretold.kept, foretold.first
    read = f"all {len(rows):,} rows" if rows.complete else f"the first {len(rows):,} rows"
    by_split = ", ".join(f"{split} {count:,}" for split, count in kept.items())
    told = [
        f"Source: {_named(files)}; {read} read, {sum(kept.values()):,} of them kept ({by_split})."
    ]
    if len(corpus) < len(rows):
        told.append(f"Not selected by the contract: {len(rows) - len(corpus):,}.")
    if refused:
        shown = "; ".join(
            f"{count:,} for {contract.reasons[reason].words}"
            f"{_examples(rows, corpus, foretold, reason)}"
            for reason, count in refused.most_common()
        )
        told.append(
            f"Quarantined would be {refused.total():,} ({refused.total() / len(corpus):.1%}): "
            f"{shown}."
        )
    for role in contract.categories:
        told += _values(role, contract, foretold)
    return [*told, *(f"{what[:1].upper()}{what[1:]}." for what in rows.told)]


def _values(role: Role, contract: DataContract, foretold: Foretold) -> list[str]:
    """The values of a category with their rows, and those of the contract that have none."""
    seen = sum(per_split(foretold.counts, role.name).values(), Counter[str]())
    shown = [f"{value} {count:,}" for value, count in seen.most_common()]
    told = [f"{role.plural.capitalize()}: {_some(shown) or 'none'}."]
    missing = [value for value in contract.known(role.name) or () if not seen[value]]
    if missing:
        told.append(f"In the contract and not in these rows: {_some(missing)}.")
    return told


def _examples(rows: Rows, corpus: Corpus, foretold: Foretold, reason: str) -> str:
    places = foretold.verdicts.refused_for(reason).tolist()
    about = foretold.verdicts.contract.reasons[reason]
    if about.tallied:
        cells = corpus.cells(about.column)
        counts = Counter(cells[at] for at in places).most_common(EXAMPLES)
        shown = [f"{'none' if cell is None else repr(cell)} {times:,}" for cell, times in counts]
        return f" ({', '.join(shown)})"
    first = corpus.places[places[0]]
    return f" (first {rows.files[first]}, row {rows.numbers[first]:,})"


def _named(files: list[SourceFile]) -> str:
    return (
        files[0].name
        if len(files) == 1
        else f"{len(files):,} files ({files[0].name} … {files[-1].name})"
    )


def _way_out(broken: list[Limit], contract: DataContract) -> str:
    names = {limit.name for limit in broken}
    for reason in contract.reasons.values():
        if reason.remedy and f"{reason.name}_share" in names:
            return reason.remedy
    return "Mend the source, or raise the contract's limit."
