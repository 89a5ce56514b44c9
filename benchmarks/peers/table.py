"""Figures of every peers' prediction file there is, as one table.

    .venv/bin/python -m benchmarks.peers.table [--results FOLDER]

Reads `.noisefold/benchmarks/peers/<data set>/<peer>-<seed>.parquet` and writes `peers.json` and
`peers.md`. A run that `peers.json` has and whose file is not here (another machine, a state folder
that is gone) stays. The figures are those that noisefold reports of its own models; the ECE floor
is what a perfectly calibrated model with the same confidences would show.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.peers.data import FACTS, HOME, LABELS, SEARCH, read_corpus
from lightning_modules.kinds.classify.figures import ece_floor, figures

NAMES = ("accuracy", "macro_f1", "nll", "brier", "ece", "ece_floor")
PERCENT = frozenset({"accuracy", "macro_f1", "ece", "ece_floor"})
RESULTS = Path(__file__).resolve().parents[1] / "results"


def measure(path: Path, numbers: dict[str, int], labels: list[str]) -> dict[str, Any]:
    """Figures and facts of one prediction file; `numbers` gives each test row's class."""
    table = pq.read_table(path)
    told = {key: json.loads(table.schema.metadata[key.encode()]) for key in (LABELS, FACTS, SEARCH)}
    ids = table["id"].to_pylist()
    if told[LABELS] != labels or sorted(ids) != sorted(numbers):
        raise SystemExit(
            f"{path}: other rows or labels than the corpus has. Write the corpus and this file "
            f"again."
        )
    log_proba = np.array(table["log_proba"].to_pylist())
    found = figures(np.array([numbers[one] for one in ids]), log_proba)
    return {**found, "ece_floor": ece_floor(log_proba), **told[FACTS], "search": told[SEARCH]}


def is_peers(path: Path) -> bool:
    """A peer says what its search took; what else lies there (`benchmarks.cut_at_limit`) is a model
    of our own.
    """
    return SEARCH.encode() in (pq.read_schema(path).metadata or {})


def measure_all(folder: Path) -> list[dict[str, Any]]:
    cells = []
    for dataset in sorted(path for path in folder.iterdir() if path.is_dir()):
        corpus = read_corpus(dataset.name)
        numbers = dict(zip(corpus.test.ids, corpus.test.y.tolist(), strict=True))
        for path in filter(is_peers, sorted(dataset.glob("*.parquet"))):
            peer, seed = path.stem.rsplit("-", 1)
            found = measure(path, numbers, corpus.labels)
            cells.append(
                {
                    "dataset": dataset.name,
                    "peer": peer,
                    "seed": int(seed),
                    "rows": len(numbers),
                    **found,
                }
            )
    return cells


def merge(kept: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One cell per data set, peer and seed, the fresh one where both have it."""
    cells = {(cell["dataset"], cell["peer"], cell["seed"]): cell for cell in [*kept, *fresh]}
    return [cells[key] for key in sorted(cells)]


def as_markdown(cells: list[dict[str, Any]]) -> str:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        groups[cell["dataset"], cell["peer"]].append(cell)
    header = ["data set", "peer", "seeds", *(name.replace("_", " ") for name in NAMES)]
    header += [
        "parameters",
        "MB",
        "train CPU s",
        "search CPU s",
        "texts/s",
        "chosen (seed by seed)",
    ]
    lines = [f"| {' | '.join(header)} |", "|---|---|---|" + "--:|" * (len(header) - 4) + "---|"]
    for (dataset, peer), group in sorted(groups.items()):
        row = [dataset, peer, ", ".join(str(cell["seed"]) for cell in group)]
        row += [spread([cell[name] for cell in group], name in PERCENT) for name in NAMES]
        row += [f"{group[0]['parameters']:,}", f"{group[0]['bytes'] / 1e6:.1f}"]
        row += [f"{np.mean([cell['cpu_seconds_train'] for cell in group]):.1f}"]
        row += [f"{np.mean([cell['search']['cpu_seconds'] for cell in group]):.0f}"]
        row += [f"{np.mean([cell['texts_per_second'] for cell in group]):,.0f}"]
        lines.append(
            f"| {' | '.join([*row, '; '.join(dict.fromkeys(cell['chosen'] for cell in group))])} |"
        )
    return "\n".join(lines) + "\n"


def spread(values: list[float], percent: bool) -> str:
    """Mean ± standard deviation over seeds; the mean alone where there is one."""
    scale, digits = (100, 1) if percent else (1, 3)
    mean = f"{scale * np.mean(values):.{digits}f}"
    return f"{mean} ± {scale * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / "peers.json"
    cells = merge(
        json.loads(file.read_text()) if file.exists() else [], measure_all(HOME / "peers")
    )
    file.write_text(json.dumps(cells, indent=1, ensure_ascii=False) + "\n")
    (options.results / "peers.md").write_text(as_markdown(cells))
    print(as_markdown(cells), end="")


if __name__ == "__main__":
    main()
