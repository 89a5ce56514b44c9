"""Does noise on the weights make gradients more stable? Variance of the gradient, by kind of noise.

    python -m benchmarks.gradient_variance [--data ../shared/data/trec/train.csv] [--seeds 0,1,2]
    [--results FOLDER]

The tanh model (embedding 64, hidden 128, batch 32) on TREC questions, words lower-cased, at most 24
of them; alpha .25, sigma .02, dropout .25. Measured at fresh weights and after two epochs of AdamW
with one draw per step; every kind of noise is measured at the same weights.

noise ÷ one draw E_B Var_eps g(B, eps), over 6 batches of 20 draws, over the same for one draw per
step total ÷ no noise Var_(B, eps) g, over 120 batches with a draw each, over the variance of g
without noise

Variances are traces of the covariance of the gradient with respect to weights (not alpha).
`projection`: noise on the token projection W of tanh(W e + b), and its gradient; `all`: noise on
every layer, and the gradient of all. Pooled by the mean over tokens alone, or, as the tanh encoder
does, by mean and max.
"""

from __future__ import annotations

import argparse
import copy
import csv
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_contracts.recipe.methods import (
    GaussianPosterior,
    MultiplicativeNoise,
    NoReparameterization,
    Reparameterization,
)
from lightning_modules.network.encoders.pooling import masked_mean
from lightning_modules.network.network import build_network
from lightning_modules.reparameterizations import (
    fold,
    is_noise,
    kl,
    mix,
    redraw,
    reparameterize,
    set_mode,
)
from lightning_modules.reparameterizations.seeds import seed_generators

LENGTH, BATCH, BATCHES, DRAWS, TOTAL = 24, 32, 6, 20, 120
ALPHA = {"initial_alpha": 0.25}
DROPOUT = {"dropout": 0.25}
KINDS: dict[str, Reparameterization] = {
    "no noise": NoReparameterization(),
    "dropout": NoReparameterization(),
    "one_draw": MultiplicativeNoise(**ALPHA),
    "rank_one": MultiplicativeNoise(sampling="rank_one", **ALPHA),
    "local": MultiplicativeNoise(sampling="local", **ALPHA),
    "gaussian_posterior": GaussianPosterior(),
}
CASES = (("mean", "projection"), ("mean and max", "projection"), ("mean and max", "all"))
Rows = tuple[Tensor, Tensor, Tensor]


class MeanPooled(nn.Module):
    """The tanh encoder without its max over tokens: mean_t tanh(W e_t + b)."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.project = encoder.project

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        return masked_mean(torch.tanh(self.project(x_BTD)), lengths_B, mask_BT)


def build(sizes: dict[str, Any], pooling: str) -> Any:
    network = build_network(sizes)
    if pooling == "mean":
        network.encoder = MeanPooled(network.encoder)
        features = network.encoder.project.out_features
        network.head.decoder = nn.Linear(features, sizes["num_classes"])
    return network


def read(path: Path) -> tuple[Rows, int, int]:
    """Padded ids, lengths and labels of the whole file, with the sizes of vocabulary and label set."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [
            (re.findall(r"\w+|[^\w\s]", row["text"].lower())[:LENGTH], row["label"])
            for row in csv.DictReader(stream)
        ]
    rows = [(words, label) for words, label in rows if words]
    words = {
        word: i
        for i, (word, _) in enumerate(
            Counter(w for text, _ in rows for w in text).most_common(), start=1
        )
    }
    labels = {label: i for i, label in enumerate(sorted({label for _, label in rows}))}
    ids = torch.zeros(len(rows), LENGTH, dtype=torch.int64)
    for row, (text, _) in enumerate(rows):
        ids[row, : len(text)] = torch.tensor([words[word] for word in text])
    return (
        (ids, (ids > 0).sum(1), torch.tensor([labels[label] for _, label in rows])),
        len(words) + 1,
        len(labels),
    )


def noisy(plain: nn.Module, name: str, scope: str) -> nn.Module:
    """The network of that kind of noise."""
    config, dropout = KINDS[name], DROPOUT.get(name, 0.0)
    network: Any = copy.deepcopy(plain)
    if scope == "projection":
        network.encoder.project = reparameterize(network.encoder.project, config, dropout)
    else:
        network = reparameterize(network, config, dropout)
    set_mode(network, "sample")
    return network


