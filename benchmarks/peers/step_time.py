"""CPU time of the Bayesian libraries' optimizer step beside their own deterministic twin.

    .venv-peers/bin/python -m benchmarks.peers.step_time [--rounds 40] [--repeats 5] [--results
    FOLDER]

The harness and the sizes are those of `benchmarks.step_time`: vocabulary 8,000, batch 64, 24
tokens, embedding 64, hidden 128, one direction. The network is that of `benchmarks.peers.bayesian`,
its twin the same with torch's LSTM and Linear. A step is forward (once), KL, backward, clipping and
fused AdamW.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from bayesian_torch.layers import (
    LinearFlipout,
    LinearReparameterization,
    LSTMFlipout,
    LSTMReparameterization,
)
from blitz.losses import kl_divergence_from_nn
from blitz.modules import BayesianLinear, BayesianLSTM
from torch import Tensor, nn
from torch.nn import functional as F
from torch_uncertainty.layers.bayesian import BayesLinear
from torch_uncertainty.losses import KLDiv

from benchmarks.peers.bayesian import EMBEDDING, Classifier
from benchmarks.step_time import BATCH, CLASSES, LENGTH, TERMS, VOCABULARY, measure

HIDDEN = 128


class First(nn.Module):
    """A layer of bayesian-torch that returns (output, KL), without the KL."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def networks() -> dict[str, tuple[nn.Module, Callable[[Any], Any], str]]:
    """name: (network, KL of it in nats, name of its twin)."""

    def lstm() -> nn.Module:
        return nn.LSTM(EMBEDDING, HIDDEN, batch_first=True)

    def classifier(recurrent: nn.Module, head: nn.Module) -> nn.Module:
        return Classifier(VOCABULARY, recurrent, head)

    def layers_kl(model: Any) -> Any:
        return model.recurrent.kl_loss() + model.head.layer.kl_loss()

    def two(linear: Callable[[int, int], nn.Module]) -> nn.Module:
        return nn.Sequential(linear(HIDDEN, HIDDEN), nn.ReLU(), linear(HIDDEN, CLASSES))

    reparameterized = (
        LSTMReparameterization(EMBEDDING, HIDDEN),
        First(LinearReparameterization(HIDDEN, CLASSES)),
    )
    flipout = LSTMFlipout(EMBEDDING, HIDDEN), First(LinearFlipout(HIDDEN, CLASSES))
    uncertain = classifier(lstm(), two(BayesLinear))
    divergence = KLDiv(uncertain)
    one, other = "torch: LSTM, Linear", "torch: LSTM, Linear, Linear"
    return {
        one: (classifier(lstm(), nn.Linear(HIDDEN, CLASSES)), lambda _: 0.0, one),
        "bayesian-torch, Reparameterization": (classifier(*reparameterized), layers_kl, one),
        "bayesian-torch, Flipout": (classifier(*flipout), layers_kl, one),
        "blitz": (
            classifier(BayesianLSTM(EMBEDDING, HIDDEN), BayesianLinear(HIDDEN, CLASSES)),
            kl_divergence_from_nn,
            one,
        ),
        other: (classifier(lstm(), two(nn.Linear)), lambda _: 0.0, other),
        "torch-uncertainty, its Linear alone": (uncertain, lambda _: divergence(), other),
    }


def optimizer_step(network: nn.Module, kl: Callable[[Any], Any]) -> Callable[[], None]:
    trained = list(network.parameters())
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    frequency = 1 / (torch.arange(VOCABULARY - 1) + 2.7)
    input_ids = 1 + torch.multinomial(frequency, BATCH * LENGTH, replacement=True).view(
        BATCH, LENGTH
    )
    labels = torch.randint(CLASSES, (BATCH,))

    def step() -> None:
        loss = F.cross_entropy(network(input_ids), labels) + kl(network) / TERMS
        optimizer.zero_grad()
        loss.sum().backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return step


def table(rounds: int, repeats: int) -> str:
    found: list[dict[str, float]] = []
    twins: dict[str, str] = {}
    for repeat in range(repeats):
        torch.manual_seed(repeat)
        built = networks()
        twins = {name: twin for name, (_, _, twin) in built.items()}
        found.append(
            measure(
                {name: optimizer_step(network, kl) for name, (network, kl, _) in built.items()},
                rounds,
            )
        )
    lines = ["| network | ms per step | ÷ its twin | range |", "|---|--:|--:|--:|"]
    for name, twin in twins.items():
        ratios = sorted(times[name] / times[twin] for times in found)
        milliseconds = statistics.median(times[name] for times in found)
        beside = ["1", ""]
        if name != twin:
            beside = [f"{statistics.median(ratios):.2f}", f"{ratios[0]:.2f} – {ratios[-1]:.2f}"]
        lines.append(f"| {' | '.join([name, f'{milliseconds:.2f}', *beside])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=40, help="timed steps of each network per repeat"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="times that everything is built anew"
    )
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).resolve().parents[1] / "results"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = table(given.rounds, given.repeats)
    names = ("torch", "bayesian-torch", "blitz-bayesian-pytorch", "torch-uncertainty")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    command = (
        f"python -m benchmarks.peers.step_time --rounds {given.rounds} --repeats {given.repeats}"
    )
    text = (
        "# CPU time of a training step: Bayesian libraries ÷ their deterministic twin\n\n"
        f"`{command}` ({versions}; 1 thread). Median over {given.repeats} repeats of the lower "
        f"quartile of "
        f"{given.rounds} interleaved steps; range over repeats.\n\n{rows}\n"
    )
    (given.results / "peers_step_time.md").write_text(text, encoding="utf-8")
    print(rows)


if __name__ == "__main__":
    main()
