"""CPU time from text to label of a pruned model beside its twin's, interleaved: how much faster
pruning makes it.

    python -m benchmarks.predict_time [--only trec,sst2] [--seed 0] [--rounds 20] [--results FOLDER]

Of every comparison in `studies/` that has the variants `dropout` and `sparse`, the two finished
models of one seed are taken from the state folder; one whose cells have not run is left out, and
said. One thread, up to 500 test texts. Both models predict them in turn, from text to label and,
`network`, from token windows on; a time is the lower quartile of its rounds. `again` is the dropout
model beside itself: how far equal things lie apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.data import HOME
from data_contracts.recipe.comparison import Cell, load_comparison
from data_contracts.recipe.reading import load_recipe
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import log_proba_of_windows, predict_proba
from lightning_modules.network.pruning import compact
from tasks.comparing.board import Board
from tasks.measure import cpu_seconds, one_thread, some_rows
from tasks.settings import Settings

HERE = Path(__file__).resolve().parent
TEXTS = 500


def measure(study: Path, seed: int, rounds: int) -> list[str] | None:
    """A row of the table; None where a cell has not run."""
    comparison = load_comparison(study, {}, lambda name, base: load_recipe(base / name))
    if not {"dropout", "sparse"} <= comparison.variants.keys():
        return None
    board = Board(comparison, Settings(home=HOME), "")
    board.corpus = board.find_corpus()
    if board.corpus is None:
        return None
    models = {}
    for name in ("dropout", "sparse"):
        cell = board.find(comparison.recipe_of(Cell(name, seed)))
        if cell is None:
            return None
        models[name] = cell[0]
    rows = some_rows(board.store.open(board.corpus) / "corpus", ("text",), TEXTS)
    texts = rows["text"].to_pylist()
    bundles = {
        name: Bundle.load(board.store.open(model) / "bundle") for name, model in models.items()
    }
    bundles["sparse"].network = compact(
        bundles["sparse"].network
    )  # what was pruned before pruning took so much
    bundles["again"] = Bundle.load(board.store.open(models["dropout"]) / "bundle")
    passes: dict[tuple[str, str], Callable[[], float]] = {}
    for name, bundle in bundles.items():
        passes[name, "text to label"] = partial(cpu_seconds, partial(predict_proba, bundle), texts)
        passes[name, "network"] = partial(
            cpu_seconds, partial(of_windows, bundle), bundle.encode(texts)
        )
    with one_thread():
        rounds_of = [{key: once() for key, once in passes.items()} for _ in range(rounds + 1)][1:]
    seconds = {key: float(np.quantile([one[key] for one in rounds_of], 0.25)) for key in passes}

    def ratio(name: str, span: str) -> str:
        return f"{seconds['dropout', span] / seconds[name, span]:.2f}"

    sizes = [
        f"{sum(p.numel() for p in bundles[name].network.parameters()):,}"
        for name in ("dropout", "sparse")
    ]
    ratios = [
        ratio("sparse", "text to label"),
        ratio("again", "text to label"),
        ratio("sparse", "network"),
    ]
    return [study.stem, str(len(texts)), *sizes, *ratios]


def of_windows(bundle: Bundle, encoded: Any) -> Any:
    return log_proba_of_windows(bundle, *encoded)


def as_markdown(rows: list[list[str]], seed: int) -> str:
    head = "How many times as fast the pruned model predicts (CPU time, one thread, interleaved)"
    lines = [
        "| comparison | texts | parameters: dropout | sparse | text to label: dropout ÷ sparse | "
        "again | network |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return (
        f"# {head}\n\n`python -m benchmarks.predict_time --seed {seed}`\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="comparisons, comma separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    rows = []
    for study in sorted((HERE / "studies").glob("*.yaml")):
        if options.only and study.stem not in options.only.split(","):
            continue
        if row := measure(study, options.seed, options.rounds):
            rows.append(row)
        else:
            print(f"{study.stem}: no finished dropout and sparse of seed {options.seed}")
    table = as_markdown(rows, options.seed)
    (options.results / "predict_time.md").write_text(table, encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main()
