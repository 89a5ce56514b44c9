"""The battery: every method over every layer it may replace. S samples, standard errors stated
where used.
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from data_contracts.errors import RecipeError
from data_contracts.recipe.methods import (
    GaussianPosterior,
    LowRank,
    MultiplicativeNoise,
    NoReparameterization,
    Reparameterization,
    SigmaReparam,
    Sparse,
    WeightNorm,
)
from lightning_modules.network.encoders.transformer import TransformerEncoder
from lightning_modules.reparameterizations import (
    METHODS,
    fold,
    is_noise,
    kl,
    mix,
    noise_level,
    redraw,
    reparameterize,
    sampling,
    set_mode,
)
from lightning_modules.reparameterizations.layers import Reparameterized
from lightning_modules.reparameterizations.multiplicative_noise import local_linear
from lightning_modules.reparameterizations.seeds import normal, normal_rows

NOISE = MultiplicativeNoise(initial_alpha=0.25, max_alpha=1.0)
LOCAL = NOISE.model_copy(update={"sampling": "local"})
RANK_ONE = NOISE.model_copy(update={"sampling": "rank_one"})
GAUSSIAN = GaussianPosterior(initial_sigma=0.1, prior_sigma=0.3)
CONFIGS: dict[str, Reparameterization] = {
    "none": NoReparameterization(),
    "dropout": NoReparameterization(),
    "one_draw": NOISE,
    "local": LOCAL,
    "rank_one": RANK_ONE,
    "noise and dropout": NOISE,
    "gaussian_posterior": GAUSSIAN,
    "weight_norm": WeightNorm(),
    "sigma_reparam": SigmaReparam(),
    "low_rank": LowRank(rank=2),
    "low_rank with noise": LowRank(rank=2, noise=NOISE),
    "low_rank with a posterior": LowRank(rank=2, noise=GAUSSIAN),
    "sparse": Sparse(),
}
DROPOUT = {"dropout": 0.3, "noise and dropout": 0.3, "sparse": 0.3}
IDS = torch.tensor([[1, 2, 3, 1], [4, 1, 5, 6]])


class Output(nn.Module):
    """An LSTM without its state, a Transformer with its lengths, so that every layer maps a tensor
    to a tensor.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, TransformerEncoder):
            return self.layer(
                x, torch.tensor([4, 2]), torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
            )
        out = self.layer(x)
        return out[0] if isinstance(out, tuple) else out


def make(kind: str) -> tuple[Output, Tensor]:
    torch.manual_seed(3)
    vectors = torch.randn(2, 4, 6)
    sizes = {"max_length": 4, "num_heads": 2, "feedforward_sizes": [7]}
    layers: dict[str, Callable[[], nn.Module]] = {
        "linear": lambda: nn.Linear(6, 3),
        "linear without bias": lambda: nn.Linear(6, 3, bias=False),
        "embedding": lambda: nn.Embedding(8, 5),
        "lstm": lambda: nn.LSTM(6, 4, batch_first=True),
        "stacked bidirectional lstm": lambda: nn.LSTM(6, 4, num_layers=2, bidirectional=True),
        "transformer": lambda: TransformerEncoder(6, sizes),
    }
    return Output(layers[kind]()), IDS if kind == "embedding" else vectors


LAYERS = (
    "linear",
    "linear without bias",
    "embedding",
    "lstm",
    "stacked bidirectional lstm",
    "transformer",
)
REFUSED = {
    ("sparse", "stacked bidirectional lstm"),
    *((m, "embedding") for m in CONFIGS if m.startswith("low_rank")),
}
battery = pytest.mark.parametrize(
    ("method", "layer"), [(m, la) for m in CONFIGS for la in LAYERS if (m, la) not in REFUSED]
)
noisy = pytest.mark.parametrize("layer", LAYERS)


def build(method: str, layer: str) -> tuple[Output, Tensor]:
    """The reparameterized layer, away from the special values it starts at (a B of zeros), in
    `mean` mode.
    """
    module, x = make(layer)
    wrapped = reparameterize(module, CONFIGS[method], DROPOUT.get(method, 0.0))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad and not is_noise(name):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return wrapped, x


def sampled(module: nn.Module, x: Tensor, seed: int = 5) -> Tensor:
    set_mode(module, "sample")
    torch.manual_seed(seed)
    redraw(module, seed)
    return module(x)


def test_the_battery_covers_every_method() -> None:
    assert {config.kind for config in CONFIGS.values()} == set(METHODS)


