"""A drafted contract as a person would write it, in YAML."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

from data_contracts.contract.contract import DataContract
from data_contracts.contract.infer import Draft
from data_contracts.errors import printable

_COMMENTS = {
    "columns": "Which column plays which role; id null: <file>#<row>, split null: drawn by hash of "
    "the text.",
    "splits": "Shares of the splits that the source does not give; fewest rows that each split "
    "must keep.",
    "select": "Columns and the values that count, as {answer: [accept]}; other rows are left out "
    "and counted.",
    "conflicts": "A text with several labels in one split: whose counts (latest, earliest, none, "
    "all).",
    "duplicates": "A text that stood before in the same split with the same label. keep: count "
    "only.",
    "leakage": "A train or valid text that also stands in a later split; the earlier row goes.",
    "window": "For dated files and a window in the recipe: days without a file, days since the "
    "newest; null: no limit.",
    "max_quarantine_share": "Above this share of refused rows the run stops.",
}


def to_yaml(draft: Draft) -> str:
    """The contract as a person would write it: what to know first, a comment per section, nothing
    left to guess.
    """
    head = [f"Drafted from {draft.rows:,} rows; read it through before use."]
    if draft.found.fields:
        fields = ", ".join(
            f"{name}: {_scalar(value)}" for name, value in draft.found.fields.items()
        )
        head.append(f"The recipe needs, under source: {fields}")
    return comments(draft, head) + contract_yaml(draft, {**_COMMENTS, **draft.contract.comments})


def comments(draft: Draft, head: Sequence[str] = ()) -> str:
    """What to know of a draft, as comments."""
    lines = [*head, *draft.told, *(f"WARNING: {line}" for line in draft.warned)]
    return "".join(map(comment, lines))


def comment(text: str) -> str:
    """A text of any characters as comment lines."""
    return (
        textwrap.fill(
            printable(text),
            110,
            initial_indent="# ",
            subsequent_indent="#   ",
            break_long_words=False,
        )
        + "\n"
    )


def contract_yaml(draft: Draft, sections: dict[str, str], *, only_own: bool = False) -> str:
    """The contract's fields, with the rows of each value of a category beside it.

    Args:
        sections: a comment for each section.
        only_own: leave out what is the default.
    """
    content = in_order(
        draft.contract, draft.contract.model_dump(mode="json", exclude_defaults=only_own)
    )
    categories = {role.plural: role.name for role in draft.contract.categories}
    lines = []
    for key, value in content.items():
        if key in sections:
            lines.append(f"\n# {sections[key]}")
        if key in categories and value.get("values"):
            rest = {name: one for name, one in value.items() if name != "values"}
            counts = draft.counts.get(categories[key], Counter())
            lines += [f"{key}:", "  values:", *_value_lines(value["values"], counts, draft.rows)]
            lines += [f"  {line}" for line in _dump(rest).splitlines()] if rest else []
            continue
        lines.append(_dump({key: value}).rstrip())
    return "\n".join(lines) + "\n"


def in_order(contract: DataContract, content: dict[str, Any]) -> dict[str, Any]:
    """Fields as a person would write them: a kind's own sections follow those that name rows, and
    what says nothing is left out.
    """
    own = [name for name in type(contract).model_fields if name not in DataContract.model_fields]
    common = list(DataContract.model_fields)
    place = common.index("select") + 1
    order = [*common[:place], *own, *common[place:]]
    if "columns" in content:
        columns = {k: v for k, v in content["columns"].items() if k not in contract.idle}
        first = ["id", *(role.name for role in contract.possible_roles())]
        named = {name: columns[name] for name in first if name in columns}
        content = {**content, "columns": {**named, **columns}}
    return {name: content[name] for name in order if name in content and name not in contract.idle}


def _value_lines(values: Sequence[str], counts: Counter[str], rows: int) -> list[str]:
    shown = [f"    - {_scalar(value)}" for value in values]
    width = min(max(map(len, shown)), 60)
    return [
        f"{line:<{width}}  # {counts[value]:,} rows, {counts[value] / rows:.1%}"
        for line, value in zip(shown, values, strict=True)
    ]


def _dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=110)


def _scalar(value: str) -> str:
    """One line that YAML reads as this text: `"yes"`, `'010'`, billing."""
    style = None if value.isprintable() and value == value.strip() else '"'
    text = yaml.safe_dump(
        value, allow_unicode=value.isprintable(), width=math.inf, default_style=style
    )
    return text.removesuffix("\n").removesuffix("\n...")
