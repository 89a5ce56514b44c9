"""One configuration: readable, checked to the field, the same from every door."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml

from data_contracts.errors import RecipeError
from data_contracts.recipe.recipe import (
    FileSource,
    Recipe,
    describe,
    load_recipe,
    merge,
    parse_recipe,
    parse_set,
)

SAMPLE = {"kind": "sample"}


def parse(**sections):
    return parse_recipe({"source": SAMPLE, **sections}, origin="test.yaml")


def test_defaults_are_complete_and_survive_a_round_trip():
    recipe = Recipe()
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.contract.name == "sample"
    assert recipe.model_name == "noisefold-sample"


def test_every_field_has_a_sentence():
    def walk(schema, where):
        for name, field in schema.get("properties", {}).items():
            is_reference = (
                "$ref" in field or "oneOf" in field or "anyOf" in field or "allOf" in field
            )
            assert is_reference or "description" in field or name == "kind", (
                f"{where}.{name} has no description"
            )

    schema = Recipe.model_json_schema()
    for name, definition in schema["$defs"].items():
        walk(definition, name)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"max_epoch": 3}}, "training.max_epoch: unknown key"),
        ({"trainning": {}}, "trainning: unknown key"),
        (
            {"tokenizer": {"kind": "word", "vocab_size": 1}},
            "tokenizer.vocab_size: must be at least 16 .got 1",
        ),
        ({"tokenizer": {"kind": "bpe", "vocab_size": 200}}, "tokenizer.vocab_size: .*260"),
        (
            {"tokenizer": {"kind": "word", "max_length": 16, "overlap": 12}},
            "overlap .12. is more than half",
        ),
        ({"tokenizer": {"kind": "sentencepiece"}}, "tokenizer: .*sentencepiece"),
        (
            {"model": {"embedding_dim": 30, "encoder": {"kind": "transformer"}}},
            r"num_heads \(4\) does not divide",
        ),
        (
            {"model": {"reparameterization": {"kind": "multiplicative_noise", "initial_alpha": 2}}},
            r"initial_alpha \(2.0\) is above max_alpha",
        ),
        (
            {"source": {"kind": "files", "url": "d/{start}.csv"}, "contract": "sample"},
            "`window` must give both dates",
        ),
        ({"source": {"kind": "files", "url": " "}}, "no URL is given"),
        (
            {
                "source": {
                    "kind": "files",
                    "url": "d",
                    "window": {"start": "2026-02-01", "end": "2026-01-01"},
                }
            },
            "ends .* before it starts",
        ),
        ({"name": "Not A Slug"}, "name: "),
        ({"contract": "no_such"}, "no bundled contract of that name"),
        (
            {"contract": {"name": "x", "labels": {"values": ["a"]}}},
            "labels.values: needs two labels",
        ),
        (
            {"contract": {"name": "x", "columns": {"text": "a", "label": "a"}}},
            "one column plays two roles",
        ),
        (
            {"contract": {"name": "x", "splits": {"valid": 0.5, "test": 0.5}}},
            "leave nothing to train on",
        ),
    ],
)
def test_fault_names_the_field(sections, message):
    with pytest.raises(RecipeError, match=message):
        parse(**sections)


def test_yaml_faults_name_line_and_column(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("name: x\ntraining: {max_epochs: 3\n")
    with pytest.raises(RecipeError, match="line 3, column 1"):
        load_recipe(file)
    file.write_bytes(b"name: \xff")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(file)
    file.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(RecipeError, match="could not determine a constructor"):
        load_recipe(file)
    file.write_text("[1, 2]")
    with pytest.raises(RecipeError, match="expected a mapping of sections, found list"):
        load_recipe(file)
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "absent.yaml")


def test_paths_start_at_the_recipe_wherever_the_command_runs(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(
            {"name": "m", "source": {"kind": "files", "url": "data/x.csv"}, "contract": "c.yaml"}
        )
    )
    (tmp_path / "c.yaml").write_text("name: mine\n")
    monkeypatch.chdir("/")
    recipe = load_recipe(tmp_path / "mine.yaml", {"training.max_epochs": 2})
    assert recipe.source.url == str(tmp_path / "data" / "x.csv")  # type: ignore[union-attr]
    assert recipe.contract.name == "mine"
    assert recipe.training.max_epochs == 2


@pytest.mark.parametrize("url", ["https://example.org/a.csv", "/abs/a.csv", "memory://a/b.csv"])
def test_urls_and_absolute_paths_stay(url):
    source = {"kind": "files", "url": url}
    recipe = parse_recipe(
        {"source": source, "contract": "sample"}, origin="x", base=Path("/somewhere")
    )
    assert recipe.source.url == url  # type: ignore[union-attr]


def test_overrides_reach_new_sections_and_leave_the_original_alone():
    data = {"training": {"seed": 1}}
    assert merge(data, {"training.max_epochs": 3, "model.embedding_dim": 8}) == {
        "training": {"seed": 1, "max_epochs": 3},
        "model": {"embedding_dim": 8},
    }
    assert data == {"training": {"seed": 1}}


def test_set_reads_values_as_yaml_and_refuses_nonsense():
    assert parse_set("training.max_epochs=3") == ("training.max_epochs", 3)
    assert parse_set("source={kind: sample, rows: 400}") == (
        "source",
        {"kind": "sample", "rows": 400},
    )
    assert parse_set("registry.model_name=a=b") == ("registry.model_name", "a=b")
    for bad in ("training.max_epochs", "=3", "Training!=3"):
        with pytest.raises(RecipeError, match=r"expected section\.field=value"):
            parse_set(bad)


def test_rolling_window_is_fixed_by_the_day_the_run_was_due():
    recipe = parse(
        source={"kind": "files", "url": "d", "window": {"days": 7}}, contract={"name": "x"}
    )
    fixed = recipe.on(date(2026, 3, 9))
    assert isinstance(fixed.source, FileSource)
    assert fixed.source.window.model_dump(mode="json") == {
        "start": "2026-03-02",
        "end": "2026-03-08",
    }
    assert fixed.on(date(2026, 5, 1)) == fixed
    assert Recipe().on(date(2026, 5, 1)) == Recipe()


def test_describe_never_shows_a_long_value():
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"name": "X" * 500})
    assert "X" * 100 not in describe(caught.value)


BACKBONE = {"encoder": {"path": "models/x"}}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": {**BACKBONE, "embedding_dim": 32}},
            "model: embedding_dim is for models from scratch",
        ),
        (
            {"model": {**BACKBONE, "embedding_dim": 64}},
            "model: embedding_dim is for models from scratch",
        ),  # the default
        (
            {"model": {**BACKBONE, "embedding_std": 0.02, "embedding_dim": 8}},
            "embedding_dim, embedding_std are for",
        ),
        (
            {"model": {**BACKBONE, "embedding_vectors": "v.txt"}},
            "embedding_vectors is for models from scratch",
        ),
        (
            {"promotion": {"slices": ["length"]}},
            "promotion: slices: for min_slice_accuracy to look at",
        ),
        (
            {"promotion": {"min_slice_rows": 5, "min_slice_accuracy": 0}},
            "min_slice_rows: for min_slice_accuracy",
        ),
        ({"promotion": {"min_slice_accuracy": 0.5, "slices": []}}, "slices is empty"),
        (
            {"teacher": {"model": "m", "variants": 0, "seed": 3}},
            "teacher: seed is of the texts that are made up",
        ),
    ],
)
def test_field_that_nothing_would_look_at_is_refused(sections, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        parse(**sections)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"name": "r", "source": {"kind": "sample"}}))
    dotted = {
        f"{section}.{field}": value
        for section, fields in sections.items()
        for field, value in fields.items()
    }
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "r.yaml", dotted)


@pytest.mark.parametrize(
    "sections", [{"model": BACKBONE}, {}, {"teacher": {"model": "m", "variants": 0}}]
)
def test_recipe_that_a_program_wrote_in_full_reads_as_it_was(sections):
    """recipe.yaml of a run, or Prefect's form: every field is stated, and nobody has asked for the defaults."""
    recipe = parse(**sections)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    changed = recipe.model_dump(mode="json")
    changed["promotion"]["slices"] = ["length"]
    with pytest.raises(RecipeError, match="slices: for min_slice_accuracy"):
        parse_recipe(changed, origin="recipe.yaml")


def test_what_shapes_nothing_is_in_no_key():
    recipe = parse(training={"checkpoint_every_steps": 7}, execution={"retries": 5})
    assert recipe.keyed() == Recipe().keyed()
    assert recipe.training.keyed() == Recipe().training.keyed()
    assert recipe.model_dump()["training"]["checkpoint_every_steps"] == 7, (
        "it is still the recipe's"
    )
    for field, value in {
        "threads": 2,
        "accelerator": "cpu",
        "precision": "bf16-mixed",
        "seed": 1,
    }.items():
        assert parse(training={field: value}).training.keyed() != recipe.training.keyed(), (
            f"{field} shapes bits"
        )
    assert "source" not in recipe.keyed({"source"})
