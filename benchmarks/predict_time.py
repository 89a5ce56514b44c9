"""CPU time from text to label of a pruned model beside its twin's, interleaved: how much faster pruning makes it.

    python -m benchmarks.predict_time [--only trec,sst2] [--seed 0] [--rounds 20] [--results FOLDER]

Of every comparison in `studies/` that has the variants `dropout` and `sparse`, the two finished models of one seed are
taken from the state folder; one whose cells have not run is left out, and said. One thread, up to 500 test texts. Both
models predict them in turn, from text to label and, `network`, from token windows on; a time is the lower
quartile of its rounds. `again` is the dropout model beside itself: how far equal things lie apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.data import HOME
from data_contracts.comparison import Cell, load_comparison
from data_contracts.recipe import load_recipe
from lightning_modules.bundle import Bundle
from tasks.compare import Board, NotRun, one_thread, read_test
from tasks.settings import Settings

HERE = Path(__file__).resolve().parent
TEXTS = 500


def measure(study: Path, seed: int, rounds: int) -> dict[str, Any] | None:
    """Seconds of one pass, by model and span; None where a cell has not run."""
    comparison = load_comparison(study, {}, lambda name, base: load_recipe(base / name))
    if not {"dropout", "sparse"} <= comparison.variants.keys():
        return None
    board = Board(comparison, Settings(home=HOME), "")
    board.read()
    if board.corpus is None:
        return None
    try:
        models = {name: board.find(comparison.recipe_of(Cell(name, seed)))[0] for name in ("dropout", "sparse")}
    except NotRun:
        return None
    bundles = {name: Bundle.load(board.store.open(model) / "bundle") for name, model in models.items()}
    bundles["again"] = Bundle.load(board.store.open(models["dropout"]) / "bundle")
    texts = read_test(board.corpus, board.store, ["text"])["text"].to_pylist()
    texts = [texts[i] for i in np.linspace(0, len(texts) - 1, min(TEXTS, len(texts))).astype(int)]
    spans: dict[str, dict[str, Callable[[], Any]]] = {}
    for name, bundle in bundles.items():
        windows = bundle.encode(texts)
        spans[name] = {
            "text to label": partial(bundle.predict_proba, texts),
            "network": partial(bundle.log_proba_of_windows, *windows),
        }
    seconds: dict[tuple[str, str], list[float]] = {(name, span): [] for name in spans for span in spans[name]}
    with one_thread():
        for _ in range(rounds + 1):
            for name, span in seconds:
                started = time.process_time()
                spans[name][span]()
                seconds[name, span].append(time.process_time() - started)
    quartile = {key: float(np.quantile(found[1:], 0.25)) for key, found in seconds.items()}
    return {
        "texts": len(texts),
        "parameters": {name: model.parameters for name, model in models.items()},
        "seconds": quartile,
    }


def as_markdown(found: dict[str, dict[str, Any]], seed: int) -> str:
    lines = [
        "| comparison | texts | parameters: dropout | sparse | text to label: dropout ÷ sparse | again | network |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, cell in found.items():
        seconds, sizes = cell["seconds"], cell["parameters"]

        def ratio(other: str, span: str, seconds: dict[tuple[str, str], float] = seconds) -> str:
            return f"{seconds['dropout', span] / seconds[other, span]:.2f}"

        cells = [name, cell["texts"], f"{sizes['dropout']:,}", f"{sizes['sparse']:,}", ratio("sparse", "text to label")]
        cells += [ratio("again", "text to label"), ratio("sparse", "network")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    head = "How many times as fast the pruned model predicts (CPU time, one thread, interleaved)"
    return f"# {head}\n\n`python -m benchmarks.predict_time --seed {seed}`\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comparisons, comma separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    found = {}
    for study in sorted((HERE / "studies").glob("*.yaml")):
        if options.only and study.stem not in options.only.split(","):
            continue
        if cell := measure(study, options.seed, options.rounds):
            found[study.stem] = cell
        else:
            print(f"{study.stem}: no finished dropout and sparse of seed {options.seed}")
    table = as_markdown(found, options.seed)
    (options.results / "predict_time.md").write_text(table, encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main()
