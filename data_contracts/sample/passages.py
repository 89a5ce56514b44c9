"""The fourth bundled sample: questions on short passages, in English and in Chinese, for a model
that answers with a piece of the text.

Every passage is made up by a grammar (`passages.yaml`) about a museum, a firm or a village that
does not exist; no figure measured on them says anything about real texts. A question shares the
name of what it is about with all of its passage and hardly a word with the sentence that answers
it, and a passage holds several years, people and places: so what is right has to be learnt from
how such facts are said and asked for. One question in eight is of a fact that the passage does not
tell, and has no answer.

The dirty rows are planted, `DIRTY_ROWS` of each kind, each with one fault only; all other pairs of
question and context are distinct, and all contexts too. So a validator must quarantine exactly
`dirty_rows(rows)`: of a repeat the later row.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data_contracts.contract.text import text_hash
from data_contracts.sample import made

COLUMNS = ("question", "context", "answer", "answer_start", "answers", "language")
DEFAULT_ROWS = 2_400
MIN_ROWS = 200
MAX_CHARACTERS = 200  # of a question by the contract, which `over_long_question` breaks
# Faults in the words of the quarantine; counts for DEFAULT_ROWS.
DIRTY_ROWS = {
    "empty_question": 4,
    "over_long_question": 4,
    "empty_context": 4,
    "broken_encoding_context": 4,
    "offset_in_utf8": 8,
    "offset_in_utf16": 4,
    "offset_elsewhere": 8,
    "offset_outside": 4,
    "offset_not_whole": 4,
    "offset_without_answer": 4,
    "bad_answer_start": 4,
    "duplicate": 16,
}
FACTS = 5  # that a passage tells
ASKED = 3  # of these that are asked for, and every second passage one that it does not tell
_FILE = Path(__file__).with_name("passages.yaml")
_SLOT = re.compile(r"\{([a-z]+)\}")
_NUMBERS = re.compile(r"#(\d+)-(\d+)( .*)?")
# Two UTF-16 units and one character each.
_MARKS = ("\U0001f4cd", "\U0001f3db", "\U0001f4d6")
Row = dict[str, str | None]


@dataclass(frozen=True)
class Fact:
    value: str  # the kind of value that it has
    said: Sequence[str]
    asked: Sequence[str]


@dataclass(frozen=True)
class Topic:
    called: str  # frame of the name of what a passage is about
    facts: Mapping[str, Fact]


@dataclass(frozen=True)
class Language:
    space: str  # between sentences
    lists: Mapping[str, Sequence[str]]
    values: Mapping[str, str]  # frame of each kind of value; "#a-b" is a number
    fillers: Sequence[str]
    topics: Mapping[str, Topic]

    def filled(self, frame: str, rng: random.Random) -> str:
        return _SLOT.sub(lambda slot: rng.choice(self.lists[slot[1]]), frame)

    def value(self, kind: str, rng: random.Random) -> str:
        frame = self.values[kind]
        if (numbers := _NUMBERS.fullmatch(frame)) is not None:
            low, high, unit = numbers.groups()
            return f"{rng.randint(int(low), int(high))}{(unit or '').strip()}"
        return self.filled(frame, rng)


@cache
def grammar() -> Mapping[str, Language]:
    fields = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {name: _language(one) for name, one in fields.items()}


def _language(fields: Mapping[str, Any]) -> Language:
    return Language(
        space=fields["space"],
        lists={name: one.split("|") for name, one in fields["lists"].items()},
        values=fields["values"],
        fillers=fields["fillers"],
        topics={name: _topic(one) for name, one in fields["topics"].items()},
    )


def _topic(fields: Mapping[str, Any]) -> Topic:
    facts = {
        name: Fact(one["v"], one["said"], one["asked"]) for name, one in fields["facts"].items()
    }
    return Topic(fields["x"], facts)


def passage(rng: random.Random) -> list[Row]:
    """A context with its questions, as clean rows."""
    while True:
        name = rng.choice(("en", "zh"))
        if rows := _passage(name, grammar()[name], rng):
            return rows


def _passage(name: str, language: Language, rng: random.Random) -> list[Row]:
    """None where an answer would stand twice in it."""
    topic = language.topics[rng.choice(list(language.topics))]
    about = language.filled(topic.called, rng)
    names = list(topic.facts)
    # The first fact names what the passage is about, so that it is always told.
    first, others = names[0], names[1:]
    rng.shuffle(others)
    told, untold = [first, *others[: FACTS - 1]], others[FACTS - 1 :]
    values = {fact: language.value(topic.facts[fact].value, rng) for fact in told}
    sentences = [
        _sentence(rng.choice(topic.facts[fact].said), x=about, v=values[fact]) for fact in told
    ]
    sentences.insert(rng.randint(1, len(sentences)), rng.choice(language.fillers))
    context = language.space.join(sentences)
    if any(context.count(value) != 1 for value in values.values()):
        return []
    rows = []
    for fact in rng.sample(told, ASKED):
        question = _sentence(rng.choice(topic.facts[fact].asked), x=about)
        rows.append(_row(name, question, context, values[fact]))
    if rng.random() < 0.5:
        question = _sentence(rng.choice(topic.facts[rng.choice(untold)].asked), x=about)
        rows.append(_row(name, question, context, None))
    return rows


def _sentence(frame: str, **parts: str) -> str:
    text = _SLOT.sub(lambda slot: parts[slot[1]], frame)
    return text[:1].upper() + text[1:]


def _row(language: str, question: str, context: str, answer: str | None) -> Row:
    right = None if answer is None else [answer, *_also_right(answer)]
    return {
        "question": question,
        "context": context,
        "answer": answer,
        "answer_start": None if answer is None else str(context.index(answer)),
        "answers": None if right is None else json.dumps(right, ensure_ascii=False),
        "language": language,
    }


def _also_right(answer: str) -> Iterator[str]:
    """A person's family name says who it is, and a year without its word which."""
    words = answer.split(" ")
    if len(words) == 2 and all(word.istitle() for word in words):
        yield words[1]
    if answer.endswith("年"):
        yield answer.removesuffix("年")


