"""A search file: what it asks to be tried, what is tried first, and what is refused before anything
runs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_contracts.errors import RecipeError
from data_contracts.recipe.search import Search
from data_contracts.recipe.search_file import parse_search

RECIPE = {"name": "small", "source": {"kind": "sample", "rows": 300}}
SPACE = {
    "training.learning_rate": {"low": 0.001, "high": 0.02, "log": True},
    "model.dropout": {"low": 0, "high": 0.6, "step": 0.2},
    "model.reparameterization": [{"kind": "none"}, {"kind": "multiplicative_noise"}],
}


def search(base: Path = Path(), **changes) -> Search:
    data = {"name": "mine", "recipe": RECIPE, "space": SPACE, **changes}

    def find(name: str, folder: Path):
        raise AssertionError(name)

    return parse_search(data, "search.yaml", base, {}, find)


def test_the_recipe_itself_is_tried_first_with_its_values_that_the_space_holds():
    assert list(search().first()) == [
        {
            "training.learning_rate": 0.005,
            "model.dropout": 0.0,
            "model.reparameterization": {"kind": "multiplicative_noise"},
        }
    ]
    # Its learning rate lies outside, so that one is drawn.
    narrow = search(space={**SPACE, "training.learning_rate": [0.1, 0.2]})
    assert "training.learning_rate" not in next(narrow.first())


def test_candidates_are_tried_first_and_what_they_set_outside_the_space_is_drawn_as_a_whole():
    found = search(
        candidates={
            "as it is": {},
            "n-grams": {"task.wide": {"max_n": 3}, "model.dropout": 0.4},
        }
    )
    first, second = found.first()
    assert (first["candidate"], second["candidate"]) == ("as it is", "n-grams")
    assert (first["model.dropout"], second["model.dropout"]) == (0, 0.4)
    recipe = found.recipe_of(found.overrides_of({**second, "training.learning_rate": 0.01}), 7)
    assert recipe.task.wide.max_n == 3
    assert (recipe.training.learning_rate, recipe.training.seed) == (0.01, 7)
    assert found.recipe_of(found.overrides_of(first), 0).task.wide is None


def test_candidates_that_differ_within_the_space_alone_are_one_point_of_what_is_drawn():
    found = search(
        space={"training.batch_size": [16, 32]},
        candidates={
            "as it is": {"training.batch_size": 16},
            "larger": {"training.batch_size": 32},
            "n-grams": {"task.wide": {"max_n": 3}, "training.batch_size": 32},
        },
    )
    told = [(one["candidate"], one["training.batch_size"]) for one in found.first()]
    assert told == [("as it is", 16), ("as it is", 32), ("n-grams", 32)]
    assert found.points == 4


def test_a_finite_space_is_counted_and_a_grid_goes_through_all_of_it():
    space = {"model.dropout": {"low": 0, "high": 0.6, "step": 0.2}, "training.batch_size": [16, 32]}
    found = search(space=space, sampler="grid")
    points = list(found.first())
    assert found.points == len(points) == len({json.dumps(one) for one in points}) == 8
    assert [one["model.dropout"] for one in points[::2]] == [0, 0.2, 0.4, 0.6]


def test_a_range_of_whole_bounds_is_of_fractions_where_the_field_is():
    found = search(space={"model.dropout": {"low": 0, "high": 0.5}, "training.batch_size": [8, 9]})
    assert found.is_float("model.dropout")
    whole = search(space={"training.learning_rate": {"low": 1, "high": 2}})
    assert whole.is_float("training.learning_rate")
    assert not search(space={"training.batch_size": {"low": 8, "high": 64}}).is_float(
        "training.batch_size"
    )


def test_a_search_read_back_from_json_is_the_same_search():
    found = search(candidates={"as it is": {}, "n-grams": {"task.wide": {"max_n": 3}}})
    again = Search.model_validate(json.loads(found.model_dump_json()))
    assert again.identity_of_search() == found.identity_of_search()


def test_more_budget_is_the_same_search_and_another_space_is_not():
    told = search().identity_of_search()
    assert search(budget="2h", trials=7, finalists=1, seeds=[0, 5]).identity_of_search() == told
    assert search(seed=1).identity_of_search() != told
    assert search(seeds=[1]).identity_of_search() != told
    assert search(space={**SPACE, "training.batch_size": [16, 32]}).identity_of_search() != told


def test_relative_paths_of_the_space_start_at_its_file(tmp_path):
    vectors = {"model.embedding.vectors": ["glove.txt", "other.txt"]}
    choices = search(tmp_path, space=vectors).space["model.embedding.vectors"].choices
    assert choices == (str(tmp_path / "glove.txt"), str(tmp_path / "other.txt"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "leave nothing to choose"),
        ({"space": {"model.dropout": [0.1]}}, "leave nothing to choose"),
        ({"space": {"training.lr": [1, 2]}}, "training.lr: unknown key; did you mean"),
        ({"space": {"training.learning_rate": {"low": 1, "high": 20}}}, "must be at most 10.0"),
        ({"space": {"training.learning_rate": {"low": 2, "high": 1}}}, "low (2) has to be below"),
        ({"space": {"training.learning_rate": {"low": 0, "high": 1, "log": True}}}, "above 0"),
        ({"space": {"training.learning_rate": 3}}, "give a list of choices, or {low: …, high: …}"),
        ({"space": {"model.dropout": [0.1, 0.1]}}, "0.1 stands twice"),
        ({"space": {"model.encoder": [{"kind": "tanh"}, {"kind": "bilsm"}]}}, "no kind 'bilsm'"),
        ({"space": {"source.rows": [100, 200]}}, "a search may change task, tokenizer"),
        ({"space": {"training.seed": [1, 2]}}, "the search's seeds set training.seed"),
        (
            {"space": {"model.encoder": [{"kind": "tanh"}], "model.encoder.hidden_size": [1, 2]}},
            "model.encoder.hidden_size within it",
        ),
        ({"candidates": {"fast": {"training.learning_rate": 0.5}}}, "is not in its space"),
        ({"candidates": {"fast": {"model": {"dropout": 0.5}}}}, "one within the other"),
        ({"candidates": {"a|b": {}}}, "1 to 60 characters"),
        ({"budget": "1s"}, "too short for a training"),
        ({"budget": "ten"}, "ten is no time"),
        ({"metric": "test/accuracy"}, "none of val/macro_f1, val/accuracy, val/nll"),
        ({"sampler": "grid"}, "every point of the space, and there is no end"),
        ({"seeds": [1, 1]}, "a seed stands twice"),
        ({"trails": 3}, "trails: unknown key; did you mean trials?"),
        (
            {"recipe": {**RECIPE, "training": {"warm_start": "champion"}}},
            "what a champion knew is no part of the search",
        ),
    ],
)
def test_what_means_nothing_is_refused_by_its_field(changes, message):
    with pytest.raises(RecipeError) as refused:
        search(**changes)
    assert message in refused.value.cause and refused.value.remedy
