"""The kinds of task: importing this package enters them, so that a recipe finds them by name."""

from data_contracts.kinds import (
    classify,
    classify_contract,
    generate,
    generate_contract,
    retrieve,
    retrieve_contract,
    span,
    span_contract,
    translate,
    translate_contract,
)

__all__ = [
    "classify",
    "classify_contract",
    "generate",
    "generate_contract",
    "retrieve",
    "retrieve_contract",
    "span",
    "span_contract",
    "translate",
    "translate_contract",
]
