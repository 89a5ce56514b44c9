"""What each part of a model with `wide.share` says by itself: the network without n-grams, and
n-grams alone.

    python -m benchmarks.parts [--only sst2_minilm,trec_minilm] [--results FOLDER]

Of every comparison in `studies/` that has variants with a share, the finished models are taken from
the state folder and judged on the test rows: f and g of the logits (1 - s) f + s g, which each had
a loss of its own. The figures of the sum are in the comparison's own table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from benchmarks.peers.data import HOME
from benchmarks.peers.table import spread
from data_contracts.recipe.comparison import Cell, load_comparison
from data_contracts.recipe.reading import load_recipe
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import log_proba_of_windows
from lightning_modules.kinds.classify.figures import figures
from lightning_modules.network.network import TextNetwork
from tasks.comparing.board import Board
from tasks.comparing.predictions import read_test
from tasks.measure import one_thread
from tasks.settings import Settings

HERE = Path(__file__).resolve().parent


class Part(nn.Module):
    """f, or g, of a network whose logits are (1 - s) f + s g."""

    def __init__(self, network: TextNetwork, share: float, *, wide: bool) -> None:
        super().__init__()
        self.network, self.share, self.wide = network, share, wide

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        if self.wide:
            return self.network.head.wide(input_ids_BT, lengths_B) / self.share
        document_BF = self.network.features(input_ids_BT, lengths_B)
        return self.network.head.decoder(document_BF) / (1 - self.share)


def measure(study: Path) -> list[str]:
    """Rows of the table: a variant each, over the seeds that have run."""
    comparison = load_comparison(study, {}, lambda name, base: load_recipe(base / name))
    shares = {name: comparison.recipe_of(Cell(name, 0)).task.wide for name in comparison.variants}
    shares = {name: wide.share for name, wide in shares.items() if wide and wide.share}
    if not shares:
        return []
    board = Board(comparison, Settings(home=HOME), "")
    board.corpus = board.find_corpus()
    if board.corpus is None:
        print(f"{study.stem}: nothing has run", flush=True)
        return []
    test = read_test(board.corpus, board.store, ["text", "label"])
    texts = test["text"].to_pylist()
    known = board.corpus.facts["labels"]
    numbers = np.array([known.index(label) for label in test["label"].to_pylist()])
    rows = []
    for variant, share in shares.items():
        found: list[dict[tuple[bool, str], float]] = []
        for seed in comparison.seeds:
            cell = board.find(comparison.recipe_of(Cell(variant, seed)))
            if cell is None:
                print(f"{study.stem}: {variant}, seed {seed} has not run", flush=True)
                continue
            bundle = Bundle.load(board.store.open(cell[0]) / "bundle")
            network, encoded, of_parts = bundle.network, bundle.encode(texts), {}
            for wide in (False, True):
                bundle.network = Part(network, share, wide=wide)
                judged = figures(numbers, log_proba_of_windows(bundle, *encoded))
                of_parts |= {(wide, name): judged[name] for name in ("accuracy", "nll")}
            found.append(of_parts)
        if found:
            cells = [spread([one[key] for one in found], key[1] == "accuracy") for key in found[0]]
            rows.append(f"| {study.stem} | {variant} | {len(found)} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="comparisons, comma separated")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
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
            "| comparison | variant | seeds | without n-grams: accuracy | NLL | n-grams alone: "
            "accuracy | NLL |",
            "|---|---|--:|--:|--:|--:|--:|",
            *rows,
        ]
    )
    if rows and not options.only:
        (options.results / "parts.md").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
