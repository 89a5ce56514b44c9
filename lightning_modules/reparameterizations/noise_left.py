"""What a training's noise was when it ended, beside the folded network: to draw from again.

    W = theta + sqrt(alpha) |theta| eps,   eps ~ N(0, 1) per weight, theta the folded weight

alpha is the noise's variance over the weight's square, as each method tells it (`alpha()` of its
layers), so that a folded network draws what its method drew. Served is the mean, without noise;
draws tell how sure an answer is (Gal & Ghahramani 2016 for dropout; Fomicheva et al. 2020,
https://arxiv.org/abs/2005.10608, for translations).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lightning_modules.reparameterizations.layers import Reparameterized
from lightning_modules.reparameterizations.seeds import mix, normal

FILE = "noise.safetensors"
Alphas = Mapping[str, Tensor]


def alphas_of(module: nn.Module) -> dict[str, Tensor]:
    """By the name of the weight in the folded network, in a shape that the weight's can be divided
    by; empty where a method has no noise at its weights.
    """
    return {
        f"{path}.{name}": alpha.detach().cpu().contiguous()
        for path, layer in module.named_modules()
        if isinstance(layer, Reparameterized)
        for name, alpha in layer.alpha().items()
    }


def save_noise(folder: Path, alphas: Alphas) -> None:
    """Effects: one file in `folder`, where there is any noise."""
    if alphas:
        save_file(dict(alphas), folder / FILE)


def load_noise(folder: Path) -> dict[str, Tensor]:
    """Empty where nothing was saved."""
    return load_file(folder / FILE) if (folder / FILE).exists() else {}


@contextmanager
def drawn(network: nn.Module, alphas: Alphas, seed: int) -> Iterator[None]:
    """One draw of the weights of a folded network, a function of the seed; they are as they were
    afterwards.

    Weights that the network has no more (a method that removes) stay out of it.
    """
    known = dict(network.named_parameters())
    own = {name: alpha for name, alpha in alphas.items() if name in known}
    before: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            for place, (name, alpha) in enumerate(sorted(own.items())):
                weight = known[name]
                before[name] = weight.clone()
                eps = normal(weight.shape, mix(seed, place), weight)
                weight.addcmul_(weight.abs() * alpha.to(weight).sqrt(), eps)
        yield
    finally:
        with torch.no_grad():
            for name, tensor in before.items():
                known[name].copy_(tensor)
