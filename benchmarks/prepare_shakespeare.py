"""Tiny Shakespeare as three texts: the first nine tenths, and the last, which is the test text.

    python -m benchmarks.prepare_shakespeare [--source FOLDER] [--target FOLDER]

`choose/` holds the last twentieth of the first nine tenths back as its valid text: what a recipe
looks like is decided there. `final/` is what is measured: its valid text, which tells the epoch, is
the beginning, 20,000 characters that others train on; the end of the nine tenths, whose play goes on
in the test text, stays in train.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "shared" / "data" / "tiny_shakespeare"
BEGINNING = 20_000
TARGET = HERE.parent / ".noisefold" / "benchmarks" / "shakespeare"


def prepare(source: Path, target: Path) -> None:
    """Three texts in each of two folders; a finished one is written again alike."""
    text = (source / "input.txt").read_text(encoding="utf-8")
    end = int(len(text) * 0.9)
    held = int(end * 0.95)
    folders = {
        "choose": {"train": text[:held], "valid": text[held:end], "test": text[end:]},
        "final": {"train": text[BEGINNING:end], "valid": text[:BEGINNING], "test": text[end:]},
    }
    for name, parts in folders.items():
        (target / name).mkdir(parents=True, exist_ok=True)
        for split, part in parts.items():
            (target / name / f"{split}.txt").write_text(part, encoding="utf-8")


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
