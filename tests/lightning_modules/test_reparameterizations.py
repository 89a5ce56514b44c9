"""The battery: every method over every layer it may replace. S samples, standard errors stated where used."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data_contracts.model_config import Dropout, MultiplicativeNoise, NoReparameterization
from lightning_modules.reparameterizations import fold, kl, mix, noise_level, redraw, reparameterize, sampling, set_mode
from lightning_modules.reparameterizations.layers import Reparameterized

CONFIGS = {"none": NoReparameterization(), "dropout": Dropout(p=0.3), "multiplicative_noise": MultiplicativeNoise()}
NOISE = MultiplicativeNoise(initial_alpha=0.25, max_alpha=1.0)
IDS = torch.tensor([[1, 2, 3, 1], [4, 1, 5, 6]])


class Output(nn.Module):
    """An LSTM without its state, so that every layer maps a tensor to a tensor."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        return out[0] if isinstance(out, tuple) else out


def make(kind: str) -> tuple[Output, Tensor]:
    torch.manual_seed(3)
    vectors = torch.randn(2, 4, 5)
    layers: dict[str, tuple[nn.Module, Tensor]] = {
        "linear": (nn.Linear(5, 3), vectors),
        "linear without bias": (nn.Linear(5, 3, bias=False), vectors),
        "embedding": (nn.Embedding(8, 5), IDS),
        "lstm": (nn.LSTM(5, 4, batch_first=True), vectors),
        "stacked bidirectional lstm": (nn.LSTM(5, 4, num_layers=2, bidirectional=True), vectors),
    }
    layer, x = layers[kind]
    return Output(layer), x


LAYERS = ("linear", "linear without bias", "embedding", "lstm", "stacked bidirectional lstm")
battery = pytest.mark.parametrize(("method", "layer"), [(m, la) for m in CONFIGS for la in LAYERS])
noisy = pytest.mark.parametrize("layer", LAYERS)


@battery
def test_pretrained_function_is_unchanged_in_mean_mode(method: str, layer: str) -> None:
    plain, x = make(layer)
    wrapped = reparameterize(copy.deepcopy(plain), CONFIGS[method])
    assert torch.equal(wrapped(x), plain(x))
    assert isinstance(wrapped.layer, Reparameterized) == (
        method == "multiplicative_noise" or (method == "dropout" and layer != "embedding")
    )


@battery
def test_fold_equals_mean_bit_for_bit_is_idempotent_and_plain(method: str, layer: str) -> None:
    plain, x = make(layer)
    wrapped = reparameterize(copy.deepcopy(plain), CONFIGS[method])
    set_mode(wrapped, "sample")
    redraw(wrapped, 1)
    wrapped(x)
    folded = fold(wrapped)
    assert type(folded.layer) is type(plain.layer)
    assert set(folded.state_dict()) == set(plain.state_dict())
    again = fold(folded)
    set_mode(wrapped, "mean")
    assert torch.equal(folded(x), wrapped(x))
    assert torch.equal(again(x), folded(x))
    assert isinstance(wrapped.layer, Reparameterized) or method in ("none", "dropout"), "fold works on a copy"
    with torch.no_grad():
        next(folded.parameters()).add_(1.0)
    assert torch.equal(again(x), plain(x)), "the copies share no storage"


@battery
def test_every_trainable_tensor_moves(method: str, layer: str) -> None:
    wrapped, x = make(layer)
    wrapped = reparameterize(wrapped, CONFIGS[method])
    set_mode(wrapped, "sample")
    before = {name: p.detach().clone() for name, p in wrapped.named_parameters()}
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.5)
    for step in range(2):
        redraw(wrapped, step)
        optimizer.zero_grad()
        (wrapped(x).square().mean() + 0.01 * kl(wrapped)).backward()
        optimizer.step()
    still = [name for name, p in wrapped.named_parameters() if torch.equal(p, before[name])]
    assert not still


@battery
def test_state_dict_round_trip(method: str, layer: str) -> None:
    first, x = make(layer)
    first = reparameterize(first, CONFIGS[method])
    second = reparameterize(make(layer)[0], CONFIGS[method])
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1)
    assert not torch.equal(second(x), first(x))
    second.load_state_dict(first.state_dict())
    for module in (first, second):
        set_mode(module, "sample")
        torch.manual_seed(0)
        redraw(module, 5)
    assert torch.equal(_seeded(second, x), _seeded(first, x))


@noisy
def test_one_draw_per_redraw(layer: str) -> None:
    wrapped, x = make(layer)
    wrapped = reparameterize(wrapped, NOISE)
    set_mode(wrapped, "sample")
    redraw(wrapped, 1)
    first = wrapped(x)
    assert torch.equal(wrapped(x), first), "the same draw within a step"
    redraw(wrapped, 2)
    assert not torch.equal(wrapped(x), first), "a new draw at the next step"
    redraw(wrapped, 1)
    assert torch.equal(wrapped(x), first), "a function of the seed"


