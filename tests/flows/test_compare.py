"""`noisefold compare` before anything runs: grids, their faults, and a table that says that nothing
has run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from data_contracts.recipe.comparison import Cell, load_comparison
from flows.cli.main import find_recipe, main

RECIPE = {"name": "small", "source": {"rows": 300}, "training": {"max_epochs": 1}}
GRID = {
    "name": "grid",
    "recipe": RECIPE,
    "seeds": [3, 1],
    "variants": {
        "dropout": {"model.dropout": 0.5, "model.reparameterization": {"kind": "none"}},
        "noise": {},
    },
    "baseline": "dropout",
}


def write(folder: Path, **changes) -> Path:
    (folder / "grid.yaml").write_text(
        yaml.safe_dump({**GRID, **changes}, allow_unicode=True, sort_keys=False)
    )
    return folder / "grid.yaml"


def load(path: Path, **overrides):
    texts = tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())
    return load_comparison(path, overrides, lambda name, base: find_recipe(name, texts, base))


def test_cells_go_seed_by_seed_and_a_selection_keeps_their_order(tmp_path):
    grid = load(write(tmp_path))
    assert grid.cells() == [
        Cell("dropout", 3),
        Cell("noise", 3),
        Cell("dropout", 1),
        Cell("noise", 1),
    ]
    assert grid.cells(only=("noise",), seeds=(1,)) == [Cell("noise", 1)]


def test_a_variant_is_the_recipe_with_its_overrides_and_the_seed(tmp_path):
    grid = load(write(tmp_path), **{"training.max_epochs": 7})
    recipe = grid.recipe_of(Cell("dropout", 3))
    assert recipe.model.dropout == 0.5
    assert recipe.model.reparameterization.model_dump() == {"kind": "none"}
    assert (recipe.training.seed, recipe.training.max_epochs) == (3, 7)
    assert grid.recipe_of(Cell("noise", 1)).model == grid.recipe.model


def test_a_mapping_replaces_the_section_that_the_recipe_has(tmp_path):
    recipe = {
        **RECIPE,
        "model": {"reparameterization": {"kind": "sparse", "keep": 0.9}, "embedding": {"size": 32}},
    }
    variants = {
        "plain": {"model.reparameterization": {"kind": "none"}},
        "tanh": {"model.encoder": {"kind": "tanh"}},
    }
    grid = load(write(tmp_path, recipe=recipe, variants=variants, baseline="plain"))
    assert grid.recipe_of(Cell("plain", 3)).model.reparameterization.kind == "none"
    tanh = grid.recipe_of(Cell("tanh", 3)).model
    assert (tanh.encoder.kind, tanh.embedding.size, tanh.reparameterization.kind) == (
        "tanh",
        32,
        "sparse",
    )


def test_a_recipe_may_be_a_file_beside_the_grid_or_a_deployment(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(
        yaml.safe_dump({**RECIPE, "source": {"url": "rows.csv"}, "contract": "sample"})
    )
    grid = load(write(tmp_path, recipe="recipes/r.yaml"), **{"training.max_epochs": 9})
    assert grid.recipe.source.url == str(tmp_path / "recipes" / "rows.csv")
    assert grid.recipe.training.max_epochs == 9
    assert load(write(tmp_path, recipe="sample")).recipe.name == "sample"


def test_relative_paths_of_variants_and_predictions_start_at_the_grid(tmp_path):
    variants = {"vectors": {"model.embedding.vectors": "glove.txt", "training.max_epochs": 2}}
    grid = load(
        write(tmp_path, variants=variants, predictions={"LR": "peers/*.parquet"}, baseline="LR")
    )
    assert grid.recipe_of(Cell("vectors", 1)).model.embedding.vectors == str(tmp_path / "glove.txt")
    assert grid.predictions == {"LR": str(tmp_path / "peers" / "*.parquet")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "seeds: a seed stands twice"),
        ({"seeds": []}, "seeds"),
        (
            {"baseline": "nobody"},
            "baseline: there is no variant of this name (there are dropout, noise)",
        ),
        ({"basline": "noise"}, "basline: unknown key"),
        ({"recipe": None}, "recipe"),
        (
            {"recipe": {**RECIPE, "training": {"max_epoch": 1}}},
            "grid.yaml, recipe: training.max_epoch: unknown key",
        ),
        (
            {"recipe": {**RECIPE, "training": {"warm_start": "champion"}}},
            "recipe: training.warm_start must be never",
        ),
        (
            {"recipe": {**RECIPE, "distillation": {"teacher": "m"}}},
            "recipe: distillation.version must be a number: every cell",
        ),
        (
            {"variants": {"a": {"model.encoder.hidden": 4}}},
            "variants: a: model.encoder.hidden: unknown key",
        ),
        (
            {"variants": {"a": {"source.rows": 500}}},
            "variants: a: source.rows: a variant may change task, tokenizer, window, model",
        ),
        (
            {"variants": {"a": {"contract": "trec"}}},
            "the rows and how they are measured are the same for all",
        ),
        (
            {"variants": {"a": {"training.seed": 4}}},
            "a: training.seed: the grid's seeds set training.seed",
        ),
        (
            {"variants": {"a": {"evaluation": {"ece_bins": 3}}}},
            "a: evaluation: a variant may change task",
        ),
        (
            {"variants": {"a": {"evaluation.ece_bins": 3}}},
            "a: evaluation.ece_bins: is task.ece_bins now",
        ),
        (
            {"variants": {"a": {"task.ece_bins": 3}}},
            "a: task.ece_bins has to be 15, as in the recipe that all share",
        ),
        ({"variants": {"a|b": {}}, "baseline": "a|b"}, "'a|b': 1 to 60 characters"),
        ({"variants": ["dropout"]}, "variants"),
        (
            {"predictions": {"noise": "x.parquet"}},
            "predictions: noise: this name is taken by a variant",
        ),
    ],
)
def test_faults_name_file_and_field(changes, message, tmp_path):
    done = CliRunner().invoke(main, ["compare", str(write(tmp_path, **changes)), "--report"])
    said = done.stderr.replace("\n", " ")
    assert done.exit_code == 1 and "grid.yaml" in said and message in said, said
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "nobody"], "--only nobody: not in grid (it has dropout, noise)"),
        (["--seeds", "3,2"], "--seeds 2: not in grid (it has 3, 1)"),
        (["--seeds", "many"], "--seeds many: expected whole numbers"),
        (["--out", "table.txt"], "--out table.txt: the table is Markdown"),
    ],
)
def test_faults_of_the_selection_are_told_before_anything_starts(
    options, message, tmp_path, monkeypatch
):
    monkeypatch.setenv("NOISEFOLD_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(main, ["compare", str(write(tmp_path)), *options])
    assert done.exit_code == 1 and message in done.stderr.replace("\n", " ")
    assert not (tmp_path / "home").exists()


def test_report_before_anything_ran_says_so_in_every_cell_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEFOLD_HOME", str(tmp_path / "home"))
    out = tmp_path / "results" / "table.md"
    done = CliRunner().invoke(
        main, ["compare", str(write(tmp_path)), "--report", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    lines = [
        line for line in out.read_text().splitlines() if line.startswith(("| dropout", "| noise"))
    ]
    assert [line.count("not run") for line in lines] == [14, 14]
    assert "Not run: dropout (seeds 3, 1); noise (seeds 3, 1)." in out.read_text()
    cells = json.loads(out.with_suffix(".json").read_text())["cells"]
    assert [(c["variant"], c["seed"], c["state"]) for c in cells][:2] == [
        ("dropout", 3, "not run"),
        ("noise", 3, "not run"),
    ]
    assert not (tmp_path / "home").exists()
