"""Folds of questions on texts, no text in two of them: CMRC 2018 by paragraph, XQuAD by article.

    python -m benchmarks.prepare_folds [cmrc2018 xquad_en] [--folds 5] [--target FOLDER]

`NAME/FOLD/test.csv` is one fold; of the others, one text in ten is `valid.csv` and the rest
`train.csv`. CMRC's paragraphs are dealt out by the SHA-256 of their text, so the folds stay what they
are whatever the order of the file. XQuAD's file has five paragraphs of an article one after the
other, and its articles are dealt out in turn. Rows whose answer does not stand at its offset stay:
a contract has to find them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "data"
TARGET = HERE.parent / ".noisefold" / "benchmarks" / "folds"
FILES = {"cmrc2018": "train.csv", "xquad_en": "test.csv"}
PARAGRAPHS = {"xquad_en": 5}  # of an article
VALID = 10  # of so many texts that are no test texts, one


def groups_of(name: str, contexts: Iterable[str]) -> dict[str, int]:
    """A number of each context, by which it is dealt out; the same for those of one article."""
    different = dict.fromkeys(contexts)
    if name in PARAGRAPHS:
        return {one: place // PARAGRAPHS[name] for place, one in enumerate(different)}
    return {one: number_of(one) for one in different}


def number_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(group: int, fold: int, folds: int) -> str:
    """The split of a group of texts, where one fold is the test split."""
    if group % folds == fold:
        return "test"
    return "valid" if number_of(f"valid {group}") % VALID == 0 else "train"


def prepare(name: str, source: Path, target: Path, folds: int) -> None:
    """Write every fold; a finished one is written again alike."""
    # A context is longer than what Python's reader takes by itself.
    csv.field_size_limit(1 << 24)
    with source.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
        columns = list(reader.fieldnames or ())
    groups = groups_of(name, (row["context"] for row in rows))
    for fold in range(folds):
        folder = target / name / str(fold)
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "valid", "test"):
            some = [row for row in rows if split_of(groups[row["context"]], fold, folds) == split]
            write(folder / f"{split}.csv", columns, some)


def write(file: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=[*FILES], help=", ".join(FILES))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--source", type=Path, default=SHARED)
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args()
    for name in options.names:
        if name not in FILES:
            parser.error(f"{name} is none of {', '.join(FILES)}")
        prepare(name, options.source / name / FILES[name], options.target, options.folds)
    print(f"written to {options.target}")


if __name__ == "__main__":
    main()
