"""A suggested recipe as a person would write it, each choice under its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from data_contracts.contract.infer import Draft
from data_contracts.contract.written import comment, comments, contract_yaml
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.suggest import Choice
from data_contracts.yaml_text import parse_yaml


def recipe_yaml(
    source: dict[str, Any], draft: Draft, head: Sequence[str], choices: Sequence[Choice]
) -> str:
    """The recipe as a person would write it, each choice under its reason; it is checked before it
    is returned.

    Args:
        source: the fields of the recipe's source.
        draft: of the contract.
        head: sentences of what rows it is suggested for.
    """
    name, kind = draft.contract.name, draft.contract.kind
    parts = [f"{comments(draft, list(head))}\nname: {name}\n"]
    contract = contract_yaml(draft, {}, only_own=True)
    usual = Recipe.model_fields["task"].get_default(call_default_factory=True)
    if kind != usual.kind:
        parts.append(_section({"task": {"kind": kind}}))
        contract = f"kind: {kind}\n{contract}"
    parts.append(_section({"source": {"kind": "files", **source}}))
    parts.append("# Drafted from the rows; read it through.\ncontract:\n" + _indented(contract))
    sections: dict[str, dict[str, Any]] = {}
    reasons: dict[str, list[str]] = {}
    for choice in choices:
        sections.setdefault(choice.section, {}).update(choice.fields)
        reasons.setdefault(choice.section, []).append(choice.reason)
    for section, fields in sections.items():
        parts.append("".join(map(comment, reasons[section])) + _section({section: fields}))
    text = "\n".join(parts)
    parse_recipe(parse_yaml(text, "the suggested recipe"), origin="the suggested recipe")
    return text


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.split("\n"))


def _section(content: dict[str, Any]) -> str:
    return yaml.safe_dump(
        content, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110
    )
