"""The test of the house: a kind that stands in tests/ alone goes the whole way, and the four packages know nothing of it."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import RecipeError
from data_contracts.recipe.reading import parse_recipe
from tests.kinds.amount import config, contract, judge  # noqa: F401 - so that the kind is defined
from tests.pipeline.conftest import here, prefect_api  # noqa: F401 - fixtures

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
