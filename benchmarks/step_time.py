"""CPU time of whole optimizer steps beside the deterministic twin: what each reparameterization
costs in training.

    python -m benchmarks.step_time [--rounds 60] [--repeats 5] [--only bilstm,transformer]
    [--results FOLDER]

A step is seeding, redraw, forward, backward (KL included), clipping and fused AdamW, with the
settings that training uses (one thread, deterministic kernels). Steps of all methods are
interleaved, so that what else the machine does falls on all alike; a method's time is the lower
quartile of its rounds, in CPU time of this process. Each repeat builds everything anew; the table
has the median ratio over repeats and its range. `none again` is the twin beside itself.

Sizes: vocabulary 8,000, batch 64, 24 tokens (ids by Zipf's law, so that rows repeat as in text);
BiLSTM embedding 64, hidden 128 per direction; Transformer 2 blocks of 128, 4 heads, feed-forward
256; tanh embedding 64, hidden 128.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from data_contracts.recipe.methods import (
    GaussianPosterior,
    LowRank,
    MultiplicativeNoise,
    NoReparameterization,
    Reparameterization,
    SigmaReparam,
    Sparse,
    WeightNorm,
    variational,
)
from lightning_modules.network.network import build_network
from lightning_modules.reparameterizations import kl, mix, redraw, reparameterize, set_mode
from lightning_modules.reparameterizations.seeds import seed_generators

VOCABULARY, BATCH, LENGTH, CLASSES, TERMS = 8_000, 64, 24, 6, 5_000
WARM_UP = 5  # first rounds that are not counted
ENCODERS: dict[str, tuple[int, dict[str, Any]]] = {
    "tanh": (64, {"kind": "tanh", "hidden_size": 128}),
    "bilstm": (
        64,
        {"kind": "bilstm_attention", "hidden_sizes": [[128, 128]], "attention_size": 128},
    ),
    "transformer": (
        128,
        {"kind": "transformer", "max_length": 64, "num_heads": 4, "feedforward_sizes": [256, 256]},
    ),
}
DROPOUT = {"dropout": 0.3, "sparse": 0.3}  # no other method has any beside it
METHODS: dict[str, Reparameterization] = {
    "none": NoReparameterization(),
    "none again": NoReparameterization(),
    "dropout": NoReparameterization(),
    "multiplicative_noise, one_draw": MultiplicativeNoise(),
    "multiplicative_noise, local": MultiplicativeNoise(sampling="local"),
    "multiplicative_noise, rank_one": MultiplicativeNoise(sampling="rank_one"),
    "gaussian_posterior": GaussianPosterior(),
    "weight_norm": WeightNorm(),
    "sigma_reparam": SigmaReparam(),
    "sparse": Sparse(),
    "low_rank": LowRank(),
    "low_rank, noise": LowRank(noise=MultiplicativeNoise()),
}


def measure(steps: Mapping[str, Callable[[], Any]], rounds: int = 60) -> dict[str, float]:
    """CPU milliseconds of each step: one of each per round, lower quartile over rounds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for count in range(WARM_UP + rounds):
        for name, step in steps.items():
            started = time.process_time()
            step()
            if count >= WARM_UP:
                times[name].append(1e3 * (time.process_time() - started))
    return {name: statistics.quantiles(found, n=4)[0] for name, found in times.items()}


def optimizer_step(
    encoder: str, config: Reparameterization, seed: int = 0, dropout: float = 0.0
) -> Callable[[], None]:
    """One optimizer step on a fixed batch, as `TextModule` does it."""
    torch.manual_seed(seed)
    size, description = ENCODERS[encoder]
    sizes = {
        "vocab_size": VOCABULARY,
        "embedding_dim": size,
        "encoder": description,
        "num_classes": CLASSES,
    }
    network = reparameterize(build_network(sizes), config, dropout)
    set_mode(network, "sample")
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    frequency = 1 / (torch.arange(VOCABULARY) + 2.7)
    input_ids = torch.multinomial(frequency, BATCH * LENGTH, replacement=True).view(BATCH, LENGTH)
    lengths, labels = torch.full((BATCH,), LENGTH), torch.randint(CLASSES, (BATCH,))
    noise, done = variational(config), 0

    def step() -> None:
        nonlocal done
        done += 1
        seed_generators(mix(seed, done, 1))
        redraw(network, mix(seed, done))
        loss = F.cross_entropy(network(input_ids, lengths), labels)
        if noise is not None:
            loss = loss + noise.beta / TERMS * kl(network)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return step


def table(encoders: list[str], rounds: int, repeats: int) -> str:
    lines = ["| encoder | method | ms per step | ÷ none | range |", "|---|---|---|---|---|"]
    for encoder in encoders:
        found = []
        for repeat in range(repeats):
            steps = {
                name: optimizer_step(encoder, config, repeat, DROPOUT.get(name, 0.0))
                for name, config in METHODS.items()
            }
            found.append(measure(steps, rounds))
        for name in METHODS:
            ratios = sorted(times[name] / times["none"] for times in found)
            cells = [
                f"{statistics.median(times[name] for times in found):.2f}",
                f"{statistics.median(ratios):.3f}",
                f"{ratios[0]:.3f} – {ratios[-1]:.3f}",
            ]
            lines.append(f"| {encoder} | {name} | {' | '.join(cells)} |")
        print("\n".join(lines[-len(METHODS) :]), flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=60, help="timed steps of each method per repeat"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="times that everything is built anew"
    )
    parser.add_argument("--only", default=",".join(ENCODERS), help="encoders, by comma")
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parent / "results")
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    rows = table(given.only.split(","), given.rounds, given.repeats)
    command = f"python -m benchmarks.step_time --rounds {given.rounds} --repeats {given.repeats} --only {given.only}"
    machine = f"1 thread; {os.cpu_count()} cores with a load average of {os.getloadavg()[0]:.0f}"
    text = (
        f"# CPU time of a training step\n\n`{command}` (torch {torch.__version__}, {machine}). "
        f"Median over {given.repeats} repeats of the lower quartile of {given.rounds} interleaved "
        f"steps; "
        f"range over repeats.\n\n{rows}\n"
    )
    (given.results / "step_time.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
