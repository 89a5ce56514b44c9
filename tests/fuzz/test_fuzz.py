"""A short run of `make fuzz`, and proof that the fuzzer would see what it looks for."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import watch
from tests.fuzz.run import fuzz, page, targets
from tests.fuzz.target import Target
from tests.fuzz.watch import LastCase

CASES, SEED = 4_000, 20_260_000  # another seed than the million's


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # torch warns of a hostile bundle's tensors without elements
        return fuzz(targets(tmp_path_factory.mktemp("fuzz")), CASES, SEED, LastCase(None))


def test_no_case_of_a_short_run_is_a_crash(outcomes) -> None:
    crashes = {
        o.target.name: [(c.trace, c.case) for c in o.crashes.values()]
        for o in outcomes
        if o.crashes
    }
    assert crashes == {}


def test_every_target_takes_some_cases_and_refuses_others(outcomes) -> None:
    """All refused, or all taken, would mean that the cases are too wild, or too tame, to show
    anything.
    """
    assert sum(o.cases for o in outcomes) >= 0.99 * CASES
    for outcome in outcomes:
        assert outcome.accepted > 0, outcome.target.name
        assert outcome.accepted < outcome.cases or outcome.target.name in ("shown", "url"), (
            outcome.target.name
        )


def test_the_same_seed_gives_the_same_cases(tmp_path: Path) -> None:
    for target in targets(tmp_path):
        if target.name in ("csv", "recipe", "shown"):
            first: list[Any] = []
            second: list[Any] = []
            other: list[Any] = []
            for cases, seed in ((first, 5), (second, 5), (other, 6)):
                target.drive(60, seed, cases.append)
            assert len(first) == 60 and repr(first) == repr(second) != repr(other)


class Reaches:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def _fill(_: Any) -> bool:
    return bool(bytearray(700 << 20))


def _loop(_: Any) -> bool:
    while True:
        pass


@pytest.mark.parametrize(
    ("what", "check", "told"),
    [
        ("another error", lambda case: {}[case], "KeyError"),
        ("writes", lambda case: Path(case, "x").write_text("x") and True, "Trespass"),
        (
            "connects",
            lambda case: __import__("socket").create_connection(("127.0.0.1", 9)) and True,
            "Trespass",
        ),
        ("a process", lambda case: os.system("true") == 0, "Trespass"),
        (
            "unpickles",
            lambda case: bool(pickle.loads(pickle.dumps(Reaches(Path(case, "y"))))),
            "Trespass",
        ),
        ("memory", _fill, "TooMuch"),
        ("time", _loop, "TooMuch"),
    ],
)
def test_a_reader_that_goes_too_far_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, check: Any, told: str
) -> None:
    monkeypatch.setattr(watch, "SECONDS", 0.2)
    seen: list[Any] = []

    def check_after_the_first(case: Any) -> bool:
        seen.append(case)
        return (
            check(str(tmp_path)) if len(seen) > 1 else True
        )  # the first is the warm-up, which is not watched

    [outcome] = fuzz(
        [Target(what, what, 1, check_after_the_first, seeds=[b"x"])], 1, 0, LastCase(None)
    )
    assert [place.split(" ")[0] for place in outcome.crashes] == [told]
    assert list(tmp_path.iterdir()) == []


def test_the_case_in_hand_is_on_disk_before_it_is_tried(tmp_path: Path) -> None:
    """A crash of the process itself, in a C library, leaves the case that led to it."""
    last, held = LastCase(tmp_path / "last"), []

    def check(case: bytes) -> bool:
        held.append((tmp_path / "last").read_bytes().partition(b"\n")[2] == case)
        return True

    fuzz([Target("x", "x", 1, check, seeds=[b"one", b"two, longer"])], 20, 0, last)
    last.close()
    assert all(held[2:]) and len(held) == 22


def test_the_page_says_what_ran(outcomes) -> None:
    text = page(outcomes, SEED, CASES)
    assert f"--cases {CASES} --seed {SEED}" in text and "pyarrow" in text
    for outcome in outcomes:
        assert f"| {outcome.target.name} | " in text
