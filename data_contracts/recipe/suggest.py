"""Suggest a recipe for some rows: what our comparisons found, applied to what they look like, with
a reason for each.

The figures behind the choices stand in `docs/method.md` and `benchmarks/results/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_contracts.recipe.profile import FEW_PER_CLASS, Profile, unknown_share, vector_size

UNKNOWN_TO_BACKBONE = 0.05  # share of tokens above which a backbone does not know the language
# Tokens from which n-grams of up to three fill a million buckets several times over.
VAST = 2_000_000
# Of their table, a column per class: all are read and written several times a step.
CELLS = 10_000_000


@dataclass(frozen=True)
class Choice:
    """Fields of one section, and one sentence of why."""

    section: str
    fields: dict[str, Any]
    reason: str


NOISE = Choice(
    "model",
    {"reparameterization": {"kind": "multiplicative_noise"}},
    (
        "Noise without dropout: as right as dropout on TREC and THUCNews, with better "
        "probabilities on the latter; both together were behind on TREC and SST-2."
    ),
)
DROPOUT = Choice(
    "model",
    {"dropout": 0.5, "reparameterization": {"kind": "none"}},
    (
        "Dropout was 0.4 to 0.8 points ahead of noise on AG News, ChnSentiCorp and "
        "IMDB, and level with it on SST-2."
    ),
)
PLAIN = Choice(
    "model",
    {"reparameterization": {"kind": "none"}},
    "No regularizer: 1.1 points ahead of dropout on 20 Newsgroups, and 0.5 ahead of noise.",
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
        passed_over = (
            f"The backbone at {backbone} was passed over: its tokenizer does not know "
            f"{unknown:.0%} of these texts. "
        )
        return _from_scratch(seen, passed_over)
    return _from_scratch(seen, "")


def _fine_tuned(seen: Profile, backbone: str) -> list[Choice]:
    epochs = 4 if seen.rows < 8_000 else 3
    if seen.rows / seen.classes < FEW_PER_CLASS:
        epochs *= 2
    return [
        Choice(
            "window",
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
            (
                "MiniLM with low rank was 6 points above models from scratch on "
                "TREC and SST-2 and 1.0 on AG News; noise on its factors added 0.5 "
                "points on TREC and took 0.013 nats off the NLL on SST-2. "
                "Registered, it can teach a small model (distillation)."
            ),
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
        "task",
        {
            "wide": {
                "buckets": buckets(seen),
                "max_n": 3,
                "scale": 8.0,
                "naive_bayes": True,
                "share": 0.4,
            }
        },
        (
            "Hashed n-grams beside the backbone, each part by a loss of its own: ahead by "
            "1.6 points on SST-2, 1.5 on Banking77 and 0.9 on AG News, with better "
            "probabilities, at hardly any cost; level on TREC, which is smaller."
        ),
    )


def _started_from(seen: Profile, backbone: str, folder: str) -> list[Choice]:
    """Too many rows to fine-tune on a CPU every night: the backbone gives its token vectors
    alone."""
    size = min(256, vector_size(folder))
    vectors = Choice(
        "model",
        {
            "embedding": {
                "size": size,
                **({"init_std": 1.0} if seen.short else {}),
                "vectors": backbone,
            }
        },
        f"For {seen.rows:,} rows, fine-tuning takes hours of CPU. Started from MiniLM's token "
        "vectors instead, a small model went from 90.1 to 93.6 points of accuracy on TREC and from "
        "82.7 to 84.4 on SST-2 (a BiLSTM, at std 1; tanh wants the default).",
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
            {"kind": "word", "vocab_size": 30_000, "min_frequency": 1 if seen.rows < 50_000 else 2},
            (
                "A script without spaces: by character, with n-grams, Chinese was "
                "ahead of subwords on ChnSentiCorp."
            )
            if seen.han
            else "Words and punctuation: the tokens of every comparison from scratch.",
        ),
        Choice("window", {"max_length": window, "overlap": window // 8}, _window_reason(seen)),
        Choice(
            "model",
            {
                "embedding": {"size": 128},
                "encoder": {"kind": "bilstm_attention", "hidden_size": 96}
                if seen.short
                else {"kind": "tanh"},
            },
            passed_over
            + (
                (
                    "Short texts: a BiLSTM was ahead of tanh on validation, by 5 points "
                    "on TREC and 0.8 on THUCNews, and level on SST-2."
                )
                if seen.short
                else (
                    "Longer texts: tanh was within a point of a BiLSTM on AG News and "
                    "ChnSentiCorp, in half the time."
                )
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
            f"{round(epochs * seen.rows, -3):,} examples in all; averaged weights were level or a "
            "little ahead.",
        ),
    ]


def _ngrams(seen: Profile) -> list[Choice]:
    """Hashed n-grams: as vectors beside the encoder, straight to the logits, or both."""
    wide: dict[str, Any] = {"buckets": buckets(seen), "max_n": 3}
    vectors = {
        "buckets": 20_000 if seen.small else 100_000,
        "max_n": 3 if seen.han else 2,
        "size": 64 if seen.small else 32,
    }
    if seen.long and seen.classes == 2:
        reason = (
            "Long texts in two classes: n-grams straight to the logits, as "
            "Naive Bayes' log ratios times what is trained, raised validation "
            "macro-F1 on IMDB and ChnSentiCorp by 0.8 points over those without "
            "ratios."
        )
        wide |= {"scale": 5.0, "naive_bayes": True}
        if seen.rows * seen.median_tokens <= VAST:
            return [Choice("task", {"wide": wide}, reason)]
        slower = (
            "In 4,000,000 buckets, and with rare n-grams moving less than "
            "frequent ones (epsilon), IMDB went from 90.9 to 91.7 points on "
            "test; on ChnSentiCorp, a sixth of its size, that gained nothing."
        )
        group = {"learning_rate": 0.01, "epsilon": 1e-4}
        return [
            Choice("task", {"wide": {**wide, "buckets": 4_000_000}}, reason),
            Choice("training", {"groups": {"wide": group}}, slower),
        ]
    if seen.long:
        reason = (
            "Long texts: n-grams straight to the logits; Naive Bayes' ratios gained "
            "nothing on 20 Newsgroups."
        )
        return [Choice("task", {"wide": wide}, reason)]
    found = [
        Choice(
            "model",
            {"ngrams": vectors},
            (
                "Hashed n-grams raised validation macro-F1 on four sets; on test "
                "SST-2 did as well without them."
            ),
        )
    ]
    if seen.han:
        reason = (
            "No spaces: n-grams straight to the logits too raised macro-F1 on THUCNews, "
            "from .890 to .902."
        )
        found.append(Choice("task", {"wide": wide}, reason))
    return found


def buckets(seen: Profile) -> int:
    """Of the table of n-grams that go straight to the logits."""
    return min(500_000 if seen.rows < 15_000 else 1_000_000, CELLS // seen.classes)


def _window(seen: Profile, longest: int = 256) -> int:
    """A power of two that holds 19 of 20 texts, with room for special tokens and subwords; at
    most `longest`."""
    return next(
        (size for size in (32, 64, 128, 256, 512) if 1.25 * seen.long_tokens + 2 <= size < longest),
        longest,
    )


def _window_reason(seen: Profile) -> str:
    return (
        f"19 of 20 texts are shorter than {seen.long_tokens} tokens; a longer one is read in "
        "overlapping windows."
    )
