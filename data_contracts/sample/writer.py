"""Writes one review of the sample, by the grammar of its language."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

LANGUAGES = ("en", "zh")
KIND_WEIGHTS = (60, 20, 20)  # of plain, negated and contrast among single opinions
PAIR_SHARE = 0.3  # of opinionated reviews that speak of two aspects in one sentence
ASIDE_SHARE = 0.15  # of opinionated reviews with an unsettled sentence beside
_SLOT = re.compile(r"\{([^{}]+)\}")

Sign = Literal[1, -1]  # +1 praise, -1 blame


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """One language. In a frame, {a} and {b} are aspects, {p} an adjective of the sign that the
    frame asserts of {a} and {n} one of the opposite sign; {gp} and {gn} are the same from the
    gradable ones, which bear a "not" ("not bad" is praise, "not superb" is nothing yet). Any other
    slot names a list of `words`.
    """

    families: tuple[Mapping[str, str], ...]  # products that share aspects
    aspects: str  # that every product has
    gradable: Mapping[str, str]  # adjectives of praise and of blame
    strong: Mapping[str, str]
    words: Mapping[str, str]
    plain: tuple[str, ...]  # each asserts {p} of {a}, from here ...
    negated: tuple[str, ...]
    contrast: tuple[str, ...]  # ... to here
    same: tuple[str, ...]  # asserts {p} of {a} and of {b}
    both: tuple[str, ...]  # asserts {p} of {a} and {n} of {b}
    both_praise_first: tuple[str, ...]  # the same, for sign +1 only
    unsettled: tuple[str, ...]  # asserts nothing, whatever the sign
    facts: tuple[str, ...]  # asserts nothing, uses no adjective
    stops: str
    space: str


@cache
def grammar(language: str) -> Grammar:
    fields = yaml.safe_load(grammar_file(language).read_text(encoding="utf-8"))
    lists = {name: tuple(one) for name, one in fields.items() if isinstance(one, list)}
    return Grammar(**{**fields, **lists})


def grammar_file(language: str) -> Path:
    return Path(__file__).with_name(f"grammar_{language}.yaml")


class Writer:
    """Writes one review: one product, no aspect twice, and no word of a list or fact twice where it
    can.
    """

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self.grammar, self.rng = grammar, rng
        family = rng.choice(grammar.families)
        self.product = rng.choice(family["products"].split("|"))
        self.aspects = f"{family['aspects']}|{grammar.aspects}".split("|")
        rng.shuffle(self.aspects)
        self.used: list[str] = []  # words, facts and questions of this review so far

    def say(self, frame: str, sign: Sign = 1) -> str:
        """The frame filled in, as a sentence or two."""
        bound = {"product": self.product}
        bound |= {slot: self.aspects.pop() for slot in "ab" if "{" + slot + "}" in frame}
        text = _SLOT.sub(lambda slot: self._fill(slot[1], bound, sign), frame)
        text = text if text.endswith(("?", "？")) else text + self.rng.choice(self.grammar.stops)
        return re.sub(r"(^|[.?] )([a-z])", lambda start: start[1] + start[2].upper(), text)

    def _fill(self, slot: str, bound: Mapping[str, str], sign: Sign) -> str:
        if slot in bound:
            return bound[slot]
        grammar = self.grammar
        if slot in grammar.words:
            options = grammar.words[slot]
        else:
            of = "praise" if (sign > 0) == slot.endswith("p") else "blame"
            options = grammar.gradable[of]
            if not slot.startswith("g"):
                options += f"|{grammar.strong[of]}"
        choice = self._fresh(options.split("|"))
        return _SLOT.sub(lambda inner: self._fill(inner[1], bound, sign), choice)

    def _fresh(self, choices: Sequence[str]) -> str:
        """One of the choices, and one that this review has not used where there is one."""
        choice = self.rng.choice([one for one in choices if one not in self.used] or choices)
        self.used.append(choice)
        return choice

    def opinion(self, sign: Sign) -> str:
        kinds = (self.grammar.plain, self.grammar.negated, self.grammar.contrast)
        frames = self.rng.choices(kinds, weights=KIND_WEIGHTS)[0]
        return self.say(self.rng.choice(frames), sign)

    def unsettled(self) -> str:
        return self.say(self._fresh(self.grammar.unsettled), self.rng.choice((1, -1)))

    def fact(self) -> str:
        return self.say(self._fresh(self.grammar.facts))

    def review(self, label: str) -> str:
        rng, grammar = self.rng, self.grammar
        if label == "no_opinion":
            parts = [self.unsettled() for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 2)))]
        elif label == "mixed":
            sign: Sign = rng.choice((1, -1))
            if rng.random() < PAIR_SHARE:
                frames = grammar.both + (grammar.both_praise_first if sign > 0 else ())
                parts = [self.say(rng.choice(frames), sign)]
            else:
                parts = [self.opinion(sign), self.opinion(-sign)]
        else:
            sign = 1 if label == "positive" else -1
            if rng.random() < PAIR_SHARE:
                parts = [self.say(rng.choice(grammar.same), sign)]
            else:
                parts = [self.opinion(sign) for _ in range(rng.choice((1, 2)))]
        if label != "no_opinion" and rng.random() < ASIDE_SHARE:
            parts.insert(rng.randint(0, len(parts)), self.unsettled())
        for _ in range(rng.choice((0, 0, 1, 1, 2)) if parts else 3):
            parts.insert(rng.randint(0, len(parts)), self.fact())
        return grammar.space.join(parts)
