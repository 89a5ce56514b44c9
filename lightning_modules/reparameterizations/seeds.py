"""Seeds and normal draws as a function of where they are used, so that nothing random has to be
stored to resume.

# Note [Bank] torch draws a float32 normal in about 4 ns of CPU, a weight of a small model takes
part in a step for 150 ns: drawing afresh costs 3 % of it. So weights take their noise from one
table of 2^24 standard normals, drawn once per process from a fixed seed: a matrix takes a window at
a seeded offset, an embedding takes rows by a seeded bijection. What is given up: two steps may see
the same values at other weights. Over offsets each weight's noise has the table's mean and variance
(off by 2e-4), and two weights of one matrix its autocorrelation at their distance (2e-4 too): what
2^24 independent draws would show. Two matrices' windows overlap now and then, shifted, which over
offsets leaves them uncorrelated. A matrix larger than a 16th of the table, or on another device
than the CPU, is drawn afresh.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

BANK = 2**24


def mix(*parts: int) -> int:
    """One well-spread 32-bit seed of several integers (splitmix64's finalizer, Steele 2014).

    torch's CPU generator keeps the low 32 bits of its seed only, so neighbouring parts must differ
    in those.
    """
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state + part * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state & 0xFFFFFFFF


def seed_generators(seed: int) -> None:
    """torch.manual_seed for the devices in use: that one takes 0.1 ms, much of a small model's
    step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def normal(shape: torch.Size, seed: int, like: Tensor) -> Tensor:
    """N(0, 1) draws with the dtype and device of `like`, a function of the seed; not to be written
    to.
    """
    count = shape.numel()
    if count > BANK // 16 or like.device.type != "cpu":
        generator = torch.Generator(like.device).manual_seed(seed)
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    start = mix(seed) % (BANK - count + 1)
    return _bank(BANK, like.device)[start : start + count].view(shape).to(like.dtype)


def normal_like(x: Tensor) -> Tensor:
    """N(0, 1) draws with the shape, dtype and device of x, from torch's global generator; not to be
    written to.
    """
    if x.device.type != "cpu":
        return torch.randn_like(x)
    return normal(x.shape, int(torch.randint(2**32, ())), x)


def normal_rows(rows: int, size: int, like: Tensor) -> Tensor:
    """A table (2^k, size) of N(0, 1) draws with at least `rows` rows, float32; not to be written
    to.

    Row i of a draw is row (a i + b) mod 2^k of it, a odd: no two of a draw's rows are the same.
    """
    values = max(BANK, 2 ** math.ceil(math.log2(rows)) * size)
    count = 2 ** int(math.log2(values // size))
    return _bank(values, like.device)[: count * size].view(count, size)


@functools.cache
def _bank(size: int, device: torch.device) -> Tensor:
    return torch.randn(
        size, generator=torch.Generator(device).manual_seed(mix(size)), device=device
    )
