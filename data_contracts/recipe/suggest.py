"""Suggest a recipe for some rows: what our comparisons found, applied to what they look like, with a reason for each.

The figures behind the choices stand in `docs/method.md` and `benchmarks/results/`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import regex as re
import yaml

from data_contracts.contract.infer import Draft
from data_contracts.contract.rows import Rows
from data_contracts.contract.text import UNSPACED, UNSPACED_SCRIPTS
from data_contracts.contract.written import comment, comments, contract_yaml
from data_contracts.errors import RecipeError
from data_contracts.kinds.classify_contract import ClassifyContract
from data_contracts.recipe.recipe import parse_recipe
from data_contracts.yaml_text import parse_yaml

_TOKEN = re.compile(rf"[^\W{UNSPACED_SCRIPTS}]+|{UNSPACED}|\w|[^\w\s]")
_HAN = re.compile(UNSPACED)
MOSTLY_HAN = 0.3  # share of tokens
UNKNOWN_TO_BACKBONE = 0.05  # share of tokens above which a backbone does not know the language
PROBED = 2_000  # texts shown to the backbone's tokenizer
SHORT = 30  # tokens of the median text up to which word order was worth a BiLSTM's time
LONG = 60  # tokens of the median text from which n-grams straight to the logits were ahead of n-grams as vectors
VAST = (
    2_000_000  # tokens from which n-grams of up to three fill a million buckets several times over
)
CELLS = (
    10_000_000  # of their table, a column per class: each is read and written several times a step
)
MANY = 50_000  # rows above which fine-tuning on a CPU, 10 to 30 s per 1,000 rows and epoch, is no matter of minutes
FEW_PER_CLASS = 200  # rows of a class below which twice the epochs are given


@dataclass(frozen=True)
class Profile:
    """What the rows look like. Tokens: words and punctuation; by character or cluster in scripts without spaces."""

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


@dataclass(frozen=True)
class Choice:
    """Fields of one section, and one sentence of why."""

    section: str
    fields: dict[str, Any]
    reason: str


NOISE = Choice(
    "model",
    {"reparameterization": {"kind": "multiplicative_noise"}},
    "Noise without dropout: as right as dropout on TREC and THUCNews, with better probabilities on the latter; both "
    "together were behind on TREC and SST-2.",
)
DROPOUT = Choice(
    "model",
    {"reparameterization": {"kind": "dropout", "p": 0.5}},
    "Dropout was 0.4 to 0.8 points ahead of noise on AG News, ChnSentiCorp and IMDB, and level with it on SST-2.",
)
PLAIN = Choice(
    "model",
    {"reparameterization": {"kind": "none"}},
    "No regularizer: 1.1 points ahead of dropout on 20 Newsgroups, and 0.5 ahead of noise.",
)


def profile(rows: Rows, contract: ClassifyContract) -> Profile:
    """Count what the contract would keep of the rows: texts that are not blank, under a label that it knows.

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


def check_columns(rows: Rows, contract: ClassifyContract) -> None:
    """Refuse rows that lack the columns of a contract."""
    for role, name in (("text", contract.columns.text), ("label", contract.columns.label)):
        if name not in rows.columns:
            raise RecipeError(
                f"The rows have no column {name!r}, which contract {contract.name} names as its {role} "
                f"(they have {', '.join(rows.columns)}).",
                "Give the contract of these rows with --contract, or leave it out to have one drafted.",
            )


def suggest(seen: Profile, backbone: str | None = None, folder: str | None = None) -> list[Choice]:
    """The model and training sections for such rows.

    Args:
        backbone: a pretrained model as the recipe will name it, where one is at hand.
        folder: where it lies, with its tokenizer.json.
    """
    if backbone is not None:
        unknown = unknown_share(folder or backbone, seen.texts)
        if unknown <= UNKNOWN_TO_BACKBONE:
            return (
                _started_from(seen, backbone, folder or backbone)
                if seen.many
                else _fine_tuned(seen, backbone)
            )
        passed_over = f"The backbone at {backbone} was passed over: its tokenizer does not know {unknown:.0%} of these texts. "
        return _from_scratch(seen, passed_over)
    return _from_scratch(seen, "")


