"""Seeds as a function of where they are used, so that nothing about randomness has to be stored to resume."""

from __future__ import annotations


def mix(*parts: int) -> int:
    """One well-spread 32-bit seed of several integers (splitmix64's finalizer, Steele 2014).

    torch's CPU generator keeps the low 32 bits of its seed only, so neighbouring parts must differ in those.
    """
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state + part * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state & 0xFFFFFFFF
