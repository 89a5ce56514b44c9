"""What a target is: where its cases come from, and what has to hold for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from data_contracts.errors import NoisefoldError
from tests.fuzz.mutation import mutations

# Hypothesis remembers the cases of a run, so that it gives none twice: short runs keep that small.
CHUNK = 500
# A case of hypothesis costs a millisecond or two, far more than the parser that it is for; what it
# is better at (odd characters, numbers at the edge, empty things) needs no million.
QUICK = 0.9


@dataclass(frozen=True)
class Target:
    """One door for data from outside.

    `check` gets a case and says whether it was taken (True) or refused with the documented error
    (False); whatever else comes out of it is a crash.
    """

    name: str
    what: str
    share: float
    check: Callable[[Any], bool]
    strategy: SearchStrategy[Any] | None = None  # hypothesis gives the cases, …
    quick: Callable[[Random], Any] | None = (
        None  # … or a function of a seeded generator gives QUICK of them, …
    )
    seeds: Sequence[bytes] = ()  # … or bytes are mutated
    tokens: Sequence[bytes] = (b"\0",)
    warm: Sequence[Any] = field(
        default=()
    )  # cases run first, unwatched, so that what is imported late is there

    def drive(self, cases: int, number: int, each: Callable[[Any], None]) -> None:
        """Call `each` with `cases` cases, the same ones for the same `number`."""
        if self.strategy is None:
            for case in mutations(self.seeds, self.tokens, cases, number):
                each(case)
            return
        random, done = Random(number), round(QUICK * cases) if self.quick else 0
        for _ in range(done):
            each(self.quick(random))  # type: ignore[misc]
        while done < cases:
            chunk, before = min(CHUNK, cases - done), done
            number += 1

            @seed(number)
            @settings(
                max_examples=chunk,
                database=None,
                deadline=None,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            )
            @given(self.strategy)
            def examples(case: Any) -> None:
                nonlocal done
                if done < cases:
                    done += 1
                    each(case)

            examples()
            if done == before:
                raise RuntimeError(f"{self.name}: hypothesis gives no case")


def refused(error: BaseException) -> bool:
    """Whether an error is one that a person can read: a sentence, and nothing that cannot be
    written or sent.

    Returns False, which is what a check answers for a case that was refused.
    """
    text = str(error)
    text.encode()  # half a surrogate pair cannot be written into a log or a database
    assert text.strip(), f"{type(error).__name__} says nothing"
    assert len(text) < 50_000, f"{type(error).__name__} says {len(text):,} characters"
    if isinstance(error, NoisefoldError):
        assert error.cause.strip() and error.cause.rstrip()[-1] in ".!?", (
            f"no sentence: {error.cause[-80:]!r}"
        )
    return False


def joined(parts: Iterable[str], *more: bytes) -> tuple[bytes, ...]:
    """Words of a format as bytes, halves of surrogate pairs too, and what is no text at all."""
    return (*(part.encode("utf-8", "surrogatepass") for part in parts), *more)
