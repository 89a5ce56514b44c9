"""The second bundled sample: short stories in English and Chinese, for a model that writes.

Every story is made up by a grammar (`stories_en.yaml`, `stories_zh.yaml`); none was written by
anybody else, and no figure measured on them says anything about real books. A story has a plot of
some steps, of which each is told in one of several ways, and what is introduced comes again: who
lost a kite in the meadow finds it there, and the name at the beginning is the name at the end. So a
model that only knows which letters follow which is plainly worse than one that remembers.

The dirty rows are planted, `DIRTY_ROWS` of each kind, each with one fault only; everything else is
distinct even after NFKC, casefold and collapsing of white space. So a validator must quarantine
exactly `dirty_rows(rows)`: of a repeat the later row.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data_contracts.contract.text import text_hash
from data_contracts.sample import made

LANGUAGES = ("en", "zh")
COLUMNS = ("text", "language")
MAX_CHARACTERS = 2_000  # the contract's limit, which `over_long` breaks
DEFAULT_ROWS = 4_000
MIN_ROWS = 200
MAYBE_SHARE = 0.5  # of the steps that a story may leave out
# Faults in the words of the quarantine; counts for DEFAULT_ROWS.
DIRTY_ROWS = {
    "empty": 8,
    "over_long": 4,
    "broken_encoding": 6,
    "control_characters": 6,
    "duplicate": 20,
}
# {A}, {A.his}, {town}, {town2}, {thanks:A:B}
_SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?(?::(\w)(?::(\w))?)?\}")


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """One language. A plot has `records`, of which a story takes one whole (a thing, and where it
    is found), and `steps`: a list of ways to tell it, or one under `maybe` that a story may leave
    out.

    In a step, {A} and {B} are the names of its two people, {A.he}, {A.him} and {A.his} their
    pronouns, {they} that of both; a field of the record or a list of `words` is drawn once for a
    story, and {room2} is another one of {room}. {thanks:A:B} is one of a list in which {X} is A and
    {Y} is B. A plot with `numbers` sells {n} things for {m} coins, and {n_less} of them for {k}, at
    one price each.
    """

    space: str
    people: Mapping[str, str]  # names by their pronouns
    pronouns: Mapping[str, Mapping[str, str]]
    words: Mapping[str, str]
    plots: tuple[Mapping[str, Any], ...]


@cache
def grammar(language: str) -> Grammar:
    fields = yaml.safe_load(grammar_file(language).read_text(encoding="utf-8"))
    return Grammar(**{**fields, "plots": tuple(fields["plots"])})


def grammar_file(language: str) -> Path:
    return Path(__file__).with_name(f"stories_{language}.yaml")


class Storyteller:
    """Tells one story: what was drawn for it stays what it is to its end."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self.grammar, self.rng = grammar, rng
        plot = rng.choice(grammar.plots)
        self.steps = plot["steps"]
        self.bound: dict[str, str] = dict(rng.choice(plot["records"]))
        if plot.get("numbers"):
            self.bound |= self._bargain()
        self.pronouns: dict[str, Mapping[str, str]] = {}
        people = [(name, one) for one, names in grammar.people.items() for name in names.split("|")]
        for person, (name, pronoun) in zip("AB", rng.sample(people, 2), strict=True):
            self.bound[person] = name
            self.pronouns[person] = grammar.pronouns[pronoun]
        women = self.pronouns["A"] == self.pronouns["B"] == grammar.pronouns["she"]
        self.bound["they"] = grammar.pronouns["she" if women else "he"]["they"]

    def story(self) -> str:
        sentences = []
        for step in self.steps:
            if isinstance(step, dict):
                if self.rng.random() >= MAYBE_SHARE:
                    continue
                step = step["maybe"]
            sentences.append(self.say(self.rng.choice(step)))
        return self.grammar.space.join(sentences)

    def say(self, frame: str) -> str:
        """The frame filled in, with a capital letter."""
        text = _SLOT.sub(self._fill, frame)
        start = 1 if text.startswith('"') else 0
        return text[:start] + text[start : start + 1].upper() + text[start + 1 :]

    def _fill(self, slot: re.Match[str]) -> str:
        name, pronoun, first, second = slot.groups()
        if pronoun is not None:
            return self.pronouns[name][pronoun]
        if name not in self.bound:
            self.bound[name] = self._drawn(name)
        if first is None:
            return self.bound[name]
        frame = self.bound[name].replace("{X", f"{{{first}")
        return _SLOT.sub(self._fill, frame.replace("{Y", f"{{{second or first}"))

    def _drawn(self, name: str) -> str:
        """One of a list of words, and another one for a name that ends in a number."""
        words = name.rstrip("0123456789")
        taken = {self.bound[one] for one in self.bound if one.rstrip("0123456789") == words}
        fresh = [one for one in self.grammar.words[words].split("|") if one not in taken]
        return self.rng.choice(fresh)

    def _bargain(self) -> dict[str, str]:
        price = self.rng.randint(2, 4)
        bought = self.rng.randint(2, 5)
        asked = bought + self.rng.randint(1, 4)
        numbers = {"n": asked, "m": asked * price, "n_less": bought, "k": bought * price}
        return {name: str(number) for name, number in numbers.items()}


def dirty_rows(rows: int = DEFAULT_ROWS) -> dict[str, int]:
    """How many rows of each fault a sample of this size holds."""
    return made.in_proportion(DIRTY_ROWS, rows, of=DEFAULT_ROWS, fewest=MIN_ROWS)


def generate(rows: int, seed: int) -> Iterator[dict[str, str]]:
    """The stories in their shuffled order, the same ones for a seed on any machine.

    Memory grows by a hash per row, not by the texts.
    """
    rng = random.Random(seed)
    seen: set[int] = set()
    return made.in_order(rows, dirty_rows(rows), rng, lambda fault: _row(fault, seen, rng))


def _row(fault: str | None, seen: set[int], rng: random.Random) -> dict[str, str]:
    language = rng.choice(LANGUAGES)
    while True:
        text = Storyteller(grammar(language), rng).story()
        if fault is not None:
            text = _break(fault, text, language, rng)
        known = text_hash(text)
        # Empty texts resemble one another by nature.
        if fault == "empty" or known not in seen:
            seen.add(known)
            return {"text": text, "language": language}


def _break(fault: str, text: str, language: str, rng: random.Random) -> str:
    """The text with the fault in it."""
    if fault == "empty":
        return made.blank(rng)
    if fault == "over_long":
        told = grammar(language)
        while len(text) <= MAX_CHARACTERS:
            text += told.space + Storyteller(told, rng).story()
        return text
    return made.with_mark(fault, text, rng)


def made_by() -> str:
    """All that the rows follow from beside their number and seed: this code and the grammars."""
    files = [Path(__file__), Path(made.__file__), *map(grammar_file, LANGUAGES)]
    return "".join(file.read_text(encoding="utf-8") for file in files)


def write_stories(path: str | os.PathLike[str], rows: int, seed: int) -> int:
    """Write the stories as Parquet (zstd) and return their number."""
    return made.write_rows(path, COLUMNS, generate(rows, seed))
