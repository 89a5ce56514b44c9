"""Draft a contract of questions and answers: which columns they are, which name pages and links,
and limits with headroom over what is there.

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
from data_contracts.contract.judge import Corpus, Foretold, corpus_of
from data_contracts.contract.role_columns import (
    id_column,
    listed,
    named_column,
    quoted,
    split_column,
)
from data_contracts.contract.rows import Rows
from data_contracts.contract.sections import SeveralAnswersPolicy
from data_contracts.errors import SourceError
from data_contracts.kinds.retrieve_columns import (
    Pair,
    context_of,
    is_plain,
    link_of,
    page_of,
    pair_by_name,
)
from data_contracts.kinds.retrieve_contract import (
    AnswerLimits,
    QuestionLimits,
    RetrieveColumns,
    RetrieveContract,
)

SIDES = ("question", "answer")
OWN = (*SIDES, "page", "link")


def claims(undescribed: UndescribedRows) -> int:
    """2 where rows are plainly such: two columns of texts are called question and answer, none is a
    text that the questions are asked of, and nothing is called a label.
    """
    rows, given = undescribed.rows, undescribed.given
    if set(given) - {*OWN, "id", "split"}:
        return 0
    if set(given) & {"page", "link"}:
        return 2
    columns = [SeenColumn(name, cells) for name, cells in rows.columns.items()]
    others = [one for one in columns if one.name not in given.values()]
    if set(given) & set(SIDES):
        return 1 if context_of(others) else 2
    pair = pair_by_name(columns)
    if pair is None or not is_plain(pair):
        return 0
    others = [one for one in columns if one not in pair]
    plain = context_of(others) is None and not any(one.named("label") == 3 for one in others)
    return 2 if plain else 0


def draft(undescribed: UndescribedRows) -> Draft:
    """A contract that rows which nobody has described pass.

    Raises:
        SourceError: where no two columns are such, or no contract can be one that the rows pass.
    """
    if not undescribed.rows:
        raise SourceError(
            "There are no rows, a header at most.", "Check the export that writes them."
        )
    if strange := sorted(set(undescribed.given) - {*OWN, "id", "split"}):
        raise SourceError(
            f"--{strange[0]}: rows of kind retrieve have no {strange[0]}.",
            "They have a question (--question) and an answer (--answer), and may have a page "
            "(--page) and a link (--link).",
        )
    try:
        chosen = _choose(undescribed)
    except ValidationError as error:
        raise drafting.not_possible(error) from None
    columns = chosen.columns
    names = [columns.question, columns.answer, columns.page, columns.link]
    texts = list(dict.fromkeys(one for one in names if one is not None))
    more = [one for one in (columns.id, columns.split) if one is not None]
    rows = undescribed.closer([*texts, *more], texts, [])
    return _drafted(rows, chosen, undescribed)


@dataclass(frozen=True)
class _Chosen:
    """Which columns the contract names, and what a person should know of the choice."""

    columns: RetrieveColumns
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
    question, answer = _sides(named, free)
    if not set(SIDES) <= given.keys():
        names, options = [question.name, answer.name], "--question and --answer"
        drafting.refuse_first_row(rows, names, "question,answer", options)
    free = [one for one in free if one not in (question, answer)]
    page, link = _beside(named, free, told)
    free = [one for one in free if one not in (page, link)]
    identity = id_column(named.get("id"), free, rows)
    told += drafting.told_of_hidden(rows)
    chosen = {
        "id": identity,
        "split": split,
        "question": question,
        "answer": answer,
        "page": page,
        "link": link,
    }
    names = {role: column.name for role, column in chosen.items() if column is not None}
    return _Chosen(RetrieveColumns.model_validate(names), tuple(told), tuple(warned))


def _sides(named: dict[str, SeenColumn], free: list[SeenColumn]) -> Pair:
    """The columns of the questions and of the answers."""
    own = [named[role] for role in SIDES if role in named]
    if len(own) == 2:
        return own[0], own[1]
    if own:
        [there] = [role for role in SIDES if role in named]
        missing = "answer" if there == "question" else "question"
        raise SourceError(
            f"--{there} is given without --{missing}, and a row has both.",
            f"Give --{missing} too; the columns are {listed(free)}.",
        )
    pair = pair_by_name(free)
    if pair is None:
        raise SourceError(
            "No two columns are plainly a question and its answer.",
            f"Name them with --question and --answer; the columns are {listed(free)}.",
        )
    return pair


def _beside(
    named: dict[str, SeenColumn], free: list[SeenColumn], told: list[str]
) -> tuple[SeenColumn | None, SeenColumn | None]:
    """The columns of the pages and of the links, where they are there."""
    page = named.get("page") or page_of(free)
    if page is not None and "page" not in named:
        told.append(
            f"{page.name} is taken as the page of an answer: the split is drawn by it, and a "
            "page's other answers are those that are hard to tell apart. columns.page: null draws "
            "by the question."
        )
    link = named.get("link") or link_of(free, page)
    if link is not None and "link" not in named:
        told.append(f"{link.name} is taken as the link that is shown with an answer.")
    return page, link


# --- limits ---------------------------------------------------------------------------------------


def _drafted(rows: Rows, chosen: _Chosen, undescribed: UndescribedRows) -> Draft:
    try:
        loose = RetrieveContract(
            name=undescribed.name,
            description=f"Drafted from {len(rows):,} rows; check it before use.",
            columns=chosen.columns,
        )
        corpus = corpus_of(rows, loose)
        loose = loose.model_copy(update=_limits_of_texts(corpus))
        contract, verdicts = drafting.fitted(loose, corpus, rows, _tight, _way_out)
    except ValidationError as error:
        raise drafting.not_possible(error) from None
    columns, found = contract.columns, undescribed.found
    told = [*chosen.told, *drafting.told_of(rows, found)]
    if undescribed.kind is None:
        told.append(
            "To learn to write answers, and not to find them: --kind generate --prompt "
            f"{quoted(columns.question)} --completion {quoted(columns.answer)}."
        )
    warned = [*chosen.warned, *_striking(contract, verdicts)]
    return Draft(contract, len(corpus), {}, found, tuple(told), tuple(warned), rows)


def _limits_of_texts(corpus: Corpus) -> dict[str, Any]:
    questions, answers = corpus.cells("question"), corpus.cells("answer")
    return {
        "questions": QuestionLimits(
            max_characters=headroom.most_characters(questions),
            allow_replacement_character=headroom.often_replaced(questions),
        ),
        "answers": AnswerLimits(
            max_characters=headroom.most_characters(answers),
            allow_replacement_character=headroom.often_replaced(answers),
        ),
    }


def _tight(contract: RetrieveContract, verdicts: Foretold) -> RetrieveContract:
    """Limits with headroom over what the verdicts count."""
    most = {**drafting.fitting_limits(contract, verdicts), "conflicts": SeveralAnswersPolicy()}
    return contract.model_copy(update=most)


def _way_out(contract: RetrieveContract, rows: Rows, verdicts: Foretold) -> str:
    few = headroom.without_rows(verdicts, rows, contract.columns.split)
    if few and contract.columns.page is not None and not rows.split_by_url:
        return f"{few} The split is drawn by the page, so that many different ones are needed."
    return few or "Mend the export, or name other columns with --question and --answer."


def _striking(contract: RetrieveContract, verdicts: Foretold) -> list[str]:
    repeats = (
        "duplicate",
        "repeat a question and its answer that stood before in their split",
        contract.duplicates.max_share,
    )
    leaked = (
        "leaked",
        "have a question that also stands in a later split",
        contract.leakage.max_share,
    )
    asked = "Are these rows what you meant? duplicates: {action: keep} keeps repeats."
    return headroom.striking(contract, verdicts, (repeats, leaked), asked)
