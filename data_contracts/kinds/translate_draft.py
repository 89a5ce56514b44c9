"""Draft a contract of pairs: which column is the source and which the target, their scripts, and
limits with headroom over what is there.

Pure over rows that are read already. The draft is held against the rules that `validate` will apply
to the same rows, so that a contract comes out which they pass, or a refusal.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
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
from data_contracts.contract.scripts import COMMON, script_of, written_with
from data_contracts.errors import SourceError
from data_contracts.kinds.translate_columns import (
    NESTED,
    Pair,
    by_language,
    is_prose,
    pair_by_language,
    pair_by_name,
)
from data_contracts.kinds.translate_contract import (
    SHORT,
    SideLimits,
    TranslateColumns,
    TranslateContract,
    TranslationPolicy,
)
from data_contracts.kinds.translate_measures import length_ratio
from data_contracts.tables.batch import way_out_of_nested

OWN = ("source", "target")
AGREED = 0.95  # share of rows in one script from which it is drafted
RARE = 0.01  # share of pairs that may be out of proportion; of more, the draft allows what is usual


def claims(undescribed: UndescribedRows) -> bool:
    """Whether rows are plainly pairs: two columns of texts are called source and target, or after a
    language each, and nothing is called a label.
    """
    rows, given = undescribed.rows, undescribed.given
    if set(given) - {*OWN, "id", "split"}:
        return False
    if set(given) & set(OWN):
        return True
    columns = [SeenColumn(name, cells) for name, cells in rows.columns.items()]
    pair = pair_by_name(columns) or pair_by_language(columns)
    if pair is None:
        return NESTED in rows.hidden
    return not any(one.named("label") == 3 for one in columns if one not in pair)


def draft(undescribed: UndescribedRows) -> Draft:
    """A contract that the rows of a undescribed pass.

    Raises:
        SourceError: where no two columns are a pair, or no contract can be one that they pass.
    """
    if not undescribed.rows:
        raise SourceError(
            "There are no rows, a header at most.", "Check the export that writes them."
        )
    if strange := sorted(set(undescribed.given) - {*OWN, "id", "split"}):
        raise SourceError(
            f"--{strange[0]}: rows of kind translate have no {strange[0]}.",
            "They have a source (--source) and a target (--target).",
        )
    try:
        chosen = _choose(undescribed)
    except ValidationError as error:
        raise drafting.not_possible(error) from None
    texts = [chosen.columns.source, chosen.columns.target]
    more = [one for one in (chosen.columns.id, chosen.columns.split) if one is not None]
    rows = undescribed.closer([*texts, *more], texts, [])
    return _drafted(rows, chosen, undescribed)


@dataclass(frozen=True)
class _Chosen:
    """Which columns the contract names, and what a person should know of the choice."""

    columns: TranslateColumns
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
    source, target = _sides(named, free, rows, told)
    if not set(OWN) <= given.keys():
        names = [source.name, target.name]
        options = "--source and --target"
        drafting.refuse_first_row(rows, names, "source,target", options)
    free = [one for one in free if one not in (source, target)]
    identity = id_column(named.get("id"), free, rows)
    told += drafting.told_of_hidden(rows)
    chosen = {"id": identity, "split": split, "source": source, "target": target}
    names = {role: column.name for role, column in chosen.items() if column is not None}
    return _Chosen(TranslateColumns.model_validate(names), tuple(told), tuple(warned))


def _sides(
    named: dict[str, SeenColumn], free: list[SeenColumn], rows: Rows, told: list[str]
) -> Pair:
    """The columns of the sources and of the targets."""
    own = [named[role] for role in OWN if role in named]
    if len(own) == 2:
        return own[0], own[1]
    if own:
        [there] = [role for role in OWN if role in named]
        missing = "target" if there == "source" else "source"
        raise SourceError(
            f"--{there} is given without --{missing}, and a pair has both.",
            f"Give --{missing} too; the columns are {listed(free)}.",
        )
    if (pair := pair_by_name(free)) is not None:
        return pair
    pair = pair_by_language(free) or _only_two(free)
    if pair is None:
        raise _no_pair(free, rows)
    told.append(
        f"{pair[0].name} is taken as the source and {pair[1].name} as the target. For the other "
        f"way round: --source {quoted(pair[1].name)} --target {quoted(pair[0].name)}."
    )
    return pair


def _only_two(free: list[SeenColumn]) -> Pair | None:
    """The two columns that hold texts, where no other does."""
    prose = [one for one in free if one.filled and is_prose(one) and one.of_words]
    return (prose[0], prose[1]) if len(prose) == 2 else None


def _no_pair(free: list[SeenColumn], rows: Rows) -> SourceError:
    if NESTED in rows.hidden:
        return SourceError(
            f"The column {NESTED} holds an object with a text for each language, as Hugging Face's "
            "data sets of pairs do, and a contract names columns.",
            way_out_of_nested(NESTED),
        )
    languages = [one.name for one in by_language(free)]
    seen = f"; {', '.join(languages[:8])} are called after languages" if languages else ""
    return SourceError(
        f"No two columns of {len(rows):,} rows are plainly a text and its translation{seen}.",
        f"Name them with --source and --target; the columns are {listed(free)}.",
    )


# --- limits ---------------------------------------------------------------------------------------


def _drafted(rows: Rows, chosen: _Chosen, undescribed: UndescribedRows) -> Draft:
    try:
        loose = TranslateContract(
            name=undescribed.name,
            description=f"Drafted from {len(rows):,} rows; check it before use.",
            columns=chosen.columns,
        )
        corpus = corpus_of(rows, loose)
        loose = loose.model_copy(update=_limits_of_pairs(corpus))
        contract, verdicts = drafting.fitted(loose, corpus, rows, _tight, _way_out)
    except ValidationError as error:
        raise drafting.not_possible(error) from None
    told = [*chosen.told, *drafting.told_of(rows, undescribed.found)]
    warned = [*chosen.warned, *_striking(contract, verdicts)]
    found = undescribed.found
    return Draft(contract, len(corpus), {}, found, tuple(told), tuple(warned), rows)


def _limits_of_pairs(corpus: Corpus) -> dict[str, SideLimits | float]:
    found: dict[str, SideLimits | float] = {}
    for role in OWN:
        texts = corpus.cells(role)
        found[role] = SideLimits(
            max_characters=headroom.most_characters(texts),
            allow_replacement_character=headroom.often_replaced(texts),
            script=_agreed([text for text in texts if text and text.strip()]),
        )
    ratios = length_ratio(corpus.table["source"], corpus.table["target"], SHORT)
    usual = TranslateContract.model_fields["max_ratio"].default
    return {**found, "max_ratio": _largest(ratios, usual)}


def _agreed(texts: list[str]) -> str | None:
    """The script that nearly all texts are in; None where they are in several."""
    scripts = Counter(script_of(text) for text in texts)
    lettered = Counter({one: rows for one, rows in scripts.items() if one != COMMON})
    if not lettered:
        return None
    usual = max(lettered, key=lambda script: (lettered[script], script))
    fitting = sum(scripts[one] for one in written_with(usual))
    return usual if fitting >= AGREED * len(texts) else None


def _largest(ratios: pa.Array | pa.ChunkedArray, usual: float) -> float:
    """A limit on the proportion of pairs: the usual one, unless it is not for these languages."""
    # Of all pairs, the short ones too, so that a few long ones decide nothing.
    all_pairs = np.asarray(ratios.fill_null(1.0), float)
    common = float(np.quantile(all_pairs, 1 - RARE)) if len(all_pairs) else 1.0
    return usual if common <= usual else float(math.ceil(headroom.HEADROOM * common))


def _tight(contract: TranslateContract, verdicts: Foretold) -> TranslateContract:
    """Limits with headroom over what the verdicts count."""
    most = {**drafting.fitting_limits(contract, verdicts), "conflicts": TranslationPolicy()}
    return contract.model_copy(update=most)


def _way_out(contract: TranslateContract, rows: Rows, verdicts: Foretold) -> str:
    few = headroom.without_rows(verdicts, rows, contract.columns.split)
    return few or "Mend the export, or name other columns with --source and --target."


def _striking(contract: TranslateContract, verdicts: Foretold) -> list[str]:
    repeats = (
        "duplicate",
        "repeat a source and its target that stood before in their split",
        contract.duplicates.max_share,
    )
    leaked = (
        "leaked",
        "have a source that also stands in a later split",
        contract.leakage.max_share,
    )
    asked = "Are these rows what you meant? duplicates: {action: keep} keeps repeats."
    return headroom.striking(contract, verdicts, (repeats, leaked), asked)