@battery
def test_pretrained_function_is_unchanged_in_mean_mode(method: str, layer: str) -> None:
    """Bit for bit where the weight is a parameter; a weight computed anew may differ in its last
    bits.
    """
    plain, x = make(layer)
    wrapped = reparameterize(copy.deepcopy(plain), CONFIGS[method], DROPOUT.get(method, 0.0))
    torch.testing.assert_close(wrapped(x), plain(x), rtol=0, atol=1e-6 if method in COMPUTED else 0)
    replaced = any(isinstance(module, Reparameterized) for module in wrapped.modules())
    assert replaced != (
        method == "none" or (layer == "embedding" and method in ("dropout", "sigma_reparam"))
    )


COMPUTED = ("weight_norm", "sigma_reparam")


@battery
def test_fold_equals_mean_bit_for_bit_is_idempotent_and_plain(method: str, layer: str) -> None:
    plain, x = make(layer)
    wrapped, _ = build(method, layer)
    sampled(wrapped, x)
    folded = fold(wrapped)
    assert {type(module) for module in folded.modules()} == {
        type(module) for module in plain.modules()
    }
    assert list(folded.state_dict()) == list(plain.state_dict())
    again = fold(folded)
    set_mode(wrapped, "mean")
    out = folded(x)
    assert torch.equal(out, wrapped(x))
    assert torch.equal(again(x), out)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.add_(1.0)
    assert torch.equal(again(x), out) and torch.equal(wrapped(x), out), (
        "copies that share no storage"
    )


@battery
def test_every_trainable_tensor_moves(method: str, layer: str) -> None:
    wrapped, x = make(layer)
    wrapped = reparameterize(wrapped, CONFIGS[method], DROPOUT.get(method, 0.0))
    trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.SGD(trained.values(), lr=0.5)
    for step in range(2):
        optimizer.zero_grad()
        ((sampled(wrapped, x, step) - 1).square().mean() + 0.01 * kl(wrapped)).backward()
        optimizer.step()
    assert not [name for name, p in trained.items() if torch.equal(p, before[name])]


@battery
def test_state_dict_round_trip(method: str, layer: str) -> None:
    first, x = build(method, layer)
    second = reparameterize(make(layer)[0], CONFIGS[method], DROPOUT.get(method, 0.0))
    if method != "none":
        with torch.no_grad():
            for parameter in first.parameters():
                parameter.add_(0.1)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x), first(x))
    assert torch.equal(sampled(second, x), sampled(first, x))


@battery
def test_seed_gives_bits(method: str, layer: str) -> None:
    """All randomness is a function of torch's seed and of redraw's; a copy draws, and has drawn,
    the same.
    """
    wrapped, x = build(method, layer)
    for step in range(
        100 if method == "sigma_reparam" else 0
    ):  # whose redraw is a step of the power iteration
        redraw(wrapped, step)
    first = sampled(wrapped, x, 1)
    stochastic = float((first - sampled(wrapped, x, 2)).detach().abs().max()) > 1e-5
    plain = ("none", "weight_norm", "sigma_reparam", "low_rank")
    assert stochastic != (method in plain or (method == "dropout" and layer == "embedding"))
    exact = {"rtol": 0, "atol": 1e-6 if method == "sigma_reparam" else 0}
    torch.testing.assert_close(sampled(wrapped, x, 1), first, **exact)
    copied = copy.deepcopy(wrapped)
    torch.manual_seed(1)
    torch.testing.assert_close(copied(x), first, **exact)


@battery
def test_gradcheck(method: str, layer: str) -> None:
    """Gradients of one fixed draw and of the KL with respect to all that is trained, in float64."""
    wrapped, x = build(method, layer)
    wrapped, x = wrapped.double(), x.double() if x.is_floating_point() else x
    named = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    sampled(wrapped, x)

    def function(*values: Tensor) -> Tensor:
        torch.manual_seed(5)
        return torch.func.functional_call(wrapped, dict(zip(named, values, strict=True)), (x,))

    values = tuple(t.detach().clone().requires_grad_() for t in named.values())
    assert torch.autograd.gradcheck(function, values, fast_mode=True)


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
    """A repeated token has one noisy vector; a Linear maps the same vector to the same output at
    each position.
    """
    embedding = reparameterize(nn.Embedding(8, 5), NOISE)
    linear = reparameterize(nn.Linear(5, 3), NOISE)
    for module in (embedding, linear):
        set_mode(module, "sample")
        redraw(module, 7)
    out = embedding(IDS)
    assert torch.equal(out[0, 0], out[0, 3])
    assert torch.equal(out[0, 0], out[1, 1])
    assert not torch.equal(out[0, 0] / embedding.weight[1], out[0, 1] / embedding.weight[2])
    # The next micro-batch of the same step sees the tokens it shares with the first, and draws the
    # others.
    later = embedding(torch.tensor([[1, 7]]))
    assert torch.equal(later[0, 0], out[0, 0])
    assert not torch.equal(later[0, 1], embedding.weight[7])
    same = linear(torch.ones(2, 4, 5))
    assert torch.equal(same, same[:1, :1].expand_as(same))


