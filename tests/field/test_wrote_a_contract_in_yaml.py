"""YAML has ideas of its own about yes, 010 and 1.10; a contract means what the person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from data_contracts.contract.contract import load_contract
from data_contracts.contract.infer import Draft
from data_contracts.contract.written import to_yaml
from data_contracts.errors import RecipeError
from data_contracts.kinds.classify_contract import ClassifyContract
from data_contracts.recipe.reading import load_recipe, merge, parse_recipe, parse_set
from data_contracts.yaml_text import parse_yaml
from tests.field.rows import csv_of, judge

ODD = ["yes", "no", "on", "off", "y", "N", "010", "001", "1_000", "12:30", "2026-01-31", "1e3", "1.10", "0x1F", "~x",
       "1e-05", "=", "<<x", ".5", "+3"]  # fmt: skip


def written(folder: Path, text: str, name: str = "c.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("how", ["contract file", "inline in a recipe", "--set"])
def test_labels_are_taken_as_written(tmp_path: Path, how: str) -> None:
    values = f"[{', '.join(ODD)}]"
    if how == "contract file":
        contract = load_contract(str(written(tmp_path, f"name: x\nlabels:\n  values: {values}\n")))
    elif how == "inline in a recipe":
        contract = load_recipe(
            written(
                tmp_path,
                f"source: {{rows: 400}}\ncontract: {{name: x, labels: {{values: {values}}}}}\n",
            )
        ).contract
    else:
        setting = dict([parse_set(f"contract.labels.values={values}")])
        contract = parse_recipe(
            merge({"source": {"rows": 400}, "contract": {"name": "x"}}, setting), origin="t"
        ).contract
    assert contract.labels.values == tuple(ODD)


def test_every_text_of_a_contract_is_taken_as_written(tmp_path: Path) -> None:
    text = (
        "name: 007\ndescription: 12:30\nversion: 2\ncolumns: {id: 1, text: on, label: true, "
        "slices: [2.0, 010]}\n"
        "select: {answer: yes, 3: [1.0, True]}\nlabels: {values: [1.0, 2.00, true, FALSE], "
        "max_share: 1}\n"
    )
    contract = load_contract(str(written(tmp_path, text)))
    columns = contract.columns
    assert (contract.name, contract.description, contract.version) == ("007", "12:30", 2)
    assert (columns.id, columns.text, columns.label, columns.slices) == (
        "1",
        "on",
        "true",
        ("2.0", "010"),
    )
    assert contract.select == {"answer": ("yes",), "3": ("1", "true")}
    assert contract.labels.values == ("1", "2", "true", "false"), "as the rows' labels are spelled"


def test_rows_of_such_labels_are_kept(tmp_path: Path) -> None:
    labels = ("yes", "no", "010", "1.10")
    csv_of(tmp_path / "a.csv", [{"text": f"text {i}", "label": labels[i % 4]} for i in range(120)])
    contract = load_contract(
        str(written(tmp_path, "name: x\nlabels: {values: [yes, no, 010, 1.10]}\n"))
    )
    told = judge(tmp_path / "a.csv", labels=contract.labels)
    assert told.labels == labels and not told.quarantined


@pytest.mark.parametrize(
    "loader", [yaml.safe_load, lambda text: parse_yaml(text, "t")], ids=["PyYAML", "ours"]
)
def test_a_contract_that_is_written_back_says_the_same(loader) -> None:
    contract = ClassifyContract.model_validate(
        {
            "name": "1.0",
            "columns": {"text": "yes", "label": "010"},
            "labels": {"values": [*ODD, "null", "true"]},
        }
    )
    assert ClassifyContract.model_validate(loader(to_yaml(Draft(contract, 1, {})))) == contract


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (
            "labels.values",
            [True, False],
            "labels.values.0: the boolean true where a text is meant; put it in quotes",
        ),
        (
            "labels.values",
            [1, 8],
            "labels.values.1: the number 8 where a text is meant; put it in quotes",
        ),
        ("labels.values", [1.1, 1.0], "labels.values.0: the number 1.1 where"),
        (
            "labels.values",
            ["a", None],
            "labels.values.1: null where a text is meant; put it in quotes",
        ),
        ("columns.label", False, "columns.label: the boolean false where"),
        ("columns.text", None, "columns.text: null where"),
        ("select.answer", [True], "select.answer.0: the boolean true where"),
    ],
)
def test_what_another_program_has_read_already_is_refused(
    field: str, value: object, said: str
) -> None:
    """Prefect reads prefect.yaml by YAML 1.1 and hands over JSON, in which yes is true and 010 is
    8.
    """
    given = merge({"name": "x"}, {field: value})
    with pytest.raises(RecipeError) as fault:
        parse_recipe({"source": {"kind": "sample"}, "contract": given}, origin="deployment nightly")
    assert f"contract.{said}" in fault.value.cause


def test_null_in_a_file_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"labels\.values\.0: null where a text is meant; put it in quotes"
    ):
        load_contract(str(written(tmp_path, "name: x\nlabels: {values: [null, a]}\n")))


def test_two_spellings_of_one_label_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"labels\.values: .*'1' stands there twice"):
        load_contract(str(written(tmp_path, "name: x\nlabels: {values: [1, 1.0, 2]}\n")))


def test_numbers_and_booleans_are_still_what_a_field_of_them_takes(tmp_path: Path) -> None:
    text = "source: {rows: 400}\ncontract: {name: x}\n"
    text += "training: {max_epochs: 1e1, seed: 010, batch_size: 1_00, learning_rate: 5e-3}\n"
    recipe = load_recipe(
        written(tmp_path, text + "task: {calibrate: yes}\nregistry: {experiment: null}\n")
    )
    training = recipe.training
    assert (training.max_epochs, training.seed, training.batch_size, training.learning_rate) == (
        10,
        10,
        100,
        0.005,
    )
    assert recipe.task.calibrate is True and recipe.registry.experiment is None
    assert yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))["training"]["seed"] == 10
