"""Every recipe and study of the benchmarks can be read as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.recipe.comparison import load_comparison
from data_contracts.recipe.reading import load_recipe
from flows.cli.main import find_recipe

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize(
    "file", sorted(BENCHMARKS.glob("recipes/*.yaml")), ids=lambda file: file.stem
)
def test_a_recipe_is_read(file: Path) -> None:
    assert load_recipe(file).source


@pytest.mark.parametrize(
    "file", sorted(BENCHMARKS.glob("studies/*.yaml")), ids=lambda file: file.stem
)
def test_a_study_is_read(file: Path) -> None:
    grid = load_comparison(str(file), {}, lambda name, base: find_recipe(name, (), base))
    assert grid.cells((), ())
