"""Weight norm and sigma reparam: another shape of the same function, against torch's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from data_contracts.errors import RecipeError
from data_contracts.recipe.methods import SigmaReparam, WeightNorm
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.reparameterizations import fold, kl, redraw, reparameterize, set_mode
from lightning_modules.training import recorder
from tests.lightning_modules.jobs import fit

CONFIGS = {"weight_norm": WeightNorm(), "sigma_reparam": SigmaReparam()}
BUILD = {
    "linear": lambda: nn.Linear(5, 3),
    "lstm": lambda: nn.LSTM(5, 4, num_layers=2, bidirectional=True),
    "embedding": lambda: nn.Embedding(8, 5, padding_idx=0),
}
CASES = [(m, la) for m in CONFIGS for la in BUILD if (m, la) != ("sigma_reparam", "embedding")]
battery = pytest.mark.parametrize(("method", "layer"), CASES)


def make(layer: str) -> tuple[Any, Tensor]:
    torch.manual_seed(3)
    return BUILD[layer](), torch.tensor(
        [[1, 2, 0], [7, 1, 5]]
    ) if layer == "embedding" else torch.randn(2, 4, 5)


def out(module: nn.Module, x: Tensor) -> Tensor:
    y = module(x)
    return y[0] if isinstance(y, tuple) else y


def stepped(method: str, layer: str, steps: int = 3, lr: float = 0.1) -> tuple[Any, Tensor]:
    """After some optimizer steps, in sample mode."""
    module, x = make(layer)
    module = reparameterize(module, CONFIGS[method])
    set_mode(module, "sample")
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    for step in range(steps):
        redraw(module, step)
        optimizer.zero_grad()
        (out(module, x) - 1).square().sum().backward()
        optimizer.step()
    return module, x


@battery
def test_the_function_is_unchanged_at_the_start(method: str, layer: str) -> None:
    plain, x = make(layer)
    module = reparameterize(copy.deepcopy(plain), CONFIGS[method])
    assert torch.equal(out(module, x), out(plain, x))
    set_mode(module, "sample")
    torch.testing.assert_close(out(module, x), out(plain, x), atol=1e-7, rtol=1e-6)
    assert kl(module).item() == 0.0


@battery
def test_fold_is_mean_and_every_tensor_moves(method: str, layer: str) -> None:
    start = dict(reparameterize(make(layer)[0], CONFIGS[method]).named_parameters())
    module, x = stepped(method, layer)
    assert not [name for name, p in module.named_parameters() if torch.equal(p, start[name])]
    folded = fold(module)
    set_mode(module, "mean")
    assert torch.equal(out(folded, x), out(module, x))
    assert type(folded) is type(make(layer)[0])
    assert set(folded.state_dict()) == set(make(layer)[0].state_dict())
    assert torch.equal(out(fold(folded), x), out(folded, x))


@battery
def test_gradcheck(method: str, layer: str) -> None:
    module, x = make(layer)
    module = reparameterize(module.double(), CONFIGS[method])
    x = x.double() if x.is_floating_point() else x.clamp(min=1)  # a padding row has no gradient
    set_mode(module, "sample")
    with torch.no_grad():  # u and v are constants of the gradient: exact singular vectors or not
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    names, tensors = zip(*module.named_parameters(), strict=True)

    def function(*values: Tensor) -> Tensor:
        y = torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))
        return y[0] if isinstance(y, tuple) else y

    assert torch.autograd.gradcheck(
        function, tuple(t.detach().clone().requires_grad_() for t in tensors), fast_mode=True
    )


# --- weight norm ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["linear", "embedding"])
def test_weight_norm_is_torchs_own(layer: str) -> None:
    """Values and gradients: W, dW/dv; dL/dc = sqrt(I) dL/dg, since g = sqrt(I) c."""
    plain, x = make(layer)
    x = x if layer == "linear" else x.clamp(min=1)  # torch's own knows no padding row
    theirs: Any = parametrizations.weight_norm(copy.deepcopy(plain))
    ours: Any = reparameterize(plain, CONFIGS["weight_norm"])
    set_mode(ours, "sample")
    with torch.no_grad():
        direction = torch.randn_like(ours.weight)
        ours.weight.add_(direction)
        ours.gain_weight.mul_(1.5)
        g, v = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
        v.add_(direction)
        g.mul_(1.5)
        if layer == "embedding":  # zero, so without a direction
            v[0], ours.weight[0] = 1.0, 1.0
    torch.testing.assert_close(ours(x), theirs(x))
    for module in (ours, theirs):
        out(module, x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, v.grad)
    torch.testing.assert_close(ours.gain_weight.grad, 5**0.5 * g.grad.squeeze(1))


def test_rows_of_zeros_can_learn_and_padding_cannot() -> None:
    layer = nn.Linear(5, 3)
    nn.init.zeros_(layer.weight[1].detach())
    wrapped: Any = reparameterize(copy.deepcopy(layer), CONFIGS["weight_norm"])
    x = torch.randn(7, 5)
    assert torch.equal(wrapped(x), layer(x))
    wrapped(x).square().sum().backward()
    assert wrapped.gain_weight.grad[1] != 0
    embedding, ids = stepped("weight_norm", "embedding")
    assert (embedding(ids)[ids == 0] == 0).all()


# --- sigma reparam --------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["linear", "lstm"])
def test_the_spectral_norm_is_gamma(layer: str) -> None:
    """Exactly at the start; with u and v one power iteration per step while weights move, within 1
    % of the SVD's.
    """
    module: Any
    for module, tolerance in (
        (reparameterize(make(layer)[0], CONFIGS["sigma_reparam"]), 1e-5),
        (stepped("sigma_reparam", layer, steps=60, lr=0.003)[0], 1e-2),
    ):
        for name in module.weights:
            size = max(module.get_parameter(name).shape)
            gamma = size**0.25 * module.get_parameter(f"gain_{name}").detach()
            sigma = torch.linalg.svdvals(module.mean_weight(name))[0]
            torch.testing.assert_close(sigma, gamma, rtol=tolerance, atol=0.0)


def test_power_iteration_finds_the_leading_singular_vectors() -> None:
    layer: Any = reparameterize(nn.Linear(6, 4), CONFIGS["sigma_reparam"])
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 6))
    for _ in range(200):
        redraw(layer, 0)
    assert torch.allclose(layer._sigma("weight"), torch.linalg.svdvals(layer.weight)[0])


def test_one_power_iteration_per_step_and_none_at_inference() -> None:
    layer, x = stepped("sigma_reparam", "linear")
    u = layer.u_weight.clone()
    layer(x), layer(x)
    assert torch.equal(layer.u_weight, u), "batches of one step share it"
    layer.eval()
    redraw(layer, 1)
    assert torch.equal(layer.u_weight, u)
    layer.train()
    redraw(layer, 1)
    assert not torch.equal(layer.u_weight, u)


def test_a_weight_of_zeros_is_refused() -> None:
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    with pytest.raises(RecipeError, match="weight of zeros"):
        reparameterize(layer, CONFIGS["sigma_reparam"])


# --- training -------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("method", CONFIGS)
def test_resume_is_exact(
    method: str, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at step 7, with two batches per step; the checkpoint is that of step 5."""
    monkeypatch.setattr(recorder, "PROGRESS_SECONDS", 0.0)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == 7:
            raise Interrupted

    given: dict[str, Any] = {
        **arguments,
        "model": ModelConfig(
            embedding={"size": 8},
            encoder={"kind": "bilstm_attention", "hidden_size": 5},
            dropout=0.1,
            reparameterization={"kind": method},
        ),
        "training": TrainingConfig(
            max_epochs=2,
            batch_size=16,
            accumulate_grad_batches=2,
        ),
    }
    expected = fit(**given, work=tmp_path / "w1", out=tmp_path / "o1")
    with pytest.raises(Interrupted):
        fit(**{**given, "on_progress": stop}, work=tmp_path / "w2", out=tmp_path / "o2")
    events: list[dict[str, Any]] = []
    assert (
        fit(**{**given, "on_progress": events.append}, work=tmp_path / "w2", out=tmp_path / "o2")
        == expected
    )
    assert (events[0]["event"], events[0]["step"]) == ("resumed", 5)
