"""noisefold's language models beside the peers of `benchmarks.peers.language`, as one table.

    python -m benchmarks.peers.language_table       # in .venv, where NOISEFOLD_HOME has the cells of
                                                    # studies/shakespeare_3min.yaml

Differences are paired over blocks of a thousand characters of the test text, the seeds averaged; a
compressor has one figure, and so no interval.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.peers.language import HOME, Figure
from data_contracts.recipe.comparison import load_comparison
from lightning_modules.kinds.generate.scoring import BYTES, NATS
from tasks.comparing.board import Board
from tasks.settings import Settings

BENCHMARKS = Path(__file__).resolve().parents[1]
OURS = "LSTM + table"
SAMPLES = 2_000
WORDS = {
    "nanogpt": "GPT, nanoGPT's setting for a CPU",
    "hf_trainer": "GPT-2 by transformers' Trainer",
    "ppmd": "PPMd of order 6",
    "xz": "xz -9e",
    "bz2": "bzip2 -9",
    "zstd": "zstd -19, the train text as dictionary",
}


def ours() -> Iterator[tuple[Figure, float]]:
    """The finished cells of the study, and the bytes of the test text."""
    board = Board(load_comparison(BENCHMARKS / "studies" / "shakespeare_3min.yaml"), Settings(), "")
    board.read()
    for cell in board.comparison.cells((), ()):
        found = board.find(board.comparison.recipe_of(cell)) if board.corpus else None
        if found is None:
            continue
        model, report, _ = found
        table = pq.read_table(board.store.open(report) / "predictions.parquet")
        evidence = np.array(table["evidence"][0].as_py())
        size = float(evidence[:, BYTES].sum())
        nats = evidence[:, NATS]
        bits = float(nats.sum() / np.log(2) / size)
        seconds, count = model.cpu_seconds, model.parameters
        yield Figure(cell.variant, cell.seed, bits, seconds, count, "", nats.tolist()), size


def difference(one: list[Figure], base: list[Figure], size: float) -> list[float] | None:
    """Bits per byte more than the base: the value, and the ends of its 95 % interval."""
    if not one[0].nats:
        return None
    here, there = (np.mean([each.nats for each in some], axis=0) for some in (one, base))
    blocks = (here - there) / np.log(2) / size
    drawn = np.random.default_rng(0).integers(len(blocks), size=(SAMPLES, len(blocks)))
    low, high = np.percentile(blocks[drawn].sum(axis=1), [2.5, 97.5])
    return [float(blocks.sum()), float(low), float(high)]


def rows() -> list[dict[str, Any]]:
    groups: dict[str, list[Figure]] = defaultdict(list)
    mine = list(ours())
    for figure, _ in mine:
        groups[figure.peer].append(figure)
    for file in sorted((HOME / "peers" / "shakespeare").glob("*.json")):
        found = Figure(**json.loads(file.read_text()))
        groups[found.peer].append(found)
    base, size = groups.get(OURS), mine[0][1] if mine else 0.0
    told = []
    for peer, figures in groups.items():
        bits = [one.bits_per_byte for one in figures]
        told.append(
            {
                "model": WORDS.get(peer, peer),
                "seeds": [one.seed for one in figures if one.seed is not None],
                "bits_per_byte": bits,
                "cpu_seconds": [one.cpu_seconds for one in figures],
                "parameters": figures[0].parameters,
                "difference": difference(figures, base, size) if base and peer != OURS else None,
            }
        )
    return told


def as_markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| model | seeds | bits per byte | Δ from {OURS} | parameters | CPU s to train |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        bits, far = row["bits_per_byte"], row["difference"]
        spread = f" ± {np.std(bits, ddof=1):.3f}" if len(bits) > 1 else ""
        paired = "" if far is None else f"{far[0]:+.3f} ({far[1]:+.3f} to {far[2]:+.3f})"
        count = "" if row["parameters"] is None else f"{row['parameters']:,}"
        cells = [row["model"], ", ".join(map(str, row["seeds"])), f"{np.mean(bits):.3f}{spread}"]
        cells += [paired, count, f"{np.mean(row['cpu_seconds']):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    found = rows()
    results = BENCHMARKS / "results"
    (results / "peers_shakespeare.json").write_text(
        json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    )
    (results / "peers_shakespeare.md").write_text(as_markdown(found))
    print(as_markdown(found), end="")


if __name__ == "__main__":
    main()
