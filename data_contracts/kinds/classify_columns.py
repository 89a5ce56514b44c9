"""Which column of some rows is the text, and which the label: by what the cells are, then by names.

Nothing hangs on the order of a set: where two columns fit as well, the order of the columns
decides, and it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from data_contracts.contract.columns import HAN, INDEX, NOT_TEXT, Role, SeenColumn
from data_contracts.contract.forms import Form, form_of
from data_contracts.contract.role_columns import id_column, named_column, quoted, split_column
from data_contracts.contract.rows import Rows
from data_contracts.contract.told_by import told_by
from data_contracts.errors import SourceError

NEAR = 0.5  # a text column as long as this share of the longest is a candidate
NOT_LABEL = ("dates", "web addresses", "mail addresses", "names of accounts", "hashes or keys")


@dataclass(frozen=True)
class Chosen:
    """The roles, and what a person should know of the choice."""

    text: SeenColumn
    label: SeenColumn
    id: SeenColumn | None = None
    split: SeenColumn | None = None
    form: Form | None = None
    told: tuple[str, ...] = ()  # for the draft
    warned: tuple[str, ...] = ()  # for the draft and the terminal


@dataclass
class _Choice:
    column: SeenColumn
    others: list[SeenColumn] = field(default_factory=list)  # that fit as well
    unsure: bool = False
    doubt: str = ""  # against the one that was chosen


def choose(rows: Rows, given: Mapping[str, str] | None = None) -> Chosen:
    """The roles of the columns.

    Args:
        given: columns that a person named for a role.
    Raises:
        SourceError: where no column fits a role, naming the option that gives one.
    """
    given = given or {}
    columns = [SeenColumn(name, cells) for name, cells in rows.columns.items()]
    named: dict[str, SeenColumn] = {
        role: named_column(columns, name, role, rows) for role, name in given.items()
    }
    form = form_of([*rows.columns, *rows.hidden])
    told, warned = list[str](), list[str]()
    free = [column for column in columns if column not in named.values()]
    split = named.get("split") or (None if rows.split_by_url else split_column(free, warned))
    free = [column for column in free if column is not split]
    outside = form.beside if form else frozenset()
    text = (
        _Choice(named["text"])
        if "text" in named
        else _text([c for c in free if c.name not in outside], rows, form)
    )
    free = [column for column in free if column is not text.column]
    if "label" in named:
        label = _Choice(_usable_label(named["label"]))
    else:
        label = _label([c for c in free if c.name not in outside], text.column, rows, form)
    free = [column for column in free if column is not label.column]
    identity = id_column(named.get("id"), free, rows)
    if form is not None:
        told.append(f"The columns are those of {form.name}{f'; {form.said}' if form.said else ''}.")
    for role, choice in (("text", text), ("label", label)):
        _tell(role, choice, told, warned)
    return Chosen(text.column, label.column, identity, split, form, tuple(told), tuple(warned))


def _tell(role: str, choice: _Choice, told: list[str], warned: list[str]) -> None:
    if choice.doubt:
        warned.append(
            f"{choice.column.name} is taken as the {role}, and {choice.doubt}. Choose with "
            f"--{role}."
        )
    if not choice.others:
        return
    others = ", ".join(f"{c.name} ({described(c, role)})" for c in choice.others[:8])
    how = f"Choose with --{role}, for example --{role} {quoted(choice.others[0].name)}."
    if choice.unsure:
        warned.append(
            f"No name decides which column is the {role}. {choice.column.name} is taken; as well "
            f"fit {others}. {how}"
        )
    else:
        told.append(
            f"{choice.column.name} is taken as the {role}; other columns that could be it: "
            f"{others}. {how}"
        )


def described(column: SeenColumn, role: str) -> str:
    values = len(column.counts)
    if role == "label":
        return ", ".join(sorted(column.counts)[:3]) + (
            "" if values <= 3 else f", … {values:,} values"
        )
    return (
        f"{column.mean_length:.0f} characters"
        if not HAN.search(next(iter(column.counts), ""))
        else "shorter"
    )


# --- text -----------------------------------------------------------------------------------------


def _text(columns: list[SeenColumn], rows: Rows, form: Form | None) -> _Choice:
    """The column of the longest cells that people wrote; a usual name decides among those of
    similar length.
    """
    prose = [
        c for c in columns if c.filled and c.kind not in NOT_TEXT and not INDEX.fullmatch(c.name)
    ]
    if not prose:
        seen = "; ".join(f"{c.name} holds {c.kind or 'nothing'}" for c in columns[:8])
        raise SourceError(
            f"No column of {len(rows):,} rows looks like "
            f"text{f' ({seen})' if seen else ''}.{_hidden(rows, form)}",
            "Name the column with --text.",
        )
    prose = [
        c for c in prose if c.of_words
    ] or prose  # keys and codes of any form are one word each
    longest = max(c.mean_length for c in prose)
    # A name that is the word for a text counts for a shorter one too, if its cells differ as texts
    # do.
    near = [
        c
        for c in prose
        if c.mean_length >= NEAR * longest
        or (
            c.named("text") == 3
            and c.mean_length >= 0.1 * longest
            and 2 * len(c.counts) >= c.filled
        )
    ]
    order = sorted(near, key=lambda c: (-c.named("text"), c.rank("text"), -c.mean_length))
    first, others = order[0], [c for c in order[1:] if 2 * len(c.counts) >= c.filled]
    return _Choice(first, others, unsure=any(_as_well_named(first, c, "text") for c in others))


def _as_well_named(one: SeenColumn, other: SeenColumn, role: Role) -> bool:
    return (one.named(role), one.rank(role)) == (other.named(role), other.rank(role))


def _hidden(rows: Rows, form: Form | None) -> str:
    if not rows.hidden:
        return ""
    by_form = f" These are the columns of {form.name}: {form.said}." if form and form.said else ""
    hidden = ", ".join(rows.hidden[:8])
    return f" Objects, lists or numbers in rows, which are neither: {hidden}.{by_form}"


# --- label ----------------------------------------------------------------------------------------


def few_values(column: SeenColumn, rows: int) -> bool:
    return 2 <= len(column.counts) <= max(20, min(1000, rows // 5))


def _usable_label(column: SeenColumn) -> SeenColumn:
    if len(column.counts) < 2:
        raise SourceError(
            f"--label {column.name}: all rows have the label {next(iter(column.counts), '')!r}.",
            "A classifier needs two labels or more: name another column, or add rows of another "
            "label.",
        )
    if 2 * len(column.counts) > column.filled and column.filled > 40:
        raise SourceError(
            f"--label {column.name}: {len(column.counts):,} different values in {column.filled:,} "
            f"rows are no labels.",
            "A label stands in many rows: name another column.",
        )
    return column


def _label(columns: list[SeenColumn], text: SeenColumn, rows: Rows, form: Form | None) -> _Choice:
    """A column with few values: by its name, then by how much the texts tell of it, then by its
    place.
    """
    few = [
        c
        for c in columns
        if few_values(c, len(rows))
        and c.mean_length <= 100
        and c.kind not in NOT_LABEL
        and not INDEX.fullmatch(c.name)
    ]
    plain = [c for c in few if not c.beside]
    # Category_id, where there is no category.
    fitting = plain or [c for c in few if c.named("label")]
    if not fitting:
        raise _no_label(columns, few, text, rows, form)
    gain = {id(c): told_by(text.cells, c.cells) for c in fitting}
    order = sorted(
        fitting, key=lambda c: (-c.named("label"), c.rank("label"), -gain[id(c)], len(c.counts))
    )
    first, others = order[0], order[1:]
    same = [c for c in others if _one_to_one(first, c)]
    # The same label once as a number, once in words: words are for people.
    if first.kind == "numbers":
        worded = next((c for c in same if c.kind is None), None)
        if worded is not None:
            others = [first, *(c for c in others if c is not worded)]
            first = worded
    # Columns that say the same are no other choice in substance, but the reader should know of
    # them.
    unsure = any(_as_well_named(first, c, "label") for c in others if not _one_to_one(first, c))
    if (
        unsure
        and len(others)
        and gain[id(first)] > 0.2
        and gain[id(first)] > 2 * max(gain[id(c)] for c in others)
    ):
        unsure = False  # the texts speak where no name does
    doubt = "" if plain else "its name is that of an id"
    if first.kind == "lists or objects":
        doubt = "its cells look like lists: each different list is a class of its own"
    return _Choice(first, others, unsure, doubt)


def _no_label(
    columns: list[SeenColumn],
    few: list[SeenColumn],
    text: SeenColumn,
    rows: Rows,
    form: Form | None,
) -> SourceError:
    constant = [c for c in columns if len(c.counts) == 1 and c.named("label")]
    if constant and not few:
        value = next(iter(constant[0].counts))
        return SourceError(
            f"Column {constant[0].name} looks like a label, and all {constant[0].filled:,} rows "
            f"have {value!r}: one "
            "label is no classification.",
            "Add rows of another label, or name another column with --label.",
        )
    seen = ", ".join(
        f"{c.name} ({len(c.counts):,} values{f', {c.kind}' if c.kind else ''})"
        for c in columns[:12]
    )
    by_name = (
        f" By their names {', '.join(c.name for c in few)} tell who, when or where." if few else ""
    )
    hidden = _hidden(rows, form)
    option = few[0].name if few else "COLUMN"
    return SourceError(
        "No column looks like a label (2 values or more, each of them often); beside the text "
        f"({text.name}) there are: {seen or 'none'}.{by_name}{hidden}",
        f"Name it with --label, for example --label {quoted(option)}."
        if columns
        else "Add a column of labels.",
    )


def _one_to_one(one: SeenColumn, other: SeenColumn) -> bool:
    pairs = {
        (a, b)
        for a, b in zip(one.cells, other.cells, strict=True)
        if a is not None and b is not None
    }
    return len(pairs) == len(one.counts) == len(other.counts)
