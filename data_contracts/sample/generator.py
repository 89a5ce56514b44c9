"""The bundled sample: synthetic product reviews in English and Chinese, where word order decides
the label.

Every text is made up by the grammar below; none was written by a customer, and no figure measured
on it says anything about real reviews. The labels have one rule. A review asserts opinions on
aspects of the product:

    only good ones -> positive; only bad ones -> negative; both -> mixed; none at all -> no_opinion

and what is asked, supposed, expected, hearsay or said of an older model is no assertion. The same
adjectives stand in all of these ("I expected the screen to be awful, but it is superb" and the
reverse), so that a bag of words sees much the same words under different labels, while a model that
reads in order can be right every time.

`LABEL_NOISE` of the clean rows of each split, exactly, carry another label than the true one:
nobody can be better than .95. The dirty rows are planted, `DIRTY_ROWS` of each kind, each with one
fault only, on top of true labels; everything else is distinct even after NFKC, casefold and
collapsing of white space. So a validator must quarantine exactly `dirty_rows(rows)`: of a duplicate
the later row of the file, of a leak the row in train. (Empty texts resemble one another by nature,
so a row is looked at for duplication only when it has no fault of its own.)

Measured on the clean rows of the default sample (20,000 rows, seed 20260101), test accuracy of
TF-IDF + logistic regression at C = 10: .761 from characters (1, 3), .654 from words (1, 2), .793
from a model per language (English words, Chinese characters). `pytest
tests/data_contracts/test_sample.py -m slow` holds the first two below .85.
"""

import os
import random
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from data_contracts.sample import made
from data_contracts.sample import writer as writing
from data_contracts.sample.writer import LANGUAGES, Writer, grammar

LABELS = ("negative", "mixed", "positive", "no_opinion")
LABEL_WEIGHTS = (26, 23, 27, 24)
TWO_CLASSES = ("negative", "positive")  # the two-class view: no review is mixed or without opinion
SPLITS = {"train": 80, "valid": 10, "test": 10}  # per cent
COLUMNS = ("id", "text", "label", "split", "language")
LABEL_NOISE = 0.05
MAX_CHARACTERS = 2_000  # the sample contract's limit, which `over_long` breaks

DEFAULT_ROWS = 20_000
DEFAULT_SEED = 20_260_101
MIN_ROWS = 200
# Faults in the words of the quarantine; counts for DEFAULT_ROWS.
DIRTY_ROWS = {
    "empty": 40,
    "over_long": 20,
    "bad_label": 30,
    "broken_encoding": 25,
    "duplicate": 60,
    "leaked": 25,
}
BAD_LABELS = ("5 stars", "Positive!", "neg", None, "好评", "3", "N/A", "mixed feelings")
WHITE_SPACE = (" ", "\u3000", "\t", "\n")


def dirty_rows(rows: int = DEFAULT_ROWS) -> dict[str, int]:
    """How many rows of each fault a sample of this size holds."""
    return made.in_proportion(DIRTY_ROWS, rows, of=DEFAULT_ROWS, fewest=MIN_ROWS)


@dataclass
class _Plan:
    """Where everything stands, fixed before the first text is written, so that rows can be
    streamed.
    """

    split: list[str]
    fault: dict[int, str]
    noisy: set[int]
    pair: dict[int, int]  # position of either row of a duplicate or leak -> position of the other


def _plan(rows: int, rng: random.Random) -> _Plan:
    free = list(range(rows))
    rng.shuffle(free)
    plan = _Plan([], {}, set(), {})
    plan.split = rng.choices(tuple(SPLITS), weights=tuple(SPLITS.values()), k=rows)
    for fault, count in dirty_rows(rows).items():
        for _ in range(count):
            at = free.pop()
            if fault in ("duplicate", "leaked"):
                other = free.pop()
                if fault == "duplicate":  # the later one is the fault
                    other, at = sorted((at, other))
                    plan.split[other] = plan.split[at]
                else:
                    plan.split[at], plan.split[other] = "train", "test"
                plan.pair |= {at: other, other: at}
            plan.fault[at] = fault
    for split in SPLITS:
        clean = [at for at in free if plan.split[at] == split]
        originals = [at for at in plan.pair if plan.split[at] == split and at not in plan.fault]
        plan.noisy.update(clean[: round(LABEL_NOISE * len(clean + originals))])
    return plan


