"""The golden recipes can be read, their results are committed, and any change of them is told."""

from __future__ import annotations

import copy
import csv
import json
import struct
from pathlib import Path

import pytest

from benchmarks.golden import world
from benchmarks.golden.__main__ import GOLDEN
from benchmarks.golden.comparison import TOLERANCE, compare
from benchmarks.golden.results import THREADS, Results, cpu_model, tensor_digests
from data_contracts.recipe.reading import load_recipe
from data_contracts.recipe.source import FileSource

RESULTS: Results = {
    "facts": {"best epoch": 2, "tokenizer": "a" * 64},
    "figures": {"test/accuracy": 0.5, "test/nll": 0.7, "temperature served": 1.0},
    "tensors": {"decoder.bias": "F32 [2] aa", "decoder.weight": "F32 [2, 4] bb"},
    "predictions": {"rows": "cc", "labels": "dd", "probabilities": "ee"},
}


@pytest.fixture
def found() -> Results:
    return copy.deepcopy(RESULTS)


def test_there_are_seven_recipes_and_the_file_has_results_of_each() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(world.RECIPES) == 7
    assert {file.stem for file in GOLDEN.parent.glob("*.yaml")} == {*world.RECIPES}
    assert tuple(golden["recipes"]) == world.RECIPES
    assert {"cpu", "torch", "threads"} <= golden["machine"].keys()
    for results in golden["recipes"].values():
        figures = results["figures"]
        low, value, high = (figures[f"test/macro_f1{bound}"] for bound in ("_low", "", "_high"))
        assert low <= value <= high
        assert f"val/macro_f1 of epoch {results['facts']['best epoch']}" in figures
        assert results["tensors"] and results["facts"]["vocabulary"] > 16
        assert results.keys() == RESULTS.keys()
        assert results["predictions"].keys() == RESULTS["predictions"].keys()


@pytest.mark.parametrize("name", world.RECIPES)
def test_a_recipe_is_read_and_leaves_nothing_to_chance(name: str) -> None:
    recipe = load_recipe(world.HERE / f"{name}.yaml")
    assert "seed" in recipe.training.stated()
    assert recipe.execution.stated() >= {"threads", "accelerator"}
    assert (recipe.execution.threads, recipe.execution.accelerator) == (THREADS, "cpu")
    assert isinstance(recipe.source, FileSource) == (name in world.DATA)
    if recipe.distillation is not None:
        taught_by = load_recipe(world.HERE / f"{world.TEACHERS[name]}.yaml")
        assert recipe.distillation.teacher == taught_by.model_name


def test_equal_results_are_the_same(found: Results) -> None:
    compared = compare(RESULTS, found)
    assert (compared.verdict, compared.lines) == ("same", ())


def test_a_changed_figure_is_told_with_its_size(found: Results) -> None:
    found["figures"]["test/nll"] += 2 * TOLERANCE
    compared = compare(RESULTS, found)
    assert compared.verdict == "differs"
    assert compared.lines == (f"test/nll 0.7 → {0.7 + 2 * TOLERANCE:g} (+{2 * TOLERANCE:g})",)
    assert compare(found, RESULTS).verdict == "differs"


def test_a_figure_that_is_gone_and_one_that_is_new_are_told(found: Results) -> None:
    found["figures"]["test/brier"] = found["figures"].pop("test/nll")
    compared = compare(RESULTS, found)
    assert compared.verdict == "differs"
    assert compared.lines == ("figure gone: test/nll", "figure new: test/brier")


def test_other_bits_with_figures_that_are_near_are_no_other_result(found: Results) -> None:
    found["figures"]["test/nll"] += TOLERANCE / 2
    found["tensors"]["decoder.bias"] = "F32 [2] ff"
    found["predictions"]["probabilities"] = "ff"
    compared = compare(RESULTS, found)
    assert compared.verdict == "rounding"
    assert compared.lines[1:] == (
        "1 of 2 tensors have other bytes: decoder.bias",
        "predictions: other probabilities",
    )


def test_the_smallest_change_of_bits_is_not_the_same(found: Results) -> None:
    found["predictions"]["labels"] = "ff"
    assert compare(RESULTS, found).lines == ("predictions: other labels",)
    assert compare(RESULTS, found).verdict == "rounding"


def test_other_shapes_facts_and_rows_are_never_taken_for_rounding(found: Results) -> None:
    found["tensors"]["decoder.weight"] = "F32 [2, 3] bb"
    found["tensors"]["embedding.weight"] = "F32 [9, 4] bb"
    found["facts"]["tokenizer"] = "b" * 64
    found["predictions"]["rows"] = "ff"
    compared = compare(RESULTS, found)
    assert compared.verdict == "differs"
    assert compared.lines[:4] == (
        "tokenizer aaaaaaaaaaaa → bbbbbbbbbbbb",
        "tensor decoder.weight F32 [2, 4] → F32 [2, 3]",
        "tensor new: embedding.weight",
        "predictions: of other rows, or in another order",
    )


def test_a_tensors_digest_is_of_its_own_bytes() -> None:
    def file(**tensors: float) -> bytes:
        header = {
            name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * place, 4 * place + 4]}
            for place, name in enumerate(tensors)
        }
        text = json.dumps(header).encode()
        values = struct.pack(f"<{len(tensors)}f", *tensors.values())
        return struct.pack("<Q", len(text)) + text + values

    before, after = tensor_digests(file(a=1.0, b=2.0)), tensor_digests(file(b=2.0, a=1.5))
    assert before["b"] == after["b"] and before["a"] != after["a"]
    assert before["a"].startswith("F32 [1] ")


def test_rows_come_from_all_over_a_file_and_keep_their_line_ends(tmp_path: Path) -> None:
    source, target = tmp_path / "source.csv", tmp_path / "deep" / "target.csv"
    with source.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["text", "label"], *([f"é\n{n}", n] for n in range(10))])
    world.copy_some_rows(source, target, 4)
    assert world.texts_of(target) == ["é\n0", "é\n2", "é\n5", "é\n7"]


def test_a_recipe_whose_data_is_absent_says_what_is(tmp_path: Path) -> None:
    assert world.absent("sample", tmp_path) is None
    assert world.absent("trec", tmp_path) == "../shared/data/trec/train.csv is absent"


def test_a_taught_recipe_runs_after_its_teacher() -> None:
    assert world.with_teachers(["distilled", "sample"]) == ["sample", "trec", "distilled"]


def test_a_processor_is_named_by_the_first_of_its_kind(tmp_path: Path) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text("model name\t: Fast\ncpu family\t: 6\nmodel\t: 1\n\nmodel name\t: Slow\n")
    assert cpu_model(facts) == "Fast (family 6, model 1)"
    assert cpu_model(tmp_path / "absent")
