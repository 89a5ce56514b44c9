"""`noisefold score`, as the people of a night take it: rows in, answers out, killed, told, shown."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.pipeline.conftest import (
    REPOSITORY,
    Command,
    environment,
    mlflow_client,
    refused,
    told,
)
from tests.servers import Server

MODEL = "noisefold-tiny"
TEXTS = [
    "great lovely fast",
    "太差了，不推荐",
    "  ",
    "parcel arrived monday",
    '"quoted", and\nsplit',
]


@pytest.fixture(scope="module")
def trained(undisturbed, tmp_path_factory) -> Path:
    """A state folder with a champion, and no score."""
    home = tmp_path_factory.mktemp("score") / "home"
    return Path(shutil.copytree(undisturbed[1], home))


def write_mails(file: Path, texts: list[str] = TEXTS) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["number", "text", "label"])
        writer.writerows([number, text, f"old {number}"] for number, text in enumerate(texts))


def described(folder: Path, **fields: Any) -> Path:
    """The file of a score that reads `mails.csv` beside it."""
    file = folder / "score.yaml"
    content = {
        "name": folder.name.replace("_", "-"), "model": MODEL, "source": {"url": "mails.csv"},
        "output": "answers/{day}.jsonl", "execution": {"retries": 0}, **fields,
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return file


def test_each_row_comes_back_with_its_answer_and_how_sure_it_is(
    here: Command, trained: Path, tmp_path: Path
) -> None:
    write_mails(tmp_path / "mails.csv")
    file = described(tmp_path, draws=3)
    result = told(here(trained, "score", file, "--on", "2026-03-07", "--json"))
    output = tmp_path / "answers" / "2026-03-07.jsonl"
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["label"] for row in rows] == [f"old {number}" for number in range(5)]
    assert [row["reason"] is None for row in rows] == [True, True, False, True, True]
    assert {row["model"] for row in rows} == {f"models:/{MODEL}/1"}
    plain = tmp_path / "plain.jsonl"
    done = here(
        trained, "predict", "--model", MODEL, "--input", tmp_path / "mails.csv", "--output", plain
    )
    assert done.exit_code == 0, done.output
    predicted = [json.loads(line) for line in plain.read_text(encoding="utf-8").splitlines()]
    for row, other in zip(rows, predicted, strict=True):
        assert {name: row[name] for name in other} == other
    shares = [value for name, value in rows[0].items() if name.startswith("probability_")]
    assert rows[0]["entropy"] == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert 0 < rows[0]["mutual_information"] < rows[0]["entropy"]
    assert rows[2]["entropy"] is None and rows[2]["predicted_label"] is None
    assert (result["rows"], result["refused"], result["same"]) == (5, 1, False)

    client = mlflow_client(trained)
    run = client.get_run(result["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["rows"] == 5 and run.data.metrics["refused"] == 1
    assert "Scored" in run.data.tags["mlflow.note.content"]
    assert run.inputs.model_inputs, "the model's page in MLflow does not know the run"
    [rows] = run.inputs.dataset_inputs
    assert (rows.dataset.name, json.loads(rows.dataset.profile)["num_rows"]) == (
        yaml.safe_load(file.read_text())["name"],
        5,
    )
    assert "mails.csv" in rows.dataset.source and '"number"' in rows.dataset.schema
    shown = {one.path for one in client.list_artifacts(result["run_id"])}
    assert {"report.html", "summary.md", "scores"} <= shown

    # The same night again finds everything done.
    again = told(here(trained, "score", file, "--on", "2026-03-07", "--json"))
    assert again["same"] and again["run_id"] == result["run_id"]
    assert {stage["state"] for stage in again["stages"]} == {"cached"}


def test_a_query_is_a_source_too(here: Command, trained: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mails.db") as connection:
        connection.execute("CREATE TABLE mails (body TEXT, day TEXT)")
        days = [f"2026-03-0{n + 1}" for n in range(len(TEXTS))]
        connection.executemany("INSERT INTO mails VALUES (?, ?)", zip(TEXTS, days, strict=True))
    query = "SELECT body AS text, day FROM mails WHERE day BETWEEN :start AND :end ORDER BY day"
    source = {"url": "sqlite:///mails.db", "query": query, "window": {"days": 2}}
    file = described(tmp_path, source=source, output="{start}.csv")
    result = told(here(trained, "score", file, "--on", "2026-03-03", "--json"))
    with (tmp_path / "2026-03-01.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["text"] for row in csv.DictReader(stream)] == TEXTS[:2]
    assert result["rows"] == 2
    assert told(here(trained, "score", file, "--on", "2026-03-03", "--json"))["same"]


def test_rows_that_a_query_gives_in_any_order_keep_their_own_answers(
    here: Command, trained: Path, tmp_path: Path
) -> None:
    texts = [f"{TEXTS[n % 2]} {n}" for n in range(60)]
    with sqlite3.connect(tmp_path / "mails.db") as connection:
        connection.execute("CREATE TABLE mails (body TEXT)")
        connection.executemany("INSERT INTO mails VALUES (?)", [(text,) for text in texts])
    query = "SELECT body AS text FROM mails ORDER BY random()"
    file = described(
        tmp_path, source={"url": "sqlite:///mails.db", "query": query}, output="out.jsonl"
    )
    told(here(trained, "score", file, "--json"))
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    found = {row["text"]: row["probability_negative"] for row in map(json.loads, lines)}
    write_mails(tmp_path / "mails.csv", texts)
    plain = tmp_path / "plain.jsonl"
    asked = ("--model", MODEL, "--input", tmp_path / "mails.csv", "--output", plain)
    assert here(trained, "predict", *asked).exit_code == 0
    for row in map(json.loads, plain.read_text(encoding="utf-8").splitlines()):
        assert found[row["text"]] == pytest.approx(row["probability_negative"], abs=1e-5)
    assert told(here(trained, "score", file, "--json"))["same"]


_KILLABLE = """
import sys, tasks.answered
tasks.answered._PART_ROWS = 256
from flows.cli.main import main
main(sys.argv[1:])
"""


def test_killed_in_the_middle_it_goes_on_and_ends_as_if_undisturbed(
    here: Command, prefect_api: Server, trained: Path, tmp_path: Path
) -> None:
    write_mails(tmp_path / "mails.csv", [f"{TEXTS[n % 4]} {n}" for n in range(3000)])
    file = described(tmp_path, draws=6, output="answers.parquet")
    command = [sys.executable, "-P", "-c", _KILLABLE, "score", str(file), "--json"]
    process = subprocess.Popen(
        command, env={**environment(prefect_api, trained), "PYTHONPATH": str(REPOSITORY)}
    )
    parts: list[Path] = []
    end = time.monotonic() + 120
    while len(parts) < 3 and time.monotonic() < end and process.poll() is None:
        parts = list(trained.glob("work/score-*/parts/part-*.parquet"))
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(parts) >= 3, "it was not killed in the middle"
    assert not (tmp_path / "answers.parquet").exists()
    result = told(here(trained, "score", file, "--json"))
    assert result["rows"] == 3000
    assert pq.read_metadata(tmp_path / "answers.parquet").num_rows == 3000
    # Undisturbed, and from nothing: byte for byte the same.
    shutil.rmtree(trained / "artifacts" / "score")
    afresh = told(here(trained, "score", file, "--json"))
    assert [stage["state"] for stage in afresh["stages"]] == ["ran", "cached"]
    assert afresh["same"] and afresh["sha256"] == result["sha256"]


def test_what_cannot_be_scored_is_refused_and_nothing_is_written(
    here: Command, trained: Path, tmp_path: Path
) -> None:
    write_mails(tmp_path / "mails.csv")

    def refuse(*words: str, **fields: Any) -> None:
        refused(here(trained, "score", described(tmp_path, **fields)), *words)
        assert not list(tmp_path.glob("answers/*"))

    refuse("noisefold-nobody", "noisefold-tiny", model="noisefold-nobody")
    refuse("no version 7", version="7")
    refuse("no column 'body'", "number", column="body")
    refuse("share of rows without an answer", contract={"max_refused_share": 0.1})
    refuse("without a column abstain", contract={"max_abstained_share": 0.1})
    refuse("no parameter top_k", params={"top_k": 3})
    refuse("does not tell the format", output="answers.xlsx")
    refuse("source.window", output="answers/{start}.csv")
    (tmp_path / "empty.csv").write_text("number,text\n")
    refuse("no rows", source={"url": "empty.csv"})
    refuse("nowhere.csv: no such file", source={"url": "nowhere.csv"})
    there = tmp_path / "there.jsonl"
    there.write_text("mine\n")
    refuse("there already", "replace: true", output=str(there))
    assert there.read_text() == "mine\n"
    runs = mlflow_client(trained)
    experiment = runs.get_experiment_by_name(f"noisefold-score-{tmp_path.name.replace('_', '-')}")
    ended = {run.info.status for run in runs.search_runs([experiment.experiment_id])}
    assert ended == {"FAILED"}
