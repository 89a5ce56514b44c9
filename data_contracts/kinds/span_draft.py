"""Draft a contract of questions on contexts: which columns they are, what the offsets count, and
limits with headroom over what is there.

Pure over rows that are read already. The draft is held against the rules that `validate` will apply
to the same rows, so that a contract comes out which they pass, or a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from data_contracts.contract import drafting, headroom
from data_contracts.contract.columns import SeenColumn
from data_contracts.contract.infer import Draft, UndescribedRows
from data_contracts.contract.judge import Corpus, Foretold, corpus_of, judge
from data_contracts.contract.role_columns import (
    id_column,
    listed,
    named_column,
    split_column,
)
from data_contracts.contract.rows import Rows
from data_contracts.contract.sections import SeveralAnswersPolicy, TextLimits
from data_contracts.errors import SourceError
from data_contracts.kinds.span_columns import FOUND, by_name, is_answers, share_found, triple
from data_contracts.kinds.span_contract import (
    ContextLimits,
    QuestionLimits,
    SpanColumns,
    SpanContract,
)
from data_contracts.kinds.span_places import UNITS, Offsets

TEXTS = ("question", "context", "answer")
OWN = (*TEXTS, "answer_start", "answers")
_SECTIONS = {"question": "questions", "context": "contexts", "answer": "answers"}
_AS_USUAL = 0.05  # share of answers that a unit of offsets may leave out of place


def claims(undescribed: UndescribedRows) -> int:
    """2 where rows are plainly such: a question, a context and an answer are called so, and most
    answers stand in their context.
    """
    rows, given = undescribed.rows, undescribed.given
    if set(given) - {*OWN, "id", "split"}:
        return 0
    if set(given) & {"context", "answer_start", "answers"}:
        return 2
    columns = [SeenColumn(name, cells) for name, cells in rows.columns.items()]
    found = triple(columns)
    if found is None:
        return 0
    plain = share_found(found["context"].cells, found["answer"].cells) >= FOUND
    return 2 if plain else 0


def draft(undescribed: UndescribedRows) -> Draft:
    """A contract that rows which nobody has described pass.

    Raises:
        SourceError: where no columns are such, or no contract can be one that the rows pass.
    """
    if not undescribed.rows:
        raise SourceError(
            "There are no rows, a header at most.", "Check the export that writes them."
        )
    if strange := sorted(set(undescribed.given) - {*OWN, "id", "split"}):
        raise SourceError(
            f"--{strange[0]}: rows of kind span have no {strange[0]}.",
            "They have a question (--question), a context (--context) and an answer (--answer).",
        )
    try:
        chosen = _choose(undescribed)
    except ValidationError as error:
        raise drafting.not_possible(error) from None
    columns = chosen.columns
    texts = [columns.question, columns.context, columns.answer]
    more = [columns.answer_start, columns.answers, columns.id, columns.split]
    named = [one for one in (*texts, *more) if one is not None]
    rows = undescribed.closer(named, texts, [])
    return _drafted(rows, chosen, undescribed)


@dataclass(frozen=True)
class _Chosen:
    """Which columns the contract names, and what a person should know of the choice."""

    columns: SpanColumns
    told: tuple[str, ...] = ()  # for the draft
    warned: tuple[str, ...] = ()  # for the draft and the terminal


def _choose(undescribed: UndescribedRows) -> _Chosen:
    rows, given = undescribed.rows, undescribed.given
    columns = [SeenColumn(name, cells) for name, cells in rows.columns.items()]
    named = {role: named_column(columns, name, role, rows) for role, name in given.items()}
    told, warned = list[str](), list[str]()
    free = [one for one in columns if one not in named.values()]
    split = named.get("split") or (None if rows.split_by_url else split_column(free, warned))
    free = [one for one in free if one is not split]
    found = _sides(named, free)
    if not set(TEXTS) <= given.keys():
        chosen = [one.name for one in found.values()]
        options = "--question, --context and --answer"
        drafting.refuse_first_row(rows, chosen, "question,context,answer,answer_start", options)
    free = [one for one in free if one not in found.values()]
    found |= _beside(named, free)
    free = [one for one in free if one not in found.values()]
    identity = id_column(named.get("id"), free, rows)
    told += drafting.told_of_hidden(rows)
    names: dict[str, Any] = {role: one.name for role, one in found.items()}
    if "answer_start" not in found:
        names["answer_start"] = None
        told.append(
            "No column gives the answers' offsets, so each answer is looked for in its context "
            "(columns.answer_start: null)."
        )
    names |= {"id": identity and identity.name, "split": split and split.name}
    return _Chosen(SpanColumns.model_validate(names), tuple(told), tuple(warned))


def _sides(named: dict[str, SeenColumn], free: list[SeenColumn]) -> dict[str, SeenColumn]:
    """The columns of the questions, contexts and answers."""
    found: dict[str, SeenColumn] = {}
    for role in TEXTS:
        column = named.get(role) or by_name(free, role)
        if column is None:
            raise SourceError(
                f"No column is plainly the {role} of a row, which kind span needs.",
                f"Name it with --{role}; the columns are {listed(free)}.",
            )
        found[role] = column
    return found


def _beside(named: dict[str, SeenColumn], free: list[SeenColumn]) -> dict[str, SeenColumn]:
    """The columns of the offsets and of all right answers, where they are there."""
    start = named.get("answer_start") or by_name(free, "answer_start")
    if start is not None and "answer_start" not in named and start.kind != "numbers":
        start = None
    every = named.get("answers") or next((one for one in free if is_answers(one)), None)
    found = {"answer_start": start, "answers": every}
    return {role: one for role, one in found.items() if one is not None}


# --- limits ---------------------------------------------------------------------------------------


def _drafted(rows: Rows, chosen: _Chosen, undescribed: UndescribedRows) -> Draft:
    told, warned = [*chosen.told], [*chosen.warned]
    try:
        loose = SpanContract(
            name=undescribed.name,
            description=f"Drafted from {len(rows):,} rows; check it before use.",
            columns=chosen.columns,
            unanswerable="keep",
        )
        loose = loose.model_copy(update=_limits_of_texts(corpus_of(rows, loose)))
        loose = _counting(loose, rows, warned)
        contract, verdicts = drafting.fitted(loose, corpus_of(rows, loose), rows, _tight, _way_out)
    except ValidationError as error:
        raise drafting.not_possible(error) from None
    told += _of_answers(contract, verdicts)
    found = undescribed.found
    told += drafting.told_of(rows, found)
    warned += _striking(contract, verdicts)
    return Draft(contract, verdicts.rows, {}, found, tuple(told), tuple(warned), rows)


def _limits_of_texts(corpus: Corpus) -> dict[str, Any]:
    kinds: dict[str, type[TextLimits]] = {
        "question": QuestionLimits,
        "context": ContextLimits,
        "answer": TextLimits,
    }
    found: dict[str, Any] = {}
    for role, section in _SECTIONS.items():
        texts = corpus.cells(role)
        found[section] = kinds[role](
            max_characters=headroom.most_characters(texts),
            allow_replacement_character=headroom.often_replaced(texts),
        )
    return found


def _counting(contract: SpanContract, rows: Rows, warned: list[str]) -> SpanContract:
    """The contract with the unit by which most answers stand at their offset."""
    if contract.columns.answer_start is None:
        return contract
    verdicts = judge(corpus_of(rows, contract), contract)
    others: list[Offsets] = [unit for unit in UNITS if unit != contract.offsets]
    unit = max(others, key=lambda one: verdicts.found[f"offset_in_{one}"])
    otherwise = verdicts.found[f"offset_in_{unit}"]
    if otherwise <= _AS_USUAL * len(rows):
        return contract
    warned.append(
        f"{otherwise:,} of {len(rows):,} answers stand at their offset only where it counts "
        f"{UNITS[unit]}, so the draft has offsets: {unit}. Look whether this is so."
    )
    return contract.model_copy(update={"offsets": unit})


def _tight(contract: SpanContract, verdicts: Foretold) -> SpanContract:
    """Limits with headroom over what the verdicts count."""
    most = {**drafting.fitting_limits(contract, verdicts), "conflicts": SeveralAnswersPolicy()}
    if not contract.learn(verdicts.counts)["unanswerable"]:
        most["unanswerable"] = "quarantine"
    return contract.model_copy(update=most)


def _way_out(contract: SpanContract, rows: Rows, verdicts: Foretold) -> str:
    few = headroom.without_rows(verdicts, rows, contract.columns.split)
    if few and not rows.split_by_url:
        return f"{few} The split is drawn by the context, so that many different ones are needed."
    way = "Mend the export, or name other columns with --question, --context and --answer."
    return few or way


def _of_answers(contract: SpanContract, verdicts: Foretold) -> list[str]:
    """What becomes of rows without an answer."""
    without = sum(n for (what, _, _), n in verdicts.counts.items() if what == "unanswerable")
    if not without:
        return []
    return [
        f"{without:,} of {verdicts.rows:,} rows have no answer and are kept as questions that "
        "their context does not answer (unanswerable: keep). Where an answer is only missing, "
        "unanswerable: quarantine refuses them."
    ]


def _striking(contract: SpanContract, verdicts: Foretold) -> list[str]:
    repeats = (
        "duplicate",
        "repeat a question of a context and its answer that stood before in their split",
        contract.duplicates.max_share,
    )
    leaked = (
        "leaked",
        "have a context that also stands in a later split",
        contract.leakage.max_share,
    )
    asked = "Are these rows what you meant? duplicates: {action: keep} keeps repeats."
    said = headroom.striking(contract, verdicts, (repeats, leaked), asked)
    several = verdicts.found["answer_repeated"]
    if several:
        said.append(
            f"{several:,} answers stand several times in their context, and no offset says which "
            "place is meant, so that they go to quarantine. repeated: first takes the first place."
        )
    return said
