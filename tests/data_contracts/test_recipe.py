"""One configuration: readable, checked to the field, the same from every door."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from data_contracts.errors import RecipeError
from data_contracts.recipe.faults import RENAMED, fields_of, models_in
from data_contracts.recipe.reading import describe, load_recipe, merge, parse_recipe, parse_set
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.source import FileSource

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
            {"window": {"max_length": 16, "overlap": 12}},
            "overlap .12. is more than half",
        ),
        ({"tokenizer": {"kind": "sentencepiece"}}, "tokenizer: .*sentencepiece"),
        (
            {"model": {"embedding": {"size": 30}, "encoder": {"kind": "transformer"}}},
            r"num_heads \(4\) does not divide embedding\.size \(30\)",
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
    assert merge(data, {"training.max_epochs": 3, "model.embedding.size": 8}) == {
        "training": {"seed": 1, "max_epochs": 3},
        "model": {"embedding": {"size": 8}},
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
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"name": "X" * 500})
    assert "X" * 100 not in describe(caught.value)


BACKBONE = {"encoder": {"path": "models/x"}}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": {**BACKBONE, "embedding": {"size": 32}}},
            "model: embedding.size is for models from scratch",
        ),
        (
            {"model": {**BACKBONE, "embedding": {"size": 64}}},
            "model: embedding.size is for models from scratch",
        ),  # the default
        (
            {"model": {**BACKBONE, "embedding": {"init_std": 0.02, "size": 8}}},
            "embedding.init_std, embedding.size are for",
        ),
        (
            {"model": {**BACKBONE, "embedding": {"vectors": "v.txt"}}},
            "embedding.vectors is for models from scratch",
        ),
        ({"promotion": {"slices": {"by": ["length"]}}}, "promotion.slices.min: is missing"),
        ({"promotion": {"slices": {"min_rows": 5, "min": 0}}}, "slices.min: must be above 0"),
        ({"promotion": {"slices": {"min": 0.5, "by": []}}}, "slices.by: .*at least 1 item"),
        (
            {"window": {"special_tokens": False}},
            "window.special_tokens: a tokenizer of kind word is trained without special tokens",
        ),
        (
            {"distillation": {"teacher": "m", "augmentations": 0, "seed": 3}},
            "distillation: seed is of the texts that are made up",
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
    "sections",
    [{"model": BACKBONE}, {}, {"distillation": {"teacher": "m", "augmentations": 0}}],
)
def test_recipe_that_a_program_wrote_in_full_reads_as_it_was(sections):
    """recipe.yaml of a run, or Prefect's form: every field is stated, and nobody has asked for
    the defaults."""
    recipe = parse(**sections)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    changed = recipe.model_dump(mode="json")
    changed["promotion"]["slices"] = {"by": ["length"]}
    with pytest.raises(RecipeError, match=r"promotion\.slices\.min: is missing"):
        parse_recipe(changed, origin="recipe.yaml")


# --- what a key was called ------------------------------------------------------------------------

OLD: list[tuple[dict[str, Any], str]] = [
    (
        {"training": {"class_weights": "balanced"}},
        "training.class_weights: is task.class_weights now",
    ),
    ({"evaluation": {"temperature": True}}, "evaluation.temperature: is task.calibrate now"),
    ({"model": {"wide": {"buckets": 64}}}, "model.wide: is task.wide"),
    (
        {"task": {"wide": {"epsilon": 1e-4}}},
        "task.wide.epsilon: is training.groups.wide.epsilon now",
    ),
    ({"tokenizer": {"max_length": 64}}, "tokenizer.max_length: is window.max_length now"),
    ({"tokenizer": {"special_tokens": False}}, "is window.special_tokens now"),
    ({"model": {"embedding_dim": 8}}, "model.embedding_dim: is model.embedding.size now"),
    (
        {"model": {"reparameterization": {"kind": "dropout", "p": 0.5}}},
        "is the field model.dropout now",
    ),
    (
        {"model": {"reparameterization": {"kind": "sparse", "dropout": 0.5}}},
        "model.reparameterization.dropout: is model.dropout now",
    ),
    ({"promotion": {"min_macro_f1": 0.9}}, "is promotion.bounds.macro_f1.min now"),
    ({"promotion": {"max_megabytes": 50}}, "is promotion.bounds.megabytes.max now"),
    (
        {"promotion": {"slices": ["label"]}},
        "promotion.slices: a list of columns is promotion.slices.by",
    ),
    ({"promotion": {"beat_majority": False}}, "is promotion.beat_constant now"),
    ({"promotion": {"bootstrap_samples": 100}}, "is statistics.samples now"),
    ({"evaluation": {"confidence": 0.9}}, "evaluation.confidence: is statistics.confidence now"),
    ({"evaluation": {"ece_bins": 10}}, "evaluation.ece_bins: is task.ece_bins now"),
    ({"evaluation": {"worst_errors": 5}}, "evaluation.worst_errors: is task.worst_errors now"),
    ({"training": {"threads": 2}}, "training.threads: is execution.threads now"),
    ({"execution": {"stage_timeout_seconds": 9}}, "is execution.limits.stage now"),
    ({"teacher": {"model": "m"}}, "teacher: is distillation, "),
    ({"distillation": {"model": "m"}}, "distillation.model: is distillation.teacher now"),
]


@pytest.mark.parametrize(("sections", "message"), OLD, ids=[message for _, message in OLD])
def test_a_renamed_key_says_its_new_name_at_every_door(sections, message, tmp_path):
    """A recipe's file, `--set`, and what the form of Prefect's UI hands to the flow."""
    with pytest.raises(RecipeError, match=re.escape(message)):
        parse(**sections)
    with pytest.raises(ValidationError, match=re.escape(message.partition(": ")[2] or message)):
        Recipe.model_validate({"source": SAMPLE, **sections})
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump({"source": {"kind": "sample"}}))
    for section, fields in sections.items():
        for field, value in fields.items():
            with pytest.raises(RecipeError, match=re.escape(message)):
                load_recipe(file, {f"{section}.{field}": value})
    file.write_text(yaml.safe_dump({"source": {"kind": "sample"}, **sections}))
    with pytest.raises(RecipeError, match=r"\(line \d+\): "):
        load_recipe(file)


def test_every_new_name_is_a_field_and_no_old_one_is():
    fields = {"promotion.bounds.f1/*.min", *fields_of(Recipe), *fields_of(Recipe, "recipe.")}
    fields |= {f"{name}.{side}" for name in BOUNDED for side in ("min", "max")}
    fields |= {f"training.groups.wide.{name}" for name in ("learning_rate", "epsilon")}
    for old, new in RENAMED.items():
        assert new.partition(", ")[0] in fields, new
        assert old not in fields, old


BOUNDED = [
    f"promotion.bounds.{name}"
    for name in ("accuracy", "macro_f1", "nll", "ece", "megabytes", "milliseconds_per_text")
]


# --- names that are checked against the kind of task ----------------------------------------------


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"task": {"kind": "summarise"}}, "task: kind 'summarise' is none of classify"),
        (
            {"training": {"monitor": "val/ece"}},
            "val/ece is none of val/macro_f1, val/accuracy, val/nll",
        ),
        ({"training": {"groups": {"wide": {}}}}, "this model has no part wide (it has embedding, "),
        (
            {"promotion": {"bounds": {"f2": {"min": 0.5}}}},
            "promotion.bounds: f2 is none of macro_f1, ",
        ),
        (
            {"promotion": {"bounds": {"f1": {"min": 0.5}}}},
            "f1 has a value for each label: f1/* bounds",
        ),
        ({"promotion": {"bounds": {"nll/x": {"max": 0.5}}}}, "nll/x is none of"),
        (
            {"promotion": {"bounds": {"macro_f1": {"max": 0.9}}}},
            "macro_f1 is better the higher it is, so that its bound is a min: {min: 0.9}",
        ),
        ({"promotion": {"bounds": {"megabytes": {"min": 5}}}}, "bound is a max: {max: 5}"),
        ({"promotion": {"bounds": {"accuracy": {"min": 90}}}}, "accuracy is a share, from 0 to 1"),
        ({"promotion": {"bounds": {"nll": {}}}}, "either a min or a max"),
        ({"promotion": {"slices": {"min": 0.5, "by": ["colour"]}}}, "slices.by: colour is none of"),
        (
            {
                "task": {"class_weights": "balanced"},
                "distillation": {"teacher": "m"},
            },
            "task.class_weights weigh labels",
        ),
    ],
)
def test_name_that_the_kind_of_task_does_not_have_is_refused(sections, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        parse(**sections)


def test_bounds_and_groups_by_name_are_read():
    recipe = parse(
        task={"wide": {}},
        training={"monitor": "val/nll", "groups": {"wide": {"epsilon": 1e-4}, "encoder": {}}},
        promotion={"bounds": {"f1/*": {"min": 0.5}, "f1/refund": {"min": 0.7}, "nll": {"max": 1}}},
    )
    assert recipe.promotion.bounds["f1/refund"].value == 0.7
    assert recipe.training.groups["wide"].epsilon == 1e-4


def test_kind_is_printed_first():
    def walk(section):
        if isinstance(section, dict):
            assert "kind" not in section or next(iter(section)) == "kind", list(section)
            for part in section.values():
                walk(part)

    walk(Recipe().model_dump())
    for kind in ("word", "bpe", "wordpiece"):
        walk(parse(tokenizer={"kind": kind}).model_dump())
    for kind in ("sparse", "gaussian_posterior", "weight_norm", "multiplicative_noise", "none"):
        walk(parse(model={"reparameterization": {"kind": kind}}).model_dump())


# --- identity -------------------------------------------------------------------------------------


def test_identity_has_what_differs_from_the_defaults_and_nothing_else():
    assert Recipe().identity() == {}
    said = parse(
        model={"encoder": {"kind": "bilstm_attention", "hidden_size": 128}, "dropout": 0.0},
        training={"seed": 0},
    )
    assert said.identity() == {}, "stating a default is no difference"
    recipe = parse(
        task={"wide": {}},
        model={"encoder": {"kind": "tanh"}},
        promotion={"bounds": {"nll": {"max": 0.4}}},
        training={"groups": {"wide": {"epsilon": 1e-4}}},
    )
    assert recipe.identity() == {
        "task": {"kind": "classify", "wide": {}},
        "model": {"encoder": {"kind": "tanh"}},
        "promotion": {"bounds": {"nll": {"max": 0.4}}},
        "training": {"groups": {"wide": {"epsilon": 1e-4}}},
    }


def test_identity_of_parts_is_that_of_those_alone():
    recipe = parse(
        task={"class_weights": "balanced"},
        training={"seed": 3},
        execution={"threads": 2, "retries": 5},
    )
    assert recipe.identity(["task.kind"]) == Recipe().identity(["task.kind"])
    assert recipe.identity(["task.kind"]) == {"task": {"kind": "classify"}}
    assert recipe.identity(["training", "execution.threads"]) == {
        "training": {"seed": 3},
        "execution": {"threads": 2},
    }
    assert recipe.identity(["model", "execution.batch_rows"]) == {}
    assert recipe.identity(["distillation.weight"]) == {}, "there is none"


def test_what_shapes_nothing_is_no_part_of_a_run():
    recipe = parse(execution={"retries": 5, "checkpoint_every_steps": 7})
    assert recipe.identity_of_run() == Recipe().identity_of_run()
    for field, value in {"threads": 2, "accelerator": "cpu", "precision": "bf16-mixed"}.items():
        assert parse(execution={field: value}).identity_of_run() != recipe.identity_of_run(), (
            f"{field} shapes bits"
        )
    assert parse(source={"kind": "sample", "rows": 500}).identity_of_run() == {}, (
        "the fingerprint stands for the source"
    )


def test_a_given_file_counts_by_what_is_in_it(tmp_path):
    one, same, other = (tmp_path / name for name in ("a.json", "b.json", "c.json"))
    one.write_text("{}")
    same.write_text("{}")
    other.write_text("[]")
    first, second, third = (
        parse(tokenizer={"path": str(path)}).identity() for path in (one, same, other)
    )
    assert first == second != third
    assert str(tmp_path) not in str(first)


DEFAULTS = Path(__file__).with_name("recipe_defaults.json")


def test_defaults_are_those_of_the_snapshot():
    """An identity leaves out what is as it is by default, so that a key does not tell of a new
    default."""
    now = json.dumps(defaults_of(Recipe), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert now == DEFAULTS.read_text(encoding="utf-8"), (
        "A default has changed, and no key has it: raise the version of every stage that it "
        "shapes, and only then write the new defaults with "
        f"`python -m tests.data_contracts.test_recipe` ({DEFAULTS.name})."
    )


def defaults_of(section, before: str = "") -> dict[str, Any]:
    """The default of every field of every kind of the house, by its dotted name."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        # The kinds of other tests are defined as well where these are run in one process.
        models = models_in(field.annotation)
        parts = [part for part in models if part.__module__.startswith("data_contracts.")]
        for part in parts:
            kind = part.model_fields["kind"].default if "kind" in part.model_fields else ""
            found |= defaults_of(part, f"{before}{name}{f'[{kind}]' if kind else ''}.")
        value = field.get_default(call_default_factory=True)
        if not (parts and isinstance(value, BaseModel)):
            found[before + name] = "required" if field.is_required() else to_jsonable_python(value)
        elif "kind" in type(value).model_fields:
            found[before + name] = value.identity()
    return found


if __name__ == "__main__":
    text = json.dumps(defaults_of(Recipe), indent=1, sort_keys=True, ensure_ascii=False)
    DEFAULTS.write_text(text + "\n", encoding="utf-8")
