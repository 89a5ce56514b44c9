"""Integrated gradients of a network's score with regard to what it looks up for a text.

    c_i = (x_i - b_i) * integral_0^1 ds/dx_i (b + a (x - b)) da        sum_i c_i = s(x) - s(b)

(Sundararajan 2017, https://arxiv.org/abs/1703.01365, eq. 1 and the axiom of completeness.) x are
all rows that are looked up at once: token vectors, and rows of n-grams where the network has such
tables. So one path goes to the text from one of unknown tokens without any n-gram; a table that is
linear in its rows has its exact share of whatever its sum is put through.

Shapes: W windows, T positions, G rows of a table that a window looks up, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

FIRST, MOST = 16, 512  # steps
TOLERANCE = 0.01  # of the sum of all contributions' sizes
_POSITIONS = 16_384  # that are worked on at a time, where a step has no more


class Lookup(NamedTuple):
    """A table whose rows a network reads.

    spread: what each row adds (W, G) to what each position does (W, T).
    nothing: (D,) what stands in the baseline for each row; None: the zero vector.
    kept: (W, G) rows that are no text's: they stand in the baseline as they are; None: there are
        none.
    """

    module: nn.Module
    spread: Callable[[np.ndarray], np.ndarray]
    nothing: Tensor | None = None
    kept: Tensor | None = None


class Integrated(NamedTuple):
    """What each position adds to the score, and how exactly."""

    positions_WT: np.ndarray  # float64
    score: float
    baseline: float
    error: float  # score - baseline - the sum of the positions
    steps: int

    @property
    def converged(self) -> bool:
        return abs(self.error) <= TOLERANCE * float(np.abs(self.positions_WT).sum()) + 1e-6


def integrated(
    scores: Callable[[int], Tensor], lookups: Sequence[Lookup], shape: tuple[int, int]
) -> Integrated:
    """What each position of W windows adds to a score; the steps are doubled until the error is
    within `TOLERANCE`, or there are `MOST`.

    Args:
        scores: runs the network on so many copies of the windows, one copy after the other, and
            returns the score of each (copies,).
        shape: W and T.
    """
    from captum.attr import IntegratedGradients

    modules = [one.module for one in lookups]
    with torch.no_grad():
        x, score = _looked_up(scores, modules)
        baselines = [_baseline(rows, one) for rows, one in zip(x, lookups, strict=True)]
        with _replaced(modules, baselines):
            baseline = float(scores(1)[0])

    def forward(*rows: Tensor) -> Tensor:
        with _replaced(modules, rows):
            return scores(len(rows[0]) // shape[0])

    method = IntegratedGradients(forward)
    # Whole copies at a time: a score is one of all windows.
    rows_at_a_time = max(1, _POSITIONS // (shape[0] * shape[1])) * shape[0]
    steps = FIRST
    while True:
        # Recurrent layers on a GPU have no gradient in eval mode but without cuDNN.
        with torch.backends.cudnn.flags(enabled=False), torch.enable_grad():
            parts = method.attribute(
                tuple(x), tuple(baselines), n_steps=steps, internal_batch_size=rows_at_a_time
            )
        found = np.zeros(shape)
        for part, lookup in zip(parts, lookups, strict=True):
            found += lookup.spread(part.detach().sum(dim=-1).double().cpu().numpy())
        error = score - baseline - float(found.sum())
        result = Integrated(found, score, baseline, error, steps)
        if result.converged or steps >= MOST:
            return result
        steps *= 2


def gradient_times_input(
    scores: Callable[[int], Tensor], lookups: Sequence[Lookup], shape: tuple[int, int]
) -> np.ndarray:
    """(W, T) the gradient at the text itself times what is looked up: what integrated gradients are
    measured against.
    """
    modules = [one.module for one in lookups]
    with torch.no_grad():
        x, _ = _looked_up(scores, modules)
    with torch.backends.cudnn.flags(enabled=False), torch.enable_grad():
        rows = [one.requires_grad_() for one in x]
        with _replaced(modules, rows):
            gradients = torch.autograd.grad(scores(1)[0], rows)
    found = np.zeros(shape)
    for one, gradient, lookup in zip(x, gradients, lookups, strict=True):
        change = one.detach() - _baseline(one.detach(), lookup)
        found += lookup.spread((gradient * change).sum(dim=-1).double().cpu().numpy())
    return found


def _baseline(rows: Tensor, lookup: Lookup) -> Tensor:
    """(W, G, D)"""
    found = torch.zeros_like(rows)
    if lookup.nothing is not None:
        found = found + lookup.nothing
    return found if lookup.kept is None else torch.where(lookup.kept.unsqueeze(-1), rows, found)


def _looked_up(
    scores: Callable[[int], Tensor], modules: Sequence[nn.Module]
) -> tuple[list[Tensor], float]:
    """The rows (W, G, D) that each table gives, and the score."""
    seen: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: Any, rows: Tensor) -> None:
        seen[module] = rows.detach().clone()

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        score = float(scores(1)[0])
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[module] for module in modules], score


@contextmanager
def _replaced(modules: Sequence[nn.Module], rows: Sequence[Tensor]) -> Iterator[None]:
    """Each table gives these rows, whatever it is asked for."""
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, given=given: given)
        for module, given in zip(modules, rows, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
