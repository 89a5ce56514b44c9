"""The command line: recipes from files and deployments, faults in one clear message."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from data_contracts.recipe.recipe import Recipe
from flows.cli.main import find_recipe, main

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*arguments: str, input: str | None = None):
    return CliRunner().invoke(main, list(arguments), input=input)


def test_help_names_every_command():
    out = run("--help").output
    for command in ("retrain", "predict", "reconcile", "doctor", "gc", "ui", "recipe", "contract"):
        assert command in out


def test_show_prints_a_recipe_that_reads_back_as_itself(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(run("recipe", "show", "sample", "--set", "training.max_epochs=2").output)
    assert find_recipe(str(file), ()) == Recipe.model_validate(
        {"source": {"kind": "sample"}, "training": {"max_epochs": 2}}
    )


@pytest.mark.parametrize("name", ["sample", "weekly"])
def test_deployments_are_recipes_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name, ()).name == name


def test_a_prefect_yaml_beside_the_command_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prefect.yaml").write_text(
        yaml.safe_dump(
            {
                "deployments": [
                    {
                        "name": "mine",
                        "parameters": {"recipe": {"name": "mine", "source": {"rows": 400}}},
                    }
                ]
            }
        )
    )
    assert find_recipe("mine", ()).name == "mine"
    done = run("recipe", "check", "nobody")
    assert done.exit_code == 1
    assert "no deployment named nobody" in done.stderr and "it has mine" in done.stderr


def test_schema_is_json_and_describes_fields():
    schema = json.loads(run("recipe", "schema").output)
    assert schema["$defs"]["TrainingConfig"]["properties"]["max_epochs"]["description"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipe", "check", "absent.yaml"], "absent.yaml: no such file"),
        (["recipe", "check", "--set", "training.max_epochs"], "expected section.field=value"),
        (["recipe", "check", "--set", "training.max_epochs=many"], "training.max_epochs"),
        (["retrain", "--set", "tokenizer.vocab_size=1"], "tokenizer.vocab_size"),
        (["predict", ""], "no text to predict"),
    ],
)
def test_faults_are_one_message_without_a_traceback(arguments, message):
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output


def test_control_characters_of_a_file_never_reach_the_terminal(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text('"\\e[31mred": 1\n')
    done = run("recipe", "check", str(file))
    assert done.exit_code == 1
    assert "\x1b" not in done.stderr


def test_contract_infer_drafts_a_contract_that_reads_back(tmp_path):
    rows = "".join(
        f"text number {i} of some length,{'yes' if i % 2 else 'no'}\n" for i in range(200)
    )
    (tmp_path / "mails.csv").write_text("body,verdict\n" + rows)
    done = run("contract", "infer", str(tmp_path / "mails.csv"), "-o", str(tmp_path / "mails.yaml"))
    assert done.exit_code == 0, done.output
    (tmp_path / "r.yaml").write_text("source: {url: mails.csv}\ncontract: mails.yaml\n")
    contract = find_recipe(str(tmp_path / "r.yaml"), ()).contract
    assert (contract.columns.text, contract.columns.label) == ("body", "verdict")
    assert set(contract.labels.values or ()) == {"yes", "no"}
    again = run(
        "contract", "infer", str(tmp_path / "mails.csv"), "-o", str(tmp_path / "mails.yaml")
    )
    assert again.exit_code == 1 and "is there already" in again.stderr.replace("\n", " ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_python_drops_in_a_finalizer_stops_the_command_all_the_same(
    number: signal.Signals,
) -> None:
    code = f"""
import os, signal, time, weakref
import click
from flows.cli.main import Friendly

@click.group(cls=Friendly)
def main(): pass

@main.command()
def work():
    class Thing: pass
    def gone(_):
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.01)
    thing = Thing()
    kept = weakref.ref(thing, gone)
    del thing
    time.sleep(30)
    print("went on")

main(["work"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr.strip().startswith("Stopped. What is finished is kept")
