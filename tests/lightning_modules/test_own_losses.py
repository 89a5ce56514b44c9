"""`wide.share`: two parts in one network, each with a loss of its own; what ships is the sum as
ever.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from data_contracts.kinds.classify import Classify
from data_contracts.recipe.methods import (
    MultiplicativeNoise,
    NoReparameterization,
    Reparameterization,
)
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.bundle import Bundle
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.reparameterizations import kl, reparameterize, set_mode
from lightning_modules.reparameterizations.course import Course
from lightning_modules.training.module import TextModule
from tests.lightning_modules.jobs import classification, fit

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "embedding_dim": 8,
    "encoder": {"kind": "tanh", "hidden_size": 6},
    "wide": {"buckets": 64, "max_n": 2, "scale": 5.0},
    "num_classes": 3,
}
SHARE = 0.3


@pytest.fixture
def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "input_ids": torch.randint(1, 30, (6, 9)),
        "lengths": torch.tensor([9, 4, 7, 1, 9, 2]),
        "labels": torch.tensor([0, 1, 2, 0, 1, 2]),
    }


def step(
    batch: dict[str, Tensor],
    *,
    table_std: float = 1.0,
    share: float | None = SHARE,
    method: Reparameterization | None = None,
) -> tuple[TextNetwork, dict[str, Tensor]]:
    """A network after the backward pass of one training step, and what that step reports."""
    torch.manual_seed(0)
    network, method = build_network(SIZES), method or NoReparameterization()
    network.head.wide.weigh([(batch["input_ids"], batch["lengths"])])
    torch.nn.init.normal_(network.head.wide.table.get_parameter("weight"), std=table_std)
    network = reparameterize(network, method)
    objective = classification(wide={"share": share})
    module = TextModule(network, objective, TrainingConfig(), Course(method, 10), terms=100)
    module.on_train_batch_start(batch, 0)
    set_mode(network, "sample")
    found = module.training_step(batch, 0)
    found["loss"].backward()
    return network, found


def parts(network: TextNetwork, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the logits are the sum of."""
    return network.head.parts(network.features(ids, lengths), ids, lengths)


def gradients(network: TextNetwork, part: str) -> dict[str, Tensor]:
    named = network.named_parameters()
    return {
        name: p.grad
        for name, p in named
        if name.startswith("head.wide.") == (part == "wide") and p.grad is not None
    }


def test_neither_part_learns_from_what_the_other_says(batch: dict[str, Tensor]) -> None:
    small, _ = step(batch, table_std=0.01)
    large, _ = step(batch, table_std=3.0)
    deep = gradients(small, "deep")
    assert len(deep) == 5, "embedding, encoder (2), decoder (2)"
    for name, gradient in deep.items():
        assert torch.equal(gradient, gradients(large, "deep")[name]), name
    together = [gradients(step(batch, table_std=std, share=None)[0], "deep") for std in (0.01, 3.0)]
    assert not torch.allclose(
        together[0]["head.decoder.weight"], together[1]["head.decoder.weight"], rtol=0.1
    )


def test_each_part_has_the_gradient_of_its_own_likelihood(batch: dict[str, Tensor]) -> None:
    network, found = step(batch)
    deep, wide = parts(network, batch["input_ids"], batch["lengths"])
    assert wide is not None
    alone = [
        F.cross_entropy(logits, batch["labels"]) for logits in (deep / (1 - SHARE), wide / SHARE)
    ]
    torch.testing.assert_close(found["loss"], alone[0] + alone[1])
    for part, loss in zip(("deep", "wide"), alone, strict=True):
        names = list(gradients(network, part))
        expected = torch.autograd.grad(loss, [network.get_parameter(name) for name in names])
        for name, gradient in zip(names, expected, strict=True):
            torch.testing.assert_close(gradients(network, part)[name], gradient, msg=name)


def test_what_is_logged_is_the_likelihood_of_the_model(batch: dict[str, Tensor]) -> None:
    network, found = step(batch)
    logits = network(batch["input_ids"], batch["lengths"])
    assert math.isclose(
        found["nll"].item(), F.cross_entropy(logits, batch["labels"]).item(), rel_tol=1e-6
    )


def test_noise_counts_its_divergence_once(batch: dict[str, Tensor]) -> None:
    method = MultiplicativeNoise(kl_warmup=0.0)
    network, found = step(batch, method=method)
    deep, wide = parts(network, batch["input_ids"], batch["lengths"])
    assert wide is not None
    own = sum(
        F.cross_entropy(logits, batch["labels"]) for logits in (deep / (1 - SHARE), wide / SHARE)
    )
    torch.testing.assert_close(found["loss"], own + method.beta * kl(network) / 100)


def test_what_ships_is_the_sum_of_parts_that_can_each_tell_the_classes_apart(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    wide = {"buckets": 500, "max_n": 2, "share": 0.5}
    chosen = ModelConfig.model_validate({"embedding": {"size": 8}, "encoder": {"kind": "tanh"}})
    training = TrainingConfig(max_epochs=6, batch_size=16, learning_rate=0.02)
    given = {**arguments, "task": Classify.model_validate({"wide": wide})}
    result = fit(**given, model=chosen, training=training, work=tmp_path / "work", out=tmp_path)
    bundle = Bundle.load(tmp_path / "bundle")
    assert "share" not in str(bundle.network.describe()), "a matter of training alone"
    texts = ["word1 good", "bad word2", "word3 good word4", "word5 bad"]
    ids = [bundle.tokenizer.encode(text).ids for text in texts]
    lengths = torch.tensor([len(row) for row in ids])
    padded = torch.tensor([[*row, *[0] * (int(lengths.max()) - len(row))] for row in ids])
    with torch.no_grad():
        deep, wide_BC = parts(bundle.network, padded, lengths)
        assert wide_BC is not None
        assert torch.equal(bundle.network(padded, lengths), deep + wide_BC)
    labels = [
        [bundle.facts["labels"][i] for i in logits.argmax(dim=1)] for logits in (deep, wide_BC)
    ]
    assert labels[0] == labels[1] == ["positive", "negative", "positive", "negative"]
    assert result.validation["val/macro_f1"] > 0.5


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_leaves_something_to_both(share: float) -> None:
    with pytest.raises(ValidationError, match=r"wide\.share"):
        Classify.model_validate({"wide": {"share": share}})