def loss_of(network: nn.Module, rows: Rows, chosen: Tensor) -> Tensor:
    ids, lengths, labels = (part[chosen] for part in rows)
    return F.cross_entropy(network(ids[:, : int(lengths.max())], lengths), labels)


def trained(sizes: dict[str, Any], pooling: str, rows: Rows, seed: int, epochs: int) -> nn.Module:
    """The plain network after `epochs` with one draw per step (KL included, at beta .01)."""
    torch.manual_seed(seed)
    plain = build(sizes, pooling)
    nn.init.normal_(plain.embedding.weight, std=0.1)
    network = reparameterize(plain, KINDS["one_draw"])
    set_mode(network, "sample")
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    order = (
        torch.cat([torch.randperm(len(rows[2])) for _ in range(epochs)])
        if epochs
        else torch.empty(0)
    )
    for step, chosen in enumerate(order.split(BATCH) if epochs else ()):
        redraw(network, mix(seed, step))
        loss = loss_of(network, rows, chosen) + 0.01 / len(rows[2]) * kl(network)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return fold(network)


class Variance:
    """Trace of the covariance of the gradients added."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), 0.0

    def add(self, network: nn.Module, rows: Rows, chosen: Tensor, seed: int, scope: str) -> None:
        seed_generators(seed)
        redraw(network, mix(seed))
        named = {n: p for n, p in network.named_parameters() if not is_noise(n) and p.ndim > 1}
        weights = [p for n, p in named.items() if scope == "all" or n == "encoder.project.weight"]
        gradient = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss_of(network, rows, chosen), weights)]
        ).double()
        self.count, self.total, self.squares = (
            self.count + 1,
            self.total + gradient,
            self.squares + float(gradient @ gradient),
        )

    @property
    def trace(self) -> float:
        return (self.squares - float(self.total @ self.total) / self.count) / (self.count - 1)


def measure(network: nn.Module, rows: Rows, seed: int, scope: str) -> tuple[float, float]:
    """Variance over draws within a batch, and over batches and draws."""
    generator, total = torch.Generator().manual_seed(seed), Variance()
    batches = [torch.randint(len(rows[2]), (BATCH,), generator=generator) for _ in range(TOTAL)]
    within = []
    for batch in batches[:BATCHES]:
        noise = Variance()
        for draw in range(DRAWS):
            noise.add(network, rows, batch, mix(seed, 1, draw), scope)
        within.append(noise.trace)
    for draw, batch in enumerate(batches):
        total.add(network, rows, batch, mix(seed, 2, draw), scope)
    return statistics.mean(within), total.trace


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=here.parents[1] / "shared" / "data" / "trec" / "train.csv"
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--results", type=Path, default=here / "results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows, vocabulary, classes = read(given.data)
    encoder = {"kind": "tanh", "hidden_size": 128}
    sizes = {
        "vocab_size": vocabulary,
        "embedding_dim": 64,
        "encoder": encoder,
        "num_classes": classes,
    }
    lines = [
        "| pooling | noise on | weights | kind | noise ÷ one draw | total ÷ no noise |",
        "|---|---|---|---|---|---|",
    ]
    for pooling, scope in CASES:
        for epochs in (0, 2):
            plain = {
                int(seed): trained(sizes, pooling, rows, int(seed), epochs)
                for seed in given.seeds.split(",")
            }
            found = {
                (kind, seed): measure(noisy(network, kind, scope), rows, seed, scope)
                for kind in KINDS
                for seed, network in plain.items()
            }
            for kind in KINDS:
                noise = [abs(found[kind, seed][0]) / found["one_draw", seed][0] for seed in plain]
                total = [found[kind, seed][1] / found["no noise", seed][1] for seed in plain]
                weights = f"after {epochs} epochs" if epochs else "fresh"
                lines.append(
                    f"| {pooling} | {scope} | {weights} | {kind} | {spread(noise)} | "
                    f"{spread(total)} |"
                )
                print(lines[-1], flush=True)
    text = (
        "# Variance of the gradient\n\n`python -m benchmarks.gradient_variance` "
        f"(torch {torch.__version__}; mean over seeds {given.seeds} ± standard deviation)\n\n"
        + "\n".join(lines)
        + "\n"
    )
    (given.results / "gradient_variance.md").write_text(text, encoding="utf-8")


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


if __name__ == "__main__":
    main()
