"""The training step where one optimizer step is made of several batches, or on several processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from data_contracts.recipe.methods import (
    GaussianPosterior,
    LowRank,
    MultiplicativeNoise,
    Reparameterization,
)
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.network.network import build_network
from lightning_modules.reparameterizations import (
    is_noise,
    kl,
    mix,
    redraw,
    reparameterize,
    set_mode,
)
from lightning_modules.reparameterizations.course import Course
from lightning_modules.training.module import TextModule
from tests.lightning_modules.jobs import classification

SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "embedding_dim": 6,
    "encoder": {"kind": "tanh", "hidden_size": 5},
    "num_classes": 3,
}
NOISE = MultiplicativeNoise(beta=2.0, kl_warmup=0.0)
TERMS = 24  # N of KL / N: few, so that the KL term weighs much
ROWS = 8

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*have no `val_dataloader`",
    "ignore:.*GPU available but not used",
    "ignore:.*LeafSpec.*is deprecated",
)


class Observed(TextModule):
    """Keeps what each optimizer step saw: gradients before clipping, beta, and the noise of the
    decoder.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.seen: list[dict[str, Any]] = []

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **settings: Any
    ) -> None:
        gradients = {
            n: p.grad.clone() for n, p in self.network.named_parameters() if p.grad is not None
        }
        noise = {
            name: eps.clone()
            for name, eps in getattr(self.network.head.decoder, "noise", {}).items()
        }
        self.seen.append({"gradients": gradients, "beta": self.beta, "noise": noise.get("weight")})
        super().configure_gradient_clipping(optimizer, *args, **settings)


def make(config: Reparameterization, steps: int) -> Observed:
    torch.manual_seed(0)
    network = reparameterize(build_network(SIZES), config)
    training = TrainingConfig(
        gradient_clip=1e9, warmup=0.0, schedule="constant", learning_rate=0.01
    )
    return Observed(network, classification(), training, Course(config, steps), terms=TERMS)


def rows(count: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "input_ids": torch.randint(20, (5,), generator=generator),
            "lengths": torch.tensor(5),
            "labels": torch.randint(3, (), generator=generator),
        }
        for _ in range(count)
    ]


def train(
    module: Observed, batch_size: int, epochs: int = 1, sampler: Any = None, **settings: Any
) -> Observed:
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(module, DataLoader(rows(ROWS), batch_size=batch_size, sampler=sampler))
    return module


@pytest.mark.parametrize(
    "config",
    [NOISE, GaussianPosterior(beta=2.0, kl_warmup=0.0), LowRank(rank=2, noise=NOISE)],
    ids=["multiplicative", "gaussian", "low_rank"],
)
def test_accumulated_batches_give_the_gradient_of_one_large_batch(
    config: Reparameterization,
) -> None:
    """KL term and noise included: one draw per optimizer step, KL once and not once per batch, beta
    per step.
    """
    whole = train(make(config, 3), batch_size=8, epochs=3)
    parts = train(make(config, 3), batch_size=2, epochs=3, accumulate_grad_batches=4)
    assert len(whole.seen) == len(parts.seen) == 3
    for one, other in zip(whole.seen, parts.seen, strict=True):
        assert one["beta"] == other["beta"]
        assert one["gradients"].keys() == other["gradients"].keys()
        torch.testing.assert_close(other["gradients"], one["gradients"], rtol=1e-4, atol=1e-6)
    assert any(
        is_noise(name) and float(g.abs().max()) > 1e-3
        for name, g in whole.seen[0]["gradients"].items()
    )


def test_beta_rises_with_optimizer_steps_not_batches() -> None:
    config = MultiplicativeNoise(beta=1.0, kl_warmup=0.5)
    module = train(make(config, 4), batch_size=2, epochs=4, accumulate_grad_batches=4)
    assert [step["beta"] for step in module.seen] == [0.0, 0.5, 1.0, 1.0]