def test_batch_and_time_share_the_draw() -> None:
    """A repeated token has one noisy vector; a Linear maps the same vector to the same output at each position."""
    embedding = reparameterize(nn.Embedding(8, 5), NOISE)
    linear = reparameterize(nn.Linear(5, 3), NOISE)
    for module in (embedding, linear):
        set_mode(module, "sample")
        redraw(module, 7)
    out = embedding(IDS)
    assert torch.equal(out[0, 0], out[0, 3])
    assert torch.equal(out[0, 0], out[1, 1])
    assert not torch.equal(out[0, 0] / embedding.weight[1], out[0, 1] / embedding.weight[2])
    # The next micro-batch of the same step sees the tokens it shares with the first, and draws the others.
    later = embedding(torch.tensor([[1, 7]]))
    assert torch.equal(later[0, 0], out[0, 0])
    assert not torch.equal(later[0, 1], embedding.weight[7])
    same = linear(torch.ones(2, 4, 5))
    assert torch.equal(same, same[:1, :1].expand_as(same))


def test_mean_and_variance_of_a_linear_layer() -> None:
    """y = x W^T + b: mean x theta^T + b, variance sum_i x_i^2 theta_oi^2 alpha_o. S = 4000 draws.

    Standard error of the mean sigma / sqrt(S); of a Gaussian variance sigma^2 sqrt(2 / (S - 1)). Bounds at 5 of each.
    """
    S = 4000
    layer = reparameterize(nn.Linear(5, 3).double(), NOISE)
    alpha = torch.tensor([0.05, 0.3, 0.9], dtype=torch.double)
    with torch.no_grad():
        layer.log_alpha_weight.copy_(alpha.log())
    x = torch.randn(5, dtype=torch.double)
    with torch.no_grad():
        draws = torch.stack([layer(x) for _ in sampling(layer, S, seed=1)])
        mean, variance = layer(x), (x.square() * layer.weight.square()).sum(-1) * alpha
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / S).sqrt()).all()
    assert ((draws.var(0) - variance).abs() < 5 * variance * math.sqrt(2 / (S - 1))).all()


def test_mean_and_variance_of_an_embedding() -> None:
    """Each component: mean theta, variance theta^2 alpha of the token's row; S and bounds as above."""
    S = 4000
    layer = reparameterize(nn.Embedding(3, 4).double(), NOISE)
    alpha = torch.tensor([0.05, 0.3, 0.9], dtype=torch.double)
    with torch.no_grad():
        layer.log_alpha_weight.copy_(alpha.log())
        draws = torch.stack([layer(torch.tensor([2, 0, 1])) for _ in sampling(layer, S)])[:, [1, 2, 0]]
        variance = layer.weight.square() * alpha[:, None]
    assert ((draws.mean(0) - layer.weight).abs() < 5 * (variance / S).sqrt()).all()
    assert ((draws.var(0) - variance).abs() < 5 * variance * math.sqrt(2 / (S - 1))).all()


def test_lstm_uses_the_weights_it_drew() -> None:
    """A plain nn.LSTM whose weights are the drawn ones gives the same output."""
    plain, x = make("stacked bidirectional lstm")
    noisy_one = reparameterize(copy.deepcopy(plain), NOISE)
    set_mode(noisy_one, "sample")
    redraw(noisy_one, 4)
    with torch.no_grad():
        for name in noisy_one.layer.weights:
            getattr(plain.layer, name).copy_(noisy_one.layer.used(name))
    torch.testing.assert_close(noisy_one(x), plain(x))


@noisy
def test_kl_is_the_divergence_to_the_empirical_bayes_prior(layer: str) -> None:
    """Against torch.distributions: q = N(theta, alpha theta^2), p = N(0, (1 + alpha) theta^2); summed over weights."""
    wrapped, _ = make(layer)
    wrapped = reparameterize(wrapped, NOISE)
    with torch.no_grad():
        for name, parameter in wrapped.layer.named_parameters():
            if name.startswith("log_alpha"):
                parameter.uniform_(-4.0, 0.0)
    expected = 0.0
    for name in wrapped.layer.weights:
        theta = getattr(wrapped.layer, name).detach().double().abs()
        alpha = getattr(wrapped.layer, f"log_alpha_{name}").detach().double().exp()[:, None]
        q = torch.distributions.Normal(theta, alpha.sqrt() * theta)
        p = torch.distributions.Normal(torch.zeros_like(theta), (1 + alpha).sqrt() * theta)
        expected += float(torch.distributions.kl_divergence(q, p).sum())
    assert kl(wrapped).dtype == torch.float32
    assert kl(wrapped).item() == pytest.approx(expected, rel=1e-5)


