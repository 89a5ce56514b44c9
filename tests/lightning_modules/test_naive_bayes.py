"""The wide table as log ratios times what is trained: the ratios of the paper, and a plain table at
the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_contracts.kinds.classify import Classify
from data_contracts.recipe.methods import (
    GaussianPosterior,
    MultiplicativeNoise,
    NoReparameterization,
    SigmaReparam,
    Sparse,
    WeightNorm,
)
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.naive_bayes import FLOOR, RatioTable, log_ratios
from lightning_modules.kinds.classify.wide import ClassTable, WideLogits
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.network.pruning import compact
from lightning_modules.reparameterizations import fold, redraw, reparameterize, set_mode
from tests.lightning_modules.jobs import fit

BUCKETS, CLASSES = 97, 3
IDS = torch.randint(0, 30, (60, 9), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.randint(1, 10, (60,), generator=torch.Generator().manual_seed(1))
METHODS = (
    NoReparameterization(),
    MultiplicativeNoise(),
    MultiplicativeNoise(sampling="rank_one"),
    GaussianPosterior(),
    WeightNorm(),
    SigmaReparam(),
    Sparse(),
)


def wide(max_n: int = 2, classes: int = CLASSES) -> WideLogits:
    return WideLogits({"buckets": BUCKETS, "max_n": max_n, "scale": 5.0}, classes)


def presence(table: WideLogits, ids: Tensor, lengths: Tensor) -> np.ndarray:
    """Whether bucket g stands in document b: (B, G), read document by document, without padding."""
    found = np.zeros((len(ids), BUCKETS))
    for row, length in enumerate(lengths.tolist()):
        buckets, counts = table.distinct(ids[row : row + 1, :length], lengths[row : row + 1])
        found[row, buckets[counts > 0].numpy()] = 1
    return found


def network_with_ratios(seed: int = 0) -> TextNetwork:
    """A tanh network whose wide table has trained a while."""
    torch.manual_seed(seed)
    network = build_network(
        {
            "vocab_size": 30,
            "embedding_dim": 8,
            "num_classes": CLASSES,
            "encoder": {"kind": "tanh", "hidden_size": 7},
            "wide": {"buckets": BUCKETS, "max_n": 2, "scale": 5.0},
        }
    )
    network.head.wide.weigh([(IDS, LENGTHS)])
    labels = torch.randint(CLASSES, (len(IDS),))
    network.head.wide.table = RatioTable(
        network.head.wide.table, log_ratios(network.head.wide, [(IDS, LENGTHS, labels)])
    )
    nn.init.normal_(network.head.wide.table.weight)
    return network


def test_two_equal_classes_have_the_ratios_of_the_paper() -> None:
    """r = log (p / |p|_1) / (q / |q|_1), p = 1 + counts of one class, q of the other, over
    documents that hold it.
    """
    table, labels = wide(classes=2), torch.arange(60) % 2
    ids, lengths = IDS.clone(), LENGTHS.clone()
    ids[1::2], lengths[1::2] = 29 - ids[::2], lengths[::2]  # as many n-grams in either class
    found = presence(table, ids, lengths)
    p, q = 1 + found[labels == 0].sum(0), 1 + found[labels == 1].sum(0)
    assert p.sum() == pytest.approx(q.sum(), rel=0.02)
    batches = [
        (ids[at : at + 7], lengths[at : at + 7], labels[at : at + 7]) for at in range(0, 60, 7)
    ]
    ratios = log_ratios(table, batches).numpy()
    expected = np.abs(np.log((p / p.sum()) / (q / q.sum())))
    np.testing.assert_allclose(ratios[:, 0], np.maximum(expected, FLOOR), atol=0.03)
    np.testing.assert_allclose(ratios[:, 1], ratios[:, 0], rtol=1e-4, atol=1e-6)


def test_an_ngram_that_says_nothing_has_the_smallest_ratio_whatever_the_classes_sizes_are() -> None:
    """Documents of one token: token 3 in a tenth of every class, token 5 in the rare class alone,
    token 7 nowhere.
    """
    sizes, table = (400, 40, 10), wide(max_n=1)
    tokens = torch.tensor(
        [token for size in sizes for token in [3] * (size // 10) + [4] * (size - size // 10)]
    )
    labels = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    tokens[-4:] = 5
    ids, lengths = tokens.unsqueeze(1), torch.ones(len(tokens), dtype=torch.long)
    ratios = log_ratios(table, [(ids, lengths, labels)])
    row_of = {
        token: int(table.distinct(torch.tensor([[token]]), torch.tensor([1]))[0])
        for token in (3, 5, 7)
    }
    assert (ratios[row_of[3]] < 0.1).all()
    assert (ratios[row_of[7]] < 0.1).all()
    assert ratios[row_of[5], 2] > 2
    absent = log_ratios(table, [(ids, lengths, torch.zeros_like(labels))])
    assert torch.isfinite(absent).all(), "a class without a row"


@pytest.mark.parametrize(
    "config", METHODS, ids=lambda config: f"{config.kind} {getattr(config, 'sampling', '')}"
)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_method_takes_it_and_the_product_is_what_ships(config: Any, dropout: float) -> None:
    network: Any = reparameterize(network_with_ratios(), config, dropout)
    set_mode(network, "sample")
    redraw(network, 1)
    network(IDS, LENGTHS).square().sum().backward()
    assert network.head.wide.table.weight.grad.any()
    set_mode(network, "mean")
    plain: Any = fold(network)
    assert type(plain.head.wide.table) is ClassTable
    assert torch.equal(plain(IDS, LENGTHS), network(IDS, LENGTHS))
    assert torch.equal(fold(plain)(IDS, LENGTHS), plain(IDS, LENGTHS)), (
        "folding again changes nothing"
    )
    with torch.no_grad():
        smaller = compact(plain)
        torch.testing.assert_close(smaller(IDS, LENGTHS), plain(IDS, LENGTHS), rtol=0, atol=1e-5)


def test_a_champions_table_goes_on_as_it_was() -> None:
    """A trained plain table, put behind ratios, gives the logits that it gave."""
    network = network_with_ratios()
    champion: Any = fold(network)
    before = champion(IDS, LENGTHS)
    champion.head.wide.table = RatioTable(
        champion.head.wide.table, network.head.wide.table.ratios.roll(1, 0)
    )
    torch.testing.assert_close(champion(IDS, LENGTHS), before, rtol=1e-5, atol=1e-5)


def test_a_training_resumes_exactly_and_ships_a_plain_table(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    class Interrupted(Exception): ...

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            raise Interrupted

    given: dict[str, Any] = {
        **arguments,
        "model": ModelConfig.model_validate({"encoder": {"kind": "tanh"}}),
        "task": Classify.model_validate({"wide": {"buckets": 64, "naive_bayes": True}}),
        "training": TrainingConfig(max_epochs=3, batch_size=16, learning_rate=0.02, ema_decay=0.9),
    }
    expected = fit(**given, work=tmp_path / "w1", out=tmp_path / "o1")
    with pytest.raises(Interrupted):
        fit(**{**given, "on_progress": stop}, work=tmp_path / "w2", out=tmp_path / "o2")
    assert fit(**given, work=tmp_path / "w2", out=tmp_path / "o2") == expected
    found = Bundle.load(tmp_path / "o1" / "bundle").network
    assert type(found.head.wide.table) is ClassTable
    assert found.head.wide.table.weight.any()
    assert "naive_bayes" not in found.describe()["wide"]
    other = given | {"task": Classify.model_validate({"wide": {"buckets": 64}})}
    fit(**other, work=tmp_path / "w3", out=tmp_path / "o3")
    assert not torch.equal(
        Bundle.load(tmp_path / "o3" / "bundle").network.head.wide.table.weight,
        found.head.wide.table.weight,
    )
