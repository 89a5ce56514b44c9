"""What each part of a model with `wide.share` says by itself: the network without n-grams, and n-grams alone.

    python -m benchmarks.parts [--only sst2_minilm,trec_minilm] [--results FOLDER]

Of every comparison in `studies/` that has variants with a share, the finished models are taken from the state folder
and judged on the test rows: f and g of the logits (1 - s) f + s g, which each had a loss of its own. The figures of the
sum are in the comparison's own table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn

from benchmarks.peers.data import HOME
from data_contracts.comparison import Cell, load_comparison
from data_contracts.recipe import load_recipe
from lightning_modules.bundle import Bundle
from lightning_modules.network import TextNetwork
from tasks.compare import Board, NotRun, one_thread, read_test
from tasks.settings import Settings

HERE = Path(__file__).resolve().parent


class Part(nn.Module):
    """f, or g, of a network whose logits are (1 - s) f + s g."""

    def __init__(self, network: TextNetwork, share: float, *, wide: bool) -> None:
        super().__init__()
        self.network, self.share, self.wide = network, share, wide

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        if self.wide:
            assert self.network.wide is not None
            return self.network.wide(input_ids_BT, lengths_B) / self.share
        return self.network.parts(input_ids_BT, lengths_B)[0] / (1 - self.share)


def measure(study: Path) -> list[str]:
    """Rows of the table: a variant each, over the seeds that have run."""
    comparison = load_comparison(study, {}, lambda name, base: load_recipe(base / name))
    board, rows = Board(comparison, Settings(home=HOME), ""), []
    for variant in comparison.variants:
        found: list[np.ndarray] = []
        for seed in comparison.seeds:
            recipe = comparison.recipe_of(Cell(variant, seed))
            if recipe.model.wide is None or recipe.model.wide.share is None:
                break
            try:
                board.corpus = board.find_corpus()
                model = board.find(recipe)[0]
            except NotRun:
                print(f"{study.stem}: {variant}, seed {seed} has not run", flush=True)
                continue
            test = read_test(board.corpus, board.store, ["text", "label"])
            bundle = Bundle.load(board.store.open(model) / "bundle")
            found.append(figures(bundle, recipe.model.wide.share, test["text"].to_pylist(), test["label"].to_pylist()))
        if found:
            mean, std = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) if len(found) > 1 else None
            cells = [f"{value:.{digits}f}" for value, digits in zip(mean, (1, 3, 1, 3), strict=True)]
            if std is not None:
                spread = [f"{value:.{digits}f}" for value, digits in zip(std, (1, 3, 1, 3), strict=True)]
                cells = [f"{cell} ± {of}" for cell, of in zip(cells, spread, strict=True)]
            rows.append(f"| {study.stem} | {variant} | {len(found)} | {' | '.join(cells)} |")
    return rows


def figures(bundle: Bundle, share: float, texts: list[str], labels: list[str]) -> np.ndarray:
    """Accuracy in points and NLL in nats, of the network and of n-grams."""
    network, encoded = bundle.network, bundle.encode(texts)
    known = list(bundle.labels)
    classes = np.array([known.index(label) for label in labels])
    values: list[float] = []
    for wide in (False, True):
        bundle.network = Part(network, share, wide=wide)
        log_proba = bundle.log_proba_of_windows(*encoded)
        values += [
            float(100 * (log_proba.argmax(axis=1) == classes).mean()),
            float(log_loss(classes, np.exp(log_proba), labels=range(len(known)))),
        ]
    return np.array(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comparisons, comma separated")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    rows: list[str] = []
    with one_thread():
        for study in sorted((HERE / "studies").glob("*.yaml")):
            if not options.only or study.stem in options.only.split(","):
                rows += measure(study)
    table = "\n".join(
        [
            "# Each part of a model with `wide.share`, by itself, on test",
            "",
            "`python -m benchmarks.parts`",
            "",
            "| comparison | variant | seeds | without n-grams: accuracy | NLL | n-grams alone: accuracy | NLL |",
            "|---|---|--:|--:|--:|--:|--:|",
            *rows,
        ]
    )
    if not options.only:
        (options.results / "parts.md").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