def _fine_tuned(seen: Profile, backbone: str) -> list[Choice]:
    epochs = 4 if seen.rows < 8_000 else 3
    if seen.rows / seen.classes < FEW_PER_CLASS:
        epochs *= 2
    return [
        Choice(
            "tokenizer",
            {"max_length": _window(seen), "overlap": _window(seen) // 8},
            _window_reason(seen),
        ),
        Choice(
            "model",
            {
                "encoder": {"kind": "pretrained", "path": backbone},
                "reparameterization": {
                    "kind": "low_rank",
                    "rank": 16,
                    "noise": {"kind": "multiplicative_noise"},
                },
            },
            "MiniLM with low rank was 6 points above models from scratch on TREC and SST-2 and 1.0 on AG News; noise "
            "on its factors added 0.5 points on TREC and took 0.013 nats off the NLL on SST-2. Registered, it can "
            "teach a small model (teacher).",
        ),
        *([] if seen.small else [_beside_backbone(seen)]),
        Choice(
            "training",
            {"max_epochs": epochs, "patience": epochs, "batch_size": 32, "learning_rate": 0.002},
            "Few epochs: each costs minutes of CPU, and validation peaked at the third or fourth.",
        ),
    ]


def _beside_backbone(seen: Profile) -> Choice:
    return Choice(
        "model",
        {
            "wide": {
                "buckets": _buckets(seen),
                "max_n": 3,
                "scale": 8.0,
                "naive_bayes": True,
                "share": 0.4,
            }
        },
        "Hashed n-grams beside the backbone, each part by a loss of its own: ahead by 1.6 points on SST-2, "
        "1.5 on Banking77 and 0.9 on AG News, with better probabilities, at hardly any cost; level on TREC, which is "
        "smaller.",
    )


def _started_from(seen: Profile, backbone: str, folder: str) -> list[Choice]:
    """Too many rows to fine-tune on a CPU every night: the backbone gives its token vectors alone."""
    size = min(256, vector_size(folder))
    vectors = Choice(
        "model",
        {
            "embedding_vectors": backbone,
            "embedding_dim": size,
            **({"embedding_std": 1.0} if seen.short else {}),
        },
        f"For {seen.rows:,} rows, fine-tuning takes hours of CPU. Started from MiniLM's token vectors instead, a small "
        "model went from 90.1 to 93.6 points of accuracy on TREC and from 82.7 to 84.4 on SST-2 (a BiLSTM, at std 1; "
        "tanh wants the default).",
    )
    return [*_from_scratch(seen, ""), vectors]


def _from_scratch(seen: Profile, passed_over: str) -> list[Choice]:
    epochs = min(15, max(4 if seen.long else 3, round(40_000 / seen.rows)))
    if seen.rows / seen.classes < FEW_PER_CLASS:
        epochs = min(20, 2 * epochs)
    window = _window(seen, 1024 if seen.long else 256)  # 1,024 was ahead of 256 on IMDB
    return [
        Choice(
            "tokenizer",
            {
                "kind": "word",
                "vocab_size": 30_000,
                "min_frequency": 1 if seen.rows < 50_000 else 2,
                "max_length": window,
                "overlap": window // 8,
            },
            _window_reason(seen)
            + (
                " A script without spaces: by character, with n-grams, Chinese was ahead of subwords on ChnSentiCorp."
                if seen.han
                else ""
            ),
        ),
        Choice(
            "model",
            {
                "embedding_dim": 128,
                "encoder": {"kind": "bilstm_attention", "hidden_size": 96}
                if seen.short
                else {"kind": "tanh"},
            },
            passed_over
            + (
                "Short texts: a BiLSTM was ahead of tanh on validation, by 5 points on TREC and 0.8 on THUCNews, "
                "and level on SST-2."
                if seen.short
                else "Longer texts: tanh was within a point of a BiLSTM on AG News and ChnSentiCorp, in half the time."
            ),
        ),
        *_ngrams(seen),
        NOISE if seen.short else PLAIN if seen.long and seen.classes > 2 else DROPOUT,
        Choice(
            "training",
            {
                "max_epochs": epochs,
                "patience": epochs,
                "batch_size": 32 if seen.small else 64,
                "learning_rate": 0.003 if seen.long else 0.005 if seen.short else 0.004,
                "weight_decay": 0.02 if seen.long else 0.2,
                "ema_decay": 0.998,
            },
            f"{round(epochs * seen.rows, -3):,} examples in all; averaged weights were level or a little ahead.",
        ),
    ]


def _ngrams(seen: Profile) -> list[Choice]:
    """Hashed n-grams: as vectors beside the encoder, straight to the logits, or both."""
    wide: dict[str, Any] = {"buckets": _buckets(seen), "max_n": 3}
    vectors = {
        "buckets": 20_000 if seen.small else 100_000,
        "max_n": 3 if seen.han else 2,
        "size": 64 if seen.small else 32,
    }
    if seen.long and seen.classes == 2:
        reason = (
            "Long texts in two classes: n-grams straight to the logits, as Naive Bayes' log ratios times what is "
            "trained, raised validation macro-F1 on IMDB and ChnSentiCorp by 0.8 points over those without ratios."
        )
        wide |= {"scale": 5.0, "naive_bayes": True}
        if seen.rows * seen.median_tokens > VAST:
            wide |= {"buckets": 4_000_000, "epsilon": 1e-4, "learning_rate": 0.01}
            reason += (
                " In 4,000,000 buckets, and with rare n-grams moving less than frequent ones (epsilon), IMDB went from "
                "90.9 to 91.7 points on test; on ChnSentiCorp, a sixth of its size, that gained nothing."
            )
        return [Choice("model", {"wide": wide}, reason)]
    if seen.long:
        reason = "Long texts: n-grams straight to the logits; Naive Bayes' ratios gained nothing on 20 Newsgroups."
        return [Choice("model", {"wide": wide}, reason)]
    found = [
        Choice(
            "model",
            {"ngrams": vectors},
            "Hashed n-grams raised validation macro-F1 on four sets; on test SST-2 did as well without them.",
        )
    ]
    if seen.han:
        reason = "No spaces: n-grams straight to the logits too raised macro-F1 on THUCNews, from .890 to .902."
        found.append(Choice("model", {"wide": wide}, reason))
    return found


def _buckets(seen: Profile) -> int:
    """Of the table of n-grams that go straight to the logits."""
    return min(500_000 if seen.rows < 15_000 else 1_000_000, CELLS // seen.classes)


def _window(seen: Profile, longest: int = 256) -> int:
    """A power of two that holds 19 of 20 texts, with room for special tokens and subwords; at most `longest`."""
    return next(
        (size for size in (32, 64, 128, 256, 512) if 1.25 * seen.long_tokens + 2 <= size < longest),
        longest,
    )


def _window_reason(seen: Profile) -> str:
    return f"19 of 20 texts are shorter than {seen.long_tokens} tokens; a longer one is read in overlapping windows."


def unknown_share(backbone: str, texts: Sequence[str]) -> float:
    """Share of tokens that the backbone's tokenizer reads as unknown; 0 where it knows no such token."""
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
    return ids.count(identity) / max(1, len(ids))


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


def recipe_yaml(
    source: dict[str, Any], draft: Draft, seen: Profile, choices: Sequence[Choice]
) -> str:
    """The recipe as a person would write it, each choice under its reason; it is checked before it is returned.

    Args:
        source: the fields of the recipe's source.
        draft: of the contract.
    """
    head = (
        f"Suggested for {seen.rows:,} texts in {seen.classes} classes (the rarest has {seen.rarest:,}), half of them "
        f"up to {seen.median_tokens} tokens long."
    )
    name = draft.contract.name
    parts = [
        f"{comments(draft, [head])}\nname: {name}\n",
        _section({"source": {"kind": "files", **source}}),
    ]
    contract = contract_yaml(draft, {}, only_own=True)
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