def test_frozen_parameters_are_not_optimized_or_clipped() -> None:
    module = make(LowRank(rank=2, noise=NOISE), 2)
    before = {
        name: p.detach().clone()
        for name, p in module.network.named_parameters()
        if not p.requires_grad
    }
    groups = module.configure_optimizers()["optimizer"].param_groups
    held = {id(p) for group in groups for p in group["params"]}
    assert before and held == {id(p) for p in module.network.parameters() if p.requires_grad}
    noise = {id(p) for name, p in module.network.named_parameters() if is_noise(name)}
    (own,) = (group for group in groups if {id(p) for p in group["params"]} & noise)
    assert {id(p) for p in own["params"]} == noise and own["weight_decay"] == 0.0
    assert own["lr"] == pytest.approx(module.config.learning_rate * NOISE.noise_lr_factor)
    train(module, batch_size=4, epochs=1)
    after = dict(module.network.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.slow
def test_two_processes_draw_apart_and_end_with_the_same_weights(tmp_path: Path) -> None:
    """DDP over gloo. Each process has its own half of the rows and its own noise; the gradient is
    the mean of grad(NLL_r + beta / N KL), so the KL's part of it counts once.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
    }
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, str(tmp_path / f"{rank}.pt")],
            env={**environment, "LOCAL_RANK": str(rank), "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert ranks[0]["world_size"] == 2
    for step in range(len(ranks[0]["seen"])):
        one, other = (rank["seen"][step] for rank in ranks)
        assert not torch.equal(one["noise"], other["noise"])
        assert (
            abs(
                float(
                    torch.corrcoef(torch.stack([one["noise"].flatten(), other["noise"].flatten()]))[
                        0, 1
                    ]
                )
            )
            < 0.9
        )
        torch.testing.assert_close(one["gradients"], other["gradients"], rtol=0, atol=0)
    assert ranks[0]["state"].keys() == ranks[1]["state"].keys()
    assert all(
        torch.equal(tensor, ranks[1]["state"][name]) for name, tensor in ranks[0]["state"].items()
    )
    # The same first step, by hand: each rank's rows and noise, the KL once.
    expected: dict[str, Tensor] = {}
    for rank in range(2):
        module = make(NOISE, 2)
        set_mode(module.network, "sample")
        redraw(module.network, ranks[rank]["noise_seed"])
        assert torch.equal(
            module.network.head.decoder.noise["weight"], ranks[rank]["seen"][0]["noise"]
        )
        part = rows(ROWS)[rank::2]
        batch = {name: torch.stack([row[name] for row in part]) for name in part[0]}
        nll, _ = module._losses(batch)
        (nll / 2).backward()
        for name, parameter in module.network.named_parameters():
            if parameter.grad is not None:
                expected[name] = expected.get(name, torch.zeros(())) + parameter.grad
    module = make(NOISE, 2)
    (2.0 / TERMS * kl(module.network)).backward()
    for name, parameter in module.network.named_parameters():
        if parameter.grad is not None:
            expected[name] = expected.get(name, torch.zeros(())) + parameter.grad
    torch.testing.assert_close(ranks[0]["seen"][0]["gradients"], expected, rtol=1e-4, atol=1e-6)


def _run_one_process(out: Path) -> None:
    settings: dict[str, Any] = {"strategy": "ddp", "devices": 2, "num_nodes": 1}
    sampler = DistributedSampler(
        range(ROWS), num_replicas=2, rank=int(os.environ["RANK"]), shuffle=False
    )
    module = train(make(NOISE, 2), batch_size=4, epochs=2, sampler=sampler, **settings)
    facts = {
        "world_size": module.trainer.world_size,
        "noise_seed": mix(module.config.seed, 0, module.global_rank),
        "seen": module.seen,
        "state": module.network.state_dict(),
    }
    torch.save(facts, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    _run_one_process(Path(sys.argv[1]))