def dirty_rows(rows: int = DEFAULT_ROWS) -> dict[str, int]:
    """How many rows of each fault a sample of this size holds."""
    return made.in_proportion(DIRTY_ROWS, rows, of=DEFAULT_ROWS, fewest=MIN_ROWS)


def generate(rows: int, seed: int) -> Iterator[Row]:
    """The rows, the questions of a passage one after the other; the same ones for a seed on any
    machine.

    Memory grows by a hash per passage, not by the texts.
    """
    rng = random.Random(seed)
    waiting: list[Row] = []
    seen: set[int] = set()

    def row(fault: str | None) -> Row:
        while True:
            while not waiting:
                some = passage(rng)
                known = text_hash(str(some[0]["context"]))
                if known not in seen:
                    seen.add(known)
                    waiting.extend(some)
            clean = waiting.pop(0)
            if fault is None:
                return clean
            # A fault of an offset is one of a question that has an answer.
            if clean["answer"] is not None and (broken := _broken(fault, clean, rng)) is not None:
                return {**clean, **broken}

    return made.in_order(rows, dirty_rows(rows), rng, row)


def _broken(fault: str, row: Row, rng: random.Random) -> Row | None:
    """What the fault makes of the cells of a row; None where it would make nothing of it."""
    return _FAULTS[fault](row, rng)


def _too_long(row: Row, rng: random.Random) -> Row:
    question = str(row["question"])
    return {"question": question * (MAX_CHARACTERS // len(question) + 1)}


def _in_bytes(row: Row, rng: random.Random) -> Row | None:
    context, start = str(row["context"]), int(row["answer_start"] or 0)
    counted = len(context[:start].encode())
    return _unless_right(row, counted) if counted != start else None


def _in_units(row: Row, rng: random.Random) -> Row | None:
    """With a mark before the context that is one character of two units; in Chinese so that bytes
    are told apart."""
    mark = rng.choice(_MARKS)
    context, start = f"{mark}{row['context']}", int(row["answer_start"] or 0)
    return {"context": context, "answer_start": str(start + 2)}


def _elsewhere(row: Row, rng: random.Random) -> Row | None:
    start = int(row["answer_start"] or 0)
    return _unless_right(row, start - 1) if start > 0 else None


def _outside(row: Row, rng: random.Random) -> Row | None:
    return {"answer_start": str(10 * len(str(row["context"])))}


def _unless_right(row: Row, start: int) -> Row | None:
    """The offset, unless the answer happens to stand there."""
    return (
        None
        if str(row["context"]).startswith(str(row["answer"]), start)
        else {"answer_start": str(start)}
    )


_FAULTS: Mapping[str, Callable[[Row, random.Random], Row | None]] = {
    "empty_question": lambda row, rng: {"question": made.blank(rng)},
    "over_long_question": _too_long,
    "empty_context": lambda row, rng: {"context": made.blank(rng)},
    "broken_encoding_context": lambda row, rng: {"context": f"{row['context']}\ufffd"},
    "offset_in_utf8": _in_bytes,
    "offset_in_utf16": _in_units,
    "offset_elsewhere": _elsewhere,
    "offset_outside": _outside,
    "offset_not_whole": lambda row, rng: {"answer_start": f"{row['answer_start']}.5"},
    "offset_without_answer": lambda row, rng: {"answer": made.blank(rng)},
    "bad_answer_start": lambda row, rng: {"answer_start": rng.choice(("", "?", "n/a"))},
}


def made_by() -> str:
    """All that the rows follow from beside their number and seed: this code and the grammar."""
    files = (Path(__file__), Path(made.__file__), _FILE)
    return "".join(file.read_text(encoding="utf-8") for file in files)


def write_passages(path: str | os.PathLike[str], rows: int, seed: int) -> int:
    """Write the rows as Parquet (zstd) and return their number."""
    return made.write_rows(path, COLUMNS, generate(rows, seed))
