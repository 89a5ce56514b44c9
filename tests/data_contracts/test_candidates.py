"""What is worth measuring beside a suggestion, and what a measurement leaves of it."""

from __future__ import annotations

import pytest

from data_contracts.recipe.candidates import (
    SUGGESTED,
    of_any_kind,
    of_classification,
    overrides_of,
    settled,
    space_of,
)
from data_contracts.recipe.profile import Profile
from data_contracts.recipe.reading import merge, parse_recipe
from data_contracts.recipe.suggest import Choice, suggest


def seen(**changes) -> Profile:
    told = {
        "rows": 4000,
        "classes": 8,
        "rarest": 200,
        "median_tokens": 9,
        "long_tokens": 20,
        "han_share": 0.0,
        "texts": (),
    }
    return Profile(**{**told, **changes})


@pytest.mark.parametrize("changes", [{}, {"median_tokens": 90, "classes": 2}, {"han_share": 0.9}])
def test_every_candidate_of_a_classifier_is_a_recipe_and_another_one(changes):
    rows = seen(**changes)
    choices = suggest(rows)
    base = {"source": {"kind": "sample"}}
    for one in choices:
        base = merge(base, {f"{one.section}.{name}": value for name, value in one.fields.items()})
    candidates = of_classification(rows, choices)
    assert next(iter(candidates)) == SUGGESTED and candidates[SUGGESTED] == ()
    recipes = [
        parse_recipe(merge(base, overrides_of(change)), origin=name).identity()
        for name, change in candidates.items()
    ]
    assert len(recipes) >= 6
    assert all(one not in recipes[:at] for at, one in enumerate(recipes))


def test_of_any_kind_the_other_regularizer_is_tried_and_of_frozen_weights_their_noise():
    assert list(of_any_kind([])) == [SUGGESTED, "dropout"]
    dropout = {"dropout": 0.5, "reparameterization": {"kind": "none"}}
    assert list(of_any_kind([Choice("model", dropout, "")])) == [SUGGESTED, "noise"]
    noisy = {"kind": "low_rank", "rank": 16, "noise": {"kind": "multiplicative_noise"}}
    found = of_any_kind([Choice("model", {"reparameterization": noisy}, "")])
    (change,) = found["low rank without noise"]
    assert change.fields == {"reparameterization": {"kind": "low_rank", "rank": 16}}


def test_the_space_has_the_suggestions_own_values_among_its_own():
    space = space_of(0.005, 0.1)
    assert space["training.learning_rate"] == [0.00125, 0.0025, 0.005, 0.01]
    assert space["model.dropout"] == [0.0, 0.1, 0.25, 0.5]


def test_what_was_measured_replaces_what_was_chosen_by_rule_with_its_reason():
    rule = [
        Choice("model", {"dropout": 0.5}, "By rule."),
        Choice("model", {"ngrams": {"size": 32}, "embedding": {"size": 64}}, "Of some studies."),
    ]
    left = settled(rule, {"model.dropout": 0.0, "model.ngrams": None, "task.wide": {}}, "Measured.")
    assert left == [
        Choice("model", {"embedding": {"size": 64}}, "Of some studies."),
        Choice("model", {"dropout": 0.0, "ngrams": None}, "Measured."),
        Choice("task", {"wide": {}}, "Measured."),
    ]
