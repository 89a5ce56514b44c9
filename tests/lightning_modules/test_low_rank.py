"""Fine-tuning with low-rank factors: what is frozen stays frozen, what is folded is what was
trained.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data_contracts.errors import RecipeError, TrainingError
from data_contracts.recipe.methods import GaussianPosterior, LowRank, MultiplicativeNoise
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.bundle import Bundle
from lightning_modules.network.network import build_network
from lightning_modules.reparameterizations import (
    fold,
    kl,
    redraw,
    reparameterize,
    sampling,
    set_mode,
)
from lightning_modules.reparameterizations.layers import Reparameterized
from lightning_modules.training import recorder
from tests.lightning_modules.jobs import fit

PLAIN = LowRank(rank=2, alpha=4.0)
NOISES = {
    "none": None,
    "one_draw": MultiplicativeNoise(initial_alpha=0.25),
    "local": MultiplicativeNoise(initial_alpha=0.25, sampling="local"),
    "gaussian": GaussianPosterior(),
}


class Conv1D(nn.Module):
    """GPT-2's affine map as transformers writes it, weight (I, O)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(
            *x.shape[:-1], self.nf
        )


class Decoder(nn.Module):
    """A Linear that is new with the task, as a network's head is."""

    new_with_the_task = True

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Encoder(nn.Module):
    """One layer, and a decoder above it; the LSTM's state is left out."""

    def __init__(self, layer: nn.Module, size: int) -> None:
        super().__init__()
        self.layer, self.norm, self.decoder = layer, nn.LayerNorm(size), Decoder(size, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        return self.decoder(self.norm(out[0] if isinstance(out, tuple) else out))


LAYERS = ("linear", "conv1d", "lstm")


def make(kind: str) -> tuple[Encoder, Tensor]:
    torch.manual_seed(3)
    layer = {
        "linear": lambda: nn.Linear(5, 4),
        "conv1d": lambda: Conv1D(4, 5),
        "lstm": lambda: nn.LSTM(5, 2, bidirectional=True, batch_first=True),
    }[kind]()
    return Encoder(layer, 4), torch.randn(3, 6, 5)


def network(encoder: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return build_network(
        {"vocab_size": 9, "embedding_dim": 4, "num_classes": 3, "encoder": encoder}
    )


TRANSFORMER = {"kind": "transformer", "max_length": 6, "num_heads": 2, "feedforward_sizes": [8, 8]}
battery = pytest.mark.parametrize(("layer", "noise"), [(la, n) for la in LAYERS for n in NOISES])


def trained(layer: str, noise: str = "none", dropout: float = 0.0) -> tuple[nn.Module, Tensor]:
    """With factors that are not zero."""
    plain, x = make(layer)
    module = reparameterize(plain, PLAIN.model_copy(update={"noise": NOISES[noise]}), dropout)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "B_" in name and name.endswith(".weight"):
                parameter.normal_(std=0.5)
    return module, x


@battery
def test_the_function_is_unchanged_at_the_start(layer: str, noise: str) -> None:
    plain, x = make(layer)
    module = reparameterize(copy.deepcopy(plain), PLAIN.model_copy(update={"noise": NOISES[noise]}))
    assert torch.equal(module(x), plain(x))
    set_mode(module, "sample")
    redraw(module, 1)
    if (
        noise != "gaussian"
    ):  # whose noise does not vanish with B; that of `local` has a floor of 1e-6
        torch.testing.assert_close(
            module(x), plain(x), atol=1e-5 if noise == "local" else 0.0, rtol=0.0
        )


@battery
def test_factors_and_decoder_move_and_nothing_else(layer: str, noise: str) -> None:
    plain, x = make(layer)
    module = reparameterize(plain, PLAIN.model_copy(update={"noise": NOISES[noise]}))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    set_mode(module, "sample")
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
    for step in range(2):  # A has no gradient while B = 0
        redraw(module, step)
        optimizer.zero_grad()
        (module(x).square().mean() + 0.01 * kl(module)).backward()
        optimizer.step()
    moved = {
        name
        for name, tensor in module.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert moved == {
        name for name in before if name.startswith(("layer.A_", "layer.B_", "decoder."))
    }


@pytest.mark.parametrize(
    ("layer", "factors"), [("linear", 2 * (5 + 4)), ("conv1d", 18), ("lstm", 2 * 2 * (13 + 10))]
)
def test_trainable_parameters_are_counted(layer: str, factors: int) -> None:
    """r (I + O) per weight; of the LSTM (8, 5) and (8, 2), per direction. The decoder has 4 * 2 +
    2.
    """
    module = reparameterize(make(layer)[0], PLAIN)
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == factors + 10


@battery
def test_fold_is_mean_and_is_plain(layer: str, noise: str) -> None:
    plain, _ = make(layer)
    module, x = trained(layer, noise)
    set_mode(module, "sample")
    redraw(module, 1)
    folded = fold(module)
    set_mode(module, "mean")
    assert torch.equal(folded(x), module(x))
    assert not torch.allclose(folded(x), plain(x))
    assert {type(m) for m in folded.modules()} == {type(m) for m in plain.modules()}
    assert set(folded.state_dict()) == set(plain.state_dict())
    assert torch.equal(fold(folded)(x), folded(x))


@pytest.mark.parametrize("layer", LAYERS)
def test_what_training_computes_is_the_folded_weight(layer: str) -> None:
    """x W0^T + s (x A^T) B^T while training, x (W0 + s B A)^T after: float64, and the formula
    itself in float32.
    """
    module, x = trained(layer)
    folded = fold(module)
    name = "weight_hh_l0" if layer == "lstm" else "weight"
    part = module.layer
    delta = 2.0 * getattr(part, f"B_{name}").weight @ getattr(part, f"A_{name}").weight
    torch.testing.assert_close(
        getattr(folded.layer, name),
        getattr(part, name) + (delta.t() if layer == "conv1d" else delta),
        atol=1e-6,
        rtol=1e-6,
    )
    module, x = module.double(), x.double()
    exact = fold(module)(x)
    set_mode(module, "sample")
    torch.testing.assert_close(module(x), exact)


@battery
def test_gradcheck(layer: str, noise: str) -> None:
    module, x = trained(layer, noise)
    module, x = module.double(), x[:1, :2].double()
    set_mode(module, "sample")
    redraw(module, 1)
    names, tensors = zip(
        *[(n, p) for n, p in module.named_parameters() if p.requires_grad], strict=True
    )

    def function(*values: Tensor) -> Tensor:
        torch.manual_seed(0)  # the eps of local noise
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(
        function, tuple(t.detach().clone().requires_grad_() for t in tensors), fast_mode=True
    )


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("noise", ["one_draw", "gaussian"])
def test_kl_is_that_of_the_factors(layer: str, noise: str) -> None:
    """Against torch.distributions, factor by factor."""
    module, _ = trained(layer, noise)
    expected = 0.0
    for name in [
        n
        for n, _ in module.named_parameters()
        if n.endswith(".weight") and ("A_" in n or "B_" in n)
    ]:
        owner, mean = (
            module.get_submodule(name.removesuffix(".weight")),
            module.get_parameter(name).detach().double(),
        )
        if noise == "gaussian":
            sigma = nn.functional.softplus(owner.get_parameter("rho_weight").detach().double())
            q, p = torch.distributions.Normal(mean, sigma), torch.distributions.Normal(0.0, 0.1)
        else:
            alpha = owner.get_parameter("log_alpha_weight").detach().double().exp()[:, None]
            q = torch.distributions.Normal(mean.abs(), alpha.sqrt() * mean.abs())
            p = torch.distributions.Normal(0.0 * mean, (1 + alpha).sqrt() * mean.abs())
        expected += float(torch.distributions.kl_divergence(q, p).sum())
    assert kl(module).item() == pytest.approx(expected, rel=1e-5)
    assert kl(trained(layer)[0]).item() == 0.0


@pytest.mark.parametrize(
    ("layer", "noise"), [("linear", "one_draw"), ("linear", "local"), ("conv1d", "gaussian")]
)
def test_the_folded_weight_is_the_mean_of_the_sampled_ones(layer: str, noise: str) -> None:
    """A and B are independent, so E[B A] = E[B] E[A]. S = 500 draws, bound at 5 standard errors."""
    S = 500
    module, x = trained(layer, noise)
    part, x = module.layer, x[0, 0]
    with torch.no_grad():
        mean = part(x[None])[0]
        draws = torch.stack([part(x[None])[0] for _ in sampling(part, S, seed=1)])
    assert ((draws.mean(0) - mean).abs() < 5 * draws.std(0) / S**0.5).all()
    assert (draws.std(0) > 0).all()


def test_an_lstm_draws_once_for_all_time_steps_whatever_the_sampling() -> None:
    module, x = trained("lstm", "local")
    set_mode(module, "sample")
    redraw(module, 1)
    assert torch.equal(module(x), module(x))
    assert not torch.equal(module(x), fold(module)(x))


def test_dropout_acts_on_the_input_of_a_and_of_the_decoder() -> None:
    module, x = trained("linear", dropout=0.5)
    seen: dict[str, Tensor] = {}
    module.layer.A_weight.register_forward_hook(lambda _, given, out: seen.update(a=given[0]))
    set_mode(module, "sample")
    torch.manual_seed(0)
    out = module.layer(x)
    torch.manual_seed(0)
    assert torch.equal(seen["a"], nn.functional.dropout(x, 0.5))
    frozen = nn.functional.linear(x, module.layer.weight, module.layer.bias)
    torch.testing.assert_close(
        out - frozen,
        2.0 * seen["a"] @ module.layer.A_weight.weight.t() @ module.layer.B_weight.weight.t(),
    )
    assert not torch.equal(module.decoder(out), module.decoder(out))


# --- which layers ---------------------------------------------------------------------------------

NAMES = {  # one block of each family: projections of attention, and what else it has
    "bert": (
        (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ),
        ("intermediate.dense", "output.dense"),
    ),
    "distilbert": (
        ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
        ("ffn.lin1", "ffn.lin2"),
    ),
    "gpt2": (("attn.c_attn", "attn.c_proj"), ("mlp.c_fc", "mlp.c_proj")),
    "llama": (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
        ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    ),
    "gpt_neox": (("attention.query_key_value", "attention.dense"), ("mlp.dense_h_to_4h",)),
    "modernbert": (("attn.Wqkv", "attn.Wo"), ("mlp.Wi", "mlp.Wo")),
    "t5": (("0.SelfAttention.q", "0.SelfAttention.o"), ("1.DenseReluDense.wi",)),
}


def tree(family: str) -> nn.Module:
    root = nn.Module()
    for path in sum(NAMES[family], ()):
        node = root
        for step in ("layers", "0", *path.split("."))[:-1]:
            if step not in node._modules:
                node.add_module(step, nn.Module())
            node = node.get_submodule(step)
        node.add_module(
            path.rsplit(".", 1)[-1], Conv1D(3, 3) if family == "gpt2" else nn.Linear(3, 3)
        )
    return root


def factored(module: nn.Module) -> set[str]:
    return {name for name, layer in module.named_modules() if isinstance(layer, Reparameterized)}


@pytest.mark.parametrize("family", NAMES)
def test_attention_is_found_by_the_names_in_common_use(family: str) -> None:
    of_attention, others = ({f"layers.0.{name}" for name in names} for names in NAMES[family])
    assert (
        factored(reparameterize(tree(family), PLAIN.model_copy(update={"targets": "attention"})))
        == of_attention
    )
    assert factored(reparameterize(tree(family), PLAIN)) == of_attention | others


def test_targets_in_our_own_encoders() -> None:
    attention = PLAIN.model_copy(update={"targets": "attention"})
    inside = {f"encoder.blocks.{i}.{name}" for i in (0, 1) for name in ("qkv", "mix")}
    assert factored(reparameterize(network(TRANSFORMER), attention)) == inside | {"head.decoder"}
    bilstm = {"kind": "bilstm_attention", "hidden_sizes": [[3, 3]], "attention_size": 3}
    found = factored(reparameterize(network(bilstm), PLAIN))
    lstms = {"encoder.forwards.0", "encoder.backwards.0"}
    assert found == lstms | {"encoder.attention", "encoder.query", "head.decoder"}


def test_what_cannot_be_fine_tuned_is_refused() -> None:
    plain = network({"kind": "tanh", "hidden_size": 3})
    with pytest.raises(
        RecipeError, match=r"targets attention: TextNetwork has no layer .* Set targets: all"
    ):
        reparameterize(plain, PLAIN.model_copy(update={"targets": "attention"}))
    assert all(parameter.requires_grad for parameter in plain.parameters()), (
        "nothing has been touched"
    )
    with pytest.raises(RecipeError, match="Embedding has no layer that is a Linear or LSTM"):
        reparameterize(nn.Embedding(3, 2), PLAIN)


def test_a_bare_layer_is_a_module_too() -> None:
    layer = reparameterize(nn.Linear(4, 3), PLAIN)
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == {
        "A_weight.weight",
        "B_weight.weight",
    }


# --- training -------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def settings(method: dict[str, Any], dropout: float = 0.0, **training: Any) -> dict[str, Any]:
    encoder = {"kind": "transformer", "num_layers": 1, "num_heads": 2, "feedforward_size": 12}
    return {
        "model": ModelConfig(
            embedding={"size": 8}, encoder=encoder, dropout=dropout, reparameterization=method
        ),
        "training": TrainingConfig(
            **{
                "max_epochs": 2,
                "batch_size": 16,
                **training,
            }
        ),
    }


LOW_RANK = {
    "kind": "low_rank",
    "rank": 2,
    "noise": {"kind": "multiplicative_noise"},
}


@pytest.fixture(scope="module")
def champion(arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("champion")
    fit(**arguments, **settings({"kind": "none"}), work=folder / "work", out=folder / "out")
    return folder / "out" / "bundle"


def test_a_champion_is_fine_tuned_and_resume_is_exact_without_frozen_weights_in_the_checkpoint(
    arguments: dict[str, Any], champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "PROGRESS_SECONDS", 0.0)
    given = {**settings(LOW_RANK, 0.1), "start": champion}
    expected = fit(**arguments, **given, work=tmp_path / "w1", out=tmp_path / "o1")

    def stop(event: dict[str, Any]) -> None:
        if (
            event["event"] == "progress" and event["step"] == 23
        ):  # in the second epoch, the best weights in hand
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(
            **{**arguments, "on_progress": stop}, **given, work=tmp_path / "w2", out=tmp_path / "o2"
        )
    latest = max((tmp_path / "w2" / "checkpoints").glob("*.ckpt"))
    saved = torch.load(latest, weights_only=True)
    names = {name.removeprefix("network.") for name in saved["state_dict"]}
    assert "embedding.weight" not in names
    assert {name for name in names if "qkv" in name} == {
        f"encoder.blocks.0.qkv.{factor}_weight.{part}weight"
        for factor in "AB"
        for part in ("", "log_alpha_")
    }
    assert set(saved["callbacks"]["noisefold.keep_best"]["weights"]) < names | {"none"}
    events: list[dict[str, Any]] = []
    again = {**arguments, "on_progress": events.append}
    assert fit(**again, **given, work=tmp_path / "w2", out=tmp_path / "o2") == expected
    assert events[0]["event"] == "resumed"
    start, end = (
        Bundle.load(folder).network.state_dict()
        for folder in (champion, tmp_path / "o1" / "bundle")
    )
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    weights = {f"encoder.blocks.0.{layer}.weight" for layer in ("qkv", "mix", "widen", "narrow")}
    assert changed == weights | {"head.decoder.weight", "head.decoder.bias"}


def test_random_weights_are_not_frozen(
    arguments: dict[str, Any], champion: Path, tmp_path: Path
) -> None:
    given = {**settings(LOW_RANK, 0.1), "work": tmp_path / "w", "out": tmp_path / "o"}
    with pytest.raises(TrainingError, match="no champion, so they would be random"):
        fit(**arguments, **given)
    given["model"] = ModelConfig(**{**given["model"].model_dump(), "embedding": {"size": 16}})
    with pytest.raises(TrainingError, match=r"the champion has no embedding\.weight of this size"):
        fit(**arguments, **given, start=champion)


def test_a_checkpoint_that_lacks_a_trained_tensor_is_an_error(
    arguments: dict[str, Any], champion: Path, tmp_path: Path
) -> None:
    from lightning_modules.training.module import frozen_state, trained_state

    module = reparameterize(make("linear")[0], PLAIN)
    whole = {**frozen_state(module), **trained_state(module)}
    assert set(whole) == set(module.state_dict())
    del whole["layer.A_weight.weight"]
    with pytest.raises(RuntimeError, match="A_weight"):
        module.load_state_dict(whole)
