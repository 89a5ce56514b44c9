"""The fifth bundled sample: what customers ask a shop, in English and in Chinese, for a model that
finds the answer among all of them.

The shop, its products and its pages are made up by a grammar (`helpdesk.yaml`); no figure measured
on them says anything about real customers. A page is about one product and has several sections,
each of which answers one thing, asked in several ways and with slips of the keyboard. The product
stands in every section of its page, and what a question is about is said in other words than the
answer has: so shared words find the page, and the section has to be learnt. Splits are drawn by the
page, whose product no other split has.

The dirty rows are planted, `DIRTY_ROWS` of each kind, each with one fault only; all other questions
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
from typing import Any

import yaml

from data_contracts.contract.text import text_hash
from data_contracts.sample import made

COLUMNS = ("question", "answer", "page", "link", "language")
DEFAULT_ROWS = 2_400
MIN_ROWS = 200
MAX_CHARACTERS = 300  # of a question by the contract, which `over_long_question` breaks
# Faults in the words of the quarantine; counts for DEFAULT_ROWS.
DIRTY_ROWS = {
    "empty_question": 6,
    "empty_answer": 8,
    "over_long_question": 4,
    "broken_encoding_answer": 6,
    "control_characters_question": 4,
    "identical": 8,
    "duplicate": 16,
}
SECTIONS = 5  # of a page
ASKED = 3  # ways of each section
SLIPS = 0.2  # share of the questions in which two characters have changed places
_FILE = Path(__file__).with_name("helpdesk.yaml")
_SITE = "https://shop.example"
_SLOT = re.compile(r"\{([a-z]+)\}")
_SLIPPED = re.compile(r"[a-z]{5,}|[\u4e00-\u9fff]{4,}")  # letters that somebody may type wrongly
_LETTERS = "ABCDEFGHKLMNPRSTVWX"
Row = dict[str, str]


@dataclass(frozen=True)
class Section:
    said: Sequence[str]
    asked: Sequence[str]


@dataclass(frozen=True)
class Language:
    makers: Sequence[str]
    goods: Sequence[str]
    product: str  # frames of what texts and pages call it
    page: str
    greetings: Sequence[str]
    endings: Sequence[str]
    sections: Mapping[str, Section]


@cache
def grammar() -> Mapping[str, Language]:
    fields = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {name: _language(one) for name, one in fields.items()}


def _language(fields: Mapping[str, Any]) -> Language:
    listed = ("makers", "goods", "greetings", "endings")
    lists = {name: fields[name].split("|") for name in listed}
    sections = {name: Section(**one) for name, one in fields["sections"].items()}
    return Language(product=fields["product"], page=fields["page"], sections=sections, **lists)


def _filled(frame: str, parts: Mapping[str, str]) -> str:
    return _SLOT.sub(lambda slot: parts[slot[1]], frame)


def page(rng: random.Random) -> list[Row]:
    """The rows of one product, clean ones: of each section as many questions as it is asked in
    ways."""
    name = rng.choice(("en", "zh"))
    language = grammar()[name]
    model = f"{rng.choice(_LETTERS)}{rng.choice(_LETTERS)}{rng.randint(10, 99)}"
    parts = {"m": model, "maker": rng.choice(language.makers), "good": rng.choice(language.goods)}
    parts["p"] = _filled(language.product, parts)
    title = _filled(language.page, parts)
    address = f"{_SITE}/{name}/{model.lower()}"
    rows = []
    for section in rng.sample(list(language.sections), SECTIONS):
        told = language.sections[section]
        number = {"n": str(rng.randint(3, 96))}
        answer = _filled(rng.choice(told.said), parts | number)
        for frame in rng.sample(told.asked, ASKED):
            question = _said(_filled(frame, parts), model, language, rng)
            row = {"question": question, "answer": answer, "page": title, "language": name}
            rows.append({**row, "link": f"{address}#{section}"})
    return rows


def _said(question: str, model: str, language: Language, rng: random.Random) -> str:
    """As somebody types it: with a greeting or without, and not always what was meant."""
    if rng.random() < SLIPS:
        question = _with_slip(question, rng)
    asked = f"{rng.choice(language.greetings)}{question}{rng.choice(language.endings)}"
    return asked.replace(model, model.lower()) if rng.random() < 0.3 else asked


def _with_slip(question: str, rng: random.Random) -> str:
    """Two characters of a word that have changed places."""
    words = list(_SLIPPED.finditer(question))
    if not words:
        return question
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    return question[:at] + question[at + 1] + question[at] + question[at + 2 :]


def dirty_rows(rows: int = DEFAULT_ROWS) -> dict[str, int]:
    """How many rows of each fault a sample of this size holds."""
    return made.in_proportion(DIRTY_ROWS, rows, of=DEFAULT_ROWS, fewest=MIN_ROWS)


def generate(rows: int, seed: int) -> Iterator[Row]:
    """The rows, those of a page one after the other; the same ones for a seed on any machine.

    Memory grows by a hash per row, not by the texts.
    """
    rng = random.Random(seed)
    waiting: list[Row] = []
    seen: set[int] = set()

    def row(fault: str | None) -> Row:
        while True:
            waiting.extend([] if waiting else page(rng))
            clean = waiting.pop(0)
            if (known := text_hash(clean["question"])) not in seen:
                seen.add(known)
                return {**clean, **_broken(fault, clean, rng)} if fault else clean

    return made.in_order(rows, dirty_rows(rows), rng, row)


def _broken(fault: str, row: Row, rng: random.Random) -> Row:
    """What the fault makes of the cells of a row."""
    side = fault.rpartition("_")[2]
    if fault.startswith("empty"):
        return {side: made.blank(rng)}
    if fault.startswith(("broken_encoding", "control_characters")):
        return {side: made.with_mark(fault, row[side], rng)}
    if fault == "identical":
        return {"answer": row["question"].upper()}
    return {"question": row["question"] * (MAX_CHARACTERS // len(row["question"]) + 1)}


def made_by() -> str:
    """All that the rows follow from beside their number and seed: this code and the grammar."""
    files = (Path(__file__), Path(made.__file__), _FILE)
    return "".join(file.read_text(encoding="utf-8") for file in files)


def write_helpdesk(path: str | os.PathLike[str], rows: int, seed: int) -> int:
    """Write the rows as Parquet (zstd) and return their number."""
    return made.write_rows(path, COLUMNS, generate(rows, seed))
