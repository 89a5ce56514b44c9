"""Bytes from outside, made of bytes that are right: a seeded mutator, fast enough for a million
cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

LONGEST = 1 << 14  # bytes of a case: what a parser does wrong, it does in the first few
_NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
)


def mutations(
    seeds: Sequence[bytes], tokens: Sequence[bytes], cases: int, seed: int
) -> Iterator[bytes]:
    """`cases` byte strings: some `seeds` as they are, most of them damaged, and some made of
    `tokens` alone.

    The same arguments give the same cases.
    """
    random = Random(seed)
    for number in range(cases):
        if number < len(seeds):
            yield seeds[number]
        elif random.random() < 0.15:
            yield b"".join(random.choices(tokens, k=random.randrange(1, 40)))
        else:
            yield mutated(random, seeds, tokens)


def mutated(random: Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 1, 1, 2, 2, 3, 9))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 4, 8, 40, 400)))
        match random.randrange(9):
            case 0:  # one bit
                if at < len(data):
                    data[at] ^= 1 << random.randrange(8)
            case 1:  # other bytes
                data[at:end] = random.randbytes(end - at)
            case 2:  # bytes go
                del data[at:end]
            case 3:  # bytes stand twice, or very often
                data[at:at] = data[at:end] * random.choice((1, 1, 2, 50))
            case 4:  # a word of the format
                data[at:at] = random.choice(tokens)
            case 5:
                data[at:end] = random.choice(tokens)
            case 6:  # a number at the edge of its kind
                size = random.choice((1, 2, 4, 8))
                number = random.choice(_NUMBERS) % (1 << 8 * size)
                data[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))  # type: ignore[arg-type]
            case 7:  # the end of another
                other = random.choice(seeds)
                data[at:] = other[random.randrange(len(other) + 1) :]
            case _:  # cut short
                del data[max(at, len(data) // 4) :]
    return bytes(data[:LONGEST])
