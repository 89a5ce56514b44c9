"""A kind of task says what the sections of a recipe are where the recipe does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pytest
import yaml

from data_contracts.contract.contract import DataContract
from data_contracts.errors import RecipeError
from data_contracts.kinds.base import Column, Metric, TaskConfig
from data_contracts.recipe.comparison import Cell, load_comparison
from data_contracts.recipe.model import LSTMConfig, PretrainedConfig, TransformerConfig
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.tokenizer import BpeTokenizer, CharacterTokenizer, FileTokenizer
from flows.cli.main import find_recipe

CONTRACT = {"kind": "writer", "name": "rows"}


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of this file alone, whose definition leaves nothing behind."""
    monkeypatch.setattr(TaskConfig, "KINDS", dict(TaskConfig.KINDS))
    monkeypatch.setattr(DataContract, "KINDS", dict(DataContract.KINDS))

    class Writer(TaskConfig):
        metrics: ClassVar[tuple[Metric, ...]] = (Metric("bits", "bits", "lower"),)
        inputs: ClassVar[tuple[Column, ...]] = (Column("said", "string"),)
        lossless: ClassVar[bool] = True
        defaults: ClassVar[Mapping[str, Any]] = {
            "tokenizer": {"kind": "character", "min_frequency": 5},
            "window": {"max_length": 64, "overlap": 0},
            "model": {
                "embedding": {"size": 32},
                "encoder": {"kind": "lstm", "hidden_size": 512},
                "reparameterization": {"kind": "none"},
            },
        }
        kind: Literal["writer"] = "writer"  # pyright: ignore[reportIncompatibleVariableOverride]

    class Rows(DataContract):
        roles: ClassVar = ()
        identified_by: ClassVar = ()
        kind: Literal["writer"] = "writer"  # pyright: ignore[reportIncompatibleVariableOverride]


def parse(**sections: Any) -> Recipe:
    written = {"task": {"kind": "writer"}, "source": {"url": "a.csv"}, "contract": CONTRACT}
    return parse_recipe({**written, **sections}, origin="test")


def test_a_recipe_that_names_the_kind_alone_has_its_sections() -> None:
    recipe = parse()
    assert recipe.tokenizer == CharacterTokenizer(min_frequency=5)
    assert recipe.model.encoder == LSTMConfig(hidden_size=512)
    assert (recipe.window.max_length, recipe.window.overlap) == (64, 0)
    assert recipe.training == Recipe().training, "of which the kind says nothing"


def test_what_is_written_lies_above_it_key_by_key() -> None:
    recipe = parse(
        tokenizer={"min_frequency": 2},
        window={"max_length": 128},
        model={"encoder": {"hidden_size": 96}, "dropout": 0.1},
    )
    assert recipe.tokenizer == CharacterTokenizer(min_frequency=2)
    assert (recipe.window.max_length, recipe.window.overlap) == (128, 0)
    assert recipe.model.encoder == LSTMConfig(hidden_size=96)
    assert (recipe.model.embedding.size, recipe.model.dropout) == (32, 0.1)


def test_another_kind_within_a_section_takes_nothing_of_it() -> None:
    recipe = parse(
        tokenizer={"kind": "bpe", "lossless": True}, model={"encoder": {"kind": "transformer"}}
    )
    assert recipe.tokenizer == BpeTokenizer(lossless=True)
    assert recipe.model.encoder == TransformerConfig()
    assert recipe.model.embedding.size == 32, "beside it the defaults stay"


def test_a_kind_that_a_path_implies_takes_nothing_of_it() -> None:
    assert parse(tokenizer={"path": "gpt2"}).tokenizer == FileTokenizer(path="gpt2")
    recipe = parse(model={"encoder": {"path": "gpt2"}})
    assert recipe.model.encoder == PretrainedConfig(path="gpt2")
    assert recipe.tokenizer == FileTokenizer(path="gpt2"), "a backbone brings its own"
    assert recipe.model.reparameterization.kind == "none", "which is for a backbone too"


def test_another_kind_of_task_is_as_it_was() -> None:
    assert parse_recipe({"source": {"rows": 500}}, origin="t").model == Recipe().model


def test_a_recipe_that_a_program_wrote_in_full_reads_as_it_was() -> None:
    recipe = parse(model={"encoder": {"kind": "transformer"}})
    again = parse_recipe(json.loads(recipe.model_dump_json()), origin="again")
    assert again == recipe
    assert again.identity() == recipe.identity()
    assert recipe.identity(["window"]) == {"window": {"max_length": 64, "overlap": 0}}


@pytest.mark.parametrize("tokenizer", [{"kind": "word"}, {"kind": "bpe"}, {"kind": "wordpiece"}])
def test_a_tokenizer_that_folds_texts_is_refused(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="which changes texts, and bits per byte count") as fault:
        parse(tokenizer=tokenizer)
    assert "choose tokenizer.kind character, byte, or bpe with lossless: true" in fault.value.cause


def test_a_variant_that_changes_a_kind_meets_no_default_of_another(tmp_path) -> None:
    grid = {
        "name": "grid",
        "recipe": {
            "task": {"kind": "writer"},
            "source": {"url": "a.csv"},
            "contract": CONTRACT,
            "model": {"dropout": 0.2},
        },
        "seeds": [1],
        "variants": {
            "lstm": {},
            "wide": {"model.encoder.hidden_size": 640},
            "attention": {"model.encoder.kind": "transformer", "tokenizer.kind": "byte"},
        },
        "baseline": "lstm",
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    read = load_comparison(
        tmp_path / "grid.yaml", {}, lambda name, base: find_recipe(name, (), base)
    )
    recipes = {name: read.recipe_of(Cell(name, 1)) for name in grid["variants"]}
    assert recipes["lstm"].model == read.recipe.model
    assert recipes["wide"].model.encoder == LSTMConfig(hidden_size=640)
    assert recipes["attention"].model.encoder == TransformerConfig()
    assert (recipes["attention"].model.dropout, recipes["attention"].tokenizer.kind) == (
        0.2,
        "byte",
    )
