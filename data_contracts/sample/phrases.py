"""The third bundled sample: pairs of an English sentence and the same in Chinese, for a model that
translates.

Every pair is made up by a grammar of both languages at once (`phrases.yaml`); none was written by
anybody else, and no figure measured on them says anything about real translations. Chinese puts
time and place before the verb, a measure word between a number and a thing, what describes somebody
before them, the standard of a comparison before the quality, and a year before its month: so a
dictionary alone, word by word, is plainly worse than a model that learns the order. One English
sentence has one Chinese one, so that a model can be right every time.

The dirty rows are planted, `DIRTY_ROWS` of each kind, each with one fault only; all other sources
are distinct even after NFKC, casefold and collapsing of white space. So a validator must quarantine
exactly `dirty_rows(rows)`: of a repeat the later row.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from data_contracts.contract.text import text_hash
from data_contracts.sample import made

COLUMNS = ("source", "target", "form")
MAX_CHARACTERS = 400  # the contract's limit, which `over_long` breaks
MAX_RATIO = 9.0  # the contract's limit, which `length_ratio` breaks
DEFAULT_ROWS = 4_000
MIN_ROWS = 200
# Faults in the words of the quarantine; counts for DEFAULT_ROWS.
DIRTY_ROWS = {
    "empty_source": 4,
    "empty_target": 8,
    "over_long_source": 4,
    "broken_encoding_target": 6,
    "control_characters_source": 4,
    "swapped": 8,
    "identical": 8,
    "wrong_script_source": 4,
    "wrong_script_target": 6,
    "length_ratio": 6,
    "duplicate": 20,
}
_FILE = Path(__file__).with_name("phrases.yaml")
_BRIEF = 30  # characters of a source that a target can easily be too long for
_SLOT = re.compile(r"\{([a-z]+)(\d*)(?:\.(\w+))?\}")  # {who}, {who2}, {thing.many}
Parts = Mapping[str, str]  # of a word or a phrase, by name; en and zh among them


@dataclass(frozen=True)
class Grammar:
    """Words, phrases made of them, and the forms of whole sentences.

    In a phrase, {city} is the word that was drawn for it, the English one before the " = " and the
    Chinese one behind it; {thing.per} is another of its parts, and {city2} another city than
    {city}. A phrase within a phrase is drawn anew, with words of its own.
    """

    words: Mapping[str, Sequence[Parts]]
    phrases: Mapping[str, Sequence[tuple[str, str]]]
    forms: Mapping[str, Sequence[tuple[str, str]]]


@cache
def grammar() -> Grammar:
    fields = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    words = {
        name: [_word(one, fields["parts"].get(name, "en/zh")) for one in listed.split("|")]
        for name, listed in fields["words"].items()
    }
    phrases = {name: [_sides(one) for one in some] for name, some in fields["phrases"].items()}
    forms = {name: [_sides(one) for one in some] for name, some in fields["forms"].items()}
    return Grammar(words, phrases, forms)


def _word(written: str, names: str) -> Parts:
    """A word by its parts; one that is the same in both languages is written once."""
    parts = written.split("/")
    parts = parts * 2 if len(parts) == 1 else parts
    return dict(zip(names.split("/"), parts, strict=True))


def _sides(written: str) -> tuple[str, str]:
    english, chinese = written.split(" = ")
    return english, chinese


class Phrase:
    """One sentence or a part of it: what was drawn for a slot is the same on both sides."""

    def __init__(self, sides: tuple[str, str], rng: random.Random) -> None:
        self.rng = rng
        self.drawn: dict[str, Parts] = {}
        english, chinese = sides
        self.parts = {"en": self._filled(english, "en"), "zh": self._filled(chinese, "zh")}

    def _filled(self, frame: str, side: str) -> str:
        return _SLOT.sub(lambda slot: self._fill(slot, side), frame)

    def _fill(self, slot: re.Match[str], side: str) -> str:
        name, number, part = slot.groups()
        if name + number not in self.drawn:
            self.drawn[name + number] = self._draw(name)
        return self.drawn[name + number][part or side]

    def _draw(self, name: str) -> Parts:
        """A word or a phrase of that name, another one than those that are drawn."""
        taken = [one["en"] for key, one in self.drawn.items() if key.rstrip("0123456789") == name]
        told = grammar()
        while True:
            if name in told.words:
                found = self.rng.choice(told.words[name])
            else:
                found = Phrase(self.rng.choice(told.phrases[name]), self.rng).parts
            if found["en"] not in taken:
                return found


def sentence(rng: random.Random) -> dict[str, str]:
    """A clean row."""
    form = rng.choice(list(grammar().forms))
    parts = Phrase(rng.choice(grammar().forms[form]), rng).parts
    source = parts["en"][:1].upper() + parts["en"][1:]
    return {"source": source, "target": parts["zh"], "form": form}


def dirty_rows(rows: int = DEFAULT_ROWS) -> dict[str, int]:
    """How many rows of each fault a sample of this size holds."""
    return made.in_proportion(DIRTY_ROWS, rows, of=DEFAULT_ROWS, fewest=MIN_ROWS)


def generate(rows: int, seed: int) -> Iterator[dict[str, str]]:
    """The pairs in their shuffled order, the same ones for a seed on any machine.

    Memory grows by a hash per row, not by the texts.
    """
    rng = random.Random(seed)
    seen: set[int] = set()
    return made.in_order(rows, dirty_rows(rows), rng, lambda fault: _row(fault, seen, rng))


def _row(fault: str | None, seen: set[int], rng: random.Random) -> dict[str, str]:
    while True:
        row = sentence(rng)
        if text_hash(row["source"]) in seen:
            continue
        broken = {**row, **_broken(fault, row, rng)} if fault else row
        # Empty texts resemble one another by nature.
        known = {text_hash(row["source"]), text_hash(broken["source"])}
        if fault == "empty_source" or not known & seen:
            seen |= known
            return broken


def _broken(fault: str, row: dict[str, str], rng: random.Random) -> dict[str, str]:
    """What the fault makes of the sides of a pair."""
    source, target = row["source"], row["target"]
    if fault.startswith("empty"):
        return {fault.removeprefix("empty_"): made.blank(rng)}
    if fault.startswith(("broken_encoding", "control_characters")):
        side = fault.rpartition("_")[2]
        return {side: made.with_mark(fault, row[side], rng)}
    if fault == "swapped":
        return {"source": target, "target": source}
    if fault == "identical":
        return {"target": source}
    if fault.startswith("wrong_script"):
        return _in_one_language(fault.rpartition("_")[2], row, rng)
    if fault == "length_ratio":
        return _out_of_proportion(rng)
    while len(source) <= MAX_CHARACTERS:
        more = sentence(rng)
        source, target = f"{source} {more['source']}", target + more["target"]
    return {"source": source, "target": target}


def _in_one_language(side: str, row: dict[str, str], rng: random.Random) -> dict[str, str]:
    """A side that is in the language of the other, and of another sentence about as long."""
    other = "source" if side == "target" else "target"
    while True:
        found = sentence(rng)[other]
        if found != row[other] and max(len(found), len(row[other])) < 3 * min(
            len(found), len(row[other])
        ):
            return {side: found}


def _out_of_proportion(rng: random.Random) -> dict[str, str]:
    """A short source whose target goes on and on."""
    row = sentence(rng)
    while len(row["source"]) > _BRIEF:
        row = sentence(rng)
    target = row["target"]
    while len(target) <= MAX_RATIO * len(row["source"]):
        target += sentence(rng)["target"]
    return {"source": row["source"], "target": target}


def made_by() -> str:
    """All that the rows follow from beside their number and seed: this code and the grammar."""
    files = (Path(__file__), Path(made.__file__), _FILE)
    return "".join(file.read_text(encoding="utf-8") for file in files)


def write_phrases(path: str | os.PathLike[str], rows: int, seed: int) -> int:
    """Write the pairs as Parquet (zstd) and return their number."""
    return made.write_rows(path, COLUMNS, generate(rows, seed))