def moments(layer: nn.Module, x: Tensor, mean: Tensor, variance: Tensor, S: int = 1500) -> Tensor:
    """Assert mean and variance of S draws, Gaussian each, within 5 standard errors; returns the
    draws.

    Standard error of the mean sigma / sqrt(S); of the variance sigma^2 sqrt(2 / (S - 1)).
    """
    with torch.no_grad():
        draws = torch.stack([layer(x) for _ in sampling(layer, S, seed=1)])
    assert ((draws.mean(0) - mean).abs() <= 5 * (variance / S).sqrt()).all()
    assert ((draws.var(0) - variance).abs() <= 5 * variance * math.sqrt(2 / (S - 1))).all()
    return draws


@pytest.mark.parametrize(
    "config", [NOISE, LOCAL, RANK_ONE, GAUSSIAN], ids=["one_draw", "local", "rank_one", "gaussian"]
)
def test_mean_and_variance_of_a_linear_layer(config: Reparameterization) -> None:
    """y = x W^T + b: mean x theta^T + b; variance sum_i x_i^2 Var(w_oi), of which alpha theta^2 and
    sigma^2 are cases.

    Per position, of two documents of two positions, the second of each like the first.
    """
    torch.manual_seed(0)
    layer = reparameterize(nn.Linear(5, 3).double(), config)
    x = torch.randn(2, 1, 5, dtype=torch.double).expand(2, 2, 5)
    with torch.no_grad():
        theta = layer.weight
        if config is GAUSSIAN:
            layer.rho_weight.uniform_(-3.0, 0.0)
            weight_variance = nn.functional.softplus(layer.rho_weight).square()
        else:
            log_alpha = layer.log_alpha_input if config is RANK_ONE else layer.log_alpha_weight
            log_alpha.uniform_(-3.0, -0.1)
            weight_variance = theta.square() * (
                log_alpha.exp() if config is RANK_ONE else log_alpha.exp()[:, None]
            )
        draws = moments(layer, x, layer(x), x.square() @ weight_variance.T)
    within = _correlation(draws[:, 0, 0], draws[:, 0, 1])  # two positions of a document
    between = _correlation(
        draws[:, 0, 0], draws[:, 1, 0] * (1 if config is RANK_ONE or config is LOCAL else 0)
    )
    bound = 5 / math.sqrt(len(draws))
    assert (within.abs() < bound).all() if config is LOCAL else (within > 0.999).all()
    assert (between.abs() < bound).all(), "documents draw apart"


@pytest.mark.parametrize(
    "config", [NOISE, RANK_ONE, GAUSSIAN], ids=["one_draw", "rank_one", "gaussian"]
)
def test_mean_and_variance_of_an_embedding(config: Reparameterization) -> None:
    layer = reparameterize(nn.Embedding(3, 4).double(), config)
    ids = torch.tensor([[2, 0, 1]])
    with torch.no_grad():
        if config is GAUSSIAN:
            layer.rho_weight.uniform_(-3.0, 0.0)
            variance = nn.functional.softplus(layer.rho_weight).square()
        else:
            log_alpha = layer.log_alpha_input if config is RANK_ONE else layer.log_alpha_weight
            log_alpha.uniform_(-3.0, -0.1)
            variance = layer.weight.square() * (
                log_alpha.exp() if config is RANK_ONE else log_alpha.exp()[:, None]
            )
        moments(layer, ids, layer.weight[ids], variance[ids])