def test_kl_agrees_with_monte_carlo() -> None:
    """E_q[log q - log p] of one weight, S = 200,000 draws, within 5 standard errors."""
    theta, alpha, S = 0.7, 0.2, 200_000
    layer = reparameterize(nn.Linear(1, 1, bias=False), MultiplicativeNoise(initial_alpha=alpha))
    q = torch.distributions.Normal(torch.tensor(theta), torch.tensor(theta * math.sqrt(alpha)))
    p = torch.distributions.Normal(torch.tensor(0.0), torch.tensor(theta * math.sqrt(1 + alpha)))
    torch.manual_seed(0)
    w = q.sample((S,))
    gap = q.log_prob(w) - p.log_prob(w)
    assert abs(kl(layer).item() - float(gap.mean())) < 5 * float(gap.std()) / math.sqrt(S)


@pytest.mark.parametrize("method", ["none", "dropout"])
def test_methods_without_a_posterior_have_no_kl(method: str) -> None:
    assert kl(reparameterize(make("lstm")[0], CONFIGS[method])).item() == 0.0
    assert noise_level(make("lstm")[0]) is None


@noisy
def test_gradcheck(layer: str) -> None:
    """Gradients with respect to theta and log alpha under one fixed draw, in float64."""
    wrapped, x = make(layer)
    wrapped = reparameterize(wrapped.double(), NOISE)
    x = x.double() if x.is_floating_point() else x
    set_mode(wrapped, "sample")
    redraw(wrapped, 1)
    names, tensors = zip(*wrapped.named_parameters(), strict=True)

    def function(*values: Tensor) -> Tensor:
        return torch.func.functional_call(wrapped, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, tuple(t.detach().clone().requires_grad_() for t in tensors))


def test_alpha_stays_under_its_cap_and_can_come_back() -> None:
    layer = reparameterize(nn.Linear(4, 2), MultiplicativeNoise(initial_alpha=0.5, max_alpha=1.0))
    with torch.no_grad():
        layer.log_alpha_weight.fill_(3.0)
    assert float(noise_level(layer)) == pytest.approx(1.0)
    redraw(layer, 0)
    assert torch.equal(layer.log_alpha_weight, torch.zeros(2)), "projected onto the cap"
    (-kl(layer)).backward()
    assert (layer.log_alpha_weight.grad != 0).all()


def test_sampling_gives_s_draws_and_the_mode_back() -> None:
    wrapped, x = make("lstm")
    wrapped = reparameterize(wrapped, NOISE).eval()
    mean = wrapped(x)
    draws = [wrapped(x) for _ in sampling(wrapped, 3, seed=5)]
    assert len({d.detach().numpy().tobytes() for d in draws}) == 3
    assert torch.equal(wrapped(x), mean)


def test_dropout_scales_and_stops_in_mean_mode() -> None:
    """E[x m / (1 - p)] = x; drops a share p of the inputs (S = 4000 elements, 5 standard errors)."""
    layer = reparameterize(nn.Linear(4000, 1, bias=False), Dropout(p=0.3))
    set_mode(layer, "sample")
    torch.manual_seed(0)
    kept = layer.incoming(torch.ones(4000))
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert abs(float((kept == 0).float().mean()) - 0.3) < 5 * math.sqrt(0.21 / 4000)


def test_shared_layers_stay_shared() -> None:
    shared = nn.Linear(3, 3)
    model = fold(reparameterize(nn.Sequential(shared, nn.Tanh(), shared), NOISE))
    assert model[0] is model[2]


def test_misuse_is_named() -> None:
    layer = reparameterize(nn.Linear(2, 2), NOISE)
    set_mode(layer, "sample")
    with pytest.raises(RuntimeError, match="redraw"):
        layer(torch.ones(2))
    embedding = reparameterize(nn.Embedding(2, 2), NOISE)
    set_mode(embedding, "sample")
    with pytest.raises(RuntimeError, match="redraw"):
        embedding(torch.tensor([1]))
    wrong: Any = "folded"
    with pytest.raises(ValueError, match="fold"):
        set_mode(layer, wrong)
    with pytest.raises(ValueError, match="max_norm"):
        reparameterize(nn.Embedding(2, 2, max_norm=1.0), NOISE)
    with pytest.raises(ValueError, match="proj_size"):
        reparameterize(nn.LSTM(4, 4, proj_size=2), NOISE)


def test_seeds_spread() -> None:
    seeds = {mix(seed, step, layer) for seed in range(5) for step in range(200) for layer in range(5)}
    assert len(seeds) == 5000
    assert mix(1, 2) != mix(2, 1)


def _seeded(module: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return module(x)
