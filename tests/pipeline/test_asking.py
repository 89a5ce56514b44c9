"""A finder of answers goes the whole way, as a person takes it: retrain, ask, predict, replace the
answers, compare."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli.main import main
from tests.kinds.test_retrieving import ABOUT, THINGS
from tests.pipeline.conftest import mlflow_client, refused, told

NOTICE = "Prices may change."


def write_answers(file: Path, added: str = "") -> None:
    """A page a thing, with a section for each question."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "answer", "article", "url", "topic"])
        for number, thing in enumerate(THINGS):
            writer.writerow(
                [f"what is a {thing}", f"A {thing} is thing {number}.{added}", thing, None, "what"]
            )
            for ask, answer in ABOUT.items():
                row = [ask.format(thing), answer.format(number) + added, thing]
                writer.writerow([*row, f"https://shop.example/{thing}", ask.split()[0]])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asking")
    write_answers(folder / "faq.csv")
    recipe = {
        "name": "faq",
        "task": {"kind": "retrieve", "vector_size": 16, "notice": NOTICE},
        "source": {"url": str(folder / "faq.csv")},
        "contract": {
            "kind": "retrieve", "name": "faq", "splits": {"min_rows": 3},
            "columns": {"page": "article", "link": "url", "slices": ["topic"]},
        },
        "tokenizer": {"kind": "bpe", "vocab_size": 400},
        "model": {"embedding": {"size": 16}, "encoder": {"kind": "tanh", "hidden_size": 16}},
        "training": {"max_epochs": 8, "batch_size": 8, "learning_rate": 0.02},
        "statistics": {"samples": 100},
        "promotion": {"slices": {"by": ["topic"], "min": 0.1, "min_rows": 2}},
        "execution": {"retries": 0},
    }  # fmt: skip
    (folder / "faq.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
    return folder


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("NOISEFOLD_HOME", str(home / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(name: str, *words: Any, input: bytes | None = None) -> Result:
        given = [name, "--model", "noisefold-faq", *map(str, words)]
        return CliRunner().invoke(main, given, input=input)

    return run


def test_nothing_to_start_from_is_said_before_anything_is_read(here: Any, home: Path) -> None:
    done = here(
        home / "state", "retrain", home / "faq.yaml", "--set", "training.max_epochs=0",
        "--set", "training.warm_start=champion",
    )  # fmt: skip
    refused(done, "training.max_epochs is 0, and noisefold-faq has no champion")


def test_answers_become_a_champion_with_a_report_and_a_card(here: Any, home: Path) -> None:
    done = told(here(home / "state", "retrain", home / "faq.yaml", "--json"))
    assert done["decision"]["promoted"], done["decision"]
    assert "that of BM25 over the words of the answers" in " ".join(done["decision"]["reasons"])
    assert set(done["metrics"]) > {"test/mrr", "test/recall_at_10", "test/answered"}
    [report] = (home / "state" / "artifacts" / "evaluate").glob("*/report.json")
    content = json.loads(report.read_text())
    assert content["answers"] == 4 * len(THINGS) and content["samples"]
    page = report.with_name("report.html").read_text()
    assert "resamples of the pages" in page and "BM25 over the answers" in page
    answers = pq.read_table(report.with_name("predictions.parquet"))
    assert answers.num_rows == content["rows"] and "topic" in answers.column_names
    client = mlflow_client(home / "state")
    version = client.get_model_version_by_alias("noisefold-faq", "champion")
    assert f"among {content['answers']} that were written" in version.description
    assert NOTICE in version.description


def test_an_answer_comes_with_its_source(command: Callable[..., Result]) -> None:
    asked = command("ask", "how do i clean a belando", "--threshold", "0", "--top", "3")
    assert asked.exit_code == 0, asked.output
    lines = asked.stdout.splitlines()
    assert lines[1].startswith("(") and "probability" in lines[1]
    assert sum(line.startswith("- ") for line in lines) == 2
    assert lines[-1] == NOTICE
    nobody = command("ask", "zzz qqq", "--threshold", "1")
    assert nobody.stdout.startswith("Nobody has answered this, as far as is known")
    several = command("ask", "--json", input=b"belando\n\n  korifer price \n")
    one, other = map(json.loads, several.stdout.splitlines())
    assert (one["question"], other["question"]) == ("belando", "korifer price")
    assert {"answer", "link", "score"} == set(one["ranking"][0])
    assert one["notice"] == NOTICE


def test_what_cannot_be_asked_is_refused(command: Callable[..., Result]) -> None:
    refused(command("ask", input=b" \n"), "There is no question")
    refused(command("ask", "x", "--threshold", "7"), "threshold is 7.0, and has to lie between")
    refused(command("translate", "x"), "is no model that `noisefold translate` asks")


def test_a_table_of_questions_is_a_table_of_answers(
    command: Callable[..., Result], tmp_path: Path
) -> None:
    table, out = tmp_path / "asked.csv", tmp_path / "answers.parquet"
    table.write_text("n,body\n1,what is a belando\n2,\n")
    done = command("predict", "--input", table, "--column", "body", "--output", out)
    assert done.exit_code == 0, done.output
    found = pq.read_table(out).to_pylist()
    assert 0 <= found[0]["probability"] <= 1 and json.loads(found[0]["ranking"])
    assert found[1]["reason"] == "the question is missing or empty"


def test_answers_are_replaced_as_a_whole_and_held_against_the_champion(
    here: Any, home: Path, command: Callable[..., Result]
) -> None:
    before = json.loads(command("ask", "what is a belando", "--json").stdout)
    write_answers(home / "faq.csv", added=" In stock again.")
    zero = ("--set", "training.max_epochs=0", "--set", "training.warm_start=champion")
    done = told(here(home / "state", "retrain", home / "faq.yaml", "--json", *zero))
    assert done["decision"]["rows_compared"] > 0
    assert done["metrics"]["test/mrr"]["value"] > 0.5
    asked = command("ask", "what is a belando", "--json", "--version", "2", "--threshold", "0")
    after = json.loads(asked.stdout)
    assert after["answer"].endswith(" In stock again.")
    assert not before["ranking"][0]["answer"].endswith(" In stock again.")


def test_another_program_stands_beside_it_in_a_table(here: Any, home: Path, tmp_path: Path) -> None:
    write_answers(home / "faq.csv")
    found = (home / "state" / "artifacts" / "evaluate").glob("*/predictions.parquet")
    answers = pq.read_table(min(found, key=lambda path: path.stat().st_mtime))
    right = [[one] for one in answers["answer"].to_pylist()]
    people = answers.select(["id"]).append_column("ranking", [right])
    pq.write_table(people, tmp_path / "people.parquet")
    grid = {
        "name": "faq", "recipe": str(home / "faq.yaml"), "seeds": [0], "baseline": "people",
        "variants": {"ours": {}}, "predictions": {"people": str(tmp_path / "people.parquet")},
    }  # fmt: skip
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    out = tmp_path / "table.md"
    done = here(home / "state", "compare", tmp_path / "grid.yaml", "--out", out)
    assert done.exit_code == 0, done.output
    lines = out.read_text().splitlines()
    header = next(line for line in lines if line.startswith("| variant")).split(" | ")
    [row] = [line.split(" | ") for line in lines if line.startswith("| people")]
    cells = dict(zip(header, row, strict=True))
    assert cells["MRR"] == cells["recall@1"] == "100.0"
