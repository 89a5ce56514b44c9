"""A reader goes the whole way, as a person takes it: retrain, predict, compare."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli.main import main
from tests.pipeline.conftest import mlflow_client, refused, told

WHO = ["cat", "dog", "bird", "horse", "mouse", "whale"]
WHERE = ["Rome", "New York", "Paris", "Oslo", "a cave"]


def write_questions(file: Path, contexts: int) -> None:
    """Two questions a text; every sixth is of somebody who is not in it."""
    draw = random.Random(0)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "context", "answer", "answer_start", "topic"])
        for number in range(contexts):
            who = draw.sample(WHO, 3)
            where = [draw.choice(WHERE) for _ in who]
            pairs = zip(who, where, strict=True)
            context = " ".join(f"The {one} lives in {place}." for one, place in pairs)
            context += f" It was {number} days ago."
            for asked in (0, 1):
                name, start = who[asked], context.index(f"The {who[asked]} ")
                start = context.index(where[asked], start)
                row = [f"Where does the {name} live?", context, where[asked], start, name]
                if (2 * number + asked) % 6 == 5:
                    absent = next(one for one in WHO if one not in who)
                    row = [f"Where does the {absent} live?", context, "", -1, absent]
                writer.writerow(row)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answering")
    write_questions(folder / "questions.csv", 120)
    recipe = {
        "name": "qa",
        "task": {
            "kind": "span", "precision": 0.2,
            "reader": {"attention_size": 8, "mixed_size": 16, "hidden_size": 8, "rank": 4},
        },
        "source": {"url": str(folder / "questions.csv")},
        "contract": {
            "kind": "span", "name": "qa", "unanswerable": "keep", "columns": {"slices": ["topic"]},
            "splits": {"min_rows": 3},
        },
        "tokenizer": {"kind": "word", "min_frequency": 1},
        "window": {"max_length": 64, "overlap": 8},
        "model": {
            "embedding": {"size": 16},
            "encoder": {"kind": "bilstm_attention", "hidden_size": 16},
        },
        "training": {"max_epochs": 3, "batch_size": 8, "learning_rate": 0.02},
        "statistics": {"samples": 100},
        "promotion": {"beat_constant": False},
        "execution": {"retries": 0},
    }  # fmt: skip
    (folder / "qa.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
    return folder


@pytest.fixture
def predict(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("NOISEFOLD_HOME", str(home / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def command(*words: Any) -> Result:
        given = ["predict", "--model", "noisefold-qa", *map(str, words)]
        return CliRunner().invoke(main, given)

    return command


def test_questions_become_a_champion_with_a_report_and_a_card(here: Any, home: Path) -> None:
    done = told(here(home / "state", "retrain", home / "qa.yaml", "--json"))
    assert [stage["name"] for stage in done["stages"]][-3:] == ["evaluate", "register", "promote"]
    assert done["decision"]["promoted"], done["decision"]
    assert set(done["metrics"]) >= {"test/f1", "test/exact_match", "test/sentence_f1"}
    [report] = (home / "state" / "artifacts" / "evaluate").glob("*/report.json")
    content = json.loads(report.read_text())
    assert content["metrics"]["sentence_f1"]["value"] == pytest.approx(content["sentence_f1"])
    assert content["samples"] and content["promises"] and content["outcomes"]
    answers = pq.read_table(report.with_name("predictions.parquet"))
    assert answers.num_rows == content["rows"] and "topic" in answers.column_names
    page = report.with_name("report.html").read_text()
    assert "resamples of the contexts" in page and "the best matching sentence" in page
    assert "telling questions with an answer from those without" in page
    client = mlflow_client(home / "state")
    version = client.get_model_version_by_alias("noisefold-qa", "champion")
    assert "The sentence that has most of the question" in (version.description or "")
    again = told(here(home / "state", "retrain", home / "qa.yaml", "--json"))
    assert {stage["state"] for stage in again["stages"][:-1]} == {"cached"}


def test_a_table_of_questions_is_a_table_of_answers(
    predict: Callable[..., Result], tmp_path: Path
) -> None:
    table = tmp_path / "asked.csv"
    context = "The cat lives in Rome.\r\nThe dog lives in Oslo."
    with table.open("w", newline="", encoding="utf-8") as stream:
        rows = [
            ["n", "question", "context"],
            [1, "Where does the dog live?", context],
            [2, "", "x"],
        ]
        csv.writer(stream).writerows(rows)
    done = predict("--input", table, "--output", tmp_path / "answers.jsonl")
    assert done.exit_code == 0, done.output
    first, second = map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())
    assert 0 <= first["probability"] <= 1 and first["n"] == "1"
    if first["outcome"] == "answered":
        start = first["answer_start"]
        assert context[start : start + len(first["answer"])] == first["answer"]
    else:
        assert first["answer"] is None
    assert (second["answer"], second["outcome"]) == (None, None)
    assert second["reason"] == "the question is missing or empty"


def test_a_question_alone_is_refused_in_a_sentence(predict: Callable[..., Result]) -> None:
    refused(predict("Where does the dog live?"), "question")


def test_another_program_stands_beside_it_in_a_table(here: Any, home: Path, tmp_path: Path) -> None:
    [answers] = (home / "state" / "artifacts" / "evaluate").glob("*/predictions.parquet")
    pq.write_table(pq.read_table(answers, columns=["id", "answer"]), tmp_path / "people.parquet")
    grid = {
        "name": "qa", "recipe": str(home / "qa.yaml"), "seeds": [0], "baseline": "people",
        "variants": {"ours": {}}, "predictions": {"people": str(tmp_path / "people.parquet")},
    }  # fmt: skip
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    out = tmp_path / "table.md"
    done = here(home / "state", "compare", tmp_path / "grid.yaml", "--out", out)
    assert done.exit_code == 0, done.output
    lines = out.read_text().splitlines()
    header = next(line for line in lines if line.startswith("| variant")).split(" | ")
    [people] = [line.split(" | ") for line in lines if line.startswith("| people")]
    cells = dict(zip(header, people, strict=True))
    assert cells["F1"] == cells["exact match"] == "100.0"
