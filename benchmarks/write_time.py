"""Characters a second that a model writes, on one CPU thread: after a hundred, and after ten thousand.

    python -m benchmarks.write_time [--out benchmarks/results/write_time.md]

Networks of the sizes named, with fresh weights, since what they say costs the same; the counted table
is of random characters, a million of them, and so has more contexts than one of a real text. CPU time
of this process, the rounds of all models in turn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from data_contracts.kinds.generate import Generate
from data_contracts.recipe.tokenizer import CharacterTokenizer
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.generate.counted import CountedTable
from lightning_modules.kinds.generate.writing import Style, write
from lightning_modules.network.network import build_network
from lightning_modules.network.windows import Windowing
from tasks.vocabulary import train_tokenizer

ROUNDS, PIECE = 5, 500
CHARACTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,;:!?'\n-&3$"
ENCODERS: dict[str, dict[str, Any]] = {
    "LSTM 512": {"kind": "lstm", "hidden_sizes": [512]},
    "Transformer 4 x 256, context 256": {
        "kind": "causal_transformer",
        "context": 256,
        "num_heads": 4,
        "feedforward_sizes": [1024] * 4,
    },
}  # fmt: skip
WIDTHS = {"LSTM 512": 128, "Transformer 4 x 256, context 256": 256}


def bundle(name: str, tokenizer: Tokenizer, order: int | None, folder: Path) -> Bundle:
    """A network with fresh weights, and a table of random characters where `order` says so."""
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    counted = None if order is None else CountedTable.nothing(order - 1)
    network = build_network(
        {
            "kind": "generate",
            "vocab_size": size,
            "head_size": size,
            "eos_id": tokenizer.token_to_id("[EOS]"),
            "embedding_dim": WIDTHS[name],
            "encoder": ENCODERS[name],
            "counted": counted,
        }
    )
    # A text that ended would say nothing of the next ten thousand characters.
    with torch.no_grad():
        network.head.decoder.bias[network.head.eos_id] = -1e4
    if order is not None:
        first = size - len(CHARACTERS)
        ids = np.random.default_rng(0).integers(first, size, 1_000_000, dtype=np.int32)
        network.head.counted.count([np.lib.stride_tricks.sliding_window_view(ids, order)])
    save_bundle(
        folder,
        network,
        tokenizer_json=tokenizer.to_str().encode(),
        windowing=Windowing(128, 16),
        facts={"form": "text", "template": "{prompt}", **Generate().served_facts({})},
    )
    return Bundle.load(folder)


def seconds(model: Bundle, before: int) -> float:
    """CPU seconds of `PIECE` tokens, once so many have been written."""
    pieces = write(model, "a", Style(max_tokens=before + PIECE, seed=1))
    for _ in islice(pieces, before):
        pass
    started = time.process_time()
    for _ in islice(pieces, PIECE):
        pass
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/write_time.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(CharacterTokenizer(min_frequency=1), lambda: iter([[CHARACTERS]]))
    with tempfile.TemporaryDirectory() as scratch:
        models = {
            f"{name}{'' if order is None else ', counted 7-grams'}": bundle(
                name, tokenizer, order, Path(scratch) / str(number)
            )
            for number, (name, order) in enumerate(
                (name, order) for name in ENCODERS for order in (None, 7)
            )
        }
        found: dict[str, dict[int, list[float]]] = {name: {} for name in models}
        for before, rounds in ((100, ROUNDS), (10_000, 1)):
            for _ in range(rounds):
                for name, model in models.items():
                    found[name].setdefault(before, []).append(PIECE / seconds(model, before))
    lines = [
        "# Writing",
        "",
        "`python -m benchmarks.write_time`: characters a second of one CPU thread (of five rounds the "
        "median, and all), character tokens, nothing batched.",
        "",
        "| model | after 100 | the rounds | after 10,000 |",
        "|---|--:|---|--:|",
    ]
    for name, rates in found.items():
        rounds = ", ".join(f"{rate:,.0f}" for rate in sorted(rates[100]))
        lines.append(
            f"| {name} | {np.median(rates[100]):,.0f} | {rounds} | {rates[10_000][0]:,.0f} |"
        )
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
