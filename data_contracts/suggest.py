"""Suggest a recipe for a file: what our comparisons found, applied to what its rows look like, with a reason for each.

The figures behind the choices stand in `docs/method.md` and `benchmarks/results/`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import yaml

from data_contracts.contract import DataContract
from data_contracts.errors import RecipeError
from data_contracts.infer import infer_contract, read_file
from data_contracts.recipe import parse_recipe

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|[^\w\s]")
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
MOSTLY_HAN = 0.3  # share of tokens
UNKNOWN_TO_BACKBONE = 0.05  # share of tokens above which a backbone does not know the language
PROBED = 2_000  # texts shown to the backbone's tokenizer


@dataclass(frozen=True)
class Profile:
    """What the rows look like. Tokens: words and punctuation marks, Chinese and Japanese by character."""

    rows: int
    classes: int
    rarest: int
    median_tokens: int
    long_tokens: int = field(metadata={"doc": "19 of 20 texts are shorter"})
    han_share: float
    texts: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Choice:
    """Fields of one section, and one sentence of why."""

    section: str
    fields: dict[str, Any]
    reason: str


def profile(url: str, contract: DataContract) -> Profile:
    """Read the rows (as many as `infer` looks at) and count.

    Raises:
        SourceError: where the file cannot be read.
        RecipeError: where it lacks the contract's columns.
    """
    texts: list[str] = []
    labels: Counter[str] = Counter()
    for batch in read_file(url):
        for role, name in (("text", contract.columns.text), ("label", contract.columns.label)):
            if name not in batch.columns:
                raise RecipeError(
                    f"{url} has no column {name!r}, which contract {contract.name} names as its {role} "
                    f"(it has {', '.join(batch.columns)}).",
                    "Give the contract of this file with --contract, or leave it out to have one drafted.",
                )
        for text, label in zip(
            batch.columns[contract.columns.text].to_pylist(),
            batch.columns[contract.columns.label].to_pylist(),
            strict=True,
        ):
            if text and text.strip() and label is not None:
                texts.append(text)
                labels[str(label)] += 1
    if len(labels) < 2:
        raise RecipeError(f"{url} holds {len(labels)} label(s).", "A classifier needs two or more.")
    found = [_TOKEN.findall(text) for text in texts]
    lengths = sorted(map(len, found))
    han = sum(sum(bool(_HAN.match(token)) for token in tokens) for tokens in found)
    return Profile(
        rows=len(texts),
        classes=len(labels),
        rarest=min(labels.values()),
        median_tokens=lengths[len(lengths) // 2],
        long_tokens=round(quantiles(lengths, n=20)[-1]) if len(lengths) > 1 else lengths[0],
        han_share=han / max(1, sum(lengths)),
        texts=tuple(texts[:: max(1, len(texts) // PROBED)][:PROBED]),
    )


def suggest(seen: Profile, backbone: str | None = None) -> list[Choice]:
    """The model and training sections for such rows.

    Args:
        backbone: folder of a pretrained model with its tokenizer.json, where one is at hand.
    """
    if backbone is not None:
        unknown = unknown_share(backbone, seen.texts)
        if unknown <= UNKNOWN_TO_BACKBONE:
            return _fine_tuned(seen, backbone)
        passed_over = (
            f"The backbone at {backbone} was passed over: its tokenizer does not know {unknown:.0%} of these texts. "
        )
        return _from_scratch(seen, passed_over)
    return _from_scratch(seen, "")


def unknown_share(backbone: str, texts: Sequence[str]) -> float:
    """Share of tokens that the backbone's tokenizer reads as unknown; 0 where it knows no such token."""
    from tokenizers import Tokenizer

    path = Path(backbone) / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise RecipeError(f"{path}: {error}.", "Give --backbone the folder of a Hugging Face model.") from None
    unknown = getattr(tokenizer.model, "unk_token", None)
    identity = None if unknown is None else tokenizer.token_to_id(unknown)
    ids = [i for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False) for i in encoding.ids]
    return ids.count(identity) / max(1, len(ids))


def recipe_yaml(name: str, url: str, contract: DataContract, seen: Profile, choices: Sequence[Choice]) -> str:
    """The recipe as a person would write it, each choice under its reason; it is checked before it is returned."""
    head = (
        f"# Suggested for {seen.rows:,} texts in {seen.classes} classes (the rarest has {seen.rarest}), "
        f"half of them up to {seen.median_tokens} tokens long."
    )
    drafted = contract.model_dump(mode="json", exclude_defaults=True)
    parts = [head, _section({"name": name}), _section({"source": {"kind": "files", "url": url}})]
    parts.append(
        "# Drafted from the rows; read it through.\n" + _section({"contract": {"name": contract.name, **drafted}})
    )
    sections: dict[str, dict[str, Any]] = {}
    reasons: dict[str, list[str]] = {}
    for choice in choices:
        sections.setdefault(choice.section, {}).update(choice.fields)
        reasons.setdefault(choice.section, []).append(choice.reason)
    for section, fields in sections.items():
        parts.append("".join(f"# {reason}\n" for reason in reasons[section]) + _section({section: fields}))
    text = "\n".join(parts)
    parse_recipe(yaml.safe_load(text), origin="the suggested recipe")
    return text


def _section(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