def test_rank_one_scales_what_an_lstm_reads() -> None:
    """An nn.LSTM that reads x * z, with z found from a Linear of the same draw; batch_first False
    has T first.
    """
    torch.manual_seed(0)
    plain, x = nn.LSTM(6, 4), torch.randn(7, 2, 6)
    layer = reparameterize(copy.deepcopy(plain), RANK_ONE)
    assert [name for name, _ in layer.named_parameters() if is_noise(name)] == [
        "log_alpha_weight_hh_l0",
        "log_alpha_input",
    ]
    with torch.no_grad():
        set_mode(layer, "sample")
        redraw(layer, 1)
        torch.manual_seed(2)
        z = layer.incoming(torch.ones_like(x))
        plain.weight_hh_l0.copy_(layer.used("weight_hh_l0"))
        torch.manual_seed(2)
        torch.testing.assert_close(layer(x)[0], plain(x * z)[0])
    assert torch.equal(z, z[:1].expand_as(z)) and not torch.equal(z[:, 0], z[:, 1])


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


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer != "transformer"])
def test_kl_is_the_divergence_to_the_empirical_bayes_prior(layer: str) -> None:
    """Against torch.distributions: q = N(theta, alpha theta^2), p = N(0, (1 + alpha) theta^2);
    summed over weights.
    """
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


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer != "transformer"])
def test_kl_of_a_gaussian_posterior(layer: str) -> None:
    wrapped = reparameterize(make(layer)[0], GAUSSIAN)
    expected = 0.0
    for name in wrapped.layer.weights:
        rho, mu = getattr(wrapped.layer, f"rho_{name}"), getattr(wrapped.layer, name).detach()
        with torch.no_grad():
            assert torch.allclose(nn.functional.softplus(rho), torch.tensor(0.1))
            rho.uniform_(-4.0, 0.0)
        q = torch.distributions.Normal(mu.double(), nn.functional.softplus(rho.detach().double()))
        p = torch.distributions.Normal(torch.zeros_like(q.mean), 0.3)
        expected += float(torch.distributions.kl_divergence(q, p).sum())
    assert kl(wrapped).dtype == torch.float32
    assert kl(wrapped).item() == pytest.approx(expected, rel=1e-5)


def test_kl_of_rank_one_counts_features() -> None:
    """q(z) = N(1, alpha), p(z) = N(0, 1 + alpha) for each input feature, whatever the number of
    outputs.
    """
    alpha = torch.tensor([0.1, 0.5, 0.9])
    layer = reparameterize(nn.Linear(3, 100), RANK_ONE)
    with torch.no_grad():
        layer.log_alpha_input.copy_(alpha.log())
    q = torch.distributions.Normal(torch.ones(3), alpha.sqrt())
    p = torch.distributions.Normal(torch.zeros(3), (1 + alpha).sqrt())
    assert kl(layer).item() == pytest.approx(
        float(torch.distributions.kl_divergence(q, p).sum()), rel=1e-5
    )
    assert float(noise_level(layer)) == pytest.approx(0.5)


@pytest.mark.parametrize("config", [NOISE, GAUSSIAN], ids=["multiplicative", "gaussian"])
def test_kl_agrees_with_monte_carlo(config: Reparameterization) -> None:
    """E_q[log q - log p] of one weight, S = 200,000 draws, within 5 standard errors."""
    theta, S = 0.7, 200_000
    layer = reparameterize(nn.Linear(1, 1, bias=False), config)
    nn.init.constant_(layer.weight, theta)
    std, prior = (
        (0.1, 0.3) if config is GAUSSIAN else (theta * math.sqrt(0.25), theta * math.sqrt(1.25))
    )
    q = torch.distributions.Normal(torch.tensor(theta), torch.tensor(std))
    p = torch.distributions.Normal(torch.tensor(0.0), torch.tensor(prior))
    torch.manual_seed(0)
    w = q.sample((S,))
    gap = q.log_prob(w) - p.log_prob(w)
    assert abs(kl(layer).item() - float(gap.mean())) < 5 * float(gap.std()) / math.sqrt(S)


@pytest.mark.parametrize("method", ["none", "dropout", "weight_norm", "sigma_reparam", "low_rank"])
def test_methods_without_a_posterior_have_no_kl(method: str) -> None:
    wrapped = reparameterize(make("lstm")[0], CONFIGS[method], DROPOUT.get(method, 0.0))
    assert kl(wrapped).item() == 0.0
    assert noise_level(wrapped) is None


