"""20 Newsgroups without the headers, which name the group: what a classifier should not be paid
for.

    python -m benchmarks.prepare_newsgroups [--source FOLDER] [--target FOLDER]

Everything up to a message's first blank line goes, as `remove=("headers",)` of scikit-learn's
loader does it; quotes and signatures stay. Rows, order and labels stay too: a message of headers
alone is left as an empty text, which the contract then quarantines.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "shared" / "data" / "20newsgroups"
TARGET = HERE.parent / ".noisefold" / "benchmarks" / "20newsgroups"


def without_headers(message: str) -> str:
    """The body of a message: what follows its first blank line; all of it where there is none."""
    message = message.replace("\r\n", "\n")
    _, blank, body = message.partition("\n\n")
    return body if blank else message


def prepare(source: Path, target: Path) -> None:
    """`<split>.csv.gz` of the source, as `<split>.csv` in the target folder; a finished file is
    written again alike.
    """
    csv.field_size_limit(1 << 24)
    target.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        part = target / f"{split}.csv.part"
        with (
            gzip.open(source / f"{split}.csv.gz", "rt", encoding="utf-8", newline="") as read,
            part.open("w", encoding="utf-8", newline="") as write,
        ):
            writer = csv.writer(write, lineterminator="\n")
            writer.writerow(["text", "label"])
            writer.writerows(
                [without_headers(row["text"]), row["label"]] for row in csv.DictReader(read)
            )
        part.rename(target / f"{split}.csv")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args()
    prepare(options.source, options.target)
    print(f"written to {options.target}")


if __name__ == "__main__":
    main()
