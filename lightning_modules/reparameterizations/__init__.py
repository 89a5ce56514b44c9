"""A model's weights as a function of parameters and noise: one mechanism, one method per file.

module = reparameterize(module, config, p)   explicit layers in place of Linear, Embedding, LSTM
set_mode(module, "sample" | "mean")          noise on (training, S draws at inference), or off
redraw(module, seed) the noise of the next optimizer step, a function of the seed for s in
sampling(module, S, seed): ... S draws at inference kl(module) KL(q || p) summed over layers, nats,
float32 fold(module) a copy with plain torch layers: same outputs as mean

What a method's file has: `LAYERS` (plain type, or its name -> its layer); where it wants them,
`PLAIN` (types with weights that it leaves as they are, by design), `chosen(path, layer, config,
new) -> bool` (which layers of a known type it takes; all; `new`: the layer is part of what is new
with the task) and `prepare(module, config, dropout)` (called on the plain module before anything is
replaced). A type is also known by the one whose forward pass it inherits. What a method does in the
course of a training stands in `course`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from data_contracts.errors import RecipeError
from data_contracts.recipe.methods import Reparameterization
from lightning_modules.reparameterizations import (
    gaussian_posterior,
    low_rank,
    multiplicative_noise,
    none,
    sigma_reparam,
    sparse,
    weight_norm,
)
from lightning_modules.reparameterizations.layers import (
    NOISE_PREFIXES,
    Mode,
    Reparameterized,
    new_with_the_task,
)
from lightning_modules.reparameterizations.seeds import mix, seed_generators

__all__ = [
    "fold", "is_noise", "kl", "mix", "noise_level", "redraw", "reparameterize", "sampling",
    "set_mode",
]  # fmt: skip

METHODS: dict[str, ModuleType] = {
    "none": none,
    "multiplicative_noise": multiplicative_noise,
    "gaussian_posterior": gaussian_posterior,
    "weight_norm": weight_norm,
    "sigma_reparam": sigma_reparam,
    "low_rank": low_rank,
    "sparse": sparse,
}


def reparameterize(
    module: nn.Module, config: Reparameterization, dropout: float = 0.0
) -> nn.Module:
    """Replace each layer that the method knows, in place; returns the module (another one where it
    is itself a layer).

    The layers keep the parameters they find, so a pretrained function stays what it was until noise
    is switched on. Normalization layers and bare parameters (learned positions) carry no noise.

    Args:
        dropout: share of each layer's inputs that sample mode sets to zero, beside any method.
    Raises:
        RecipeError: a layer has weights that the method cannot take; nothing has been replaced
            then.
    """
    method = METHODS[config.kind]
    if method is none and not dropout:
        return module
    chosen = _chosen(module, method, config)
    if prepare := getattr(method, "prepare", None):
        prepare(module, config, dropout)

    def replaced(layer: nn.Module) -> nn.Module:
        if id(layer) not in chosen:
            return layer
        made = chosen[id(layer)](layer, config)
        made.dropout = dropout
        return made

    return _replace(module, replaced)


def set_mode(module: nn.Module, mode: Mode) -> None:
    if mode not in ("sample", "mean"):
        raise ValueError(
            f"mode is {mode!r}, not 'sample' or 'mean' (the third mode is what fold() returns)"
        )
    for layer in _layers(module):
        layer.mode = mode


def redraw(module: nn.Module, seed: int) -> None:
    """New noise in every layer, each from a generator of its own seeded by (seed, place of the
    layer).

    Noise per document or position, and dropout, come from torch's global generator during the
    forward pass.
    """
    for index, layer in enumerate(_layers(module)):
        layer.redraw(mix(seed, index))


def sampling(module: nn.Module, samples: int, seed: int = 0) -> Iterator[int]:
    """S draws at inference: `for s in sampling(module, S): logits.append(module(x))`.

    All randomness inside the loop is a function of (seed, s). Ends in the modes, and the generator
    states, it found.
    """
    modes: list[tuple[Reparameterized, Mode]] = [(layer, layer.mode) for layer in _layers(module)]
    devices = {parameter.device for parameter in module.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices):
        try:
            set_mode(module, "sample")
            for s in range(samples):
                seed_generators(mix(seed, s))
                redraw(module, mix(seed, s))
                yield s
        finally:
            for layer, mode in modes:
                layer.mode = mode


def kl(module: nn.Module) -> Tensor:
    """KL(q || p) in nats, summed over layers, float32; 0 where the method has none."""
    layers = _layers(module)
    noisy = [layer for layer in layers if isinstance(layer, multiplicative_noise.Noisy)]
    terms = [term for layer in layers if layer not in noisy and (term := layer.kl()) is not None]
    if noisy:
        terms.append(multiplicative_noise.divergence(noisy))
    if not terms:
        first = next(module.parameters(), None)
        return torch.zeros((), device=None if first is None else first.device)
    return torch.stack(terms).sum()


def noise_level(module: nn.Module) -> Tensor | None:
    """Mean alpha (noise variance over weight squared) over the weights that have one; None where
    there are none.
    """
    total, count = None, 0
    for layer in _layers(module):
        for name, alpha in layer.alpha().items():
            size = getattr(layer, name).numel()
            part = alpha.mean() * size
            total, count = part if total is None else total + part, count + size
    return None if total is None else total / count


def is_noise(name: str) -> bool:
    """Whether a parameter, by its dotted name, shapes the noise: own learning rate, no weight
    decay.
    """
    return name.rsplit(".", 1)[-1].startswith(NOISE_PREFIXES)


def fold(module: nn.Module) -> nn.Module:
    """A copy with plain torch layers and no trace of the method; folding it again changes
    nothing.
    """
    return _replace(
        copy.deepcopy(module),
        lambda layer: cast(Any, layer).fold() if hasattr(layer, "fold") else layer,
    )


def _layers(module: nn.Module) -> list[Reparameterized]:
    return [layer for layer in module.modules() if isinstance(layer, Reparameterized)]


def _chosen(
    module: nn.Module, method: ModuleType, config: Reparameterization
) -> dict[int, type[Reparameterized]]:
    """The layers to replace, by id, and by what; raises where one that has weights would be passed
    over in silence.
    """
    left_plain: tuple[type, ...] = getattr(method, "PLAIN", ())
    wanted = getattr(method, "chosen", lambda path, layer, config, new: True)
    owners: dict[int, list[str]] = {}
    for path, layer in module.named_modules():
        for parameter in layer._parameters.values():
            owners.setdefault(id(parameter), []).append(path)
    new = new_with_the_task(module)
    found: dict[int, type[Reparameterized]] = {}
    for path, layer in module.named_modules():
        kind = _rule(type(layer), method)
        reason = None
        if kind is None:
            if not isinstance(layer, left_plain) and (name := _matrix(layer)):
                reason = (
                    f"has no rule for a {type(layer).__name__} (its `{name}` would go without it)"
                )
        elif wanted(path, layer, config, layer in new):
            found[id(layer)] = kind
            shared = [
                owners[id(p)]
                for p in layer._parameters.values()
                if p is not None and len(owners[id(p)]) > 1
            ]
            reason = kind.refusal(layer, config)
            if shared and config.kind != "none":
                reason = reason or f"would untie the weight that {' and '.join(shared[0])} share"
        if reason:
            raise RecipeError(
                f"model.reparameterization.kind {config.kind}, layer `{path or '.'}`: it {reason}.",
                "Choose another method, or a model of Linear, Embedding and LSTM layers with "
                "weights of their own.",
            )
    return found


def _rule(kind: type[nn.Module], method: ModuleType) -> type[Reparameterized] | None:
    """What a method makes of a type of layer: of itself, of its name, or of the type whose forward
    pass it inherits.
    """
    own = method.LAYERS.get(kind) or method.LAYERS.get(kind.__name__)
    if own is not None:
        return own
    bases = (
        base for base in kind.__mro__ if base in method.LAYERS and kind.forward is base.forward
    )
    base = next(bases, None)
    # torch's MultiheadAttention reads the weight of such a subclass and never calls it.
    passed_over = base is None or kind.__module__.startswith("torch.")
    return None if passed_over else method.LAYERS[base]


def _matrix(layer: nn.Module) -> str | None:
    """A weight matrix that the module holds itself; bare parameters beside children (learned
    positions) are none.
    """
    leaf = not layer._modules
    own = layer.named_parameters(recurse=False)
    return next(
        (name for name, parameter in own if parameter.ndim > 1 and (leaf or "weight" in name)), None
    )


def _replace(
    module: nn.Module,
    change: Callable[[nn.Module], nn.Module],
    seen: dict[int, nn.Module] | None = None,
) -> nn.Module:
    """Apply `change` from the leaves up; a module used in two places is changed once and stays
    shared.
    """
    seen = {} if seen is None else seen
    if id(module) not in seen:
        for name, child in list(module._modules.items()):
            if child is not None:
                setattr(module, name, _replace(child, change, seen))
        changed = change(module)
        seen[id(module)] = seen[id(changed)] = changed
    return seen[id(module)]
