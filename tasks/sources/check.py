"""Look at what a recipe would read, before a retrain does: the first rows of its source, judged by its contract."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from data_contracts.contract.contract import DataContract
from data_contracts.contract.expectations import REASONS
from data_contracts.contract.infer import spelled_alike
from data_contracts.contract.judge import Corpus, Limit, Verdicts, corpus_of, judge, limits
from data_contracts.contract.rows import Rows
from data_contracts.errors import ContractViolation, SourceError
from data_contracts.recipe.recipe import FileSource, Recipe
from data_contracts.tables.labels import unselected_rejects
from tasks.sources.files import SourceFile, list_files
from tasks.sources.look import first_rows, hint

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
    source, contract = recipe.source, recipe.contract
    assert isinstance(source, FileSource)
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
    verdicts = judge(corpus, contract)
    broken = [
        limit
        for limit in limits(contract, verdicts)
        if not limit.holds and (rows.complete or _by_row(limit))
    ]
    told = _told(rows, corpus, files, contract, verdicts)
    if broken:
        rest = "" if rows.complete else " if the rest is like these"
        raise ContractViolation(
            f"{' '.join(told)} A retrain would stop{rest}: {'; '.join(map(str, broken))}.",
            _way_out(broken),
        )
    alike = spelled_alike(Counter(label for label in corpus.labels if label is not None))
    return Checked(tuple(told), (*alike, *(_absent(verdicts) if rows.complete else ())))


def _absent(verdicts: Verdicts) -> list[str]:
    """Labels that have rows, and none in one of the splits: nothing is learned there, or nothing measured."""
    seen = sum(verdicts.labels.values(), Counter[str]())
    absent = {
        split: sorted(seen.keys() - counts.keys()) for split, counts in verdicts.labels.items()
    }
    return [
        f"Labels without a row in {split}: {', '.join(labels[:12])}{' …' if len(labels) > 12 else ''}."
        for split, labels in absent.items()
        if labels
    ]


def _by_row(limit: Limit) -> bool:
    """Whether a part of the rows shows what all of them will come to: shares of faults do, counts do not."""
    return limit.name.endswith("_share") and not limit.name.endswith("_label_share")


def _read(source: FileSource, contract: DataContract, files: list[SourceFile]) -> Rows:
    columns = contract.columns
    by_url = isinstance(source.url, dict)
    split = None if by_url else columns.split
    named = [columns.id, columns.text, columns.label, split, *columns.slices, *contract.select]
    wanted = {
        "columns": list(dict.fromkeys(name for name in named if name is not None)),
        "text": columns.text,
        "label": columns.label,
        "optional": () if "answer" in contract.select else ("answer",),
        "label_values": contract.labels.values,
    }
    splits = len(source.url) if by_url else 1
    most = max(100, FIRST * splits // len(files))
    try:
        return first_rows(source, most, **wanted)
    except SourceError as error:
        found = hint(source)
        raise SourceError(error.cause, f"{found} {error.remedy}".strip()) from None


def _refuse_rejected(rows: Rows, contract: DataContract) -> None:
    """As `ingest` does: Prodigy keeps the label of what the annotator rejected."""
    answers = unselected_rejects(set(rows.columns.get("answer", ())), "answer" in contract.select)
    if answers:
        raise SourceError(
            f"The column answer holds {', '.join(answers)}, as Prodigy writes it, and labels of "
            "rejected rows say the opposite of what they seem to.",
            "Set select: {answer: [accept]} in the contract, or name all the answers that count there.",
        )


def _told(
    rows: Rows, corpus: Corpus, files: list[SourceFile], contract: DataContract, verdicts: Verdicts
) -> list[str]:
    kept, refused = verdicts.kept, verdicts.first
    read = f"all {len(rows):,} rows" if rows.complete else f"the first {len(rows):,} rows"
    by_split = ", ".join(f"{split} {count:,}" for split, count in kept.items())
    told = [
        f"Source: {_named(files)}; {read} read, {sum(kept.values()):,} of them kept ({by_split})."
    ]
    if len(corpus) < len(rows):
        told.append(f"Not selected by the contract: {len(rows) - len(corpus):,}.")
    if refused:
        shown = "; ".join(
            f"{count:,} for {REASONS[reason]}{_examples(rows, corpus, verdicts, reason)}"
            for reason, count in refused.most_common()
        )
        told.append(
            f"Quarantined would be {refused.total():,} ({refused.total() / len(corpus):.1%}): {shown}."
        )
    seen = sum(verdicts.labels.values(), Counter[str]())
    shown = ", ".join(f"{label} {count:,}" for label, count in seen.most_common(12)) or "none"
    told.append(f"Labels: {shown}{' …' if len(seen) > 12 else ''}.")
    missing = [label for label in contract.labels.values or () if not seen[label]]
    if missing:
        more = " …" if len(missing) > 12 else ""
        told.append(f"In the contract and not in these rows: {', '.join(missing[:12])}{more}.")
    told += [f"{what[:1].upper()}{what[1:]}." for what in rows.told]
    return told


def _examples(rows: Rows, corpus: Corpus, verdicts: Verdicts, reason: str) -> str:
    places = [at for at, reasons in enumerate(verdicts.reasons) if reasons and reasons[0] == reason]
    if reason == "bad_label":
        counts = Counter(corpus.labels[at] for at in places).most_common(EXAMPLES)
        return (
            " ("
            + ", ".join(
                f"{'none' if label is None else repr(label)} {rows:,}" for label, rows in counts
            )
            + ")"
        )
    first = corpus.places[places[0]]
    return f" (first {rows.files[first]}, row {rows.numbers[first]:,})"


def _named(files: list[SourceFile]) -> str:
    return (
        files[0].name
        if len(files) == 1
        else f"{len(files):,} files ({files[0].name} … {files[-1].name})"
    )


def _way_out(broken: list[Limit]) -> str:
    if any(limit.name == "bad_label_share" for limit in broken):
        return "Mend the labels in the source, or add them to labels.values of the contract."
    return "Mend the source, or raise the contract's limit."
