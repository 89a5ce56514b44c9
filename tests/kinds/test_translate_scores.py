"""Sums over sentences are worth what sacrebleu says of the sentences together."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from lightning_modules.evidence import Evidence, Floats, drawn
from lightning_modules.kinds.translate.scores import (
    Scores,
    bleu,
    chrf,
    length_ratio,
    tokenize_of,
)

WORDS = ["a", "dog", "Dog", "the", "runs", ".", ",", "don't", "U.S.", "3.5", "naïve", "über-all"]
SIGNS = list("我们在学习翻译。，狗跑步很快 ABC 3.5%")
EMOJIS = ["👩‍👩‍👧", "❤️", "😀", " ", "ok", "\u3000", "\t", "x"]
SCRIPTS = {"Latin": (" ", WORDS), "Han": ("", SIGNS), "Thai": ("", list("สวัสดี ชาวโลก"))}


def made(script: str, count: int, seed: int = 0, longest: int = 14) -> tuple[list[str], list[str]]:
    """Texts, and others that share some of their words; empty ones and single words among both."""
    rng = random.Random(seed)
    join, words = SCRIPTS[script]
    said, wanted = [], []
    for _ in range(count):
        target = [rng.choice(words) for _ in range(rng.randrange(longest))]
        known = [one if rng.random() < 0.7 else rng.choice(words) for one in target]
        said.append(join.join(known[: rng.randrange(longest + 1)]))
        wanted.append(join.join(target))
    return said, wanted


def by_sacrebleu(script: str, said: list[str], wanted: list[str]) -> tuple[float, float]:
    one = CHRF().corpus_score(said, [wanted])
    other = BLEU(tokenize=tokenize_of(script)).corpus_score(said, [wanted])
    return one.score / 100, other.score / 100


def by_sums(script: str, said: list[str], wanted: list[str]) -> tuple[float, float]:
    sums = Scores(script).counts(said, wanted).sum(axis=0, keepdims=True)
    return float(chrf(sums)[0]), float(bleu(sums)[0])


def figures(sums: Floats) -> dict[str, Floats]:
    return {"chrf": chrf(sums), "bleu": bleu(sums)}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("seed", range(4))
def test_a_corpus_has_the_figures_that_sacrebleu_gives_it(script: str, seed: int) -> None:
    said, wanted = made(script, 60, seed)
    assert by_sums(script, said, wanted) == pytest.approx(
        by_sacrebleu(script, said, wanted), abs=1e-8
    )


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ([""], [""]),
        ([""], ["a dog runs ."]),
        (["a dog runs ."], [""]),
        (["dog"], ["dog"]),
        (["dog"], ["a dog"]),
        (["no word"], ["of these"]),
        (["a dog runs fast today ."], ["dog a fast runs . today"]),  # words match, no two in a row
        (["a dog runs"], ["a dog runs"]),  # too short for four in a row
        (["a"], ["a dog that is far longer than what was said of it ."]),
        (["a dog runs and runs and runs"], ["a dog"]),
        (["👩‍👩‍👧 ❤️ 😀 ok"], ["👩‍👩‍👧 ok 😀 ❤️"]),
        (["\u3000 \t", "a dog runs ."], ["a cat", "a dog runs ."]),
        (["don't &quot;stop&quot; at 3.5% - now"], ['don\'t "stop" at 3.5 % now']),
        (["A Dog Runs Home ."], ["a dog runs home ."]),
        (["line\nline two three four five"], ["line two three four five line"]),
    ],
)
def test_texts_out_of_the_common_run_too(said: list[str], wanted: list[str]) -> None:
    for script in SCRIPTS:
        assert by_sums(script, said, wanted) == pytest.approx(
            by_sacrebleu(script, said, wanted), abs=1e-8
        )


def test_emojis_and_spaces_of_every_width() -> None:
    rng = random.Random(5)
    sides = [
        ["".join(rng.choice(EMOJIS) for _ in range(rng.randrange(9))) for _ in range(50)]
        for _ in range(2)
    ]
    for script in SCRIPTS:
        assert by_sums(script, *sides) == pytest.approx(by_sacrebleu(script, *sides), abs=1e-8)


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_resample_has_the_figures_of_the_rows_that_it_drew(script: str) -> None:
    said, wanted = made(script, 30, seed=9)
    evidence = Evidence(Scores(script).counts(said, wanted), figures)
    found = drawn(evidence, samples=6, seed=4)
    # The rows of a resample, as the bootstrap draws them.
    rows = np.random.default_rng(4).integers(0, 30, size=(6, 30))
    for place, chosen in enumerate(rows, start=1):
        once_more = [said[row] for row in chosen], [wanted[row] for row in chosen]
        told = found["chrf"][place], found["bleu"][place]
        assert told == pytest.approx(by_sacrebleu(script, *once_more), abs=1e-8)


def test_a_sentence_by_itself_has_its_own_chrf() -> None:
    said, wanted = made("Latin", 40, seed=2)
    pairs = zip(said, wanted, strict=True)
    own = [CHRF().sentence_score(one, [other]).score / 100 for one, other in pairs]
    assert chrf(Scores("Latin").counts(said, wanted)) == pytest.approx(own, abs=1e-8)


def test_sums_of_no_sentence_are_zero() -> None:
    nothing = Scores("Latin").counts([], []).sum(axis=0, keepdims=True)
    assert chrf(nothing) == bleu(nothing) == length_ratio(nothing) == 0


def test_the_length_ratio_counts_words() -> None:
    counts = Scores("Latin").counts(["a dog", "runs"], ["a dog that runs", "he runs"])
    assert length_ratio(counts.sum(axis=0, keepdims=True)) == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("script", "tokenizer"),
    [
        ("Latin", "13a"),
        ("Cyrillic", "13a"),
        ("Hangul", "13a"),
        ("Common", "13a"),
        ("Han", "zh"),
        ("Hiragana", "char"),
        ("Katakana", "char"),
        ("Thai", "char"),
    ],
)
def test_words_are_told_apart_as_the_target_script_writes_them(script: str, tokenizer: str) -> None:
    assert tokenize_of(script) == tokenizer


def test_signatures_are_those_that_sacrebleu_prints() -> None:
    found = Scores("Han").signatures
    assert found["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:2.")
    assert found["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.")
