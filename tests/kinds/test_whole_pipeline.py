"""The test of the house: a kind that stands in tests/ alone goes the whole way, and the four
packages know nothing of it.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import RecipeError
from data_contracts.recipe.reading import parse_recipe
from tests.kinds.amount import config, contract, judge  # noqa: F401 - so that the kind is defined

CONTRACT = {"kind": "amount", "name": "amounts", "splits": {"min_rows": 5}}


def write_rows(file: Path, count: int, seed: int = 0) -> None:
    """Texts that say their amount: two for each "good"; one row has no number."""
    draw = random.Random(seed)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["said", "amount"])
        for row in range(count):
            words = draw.choices(["good", *(f"word{i}" for i in range(9))], k=draw.randint(1, 11))
            words.append(f"row{row}")
            writer.writerow([" ".join(words), 2 * words.count("good") if row != 7 else "many"])


def recipe(folder: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": "amounts",
        "task": {"kind": "amount", "scale": 2.0},
        "source": {"kind": "files", "url": str(folder / "rows.csv")},
        "contract": CONTRACT,
        "tokenizer": {"kind": "word", "vocab_size": 100, "min_frequency": 1},
        "model": {"embedding": {"size": 16}, "encoder": {"kind": "tanh", "hidden_size": 16}},
        "training": {"max_epochs": 6, "learning_rate": 0.02, "batch_size": 16},
        "execution": {"retries": 0},
        **sections,
    }


def test_a_contract_of_another_kind_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"task\.kind is amount, and contract sample has rows"):
        parse_recipe(recipe(tmp_path, contract="sample"), origin="here")


def test_a_kind_of_the_tests_goes_the_whole_way(here: Any, tmp_path: Path) -> None:
    """Ingest to promote, predict and compare, by the commands that people type."""
    write_rows(tmp_path / "rows.csv", 400)
    (tmp_path / "amounts.yaml").write_text(json.dumps(recipe(tmp_path)))
    done = here(tmp_path / "home", "retrain", tmp_path / "amounts.yaml", "--json")
    assert done.exit_code == 0, done.output + str(done.exception)
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert [stage["name"] for stage in told["stages"]] == [
        "ingest", "validate", "tokenize", "train", "evaluate", "register", "promote",
    ]  # fmt: skip
    kept = told["stages"][1]
    assert (kept["rows_in"], kept["rows_out"]) == (400, 399), (
        "the row without a number is set aside"
    )
    assert told["metrics"]["test/squared_error"]["value"] < 4
    assert told["decision"]["promoted"]

    again = here(tmp_path / "home", "retrain", tmp_path / "amounts.yaml", "--json")
    stages = json.loads(again.stdout[again.stdout.index("{") :])["stages"]
    assert {stage["state"] for stage in stages[:5]} == {"cached"}

    answered = here(
        tmp_path / "home", "predict", "--model", "noisefold-amounts", "--json",
        "good word1 good", "word1 word2",
    )  # fmt: skip
    assert answered.exit_code == 0, answered.output
    much, little = [
        json.loads(line) for line in answered.stdout.splitlines() if line.startswith("{")
    ]
    assert much["amount"] > little["amount"]

    grid = {
        "name": "amounts-grid",
        "recipe": str(tmp_path / "amounts.yaml"),
        "seeds": [0],
        "variants": {"noise": {}, "plain": {"model.reparameterization": {"kind": "none"}}},
        "baseline": "noise",
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    compared = here(
        tmp_path / "home", "compare", tmp_path / "grid.yaml", "--out", tmp_path / "table.md"
    )
    assert compared.exit_code == 0, compared.output
    assert "squared error" in (tmp_path / "table.md").read_text()