def _is_new(text: str, seen: set[bytes]) -> bool:
    """Whether no text before equals this one after NFKC, casefold and collapsing of white space."""
    normalised = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    digest = blake2b(normalised.encode(), digest_size=16).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True


def _break(fault: str, text: str, writer: Writer, rng: random.Random) -> str:
    """The writer's text with the fault in it; unchanged where the fault is not one of the text."""
    if fault == "empty":
        return "".join(rng.choice(WHITE_SPACE) for _ in range(rng.randint(0, 8)))
    if fault == "over_long":
        while len(text) <= MAX_CHARACTERS:
            text += writer.grammar.space + writer.fact()
    if fault == "broken_encoding":
        for at in rng.sample(range(len(text)), k=rng.randint(1, 3)):
            text = text[:at] + "\ufffd" + text[at + 1 :]
    return text


def generate(
    rows: int = DEFAULT_ROWS,
    seed: int = DEFAULT_SEED,
    *,
    classes: Literal[2, 4] = 4,
    with_truth: bool = False,
) -> Iterator[dict[str, str | None]]:
    """The synthetic reviews in their shuffled order, the same ones for a seed on any machine.

    With two classes the true labels are `TWO_CLASSES`, and so are the noisy ones; the planted
    faults are the same. A row has `COLUMNS`; with_truth adds `true_label` (before noise) and
    `fault` (None for a clean row), which the written sample never shows. Memory grows by 16 bytes
    of digest per row, not by the texts.
    """
    rng = random.Random(seed)
    plan = _plan(rows, rng)
    return _rows(plan, rng, TWO_CLASSES if classes == 2 else LABELS, with_truth)


def _rows(
    plan: _Plan, rng: random.Random, labels: Sequence[str], with_truth: bool
) -> Iterator[dict[str, str | None]]:
    seen: set[bytes] = set()
    held: dict[
        int, dict[str, str | None]
    ] = {}  # position of a copy that is still to come -> the row it repeats
    for at, split in enumerate(plan.split):
        fault = plan.fault.get(at)
        row = held.pop(at, None) or _row(fault, at in plan.noisy, labels, seen, rng)
        if at in plan.pair and at < plan.pair[at]:
            held[plan.pair[at]] = row
        truth = {"true_label": row["true_label"], "fault": fault} if with_truth else {}
        here = {"id": f"s-{at:06d}", "split": split}
        yield {column: here.get(column) or row[column] for column in COLUMNS} | truth


def _row(
    fault: str | None, noisy: bool, labels: Sequence[str], seen: set[bytes], rng: random.Random
) -> dict[str, str | None]:
    language = rng.choice(LANGUAGES)
    weights = [LABEL_WEIGHTS[LABELS.index(label)] for label in labels]
    true_label = rng.choices(labels, weights)[0]
    while True:
        writer = Writer(grammar(language), rng)
        text = writer.review(true_label)
        if fault is not None:
            text = _break(fault, text, writer, rng)
        if fault == "empty" or _is_new(text, seen):
            break
    label: str | None = true_label
    if fault == "bad_label":
        label = rng.choice(BAD_LABELS)
    elif noisy:
        label = rng.choice([other for other in labels if other != true_label])
    return {"text": text, "label": label, "language": language, "true_label": true_label}


def made_by() -> str:
    """All that the rows follow from beside their number and seed: this code and the grammars."""
    files = [
        Path(__file__),
        Path(made.__file__),
        Path(writing.__file__),
        *map(writing.grammar_file, LANGUAGES),
    ]
    return "".join(file.read_text(encoding="utf-8") for file in files)


def write_sample(
    path: str | os.PathLike[str],
    rows: int = DEFAULT_ROWS,
    seed: int = DEFAULT_SEED,
    classes: Literal[2, 4] = 4,
) -> int:
    """Write the synthetic sample as Parquet (zstd) and return its number of rows."""
    return made.write_rows(path, COLUMNS, generate(rows, seed, classes=classes))
