"""A model's weights as a function of parameters and noise: one mechanism, one method per file.

module = reparameterize(module, config)      explicit layers in place of Linear, Embedding, LSTM
set_mode(module, "sample" | "mean")          noise on (training, S draws at inference), or off
redraw(module, seed)                         the noise of the next optimizer step, a function of the seed
kl(module)                                   KL(q || p) summed over layers, nats, float32
fold(module)                                 a copy with plain torch layers: same outputs as mean, bit for bit
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from data_contracts.model_config import Reparameterization
from lightning_modules.reparameterizations import dropout, multiplicative_noise, none
from lightning_modules.reparameterizations.layers import Mode, Reparameterized
from lightning_modules.reparameterizations.seeds import mix

__all__ = ["fold", "kl", "mix", "noise_level", "redraw", "reparameterize", "sampling", "set_mode"]

METHODS = {"none": none.LAYERS, "dropout": dropout.LAYERS, "multiplicative_noise": multiplicative_noise.LAYERS}


def reparameterize(module: nn.Module, config: Reparameterization) -> nn.Module:
    """Replace each layer that the method knows, in place; returns the module (another one where it is itself a layer).

    The layers keep the parameters they find, so a pretrained function stays what it was until noise is switched on.
    """
    kinds = METHODS[config.kind]
    return _replace(module, lambda layer: kinds[type(layer)](layer, config) if type(layer) in kinds else layer)


def set_mode(module: nn.Module, mode: Mode) -> None:
    if mode not in ("sample", "mean"):
        raise ValueError(f"mode is {mode!r}, not 'sample' or 'mean' (the third mode is what fold() returns)")
    for layer in _layers(module):
        layer.mode = mode


def redraw(module: nn.Module, seed: int) -> None:
    """New noise in every layer, each from a generator of its own seeded by (seed, place of the layer)."""
    for index, layer in enumerate(_layers(module)):
        layer.redraw(mix(seed, index))


def sampling(module: nn.Module, samples: int, seed: int = 0) -> Iterator[int]:
    """S draws at inference: `for s in sampling(module, S): logits.append(module(x))`. Ends in the modes it found."""
    modes = [(layer, layer.mode) for layer in _layers(module)]
    try:
        set_mode(module, "sample")
        for s in range(samples):
            redraw(module, mix(seed, s))
            yield s
    finally:
        for layer, mode in modes:
            layer.mode = mode


def kl(module: nn.Module) -> Tensor:
    """KL(q || p) in nats, summed over layers, float32; 0 where the method has none."""
    terms = [term for layer in _layers(module) if (term := layer.kl()) is not None]
    if not terms:
        first = next(module.parameters(), None)
        return torch.zeros((), device=None if first is None else first.device)
    return torch.stack(terms).sum()


def noise_level(module: nn.Module) -> Tensor | None:
    """Mean alpha over all noisy weights; None where there are none."""
    total, count = None, 0
    for layer in _layers(module):
        if isinstance(layer, multiplicative_noise._Noisy):
            for name, alpha in layer.alpha().items():
                part = alpha.sum() * getattr(layer, name).shape[1]
                total = part if total is None else total + part
                count += getattr(layer, name).numel()
    return None if total is None else total / count


def fold(module: nn.Module) -> nn.Module:
    """A copy with plain torch layers and no trace of the method; folding it again changes nothing."""
    return _replace(copy.deepcopy(module), lambda layer: layer.fold() if isinstance(layer, Reparameterized) else layer)


def _layers(module: nn.Module) -> list[Reparameterized]:
    return [layer for layer in module.modules() if isinstance(layer, Reparameterized)]


def _replace(
    module: nn.Module, change: Callable[[nn.Module], nn.Module], seen: dict[int, nn.Module] | None = None
) -> nn.Module:
    """Apply `change` from the leaves up; a module used in two places is changed once and stays shared."""
    seen = {} if seen is None else seen
    if id(module) not in seen:
        for name, child in list(module._modules.items()):
            if child is not None:
                setattr(module, name, _replace(child, change, seen))
        changed = change(module)
        seen[id(module)] = seen[id(changed)] = changed
    return seen[id(module)]
