"""The peers of the language models count every character once, and are paired block by block."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from benchmarks.peers.language import Figure, compressed, nats
from benchmarks.peers.language_table import as_markdown, difference

TEXT = b"To be, or not to be, that is the question. " * 40


class Copy(torch.nn.Module):
    """Is sure that the character `half` places back comes next: right wherever it can see it."""

    def __init__(self, vocab_size: int, half: int) -> None:
        super().__init__()
        self.config, self.half = SimpleNamespace(vocab_size=vocab_size), half

    def forward(self, ids: Tensor) -> SimpleNamespace:
        logits = torch.zeros(*ids.shape, self.config.vocab_size)
        for at in range(ids.shape[1]):
            if at + 1 >= self.half:
                seen = ids[:, at + 1 - self.half].unsqueeze(1)
                logits[:, at].scatter_(1, seen, 50.0)
        return SimpleNamespace(logits=logits)


@pytest.mark.parametrize("length", [16, 17, 24, 25, 1100])
def test_each_character_is_told_once_with_half_a_window_before_it(length: int) -> None:
    half, vocab_size = 8, 11
    ids = torch.randint(vocab_size, (half,)).repeat(length // half + 1)[:length]
    found = [*nats(Copy(vocab_size, half), ids, 2 * half)]
    assert len(found) == length
    assert found[:half] == pytest.approx([math.log(vocab_size)] * half, abs=1e-5)
    assert found[half:] == pytest.approx([0.0] * (length - half), abs=1e-5)


@pytest.mark.parametrize("name", ["xz", "bz2"])
def test_a_compressor_is_charged_for_what_is_new_alone(name: str) -> None:
    size = compressed(name)
    assert 0 <= size(TEXT, TEXT[:430]) < len(compressed_alone(name, TEXT[:430]))


def compressed_alone(name: str, data: bytes) -> bytes:
    import bz2
    import lzma

    return {"xz": lzma.compress, "bz2": bz2.compress}[name](data)


def test_a_difference_is_paired_over_the_same_blocks() -> None:
    blocks = [700.0, 720.0, 690.0, 710.0]
    worse = [one + 69.3 for one in blocks]
    base = [Figure("ours", seed, 1.0, 1.0, 1, "", blocks) for seed in (0, 1)]
    found = difference([Figure("other", 0, 1.1, 1.0, 1, "", worse)], base, 4000)
    assert found == pytest.approx([0.1, 0.1, 0.1], abs=1e-4)
    assert difference([Figure("xz", None, 2.0, 1.0)], base, 4000) is None


def test_the_table_has_seeds_and_spread() -> None:
    row = {
        "model": "GPT",
        "seeds": [0, 1],
        "bits_per_byte": [2.0, 2.2],
        "cpu_seconds": [180.0, 180.4],
        "parameters": 800_000,
        "difference": [0.1, 0.08, 0.12],
    }
    text = as_markdown([row])
    assert "| GPT | 0, 1 | 2.100 ± 0.141 | +0.100 (+0.080 to +0.120) | 800,000 | 180 |" in text
