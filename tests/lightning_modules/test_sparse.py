"""Sparse: what drowns in its noise is removed, and the smaller network computes the same."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from data_contracts.errors import RecipeError
from data_contracts.recipe.methods import Sparse
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.kinds.classify.wide import ClassTable
from lightning_modules.network.embedding import CompactEmbedding
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.network.pruning import compact
from lightning_modules.reparameterizations import fold, kl, redraw, reparameterize, set_mode
from lightning_modules.training import recorder
from tests.lightning_modules.jobs import fit

ENCODERS: dict[str, dict[str, Any]] = {
    "tanh": {"kind": "tanh", "hidden_size": 7},
    "lstm": {"kind": "lstm", "hidden_sizes": [6, 5]},
    "bilstm_attention": {
        "kind": "bilstm_attention",
        "hidden_sizes": [[5, 6], [4, 7]],
        "attention_size": 6,
    },
    "transformer": {
        "kind": "transformer",
        "max_length": 9,
        "num_heads": 2,
        "feedforward_sizes": [8, 5],
    },
}
NGRAMS = {"buckets": 40, "max_n": 2, "size": 5}
IDS = torch.randint(0, 30, (5, 9), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([9, 1, 4, 7, 2])
every_network = pytest.mark.parametrize(
    ("encoder", "ngrams"), [(encoder, ngrams) for encoder in ENCODERS for ngrams in (None, NGRAMS)]
)


def network_of(encoder: str, ngrams: dict[str, int] | None = None) -> TextNetwork:
    sizes = {"vocab_size": 30, "embedding_dim": 8, "num_classes": 3}
    network = build_network({**sizes, "encoder": ENCODERS[encoder], "ngrams": ngrams})
    if network.ngrams is not None:
        nn.init.normal_(network.ngrams.table.weight)
    return network


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def prune_at_random(network: nn.Module, share: float) -> None:
    for name, parameter in network.named_parameters():
        if "log_alpha_" in name:
            parameter.copy_(torch.where(torch.rand_like(parameter) < share, 9.0, -9.0))


@torch.no_grad()
def logits_of(network: nn.Module) -> Tensor:
    return network(IDS, LENGTHS)


@every_network
def test_compact_computes_the_same_with_less(encoder: str, ngrams: dict[str, int] | None) -> None:
    """Over groups removed at random; mean mode and fold agree in every bit, compact within 1e-6."""
    for seed, share in enumerate((0.0, 0.3, 0.6, 0.9, 1.0)):
        torch.manual_seed(seed)
        sparse = reparameterize(network_of(encoder, ngrams), Sparse())
        prune_at_random(sparse, share)
        plain = fold(sparse)
        assert isinstance(plain, TextNetwork)
        before = plain.state_dict()
        smaller = compact(plain)
        assert torch.equal(logits_of(plain), logits_of(sparse))
        torch.testing.assert_close(logits_of(smaller), logits_of(plain), rtol=0, atol=1e-6)
        assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())
        assert (
            parameters(smaller) == parameters(plain)
            if share == 0
            else parameters(smaller) < parameters(plain)
        )
        assert compact(smaller).describe() == smaller.describe()


@every_network
def test_compact_takes_what_is_constant_into_the_next_bias(
    encoder: str, ngrams: dict[str, int] | None
) -> None:
    """Weights that are zero while biases are not, and an embedding whose bias has joined every row."""
    for seed in range(8):
        torch.manual_seed(seed)
        network = network_of(encoder, ngrams)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(torch.rand(len(parameter), 1) < 0.6).mul_(
                        torch.rand(parameter.shape[1]) < 0.6
                    )
            network.embedding.weight.add_(torch.randn(8))
        smaller = compact(network)
        assert parameters(smaller) < parameters(network)
        torch.testing.assert_close(logits_of(smaller), logits_of(network), rtol=0, atol=1e-6)


def test_sparse_takes_rows_from_a_wide_table_and_no_class() -> None:
    """Over rows removed at random: mode mean and fold agree in every bit, compact within 1e-6; idf
    stays.
    """
    sizes = {"vocab_size": 30, "embedding_dim": 8, "num_classes": 3, "encoder": ENCODERS["tanh"]}
    for seed, share in enumerate((0.0, 0.5, 1.0)):
        torch.manual_seed(seed)
        network = build_network({**sizes, "wide": {"buckets": 200, "max_n": 2, "scale": 10.0}})
        nn.init.normal_(network.head.wide.table.weight)
        network.head.wide.weigh([(IDS, LENGTHS)])
        sparse: Any = reparameterize(network, Sparse())
        assert not hasattr(sparse.head.wide.table, "log_alpha_column")
        prune_at_random(sparse, share)
        plain: Any = fold(sparse)
        smaller = compact(plain)
        gone = sparse.head.wide.table.log_alpha_row > 0
        assert not plain.head.wide.table.weight[gone].any()
        assert smaller.describe()["wide"]["rows"] == 200 - int(gone.sum()) + bool(gone.any())
        assert torch.equal(smaller.head.wide.idf, plain.head.wide.idf)
        assert torch.equal(logits_of(plain), logits_of(sparse))
        torch.testing.assert_close(logits_of(smaller), logits_of(plain), rtol=0, atol=1e-5)
        assert compact(smaller).describe() == smaller.describe()


def test_hidden_sizes_after_removal_are_the_kept_ones() -> None:
    """Chosen groups: 3 tokens, 2 dimensions, 1 forward and 4 backward units are left, and one row
    for all the rest.
    """
    network = build_network(
        {
            "vocab_size": 30,
            "embedding_dim": 8,
            "num_classes": 3,
            "encoder": {"kind": "bilstm_attention", "hidden_sizes": [[5, 6]], "attention_size": 6},
        }
    )
    sparse: Any = reparameterize(network, Sparse())
    with torch.no_grad():
        for log_alpha, kept in (
            (sparse.embedding.log_alpha_row, [2, 7, 11]),
            (sparse.embedding.log_alpha_column, [1, 6]),
            (sparse.encoder.forwards[0].log_alpha_unit, [4]),
            (sparse.encoder.backwards[0].log_alpha_unit, [0, 1, 2, 5]),
        ):
            log_alpha.fill_(5.0)
            log_alpha[kept] = -5.0
    plain: Any = fold(sparse)
    smaller = compact(plain)
    assert smaller.describe()["embedding_rows"] == 4
    assert smaller.describe()["embedding_dim"] == 2
    assert smaller.describe()["encoder"]["hidden_sizes"] == [[1, 4]]
    assert smaller.head.decoder.in_features == 5
    assert isinstance(smaller.embedding, CompactEmbedding)
    vectors = smaller.embedding(torch.arange(30))
    assert torch.equal(vectors[[2, 7, 11]], plain.embedding.weight[[2, 7, 11]][:, [1, 6]])
    assert not vectors[[0, 1, 3, 29]].any()


@every_network
def test_a_network_wholly_removed_predicts_its_bias(
    encoder: str, ngrams: dict[str, int] | None
) -> None:
    sparse = reparameterize(network_of(encoder, ngrams), Sparse())
    prune_at_random(sparse, 1.0)
    smaller = compact(fold(sparse))  # type: ignore[arg-type]
    assert torch.equal(logits_of(smaller), smaller.head.decoder.bias.expand(5, 3))
    assert min(size for parameter in smaller.parameters() for size in parameter.shape) == 1


@pytest.mark.parametrize("encoder", ENCODERS)
def test_ngram_vectors_that_all_count_the_same_are_left_out(encoder: str) -> None:
    """Nothing is hashed for them any more; a constant that the decoder read is in its bias."""
    torch.manual_seed(0)
    network = network_of(encoder, NGRAMS)
    with torch.no_grad():
        network.ngrams.table.weight.copy_(torch.randn(5).expand(40, 5))  # type: ignore[union-attr]
    smaller = compact(network)
    assert smaller.describe()["ngrams"] is None
    assert parameters(network) - parameters(smaller) >= 40 * 5 + 3 * 5
    torch.testing.assert_close(logits_of(smaller), logits_of(network), rtol=0, atol=1e-6)


def test_an_encoder_of_words_that_are_all_the_same_keeps_one_unit() -> None:
    """What is left when all words were removed beside n-grams that go straight to the logits."""
    torch.manual_seed(0)
    network = network_of("tanh", NGRAMS)
    with torch.no_grad():
        network.embedding.weight.copy_(torch.randn(8).expand(30, 8))
    smaller = compact(network)
    assert (smaller.describe()["embedding_dim"], smaller.describe()["encoder"]["hidden_size"]) == (
        1,
        1,
    )
    torch.testing.assert_close(logits_of(smaller), logits_of(network), rtol=0, atol=1e-6)


def test_kl_counts_the_weights_of_each_group() -> None:
    """1/2 log(1 + 1/alpha) is the divergence of N(1, alpha) from N(0, 1 + alpha)."""
    alpha = 0.3
    q = torch.distributions.Normal(1.0, math.sqrt(alpha))
    p = torch.distributions.Normal(0.0, math.sqrt(1 + alpha))
    per_weight = float(torch.distributions.kl_divergence(q, p))
    config = Sparse(initial_alpha=alpha)
    for layer, counted in (
        (nn.Linear(5, 3), 15),
        (nn.Embedding(8, 5), 2 * 40),  # once as rows, once as columns
        (ClassTable(8, 5), 40),
        (
            nn.LSTM(5, 4),
            4 * 4 * (5 + 4) + 4 * 4 * 4,
        ),  # a unit's gates, and the columns by which all gates read it
    ):
        assert kl(reparameterize(layer, config)).item() == pytest.approx(
            counted * per_weight, rel=1e-5
        )


def test_noise_has_the_stated_mean_and_variance() -> None:
    """y = sum_i w_i z_i x_i + b: mean w.x + b, variance alpha sum_i (w_i x_i)^2, within 5 standard
    errors.
    """
    torch.manual_seed(0)
    plain, x = nn.Linear(6, 4), torch.randn(6)
    linear = reparameterize(copy.deepcopy(plain), Sparse(initial_alpha=0.4))
    set_mode(linear, "sample")
    with torch.no_grad():
        samples = linear(x.expand(200_000, 6))
        mean, variance = plain(x), 0.4 * ((plain.weight * x) ** 2).sum(dim=1)
    assert ((samples.mean(dim=0) - mean).abs() < 5 * (variance / 200_000).sqrt()).all()
    assert ((samples.var(dim=0) / variance - 1).abs() < 5 * math.sqrt(2 / 200_000)).all()


def test_what_is_removed_stays_removed_and_is_zero_in_every_mode() -> None:
    sparse: Any = reparameterize(network_of("bilstm_attention"), Sparse())
    with torch.no_grad():
        sparse.embedding.log_alpha_row[3] = 0.01
    set_mode(sparse, "sample")
    redraw(sparse, 1)
    torch.manual_seed(1)
    assert not sparse.embedding(torch.tensor([[3, 3]])).any()
    assert sparse.embedding(torch.tensor([[4, 4]])).all()
    (sparse(IDS, LENGTHS).square().sum() + kl(sparse)).backward()
    gradient = sparse.embedding.log_alpha_row.grad
    assert gradient[3] < 0, "only the KL acts on it, and it pushes alpha up"
    assert not sparse.embedding.weight.grad[3].any()


def test_layers_it_cannot_take_are_named() -> None:
    with pytest.raises(RecipeError, match="one layer and one direction"):
        reparameterize(nn.LSTM(3, 4, num_layers=2), Sparse())
    with pytest.raises(RecipeError, match="no rule for a Conv1d"):
        reparameterize(nn.Conv1d(3, 4, 1), Sparse())
    with pytest.raises(ValidationError, match="sparse is for models from scratch"):
        ModelConfig.model_validate(
            {"encoder": {"path": "minilm"}, "reparameterization": {"kind": "sparse"}}
        )


# --- whole trainings: 45 tokens, of which "good", "bad" and "table" decide the label --------------


def fit_sparse(arguments: dict[str, Any], folder: Path, keep: float = 0.1, **changes: Any) -> Any:
    settings = {
        "max_epochs": 20,
        "patience": 2,
        "batch_size": 16,
        "learning_rate": 0.01,
    }
    return fit(
        model=ModelConfig.model_validate(
            {
                "embedding": {"size": 16},
                "dropout": 0.3,
                "encoder": {"kind": "tanh", "hidden_size": 16},
                "reparameterization": {
                    "kind": "sparse",
                    "beta": 0.1,
                    "noise_lr_factor": 8.0,
                    "keep": keep,
                },
            }
        ),
        training=TrainingConfig.model_validate(settings),
        **{**arguments, "work": folder / "work", "out": folder / "out", **changes},
    )


@pytest.fixture(scope="module")
def trained(
    arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("sparse")
    return folder, fit_sparse(arguments, folder)


def test_what_decides_the_label_is_what_is_left(trained: tuple[Path, Any]) -> None:
    folder, result = trained
    bundle = Bundle.load(folder / "out" / "bundle")
    table: Any = bundle.network.embedding
    shared = int(table.index.bincount().argmax())
    kept = {
        token
        for token, row in bundle.tokenizer.get_vocab().items()
        if int(table.index[row]) != shared
    }
    assert {"good", "bad"} <= kept
    assert len(kept) <= 10
    assert result.validation["val/macro_f1"] > 0.85
    assert result.parameters == parameters(bundle.network)
    assert result.parameters * 3 < 45 * 16 + 16 * 17 + 3 * 33


def test_only_epochs_of_the_final_size_are_kept(trained: tuple[Path, Any]) -> None:
    """Patience counts from there too: 2 would have stopped this training long before."""
    result = trained[1]
    assert 0.6 * 20 <= result.best_epoch <= result.epochs <= 20
    kept = [epoch["val/kept_weights"] for epoch in result.history]
    assert len(set(kept[11:])) == 1, "nothing is removed after 60 % of the steps"
    assert kept[11] < kept[0]


def test_removal_ends_at_the_share_to_keep(arguments: dict[str, Any], tmp_path: Path) -> None:
    result = fit_sparse(arguments, tmp_path, keep=0.5)
    kept = [epoch["val/kept_weights"] for epoch in result.history]
    small = [epoch["epoch"] for epoch in result.history if epoch["val/kept_weights"] <= 0.5]
    assert small[0] <= result.best_epoch < 0.6 * 20, "it need not wait for prune_until"
    assert 0.4 < kept[-1] <= 0.5
    assert len({kept[epoch - 1] for epoch in small}) == 1


def test_a_bundle_of_a_smaller_network_loads_and_predicts_the_same(
    trained: tuple[Path, Any], tokenizer_json: bytes, tmp_path: Path
) -> None:
    bundle = Bundle.load(trained[0] / "out" / "bundle")
    facts = {"facts": bundle.facts, "windowing": bundle.windowing}
    save_bundle(tmp_path, bundle.network, tokenizer_json=tokenizer_json, **facts)
    texts = ["good word1 word2", "bad", "table word9", "nothing known here"]
    assert np.array_equal(predict_proba(Bundle.load(tmp_path), texts), predict_proba(bundle, texts))
    assert predict_proba(bundle, ["good", "bad", "table"]).argmax(axis=1).tolist() == [1, 0, 2]


def test_a_training_starts_from_a_pruned_champion(
    trained: tuple[Path, Any], arguments: dict[str, Any], tmp_path: Path
) -> None:
    """Its rows mean tokens by an index; where a layer has another size now, the fresh one stays."""
    champion = trained[0] / "out" / "bundle"
    result = fit_sparse(arguments, tmp_path, start=champion)
    assert result.validation["val/macro_f1"] > 0.85


def test_resume_is_exact(
    trained: tuple[Path, Any],
    arguments: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed while it prunes and once more after, at steps that no checkpoint holds."""
    monkeypatch.setattr(recorder, "PROGRESS_SECONDS", 0.0)

    class Interrupted(Exception):
        pass

    for stop in (33, 190):

        def on_progress(event: dict[str, Any], stop: int = stop) -> None:
            if event["event"] == "progress" and event["step"] == stop:
                raise Interrupted

        with pytest.raises(Interrupted):
            fit_sparse(arguments, tmp_path, on_progress=on_progress)
    resumed = fit_sparse(arguments, tmp_path)
    assert resumed == trained[1]
    first, second = (
        folder / "out" / "bundle" / "model.safetensors" for folder in (trained[0], tmp_path)
    )
    assert first.read_bytes() == second.read_bytes()
