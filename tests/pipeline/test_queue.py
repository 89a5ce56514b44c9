"""`noisefold queue`: rows without labels go out, to people and their tools, and come back with them."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data_contracts.kinds.classify_contract import ClassifyContract
from data_contracts.recipe.source import FileSource
from tasks.liveness.dead_runs import prefect_client
from tests.pipeline.conftest import Command, mlflow_client, refused, told
from tests.stages import ingest_source, validate_corpus

MODEL = "noisefold-tiny"
NEW = [f"the soup number {number} was {how}" for number in range(40) for how in ("ok", "太差")]
BELIEVED = ["suggestion", "probability", "doubt", "model"]


@pytest.fixture(scope="module")
def trained(undisturbed, tmp_path_factory) -> Path:
    """A state folder with a champion, and no queue."""
    home = tmp_path_factory.mktemp("queue") / "home"
    return Path(shutil.copytree(undisturbed[1], home))


@pytest.fixture(scope="module")
def learnt(trained: Path) -> pa.Table:
    """What the champion was trained on."""
    [corpus] = (trained / "artifacts" / "validate").glob("*/corpus")
    return pq.read_table(corpus, filters=[("split", "==", "train")])


def write_rows(file: Path, learnt: pa.Table) -> None:
    """80 new rows, and one of each sort that is left out."""
    rows = [("id", "text", "label", "day"), *((f"n{k}", one, "", 7) for k, one in enumerate(NEW))]
    rows += [("again", NEW[0], "", 7), ("blank", " ", "", 7)]
    rows += [("old", learnt["text"][0].as_py(), "", 7), ("done", "labelled by now", "positive", 7)]
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def described(folder: Path, **fields: Any) -> Path:
    file = folder / "queue.yaml"
    content = {
        "name": folder.name.replace("_", "-"), "model": MODEL, "source": {"url": "new.csv"},
        "output": "queues/{day}.csv", "rows": 12, "execution": {"retries": 0}, **fields,
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_flow_and_the_command_choose_the_same_rows(
    here: Command, trained: Path, tiny_recipe: Path, learnt: pa.Table, tmp_path: Path
) -> None:
    """New rows alone, none twice, those first that are doubted most; and again nothing is done."""
    write_rows(tmp_path / "new.csv", learnt)
    file = described(tmp_path)
    done = told(here(trained, "queue", file, "--on", "2026-03-07", "--json"))
    queued = rows_of(tmp_path / "queues" / "2026-03-07.csv")
    assert (done["rows"], done["queued"], len(queued)) == (84, 12, 12)
    for why in ("without", "filled", "learnt", "repeated"):
        assert done[why] == 1, why
    assert [*queued[0]] == ["id", "text", "label", "day", *BELIEVED]
    assert len({row["text"] for row in queued}) == 12 and {row["label"] for row in queued} == {""}
    doubts = [float(row["doubt"]) for row in queued]
    assert doubts == sorted(doubts, reverse=True) and doubts[0] > doubts[-1]
    client = mlflow_client(trained)
    run = client.get_run(done["run_id"])
    assert run.data.metrics["queued"] == 12
    assert run.inputs.model_inputs and len(run.inputs.dataset_inputs) == 1
    assert "Queued" in run.data.tags["mlflow.note.content"]
    shown = {one.path for one in client.list_artifacts(done["run_id"])}
    assert {"report.html", "summary.md", "queue", "scores"} <= shown
    with prefect_client() as server:
        found = server.request("POST", "/artifacts/filter", json={}).json()
    [table] = [
        json.loads(one["data"])
        for one in found
        if one["key"] == "queued-rows" and one["flow_run_id"] == done["flow_run_id"]
    ]
    assert [row["text"] for row in table] == [row["text"] for row in queued]

    again = told(here(trained, "queue", file, "--on", "2026-03-07", "--json"))
    assert again["same"] and again["run_id"] == done["run_id"]
    assert {stage["state"] for stage in again["stages"]} == {"cached"}

    # By the recipe of the retrain, from its contract's columns.
    asked = ("--input", tmp_path / "new.csv", "--rows", 12)
    told(here(trained, "queue", tiny_recipe, *asked, "--output", tmp_path / "b.csv", "--json"))
    assert rows_of(tmp_path / "b.csv") == queued
    refused(
        here(trained, "queue", tiny_recipe, *asked, "--output", tmp_path / "b.csv", "--rows", 9),
        "b.csv is there already",
    )
    whole = ("--output", tmp_path / "all.parquet", "--rows", 200, "--no-spread", "--json")
    assert told(here(trained, "queue", file, *whole))["queued"] == 80
    assert pq.read_table(tmp_path / "all.parquet")["doubt"].null_count == 0


def test_by_bald_the_doubt_is_the_mutual_information_of_a_score(
    here: Command, trained: Path, tmp_path: Path
) -> None:
    """Of the rows of a query, whatever order it gives them in."""
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.execute("CREATE TABLE mails (body TEXT)")
        connection.executemany("INSERT INTO mails VALUES (?)", [(text,) for text in NEW])
    source = {"url": "sqlite:///new.db", "query": "SELECT body FROM mails ORDER BY random()"}
    asked = {"source": source, "rows": 80, "draws": 4, "output": "queue.csv"}
    done = told(here(trained, "queue", described(tmp_path, by="bald", **asked), "--json"))
    score = tmp_path / "score.yaml"
    content = {"name": "mi", "model": MODEL, "source": source, "draws": 4, "output": "mi.csv"}
    score.write_text(yaml.safe_dump(content))
    scored = told(here(trained, "score", score, "--json"))
    assert scored["stages"][0]["state"] == "cached", "the work is the same"
    wanted = {row["body"]: float(row["mutual_information"]) for row in rows_of(tmp_path / "mi.csv")}
    queued = rows_of(tmp_path / "queue.csv")
    assert len(queued) == done["queued"] == 80 and queued[0]["label"] == ""
    assert [row["body"] for row in queued] == sorted(wanted, key=lambda text: -wanted[text])
    for row in queued:
        assert float(row["doubt"]) == pytest.approx(wanted[row["body"]] / math.log(4), abs=1e-9)


def exported(tasks: list[dict[str, Any]], labels: list[Any]) -> list[dict[str, Any]]:
    """What Label Studio's JSON-MIN has of tasks: their data, its own id in place of theirs, the
    choice under the name of the control, and who made it.
    """
    made = {"annotator": 1, "annotation_id": 3, "created_at": "2026-03-07T10:00:00Z"}
    records = []
    for number, (task, label) in enumerate(zip(tasks, labels, strict=True), 1):
        chosen = {} if label is None else {"label": label}
        records.append({**task["data"], "id": number, **chosen, **made, "lead_time": 2.5})
    return records


def test_tasks_of_tools_come_back_as_rows(
    here: Command, trained: Path, learnt: pa.Table, tmp_path: Path, store: Any
) -> None:
    """Label Studio's tasks with predictions, and its export, through the contract; Prodigy's."""
    write_rows(tmp_path / "new.csv", learnt)
    file = described(tmp_path, output="tasks.json", format="label_studio")
    told(here(trained, "queue", file, "--json"))
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert len(tasks) == 12
    for task in tasks:
        assert task["data"]["text"] in NEW and task["data"]["day"] == "7"
        assert "label" not in task["data"]
        [prediction] = task["predictions"]
        assert prediction["model_version"] == f"models:/{MODEL}/1"
        [result] = prediction["result"]
        assert (result["from_name"], result["to_name"], result["type"]) == (
            "label",
            "text",
            "choices",
        )
        [choice] = result["value"]["choices"]
        assert choice in set(learnt["label"].to_pylist()) and 0 < prediction["score"] <= 1
    refused(here(trained, "queue", file, "--format", "prodigy"), "let it end in .jsonl")
    options = ("--format", "prodigy", "--output", tmp_path / "p.jsonl", "--json")
    told(here(trained, "queue", file, *options))
    lines = (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    one = json.loads(lines[0])
    assert len(lines) == 12 and one["text"] in NEW and one["accept"][0] in {
        option["id"] for option in one["options"]
    }  # fmt: skip

    # All but one are labelled, one of them twofold.
    labels: list[Any] = [
        task["predictions"][0]["result"][0]["value"]["choices"][0] for task in tasks
    ]
    labels[3], labels[5] = None, {"choices": ["positive", "negative"]}
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    records = exported(tasks, labels)
    (inbox / "json-min.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    known = learnt.select(["id", "text", "label"]).slice(0, 300)
    with (inbox / "labelled.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([known.column_names, *zip(*known.to_pydict().values(), strict=True)])
    limits = {"name": "reviews", "max_quarantine_share": 0.5}
    contract = ClassifyContract.model_validate({**limits, "columns": {"id": "id"}})
    raw = ingest_source(FileSource(url=str(inbox)), contract, None, store, batch_rows=100).manifest
    found = validate_corpus(raw, contract, store, batch_rows=100).manifest
    assert (raw.rows_in, found.rows_out) == (312, 310), found.quarantined
    # The other export is CSV, of the same columns.
    with (inbox / "json-min.json").with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*records[0]])
        writer.writeheader()
        writer.writerows(
            [
                {
                    **one,
                    "label": json.dumps(one["label"])
                    if isinstance(one.get("label"), dict)
                    else one.get("label"),
                }
                for one in records
            ]
        )
    (inbox / "json-min.json").unlink()
    raw = ingest_source(FileSource(url=str(inbox)), contract, None, store, batch_rows=100).manifest
    found = validate_corpus(raw, contract, store, batch_rows=100).manifest
    assert (raw.rows_in, found.rows_out) == (312, 310), found.quarantined


def test_what_cannot_be_queued_is_refused_and_nothing_is_written(
    here: Command, trained: Path, tiny_recipe: Path, learnt: pa.Table, tmp_path: Path
) -> None:
    write_rows(tmp_path / "new.csv", learnt)

    def refuse(*words: str, **fields: Any) -> None:
        refused(here(trained, "queue", described(tmp_path, **fields)), *words)
        assert not (tmp_path / "queues").exists()

    refuse("draws are those of by: bald", draws=5)
    refuse("let it end in .json", format="label_studio")
    refuse("no column 'body'", column="body")
    refuse("No row is left to label", "83 have a day already", answer="day", column="text")
    refused(here(trained, "queue", tiny_recipe, "--input", tmp_path / "new.csv"), "--output")
