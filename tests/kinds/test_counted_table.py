"""The counted table against Kneser-Ney as its formula reads, token by token."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest

from lightning_modules.kinds.generate.counted import CountedTable, cross_fitted, discounts
from lightning_modules.kinds.generate.growing import Growing, mixed

VOCABULARY, LONGEST = 6, 3


def grams(length: int, seed: int) -> np.ndarray:
    """(P, M + 1) of a text that repeats itself, with the end of a text before it."""
    draw = random.Random(seed)
    words = [[0, 1, 2], [3, 1], [4, 4, 1, 2], [5]]
    ids = [token for _ in range(length) for token in draw.choice(words)]
    padded = np.array([0] * LONGEST + ids, np.int32)
    return np.lib.stride_tricks.sliding_window_view(padded, LONGEST + 1)


def plain(train: np.ndarray) -> list[dict[tuple[int, ...], dict[int, int]]]:
    """Per order, what followed each context: how often, or after how many different tokens."""
    followed = [defaultdict(lambda: defaultdict(set)) for _ in range(LONGEST)]
    often: dict[tuple[int, ...], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for row in train.tolist():
        *context, token = row
        often[tuple(context)][token] += 1
        for order in range(LONGEST):
            place = tuple(context[LONGEST - order :])
            before = context[LONGEST - order - 1]
            followed[order][place][token].add(before)
    lower = [
        {
            place: {token: len(kinds) for token, kinds in after.items()}
            for place, after in one.items()
        }
        for one in followed
    ]
    return [*lower, {place: dict(after) for place, after in often.items()}]


def probability(counts, context: list[int], token: int) -> list[float]:
    """Of each order, by the formula."""
    p, told = 1 / VOCABULARY, []
    for order, table in enumerate(counts):
        after = table.get(tuple(context[LONGEST - order :]), {})
        every = np.array([c for one in table.values() for c in one.values()])
        D = discounts(every)
        if total := sum(after.values()):
            count = after.get(token, 0)
            taken = {c: D[min(c, 3) - 1] for c in after.values()}
            spare = sum(taken[c] for c in after.values()) / total
            p = (count - taken[count] if count else 0) / total + spare * p
        told.append(p)
    return told


@pytest.fixture(scope="module")
def table() -> CountedTable:
    table = CountedTable.empty(LONGEST, VOCABULARY)
    table.count([grams(80, 0)[:50], grams(80, 0)[50:]])
    return table


def test_every_order_says_what_its_formula_says(table: CountedTable) -> None:
    counts, asked = plain(grams(80, 0)), grams(40, 1)
    said = table.of_targets(asked[:, :LONGEST], asked[:, LONGEST].astype(np.int64))
    for row, (*context, token) in enumerate(asked.tolist()):
        np.testing.assert_allclose(said.proba[row], probability(counts, context, token), rtol=1e-12)
        of_context = [
            sum(one.get(tuple(context[LONGEST - order :]), {}).values())
            for order, one in enumerate(counts)
        ]
        assert said.seen[row].tolist() == of_context


def test_what_it_says_of_all_tokens_is_a_probability_and_the_same(table: CountedTable) -> None:
    asked = grams(40, 1)
    contexts, targets = asked[:, :LONGEST], asked[:, LONGEST].astype(np.int64)
    places = table.places(contexts)
    said = table.of_targets(contexts, targets)
    for order in table.orders:
        shares = np.zeros((len(asked), LONGEST + 1))
        shares[:, order] = 1
        every = table.mixed(places, shares)
        np.testing.assert_allclose(every.sum(axis=1), 1, rtol=1e-12)
        assert (every > 0).all()
        np.testing.assert_allclose(every[np.arange(len(asked)), targets], said.proba[:, order])


def test_what_training_is_told_of_a_position_was_counted_elsewhere() -> None:
    train = grams(80, 0)
    said = cross_fitted(train, LONGEST, VOCABULARY, 4)
    borders = np.linspace(0, len(train), 5).astype(int)
    for part in range(4):
        here = slice(borders[part], borders[part + 1])
        counts = plain(np.concatenate([train[: here.start], train[here.stop :]]))
        for row in range(here.start, here.stop, 7):
            *context, token = train[row].tolist()
            expected = probability(counts, context, token)
            np.testing.assert_allclose(said.proba[row], expected, rtol=1e-12)


def test_two_tokens_are_enough_to_count() -> None:
    said = cross_fitted(grams(80, 0)[:2], LONGEST, VOCABULARY, 10)
    assert said.proba.shape == (2, LONGEST + 1)
    assert (said.proba > 0).all()


def test_a_table_that_goes_on_counting_is_one_that_counted_all() -> None:
    train, text = grams(30, 0), grams(12, 5)
    table = CountedTable.empty(LONGEST, VOCABULARY)
    table.count([train])
    growing = Growing(table, end=-1)  # every token of this text is text
    growing.follow(text[0, :LONGEST].tolist(), counting=False)
    shares = np.eye(LONGEST + 1)
    for row in range(len(text)):
        token = int(text[row, LONGEST])
        every = CountedTable.empty(LONGEST, VOCABULARY)
        every.count([np.concatenate([train, text[:row]])])
        for order in every.orders:  # its discounts stay those of the train split
            kept = table.get_buffer(f"discounts_{order}")
            every.register_buffer(f"discounts_{order}", kept)
        places = every.places(text[row : row + 1, :LONGEST])
        known = growing.look()
        for order in every.orders:
            expected = every.mixed(places, shares[order][None, :])[0]
            found = mixed(known, shares[order], VOCABULARY)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        seen = every.seen(places)[0].tolist()
        assert [0 if one is None else one.total for one in known] == seen
        growing.follow([token])
    frozen = table.places(text[:, :LONGEST])
    again = CountedTable.empty(LONGEST, VOCABULARY)
    again.count([train])
    assert np.array_equal(table.seen(frozen), again.seen(frozen)), "the table itself is as it was"


def test_its_counts_come_back_from_a_state_dict(table: CountedTable) -> None:
    again = CountedTable(table.describe(), VOCABULARY)
    again.load_state_dict(table.state_dict())
    asked = grams(40, 1)
    contexts, targets = asked[:, :LONGEST], asked[:, LONGEST].astype(np.int64)
    assert np.array_equal(
        again.of_targets(contexts, targets).proba, table.of_targets(contexts, targets).proba
    )
    assert sum(one.numel() for one in table.buffers()) < 40 * len(grams(80, 0))
