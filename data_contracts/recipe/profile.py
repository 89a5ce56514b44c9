"""What some rows look like to whoever suggests a recipe for them: how many, how long, in which
script."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

import regex as re

from data_contracts.contract.contract import DataContract
from data_contracts.contract.rows import Rows
from data_contracts.contract.text import UNSPACED, UNSPACED_SCRIPTS
from data_contracts.errors import RecipeError

if TYPE_CHECKING:
    from data_contracts.kinds.classify_contract import ClassifyContract

_TOKEN = re.compile(rf"[^\W{UNSPACED_SCRIPTS}]+|{UNSPACED}|\w|[^\w\s]")
_HAN = re.compile(UNSPACED)
MOSTLY_HAN = 0.3  # share of tokens
PROBED = 2_000  # texts shown to the backbone's tokenizer
SHORT = 30  # tokens of the median text up to which word order was worth a BiLSTM's time
LONG = 60  # tokens of the median text from which n-grams straight to the logits were ahead
MANY = 50_000  # rows above which fine-tuning on a CPU, 10 to 30 s per 1,000 and epoch, takes hours
FEW_PER_CLASS = 200  # rows of a class below which twice the epochs are given


@dataclass(frozen=True)
class Profile:
    """What the rows look like. Tokens: words and punctuation; by character or cluster in scripts
    without spaces."""

    rows: int
    classes: int
    rarest: int
    median_tokens: int
    long_tokens: int  # 19 of 20 texts are shorter
    han_share: float  # of the tokens in a script without spaces: Chinese, Japanese, Thai, …
    texts: tuple[str, ...] = field(repr=False)

    @property
    def han(self) -> bool:
        return self.han_share > MOSTLY_HAN

    @property
    def short(self) -> bool:
        return self.median_tokens <= SHORT

    @property
    def long(self) -> bool:
        return self.median_tokens > LONG

    @property
    def small(self) -> bool:
        return self.rows < 6_000

    @property
    def many(self) -> bool:
        return self.rows > MANY


def profile(rows: Rows, contract: ClassifyContract) -> Profile:
    """Count what the contract would keep of the rows: texts that are not blank, under a label that
    it knows.

    Raises:
        RecipeError: where the rows hold fewer than two of its labels.
    """
    texts: list[str] = []
    labels: Counter[str] = Counter()
    known = contract.labels.values
    for text, label in zip(
        rows.columns[contract.columns.text], rows.columns[contract.columns.label], strict=True
    ):
        if text and text.strip() and label is not None and (known is None or label in known):
            texts.append(text)
            labels[label] += 1
    if len(labels) < 2:
        raise RecipeError(
            f"The rows hold {len(labels)} of the labels of contract {contract.name}.",
            "A classifier needs two or more.",
        )
    found = [_TOKEN.findall(text) for text in texts]
    lengths = sorted(map(len, found))
    han = sum(sum(bool(_HAN.match(token)) for token in tokens) for tokens in found)
    return Profile(
        rows=len(texts),
        classes=len(known or labels),
        rarest=min(labels[label] for label in known or labels),
        median_tokens=lengths[len(lengths) // 2],
        long_tokens=round(quantiles(lengths, n=20)[-1]) if len(lengths) > 1 else lengths[0],
        han_share=han / max(1, sum(lengths)),
        texts=tuple(texts[:: max(1, len(texts) // PROBED)][:PROBED]),
    )


def check_columns(rows: Rows, contract: DataContract) -> None:
    """Refuse rows that lack the columns of a contract."""
    for role in (one.name for one in contract.roles if one.required):
        name = getattr(contract.columns, role)
        if name not in rows.columns:
            raise RecipeError(
                f"The rows have no column {name!r}, which contract {contract.name} names as its "
                f"{role} (they have {', '.join(rows.columns)}).",
                "Give the contract of these rows with --contract, or leave it out to have one "
                "drafted.",
            )


def unknown_share(backbone: str, texts: Sequence[str]) -> float:
    """Share of tokens that the backbone's tokenizer reads as unknown; 0 where it knows no such
    token."""
    from tokenizers import Tokenizer

    path = Path(backbone) / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise RecipeError(
            f"{path}: {error}.", "Give --backbone the folder of a Hugging Face model."
        ) from None
    unknown = getattr(tokenizer.model, "unk_token", None)
    identity = None if unknown is None else tokenizer.token_to_id(unknown)
    ids = [
        i
        for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for i in encoding.ids
    ]
    return (0 if identity is None else ids.count(identity)) / max(1, len(ids))


def vector_size(backbone: str) -> int:
    """Size of the backbone's token vectors, by its config.json."""
    path = Path(backbone) / "config.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return next(
            int(facts[name])
            for name in ("hidden_size", "n_embd", "d_model", "dim")
            if name in facts
        )
    except (OSError, ValueError, TypeError, StopIteration) as error:
        raise RecipeError(
            f"{path} does not say the size of its vectors ({error!r}).",
            "Give --backbone the folder of a Hugging Face model.",
        ) from None
