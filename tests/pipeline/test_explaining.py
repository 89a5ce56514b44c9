"""What carried an answer, the way a person takes: retrain, look at the report, `noisefold
explain`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli.main import main
from lightning_modules.bundle import Bundle
from lightning_modules.explaining.explain import explain
from tasks.liveness.dead_runs import prefect_client
from tests.pipeline.conftest import (
    REPOSITORY,
    TINY,
    environment,
    mlflow_client,
    refused,
    told,
)
from tests.servers import Server

_KILLABLE = """
import sys, tasks.answered
tasks.answered._PART_SECONDS = 0
from flows.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explaining")
    recipe = {
        **TINY,
        "name": "why",
        "source": {"kind": "sample", "rows": 1500, "seed": 1},
        "tokenizer": {"kind": "word", "vocab_size": 1500},
        "model": {"embedding": {"size": 24}, "encoder": {"kind": "tanh", "hidden_size": 24}},
        "task": {"abstain": {"precision": 0.7}, "conformal": {"coverage": 0.8, "method": "aps"}},
        "training": {"max_epochs": 8, "batch_size": 16, "learning_rate": 0.01},
    }
    (folder / "why.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("NOISEFOLD_HOME", str(home / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*words: Any, input: str | None = None) -> Result:
        return CliRunner().invoke(main, ["explain", *map(str, words)], input=input)

    return run


def test_without_a_champion_it_says_what_there_is(command: Callable[..., Result]) -> None:
    refused(command("good"), "There is no model named noisefold-sample", "The registry is empty")


def test_a_report_colours_the_errors_worth_reading(here: Any, home: Path) -> None:
    done = told(here(home / "state", "retrain", home / "why.yaml", "--json"))
    assert done["metrics"]["test/accuracy"]["value"] > 0.45
    [report] = (home / "state" / "artifacts" / "evaluate").glob("*/report.json")
    content = json.loads(report.read_text(encoding="utf-8"))
    explained = content["explained_errors"]
    assert len(explained) == 5
    worst = {error["id"]: error["text"] for error in content["errors"][:5]}
    for one in explained:
        text = worst[one["title"].partition(": log-odds of ")[0]]
        assert all(text[part["start"] : part["end"]] == part["token"] for part in one["parts"])
        assert any(abs(part["adds"]) > 0.1 for part in one["parts"])
    page = report.with_name("report.html").read_text(encoding="utf-8")
    assert "What carried the surest errors" in page
    assert "Checked by deletion: without the strongest fifth" in page
    assert page.count('<p class="marked">') == 5 and "color-mix(in srgb, var(--train)" in page


def test_deletion_bears_out_most_explanations_of_the_sample(home: Path) -> None:
    """Of English and of Chinese texts, of the rows that were kept from training."""
    [bundle_file] = (home / "state" / "artifacts" / "train").glob("*/bundle/bundle.json")
    bundle = Bundle.load(bundle_file.parent)
    [file] = (home / "state" / "artifacts" / "evaluate").glob("*/predictions.parquet")
    texts = pq.read_table(file)["text"].to_pylist()
    for chinese in (False, True):
        some = [text for text in texts if any(one >= "\u4e00" for one in text) == chinese][:25]
        checks = [explain(bundle, {"text": text}).deletion for text in some]
        known = [one for one in checks if one is not None]
        assert len(known) >= 20
        assert np.mean([one.strongest > one.random for one in known]) >= 0.9
        assert np.mean([one.better for one in known]) >= 0.6


def test_a_model_says_which_answers_are_not_sure_enough(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As its evaluation counted it, by the model that is served, in a table and as JSON."""
    monkeypatch.setenv("NOISEFOLD_HOME", str(home / "state"))
    [file] = (home / "state" / "artifacts" / "evaluate").glob("*/predictions.parquet")
    measured = pq.read_table(file)
    pq.write_table(measured.select(["id", "text"]), tmp_path / "asked.parquet")
    named = ["predict", "--model", "noisefold-why"]
    table = ["--input", str(tmp_path / "asked.parquet"), "--output", str(tmp_path / "out.parquet")]
    done = CliRunner().invoke(main, [*named, *table])
    assert done.exit_code == 0, done.output
    served = pq.read_table(tmp_path / "out.parquet")
    assert served["abstain"].to_pylist() == measured["abstain"].to_pylist()
    assert 0 < sum(served["abstain"].to_pylist()) < len(served)
    sets = [json.loads(one) for one in served["label_set"].to_pylist()]
    assert [sorted(one) for one in sets] == [
        sorted(one) for one in measured["label_set"].to_pylist()
    ]
    report = json.loads(file.with_name("report.json").read_text(encoding="utf-8"))
    given = [not one for one in served["abstain"].to_pylist()]
    assert report["metrics"]["answered"]["value"] == pytest.approx(np.mean(given))
    inside = [one in some for one, some in zip(measured["label"].to_pylist(), sets, strict=True)]
    assert report["metrics"]["set_coverage"]["value"] == pytest.approx(np.mean(inside))
    assert len(report["selective"]) == 3 and report["risk_coverage"]
    page = file.with_name("report.html").read_text(encoding="utf-8")
    assert "of a promised coverage of 80.0% hold the true label" in page
    lines = CliRunner().invoke(main, [*named, "--json", "lovely", " "])
    one, refused_one = map(json.loads, lines.stdout.splitlines())
    assert type(one["abstain"]) is bool and one["label"] in one["label_set"]
    assert refused_one["abstain"] is None and refused_one["label_set"] is None


def test_tokens_are_told_in_a_terminal_and_in_a_pipe(command: Callable[..., Result]) -> None:
    done = command("--model", "noisefold-why", "The food was terrible, 太糟糕了")
    assert done.exit_code == 0, done.output
    for word in (
        "terrible",
        "糟",
        "adds",
        "log-odds of",
        "Most for it:",
        "models:/noisefold-why/1",
    ):
        assert word in done.stdout
    lines = command("--model", "noisefold-why", "--json", input="\nterrible food\n  \n很好吃\n")
    one, other = map(json.loads, lines.stdout.splitlines())
    assert (one["text"], other["text"]) == ("terrible food", "很好吃")
    assert [token["text"] for token in other["tokens"]] == list("很好吃")
    total = sum(token["contribution"] for token in one["tokens"])
    assert total == pytest.approx(one["score"] - one["baseline"], abs=0.05)
    assert one["answer"]["label"] == one["target"] and one["model"] == "models:/noisefold-why/1"


def test_colours_stand_where_a_terminal_has_them(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = command("--model", "noisefold-why", "terrible, really").stdout
    assert "\x1b[" in shown and "adds" not in shown
    monkeypatch.setenv("NO_COLOR", "1")
    plain = command("--model", "noisefold-why", "terrible, really").stdout
    assert "adds" in plain and "\x1b[38;2" not in plain and "\x1b[48" not in plain


def test_what_cannot_be_explained_is_said(command: Callable[..., Result], home: Path) -> None:
    named = ("--model", "noisefold-why")
    refused(command(*named, input=" \n"), "There is no text to explain")
    refused(command(*named, " "), "The text is empty")
    refused(command(*named, "good", "--target", "positiv"), "Did you mean positive?")
    refused(command(*named, "good", "--version", "7"), "has no version 7")
    [file] = list((home / "state").rglob("artifacts/bundle/bundle.json"))
    before = file.read_text()
    file.write_text(before.replace('"format":', '"format": 99, "was":', 1))
    try:
        refused(command(*named, "good"), "cannot be read by this version of noisefold", "format")
    finally:
        file.write_text(before)


def test_the_rows_of_a_source_are_explained_as_a_run_of_its_own(
    command: Callable[..., Result], here: Any, home: Path, tmp_path: Path
) -> None:
    """As the command explains each; with a page in MLflow and the texts in Prefect; done once."""
    texts = ["terrible food", " ", "很好吃, lovely"]
    rows = [json.dumps({"number": place, "text": text}) for place, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    described = {
        "name": "why-rows", "model": "noisefold-why", "source": {"url": "rows.jsonl"},
        "output": "why.jsonl", "execution": {"retries": 0},
    }  # fmt: skip
    file = tmp_path / "why.yaml"
    file.write_text(yaml.safe_dump(described))
    done = told(here(home / "state", "explain", "--rows", file, "--json"))
    lines = (tmp_path / "why.jsonl").read_text(encoding="utf-8").splitlines()
    one, blank, other = map(json.loads, lines)
    assert (done["rows"], done["refused"]) == (3, 1)
    assert blank["reason"] == "the text is missing or empty" and blank["tokens"] is None
    named = ("--model", "noisefold-why", "--json", texts[0], texts[2])
    for found, alone in zip((one, other), command(*named).stdout.splitlines(), strict=True):
        wanted = json.loads(alone)
        assert found["target"] == wanted["target"] and found["score"] == pytest.approx(
            wanted["score"]
        )
        for token, part in zip(found["tokens"], wanted["tokens"], strict=True):
            assert (token["start"], token["end"], token["token"]) == (
                part["start"], part["end"], part["text"],
            )  # fmt: skip
            assert token["contribution"] == pytest.approx(part["contribution"], abs=1e-6)
    client = mlflow_client(home / "state")
    run = client.get_run(done["run_id"])
    assert run.data.metrics["refused"] == 1
    [asked] = run.inputs.dataset_inputs
    assert '"type": "long", "name": "number"' in asked.dataset.schema and run.inputs.model_inputs
    page = Path(done["report"]).read_text(encoding="utf-8")
    assert page.count('<p class="marked">') == 2 and "color-mix" in page
    with prefect_client() as server:
        artifact = next(
            one
            for one in server.request("POST", "/artifacts/filter", json={}).json()
            if one["key"] == "explained-texts" and one["flow_run_id"] == done["flow_run_id"]
        )
    assert "**terrible**" in artifact["data"] or "~~terrible~~" in artifact["data"]
    again = told(here(home / "state", "explain", "--rows", file, "--json"))
    assert again["same"] and {stage["state"] for stage in again["stages"]} == {"cached"}
    wrong = here(home / "state", "explain", "--rows", file, "--set", "target=positiv")
    refused(wrong, "None of 3 rows could be explained", "Did you mean positive?")
    refused(here(home / "state", "explain", "--rows", file, "good"), "--rows")
    refused(here(home / "state", "explain", "good", "--on", "2026-03-07"), "--rows FILE")


def test_killed_in_the_middle_the_rows_that_are_explained_stay(
    here: Any, prefect_api: Server, home: Path, tmp_path: Path
) -> None:
    """Of fewer rows than are read at a time."""
    rows = [json.dumps({"text": f"terrible food, lovely people {n}"}) for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    described = {
        "name": "why-killed", "model": "noisefold-why", "source": {"url": "rows.jsonl"},
        "output": "why.parquet", "execution": {"retries": 0},
    }  # fmt: skip
    file = tmp_path / "why.yaml"
    file.write_text(yaml.safe_dump(described))
    state = home / "state"

    def parts() -> set[Path]:
        return set(state.glob("work/explain-*/parts/part-*.parquet"))

    others = parts()  # of a run that failed
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _KILLABLE, "explain", "--rows", str(file), "--json"],
        env={**environment(prefect_api, state), "PYTHONPATH": str(REPOSITORY)},
    )
    end = time.monotonic() + 120
    while len(parts() - others) < 3 and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = parts() - others
    assert 3 <= len(kept) < 40, "it was not killed in the middle"
    done = told(here(state, "explain", "--rows", file, "--json"))
    assert done["rows"] == 40 and done["refused"] == 0
    table = pq.read_table(tmp_path / "why.parquet")
    assert table["text"].to_pylist() == [json.loads(row)["text"] for row in rows]
    stages = (state / "artifacts" / "explain").glob("*/manifest.json")
    [made] = [one.parent for one in stages if json.loads(one.read_text())["rows_in"] == 40]
    for part in kept:
        assert pq.read_metadata(made / part.name).num_rows == 1, part.name
