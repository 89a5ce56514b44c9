"""Draft a contract of texts, or of prompts and completions: which columns they are, and limits with
headroom over what is there.

Pure over rows that are read already. The draft is held against the rules that `validate` will apply
to the same rows, so that a contract comes out which they pass, or a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from data_contracts.contract import drafting, headroom
from data_contracts.contract.columns import INDEX, NOT_TEXT, SeenColumn
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
from data_contracts.errors import SourceError
from data_contracts.kinds.generate_contract import (
    CompletionPolicy,
    DocumentLimits,
    GenerateColumns,
    GenerateContract,
)

# What the two columns of pairs are called, the plainest first.
PAIRS = (
    ("prompt", "completion"),
    ("instruction", "response"),
    ("question", "answer"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("input", "output"),
)
OWN = ("text", "prompt", "completion")


def claims(undescribed: UndescribedRows) -> bool:
    """Whether rows are plainly texts or pairs to learn to write: plain text has no other column;
    prompts and completions are called so, and nothing is called a label.
    """
    rows, given = undescribed.rows, undescribed.given
    if set(given) - {*OWN, "id", "split"}:
        return False
    if rows.plain or set(given) & {"prompt", "completion"}:
        return True
    columns = [SeenColumn(name, cells) for name, cells in rows.columns.items()]
    pair = _pair_by_name(columns)
    if pair is None or "text" in given:
        return False
    others = [one for one in columns if one not in pair]
    completion = pair[1]
    # Where few answers come again and again (yes, no), they are labels by another name.
    many = 2 * len(completion.counts) > completion.filled or completion.name == "completion"
    return many and not any(one.named("label") == 3 for one in others)


def draft(undescribed: UndescribedRows) -> Draft:
    """A contract that the rows of a undescribed pass.

    Raises:
        SourceError: where no column is a text, or no contract can be one that they pass.
    """
    if not undescribed.rows:
        raise SourceError(
            "There are no rows, a header at most.", "Check the export that writes them."
        )
    if strange := sorted(set(undescribed.given) - {*OWN, "id", "split"}):
        raise SourceError(
            f"--{strange[0]}: rows of kind generate have no {strange[0]}.",
            "They have a text (--text), or a prompt and a completion (--prompt, --completion).",
        )
    try:
        chosen = _choose(undescribed)
    except ValidationError as error:
        raise drafting.not_possible(error) from None
    named = [getattr(chosen.columns, role) for role in OWN]
    texts = [name for name in named if name is not None]
    more = [one for one in (chosen.columns.id, chosen.columns.split) if one is not None]
    rows = undescribed.closer([*texts, *more], texts, [])
    rows.plain = undescribed.rows.plain
    return _drafted(rows, chosen, undescribed)


@dataclass(frozen=True)
class _Chosen:
    """Which columns the contract names, and what a person should know of the choice."""

    columns: GenerateColumns
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
    roles = _roles(named, free, rows, told)
    if not set(roles) <= given.keys():
        names = [one.name for one in roles.values()]
        drafting.refuse_first_row(rows, names, "text", "--text")
    free = [one for one in free if one not in roles.values()]
    identity = id_column(named.get("id"), free, rows)
    told += drafting.told_of_hidden(rows)
    chosen = {"id": identity, "split": split, **roles}
    names = {role: column.name for role, column in chosen.items() if column is not None}
    return _Chosen(GenerateColumns.model_validate(names), tuple(told), tuple(warned))


def _roles(
    named: dict[str, SeenColumn], free: list[SeenColumn], rows: Rows, told: list[str]
) -> dict[str, SeenColumn]:
    """The columns of the texts, or of the prompts and completions."""
    own = {role: column for role, column in named.items() if role in OWN}
    if len(own) == 1 and "text" not in own:
        [there] = own
        missing = "completion" if there == "prompt" else "prompt"
        raise SourceError(
            f"--{there} is given without --{missing}, and a pair has both.",
            f"Give --{missing} too; the columns are {listed(free)}.",
        )
    if own:
        return own
    if (pair := _pair_by_name(free)) is not None:
        return dict(zip(("prompt", "completion"), pair, strict=True))
    prose = [
        one
        for one in free
        if one.filled and one.kind not in NOT_TEXT and not INDEX.fullmatch(one.name)
    ]
    # The texts of plain text may be anything, as a list of numbers.
    prose = free if rows.plain else prose
    if not prose:
        seen = "; ".join(f"{one.name} holds {one.kind or 'nothing'}" for one in free[:8])
        raise SourceError(
            f"No column of {len(rows):,} rows looks like text{f' ({seen})' if seen else ''}.",
            "Name it with --text, or the two of pairs with --prompt and --completion.",
        )
    order = sorted(prose, key=lambda one: (-(one.named("text") == 3), -one.mean_length))
    first, others = order[0], order[1:]
    if others:
        told.append(
            f"{first.name} is taken as the text; other columns that could be it: "
            f"{', '.join(one.name for one in others[:8])}. Choose with --text, for example --text "
            f"{quoted(others[0].name)}."
        )
    return {"text": first}


def _pair_by_name(columns: list[SeenColumn]) -> tuple[SeenColumn, SeenColumn] | None:
    """Two columns that are called as those of pairs are."""
    by_name = {one.name.strip().casefold(): one for one in columns if one.filled}
    for prompt, completion in PAIRS:
        if prompt in by_name and completion in by_name:
            return by_name[prompt], by_name[completion]
    return None


# --- limits ---------------------------------------------------------------------------------------


def _drafted(rows: Rows, chosen: _Chosen, undescribed: UndescribedRows) -> Draft:
    try:
        loose = GenerateContract(
            name=undescribed.name,
            description=f"Drafted from {len(rows):,} rows; check it before use.",
            columns=chosen.columns,
        )
        corpus = corpus_of(rows, loose)
        loose = loose.model_copy(update=_text_limits(loose, corpus))
        contract, verdicts = drafting.fitted(loose, corpus, rows, _tight, _way_out)
    except ValidationError as error:
        raise drafting.not_possible(error) from None
    found = undescribed.found
    told = [*chosen.told, *drafting.told_of(rows, found)]
    warned = [*chosen.warned, *_striking(contract, verdicts)]
    return Draft(contract, len(corpus), {}, found, tuple(told), tuple(warned), rows)


def _text_limits(contract: GenerateContract, corpus: Corpus) -> dict[str, DocumentLimits]:
    found = {}
    for role in contract.texts:
        texts = corpus.cells(role.name)
        found[role.name] = DocumentLimits(
            max_characters=headroom.most_characters(texts),
            allow_replacement_character=headroom.often_replaced(texts),
        )
    return found


def _tight(contract: GenerateContract, verdicts: Foretold) -> GenerateContract:
    """Limits with headroom over what the verdicts count."""
    most = {**drafting.fitting_limits(contract, verdicts), "conflicts": CompletionPolicy()}
    return contract.model_copy(update=most)


def _way_out(contract: GenerateContract, rows: Rows, verdicts: Foretold) -> str:
    few = headroom.without_rows(verdicts, rows, contract.columns.split)
    if few and rows.plain:
        return (
            f"{few} A file is one row of plain text unless --documents paragraph or line "
            "(source.documents) cuts it."
        )
    return few or "Mend the export, or name other columns with --text."


def _striking(contract: GenerateContract, verdicts: Foretold) -> list[str]:
    what = "a text" if contract.of_texts else "a prompt and its completion"
    leaks = "a text" if contract.of_texts else "a prompt"
    repeats = (
        "duplicate",
        f"repeat {what} that stood before in their split",
        contract.duplicates.max_share,
    )
    leaked = (
        "leaked",
        f"have {leaks} that also stands in a later split",
        contract.leakage.max_share,
    )
    asked = "Are these rows what you meant? duplicates: {action: keep} keeps repeats."
    return headroom.striking(contract, verdicts, (repeats, leaked), asked)
