"""MedQuAD with its pages, for `benchmarks/recipes/medquad.yaml`.

    .venv/bin/python -m benchmarks.prepare_medquad

The published rows name a publisher and no page, but stand in the order of their documents, so rows
that follow one another, of one publisher and about one thing, are of one page: about what a
question is, is what is left of it without the words of MedQuAD's templates at both ends. A page so
found is a number within its split and holds no word of a question; the splits are by document, so
no page is in two. Writes `.noisefold/benchmarks/medquad/{train,valid,test}.csv`.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "medquad"
OUT = ROOT / ".noisefold" / "benchmarks" / "medquad"
SPLITS = ("train", "valid", "test")
# Words at the ends of MedQuAD's questions that are not what they are about.
TEMPLATES = frozenset(
    (
        "a about affected and are at being by cause causes changes clinical complications diagnose "
        "do does done for genetic have how in information inherited is many of on or outlook "
        "people prevent related research risk s stages symptoms the to treatment treatments trials "
        "what who with you"
    ).split()
)
COLUMNS = ("question", "answer", "page", "source", "question_type")


def read(split: str) -> list[dict[str, str]]:
    """The rows of a split, in their order."""
    csv.field_size_limit(1 << 30)
    plain = DATA / f"{split}.csv"
    if plain.exists():
        with plain.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    with gzip.open(f"{plain}.gz", "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def about(question: str) -> tuple[str, ...]:
    """What a question is about: its words without those of a template at both ends."""
    words = re.findall(r"\w+", question.casefold())
    first, last = 0, len(words)
    while first < last and words[first] in TEMPLATES:
        first += 1
    while last > first and words[last - 1] in TEMPLATES:
        last -= 1
    return tuple(words[first:last])


def with_pages(rows: list[dict[str, str]], split: str) -> Iterator[dict[str, str]]:
    """The rows with the page that each is of."""
    number, before = 0, None
    for row in rows:
        here = (row["source"], about(row["question"]))
        number += here != before
        before = here
        yield {**row, "page": f"{split}-{number}"}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        rows = list(with_pages(read(split), split))
        with (OUT / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        pages = len({row["page"] for row in rows})
        print(f"{split}: {len(rows):,} rows of {pages:,} pages")


if __name__ == "__main__":
    main()