@battery
def test_kl_of_a_module_is_the_sum_over_its_layers(method: str, layer: str) -> None:
    wrapped, _ = build(method, layer)
    own = [module.kl() for module in wrapped.modules() if isinstance(module, Reparameterized)]
    total = sum(term.item() for term in own if term is not None)
    assert kl(wrapped).item() == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("config", [NOISE, LOCAL, GAUSSIAN], ids=["one_draw", "local", "gaussian"])
def test_bf16_autocast_keeps_kl_and_variance_in_float32(config: Reparameterization) -> None:
    """Embedding and Linear (an LSTM under bf16 autocast needs a CPU with avx512-bf16). S = 2000, 5
    standard errors.
    """
    torch.manual_seed(0)
    model = reparameterize(nn.Sequential(nn.Embedding(8, 64), nn.Linear(64, 3)), config)
    expected = kl(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        divergence = kl(model)
        assert divergence.dtype == torch.float32 and torch.equal(divergence, expected)
        out = sampled(model, IDS)
        assert out.dtype == torch.bfloat16
        (out.float().square().mean() + divergence).backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all()
        for p in model.parameters()
    )
    if config is LOCAL:
        x, layer = torch.randn(64), model[1]
        variance = (x.square() @ layer.weight.square().T * layer.log_alpha_weight.exp()).detach()
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            draws = torch.stack([layer(x).float() for _ in sampling(layer, 2000)])
        assert ((draws.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / 1999)).all()


def test_local_variance_does_not_underflow_in_float16() -> None:
    """x^2 theta^2 = 1e-12 is 0 in float16; the std, 1e-6 sqrt(alpha I), is not."""
    x, theta = torch.full((2000, 16), 1e-3).half(), torch.full((1, 16), 1e-3).half()
    noise = local_linear(x, theta, None, torch.zeros(1).half()) - nn.functional.linear(x, theta)
    assert float(noise.float().std()) == pytest.approx(4e-6, rel=0.1)


def test_local_gradient_at_zero_is_finite() -> None:
    """Padding and ReLU give rows of zeros, where the root of the variance has an infinite
    derivative.
    """
    layer = reparameterize(nn.Linear(3, 2), LOCAL)
    x = torch.zeros(4, 3, requires_grad=True)
    sampled(layer, x).sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (x, *layer.parameters()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
@pytest.mark.parametrize("method", ["one_draw", "local", "rank_one", "gaussian_posterior"])
def test_compiled_values_are_the_same(method: str) -> None:
    """Embedding and Linear, over three redraws: a compiled forward pass that kept its first noise
    would show.
    """
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")
    torch.manual_seed(0)
    model = reparameterize(
        nn.Sequential(nn.Embedding(8, 5), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)),
        CONFIGS[method],
        DROPOUT.get(method, 0.0),
    )
    compiled = torch.compile(
        model, options={"fallback_random": True}
    )  # torch's generator, not the compiler's
    for seed in range(3):
        expected = sampled(model, IDS, seed)
        torch.manual_seed(seed)
        torch.testing.assert_close(compiled(IDS), expected)
        gradients = torch.autograd.grad(expected.sum() + kl(model), list(model.parameters()))
        torch.manual_seed(seed)
        again = torch.autograd.grad(compiled(IDS).sum() + kl(model), list(model.parameters()))
        torch.testing.assert_close(again, gradients)


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
    layer = reparameterize(nn.Linear(4000, 1, bias=False), NoReparameterization(), dropout=0.3)
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
    for layer, x in ((nn.Linear(2, 2), torch.ones(2)), (nn.Embedding(2, 2), torch.tensor([1]))):
        wrapped = reparameterize(layer, NOISE)
        set_mode(wrapped, "sample")
        with pytest.raises(RuntimeError, match="redraw"):
            wrapped(x)
    wrong: Any = "folded"
    with pytest.raises(ValueError, match="fold"):
        set_mode(nn.Linear(2, 2), wrong)


TIED = nn.ModuleDict({"embedding": nn.Embedding(4, 3), "decoder": nn.Linear(3, 4)})
TIED["decoder"].weight = TIED["embedding"].weight


