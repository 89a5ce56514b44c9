"""A language model goes the whole way, as a person takes it: retrain, write, predict, serve, promote."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.conftest import mlflow_client, refused, told
from tests.tasks.test_serving import model_server, post

PEOPLE = ["Anna", "Ben", "小明", "小红"]
PLACES = ["the park", "the lake", "公园", "the old mill"]


def story(draw: random.Random) -> str:
    who, where = draw.choice(PEOPLE), draw.choice(PLACES)
    return f"{who} went to {where}. In {where}, {who} saw a {draw.choice(['dog', 'cat', '鸟'])}."


def write_stories(folder: Path, count: int, seed: int = 0) -> None:
    draw = random.Random(seed)
    lines = [f"{row}: {story(draw)}" for row in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stories.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def recipe(folder: Path, **sections: Any) -> Path:
    content = {
        "name": "stories",
        "task": {"kind": "generate", "counted": {"order": 4}, "samples": 3,
                 "writing": {"max_tokens": 20}},
        "source": {"kind": "files", "url": str(folder / "texts"), "documents": "line"},
        "contract": {"kind": "generate", "name": "stories", "splits": {"min_rows": 5}},
        "tokenizer": {"kind": "character"},
        "window": {"max_length": 48, "overlap": 8},
        "model": {"embedding": {"size": 16}, "encoder": {"kind": "lstm", "hidden_size": 24}},
        "training": {"max_epochs": 2, "batch_size": 16},
        "statistics": {"samples": 100},
        "execution": {"retries": 0},
        **sections,
    }  # fmt: skip
    file = folder / "stories.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("writing")


def test_a_folder_of_texts_becomes_a_champion_that_writes(
    here: Any, home: Path, tmp_path: Path
) -> None:
    write_stories(home / "texts", 300)
    file = recipe(home)
    done = told(here(home / "state", "retrain", file, "--json"))
    assert [stage["name"] for stage in done["stages"]] == [
        "ingest", "validate", "tokenize", "train", "evaluate", "register", "promote",
    ]  # fmt: skip
    assert done["decision"]["promoted"]
    assert done["metrics"]["test/bits_per_byte"]["value"] < 4
    again = told(here(home / "state", "retrain", file, "--json"))
    assert {stage["state"] for stage in again["stages"][:5]} == {"cached"}

    # What a person types, and sees as it is written.
    words = (
        "write",
        "--model",
        "noisefold-stories",
        "Anna went",
        "--max-tokens",
        "12",
        "--seed",
        "3",
    )
    streamed = here(home / "state", *words)
    assert streamed.exit_code == 0, streamed.output
    whole = json.loads(here(home / "state", *words, "--json").stdout)
    assert streamed.stdout.startswith("Anna went" + whole["completion"])
    assert whole["prompt"] == "Anna went"
    assert whole["tokens"] == 12 or whole["finish_reason"] == "end"
    asked = here(
        home / "state", "predict", "--model", "noisefold-stories", "--json", "Anna went", "小明"
    )
    answers = [json.loads(line) for line in asked.stdout.splitlines() if line.startswith("{")]
    assert [one["prompt"] for one in answers] == ["Anna went", "小明"]
    assert all(one["log_probability"] < 0 for one in answers)
    # The same model, prompt and parameters, whichever command asks.
    as_params = ("--param", "max-tokens=12", "--param", "seed=3")
    ask = ("predict", "--model", "noisefold-stories", "--json", "Anna went")
    answer = json.loads(here(home / "state", *ask, *as_params).stdout)
    assert answer["completion"] == whole["completion"]
    table = home / "asked.csv"
    table.write_text("prompt\nAnna went\n", encoding="utf-8")
    in_table = here(home / "state", *ask[:-1], "--input", table, *as_params)
    assert json.loads(in_table.stdout)["completion"] == whole["completion"]
    for given, words in (
        ("top_p=0", "top_p is 0, which leaves no token"),
        ("seed=x", "seed is 'x', and has to be a whole number"),
        ("warmth=1", "has no parameter warmth"),
        ("seed", "expected NAME=VALUE"),
    ):
        refused(here(home / "state", *ask, "--param", given), words)
    refused(
        here(home / "state", "write", "--model", "noisefold-stories", "x", "--temperature", "-1"),
        "temperature is -1, and has to be 0 or more",
    )

    # What the registry holds, and what a server of MLflow's own answers.
    client = mlflow_client(home / "state")
    version = client.get_model_version_by_alias("noisefold-stories", "champion")
    assert "Goes on with a text" in version.description
    uri = f"models:/noisefold-stories/{version.version}"
    tracking = client.tracking_uri
    with model_server(uri, tracking, tmp_path) as address:
        body = {"dataframe_records": [{"prompt": "Anna went"}, {"prompt": None}, {"prompt": ""}]}
        status, answer = post(address, {**body, "params": {"max_tokens": 12, "seed": 3}})
        assert status == 200, answer
        first, second, third = answer["predictions"]
        assert first["completion"] == whole["completion"], "the same model, prompt and seed"
        assert first["log_probability"] == pytest.approx(whole["log_probability"], abs=1e-4)
        assert second == dict.fromkeys(first)
        assert third["tokens"] >= 1
        status, answer = post(address, {**body, "params": {"top_p": 0.0}})
        assert status == 400
        assert "top_p is 0, which leaves no token" in answer


def test_the_gate_is_bits_per_byte_over_the_same_documents(here: Any, home: Path) -> None:
    """Another night with a network that has hardly learnt anything is no champion."""
    worse = recipe(
        home,
        task={"kind": "generate", "counted": None, "samples": 1, "writing": {"max_tokens": 5}},
        training={"max_epochs": 1, "batch_size": 64, "learning_rate": 1e-5},
    )
    done = told(here(home / "state", "retrain", worse, "--json"))
    assert not done["decision"]["promoted"]
    reasons = " ".join(done["decision"]["reasons"])
    assert "Bits per byte" in reasons
    assert "not below" in reasons


def test_pairs_of_prompt_and_completion_are_a_writing_aid(here: Any, tmp_path: Path) -> None:
    draw = random.Random(1)
    rows = []
    for row in range(240):
        who = draw.choice(PEOPLE)
        rows.append({"ask": f"{who} {row}?", "reply": f"It was {who}."})
    rows[7]["reply"] = ""
    (tmp_path / "pairs.jsonl").write_text(
        "\n".join(json.dumps(one, ensure_ascii=False) for one in rows), encoding="utf-8"
    )
    file = recipe(
        tmp_path,
        source={"url": str(tmp_path / "pairs.jsonl")},
        contract={
            "kind": "generate",
            "name": "pairs",
            "columns": {"prompt": "ask", "completion": "reply"},
            "template": "Q: {prompt}\nA: ",
            "splits": {"min_rows": 5},
        },
        training={"max_epochs": 6, "batch_size": 8},
    )
    done = told(here(tmp_path / "state", "retrain", file, "--json"))
    kept = done["stages"][1]
    assert (kept["rows_in"], kept["rows_out"]) == (240, 239), "an empty completion is set aside"
    asked = here(
        tmp_path / "state", "write", "--model", "noisefold-stories", "Anna 999?", "--json",
        "--temperature", "0",
    )  # fmt: skip
    answer = json.loads(asked.stdout)
    assert answer["completion"].startswith("It was ")
    assert answer["finish_reason"] == "end"
