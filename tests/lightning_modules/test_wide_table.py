"""`wide.learning_rate` and `wide.epsilon`: how the table of n-grams is trained beside the other
weights.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from data_contracts.recipe.methods import LowRank, NoReparameterization, Reparameterization
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.reparameterizations import reparameterize, set_mode
from lightning_modules.reparameterizations.course import Course
from lightning_modules.training.module import TextModule
from tests.lightning_modules.jobs import classification

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "embedding_dim": 8,
    "encoder": {"kind": "tanh", "hidden_size": 6},
    "wide": {"buckets": 4096, "max_n": 1, "scale": 1.0},
    "num_classes": 2,
}
RARE, FREQUENT = 3, 4  # one document of eight holds the one, all hold the other
RATE = 0.01


@pytest.fixture
def batch() -> dict[str, Tensor]:
    ids = torch.full((8, 2), FREQUENT)
    ids[0, 1] = RARE
    lengths = torch.tensor([2, 1, 1, 1, 1, 1, 1, 1])
    return {"input_ids": ids, "lengths": lengths, "labels": torch.zeros(8, dtype=torch.long)}


def moved(
    batch: dict[str, Tensor],
    group: dict[str, float] | None = None,
    method: Reparameterization | None = None,
) -> tuple[TextNetwork, dict[str, Tensor]]:
    """How far each parameter moves in the first step; no warm-up, no decay."""
    torch.manual_seed(0)
    method = method or NoReparameterization()
    network = build_network(SIZES)
    network.head.wide.weigh([(batch["input_ids"], batch["lengths"])])
    nn.init.zeros_(network.head.decoder.weight)
    network = reparameterize(network, method)
    groups = {} if group is None else {"wide": group}
    training = TrainingConfig(learning_rate=RATE, weight_decay=0, warmup=0, groups=groups)
    objective = classification(2, wide={})
    module = TextModule(network, objective, training, Course(method, 10), terms=8)
    optimizer = module.configure_optimizers()["optimizer"]
    set_mode(network, "sample")
    module.training_step(batch, 0)["loss"].backward()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer.step()
    return network, {
        name: (p.detach() - before[name]).abs() for name, p in network.named_parameters()
    }


def of_tokens(
    network: TextNetwork, steps: dict[str, Tensor], batch: dict[str, Tensor]
) -> tuple[float, float]:
    """The steps of the rows of RARE and FREQUENT."""
    buckets, count = network.head.wide.distinct(batch["input_ids"], batch["lengths"])
    frequent = int(buckets[1][count[1] > 0])
    (rare,) = set(buckets[0][count[0] > 0].tolist()) - {frequent}
    table = steps["head.wide.table.weight"]
    return float(table[rare].max()), float(table[frequent].max())


def test_without_them_a_rare_ngram_moves_as_far_as_a_frequent_one(batch: dict[str, Tensor]) -> None:
    network, steps = moved(batch)
    rare, frequent = of_tokens(network, steps, batch)
    assert rare == pytest.approx(RATE, rel=1e-4)
    assert frequent == pytest.approx(RATE, rel=1e-4)


def test_under_a_large_epsilon_each_ngram_moves_as_its_gradient_says(
    batch: dict[str, Tensor],
) -> None:
    """Adam's first step is rate * g / (|g| + epsilon)."""
    network, steps = moved(batch, {"epsilon": 1.0})
    gradient = network.get_parameter("head.wide.table.weight").grad
    assert gradient is not None
    torch.testing.assert_close(
        steps["head.wide.table.weight"], RATE * gradient.abs() / (gradient.abs() + 1)
    )
    rare, frequent = of_tokens(network, steps, batch)
    assert 0 < rare < frequent / 4


def test_the_table_has_its_own_rate_and_nothing_else_changes(batch: dict[str, Tensor]) -> None:
    _, plain = moved(batch)
    _, steps = moved(batch, {"learning_rate": 5 * RATE})
    for name, step in plain.items():
        expected = 5 * step if name == "head.wide.table.weight" else step
        torch.testing.assert_close(steps[name], expected, msg=name, rtol=1e-4, atol=1e-8)


def test_with_low_rank_too(batch: dict[str, Tensor]) -> None:
    network, steps = moved(batch, {"learning_rate": 5 * RATE, "epsilon": 1e-4}, LowRank(rank=2))
    rare, frequent = of_tokens(network, steps, batch)
    assert rare < frequent <= 5 * RATE
    assert frequent > 4 * RATE


@pytest.mark.parametrize("field", ["learning_rate", "epsilon"])
@pytest.mark.parametrize("value", [0, -1e-4, 100])
def test_a_value_out_of_bounds_is_named(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=rf"groups\.wide\.{field}"):
        TrainingConfig.model_validate({"groups": {"wide": {field: value}}})