@pytest.mark.parametrize(
    "config",
    [NOISE, GAUSSIAN, WeightNorm(), NoReparameterization()],
    ids=lambda config: config.kind,
)
@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.LSTM(4, 4, proj_size=2), "`0`: it .*proj_size"),
        (nn.GRU(4, 4), "`0`: it .*GRU .*`weight_ih_l0`"),
        (nn.RNN(4, 4), "`0`: it .*RNN"),
        (nn.MultiheadAttention(4, 2), "`0`: it .*MultiheadAttention .*`in_proj_weight`"),
        (nn.Conv1d(4, 4, 1), "`0`: it .*Conv1d"),
        (TIED, "`0.embedding`: it .*0.embedding and 0.decoder share"),
        (nn.Embedding(2, 2, max_norm=1.0), "`0`: it .*max_norm"),
    ],
    ids=["proj_size", "gru", "rnn", "attention", "conv", "tied", "max_norm"],
)
def test_what_a_method_cannot_take_is_refused(
    config: Reparameterization, layer: nn.Module, named: str
) -> None:
    """Never passed over in silence; and the module is left as it was."""
    model = nn.Sequential(copy.deepcopy(layer), nn.Linear(4, 4))
    dropout = 0.3 if config.kind == "none" else 0.0
    if dropout and (layer is TIED or type(layer) is nn.Embedding):
        reparameterize(model, config, dropout)  # which changes no weight
        return
    with pytest.raises(RecipeError, match=named):
        reparameterize(model, config, dropout)
    assert type(model[1]) is nn.Linear


@pytest.mark.parametrize(("method", "layer"), sorted(REFUSED))
def test_what_the_battery_leaves_out_is_refused(method: str, layer: str) -> None:
    with pytest.raises(RecipeError):
        reparameterize(make(layer)[0], CONFIGS[method], DROPOUT.get(method, 0.0))


def test_norms_and_bare_parameters_carry_no_noise() -> None:
    wrapped = reparameterize(make("transformer")[0], NOISE)
    quiet = {
        name.rsplit(".", 1)[0] for name, _ in wrapped.named_parameters() if not is_noise(name)
    } - {name.rsplit(".", 1)[0] for name, _ in wrapped.named_parameters() if is_noise(name)}
    assert quiet == {
        "layer",
        "layer.norm",
        "layer.blocks.0.before_attention",
        "layer.blocks.0.before_feedforward",
    }


def test_drawn_normals_are_normal_and_independent() -> None:
    """Note [Bank]: over 2,000 seeds, of 64 x 32 windows; 5 standard errors, and Kolmogorov-Smirnov
    at 1e-4.
    """
    like, S = torch.zeros(()), 2000
    draws = torch.stack([normal(torch.Size([64, 32]), seed, like).flatten() for seed in range(S)])
    table = normal_rows(1000, 64, like)
    assert kstest(draws[:50].flatten().numpy(), "norm").pvalue > 1e-4
    for values in (draws.flatten(), table.flatten()):
        count = len(values)
        assert abs(float(values.double().mean())) < 5 / math.sqrt(min(count, 2**24))
        assert abs(float(values.double().var()) - 1) < 5 * math.sqrt(2 / min(count, 2**24))
    assert (draws.mean(0).abs() < 5.5 / math.sqrt(S)).all(), "each weight, over steps"
    for lag in (1, 32, 500):
        assert float((draws[:, lag:] * draws[:, :-lag]).mean(0).abs().max()) < 5.5 / math.sqrt(S), (
            "two weights, over steps"
        )
    neighbours = (draws[1:] * draws[:-1]).mean(1)
    assert (neighbours.abs() > 5 / math.sqrt(2048)).float().mean() < 0.01, "two steps, over weights"
    large = normal(torch.Size([1200, 1000]), 1, like)
    assert abs(float(large.mean())) < 5 / math.sqrt(1.2e6) and torch.equal(
        large, normal(large.shape, 1, like)
    )


def test_an_embedding_draws_its_rows_apart() -> None:
    """More rows than the table has room for at 2^24 values: still no two tokens of one draw share
    their noise.
    """
    rows = 40_000
    layer = reparameterize(nn.Embedding(rows, 512, _weight=torch.ones(rows, 512)), NOISE)
    with torch.no_grad():
        first, second = (sampled(layer, torch.arange(rows), seed)[:, 0] for seed in (1, 2))
    assert len(first.unique()) > 0.99 * rows  # float32 values may meet, as any 40,000 normals do
    assert abs(float(_correlation(first, second))) < 5 / math.sqrt(rows)


def test_seeds_spread() -> None:
    seeds = {
        mix(seed, step, layer) for seed in range(5) for step in range(200) for layer in range(5)
    }
    assert len(seeds) == 5000
    assert mix(1, 2) != mix(2, 1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Over the first dimension; 0 where either is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt().clamp(min=1e-30)
