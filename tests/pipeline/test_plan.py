"""noisefold plan: what a retrain would find, and what it would run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.tokenize import tokenize

RECIPE = """
name: planned
source: {kind: sample, rows: 400}
contract: sample
tokenizer: {kind: word, vocab_size: 300}
model: {embedding: {size: 8}, encoder: {kind: tanh, hidden_size: 8}}
training: {max_epochs: 1}
promotion: {beat_constant: false}
"""


def lines(here: Any, recipe: Path, *options: str) -> list[dict[str, Any]]:
    done = here(recipe.parent / "home", "plan", recipe, "--json", *options)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def planned(here: Any, recipe: Path, *options: str) -> dict[str, tuple[str, Any]]:
    return {one["stage"]: (one["state"], one["key"]) for one in lines(here, recipe, *options)}


def reasons(here: Any, recipe: Path, *options: str) -> dict[str, str]:
    return {one["stage"]: one["why"] for one in lines(here, recipe, *options)}


def test_a_plan_names_what_is_there_and_what_would_run(
    here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "planned.yaml"
    recipe.write_text(RECIPE)
    before = planned(here, recipe)
    assert list(before) == [
        "ingest", "validate", "tokenize", "train", "evaluate", "register", "promote",
    ]  # fmt: skip
    assert {state for state, _ in before.values()} == {"to run"}

    assert here(tmp_path / "home", "retrain", recipe).exit_code == 0
    after = planned(here, recipe)
    stages = ["ingest", "validate", "tokenize", "train", "evaluate"]
    assert [after[stage][0] for stage in stages] == ["found"] * 5
    assert all(after[stage][1] for stage in stages)

    other = planned(here, recipe, "--set", "training.max_epochs=2")
    assert [other[stage][0] for stage in stages] == ["found", "found", "found", "to run", "to run"]
    assert other["tokenize"] == after["tokenize"], "an epoch more shapes no token"

    cut = planned(here, recipe, "--set", "window.max_length=32", "--set", "window.overlap=4")
    assert cut["validate"][0] == "found" and cut["tokenize"][0] == "to run"

    judged = planned(here, recipe, "--set", "task.calibrate=true")
    assert judged["train"][0] == "found" and judged["evaluate"][0] == "to run"
    says_why(here, recipe, tmp_path / "home" / "artifacts", monkeypatch)


def says_why(here: Any, recipe: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that is otherwise than in the newest run, or what else is known of it."""
    told = reasons(
        here, recipe, "--set", "tokenizer.vocab_size=250", "--set", "training.max_epochs=2"
    )
    assert told["tokenize"].startswith("tokenizer.vocab_size is 250, and was 300 in the run of ")
    assert told["train"].startswith("training.max_epochs is 2, and was 1 in the run of ")
    assert told["train"].endswith("what goes in is not there yet")
    assert told["evaluate"] == "what goes in is not there yet"
    rows = reasons(here, recipe, "--set", "source.rows=420")
    assert "the source's files are not those of the run of" in rows["ingest"]
    with monkeypatch.context() as patch:
        patch.setattr(tokenize, "version", tokenize.version + 1)
        raised = reasons(here, recipe)["tokenize"]
    assert raised == f"the stage's version rose from {tokenize.version} to {tokenize.version + 1}"
    (kept,) = (store / "train").iterdir()
    kept.rename(store / "elsewhere")
    gone = reasons(here, recipe)["train"]
    assert gone.startswith("the run of ") and gone.endswith("its files are gone from the store")


def test_a_plan_of_a_recipe_that_never_ran_says_so(here, tmp_path: Path) -> None:
    recipe = tmp_path / "planned.yaml"
    recipe.write_text(RECIPE)
    assert "no run of this recipe has made it yet" in reasons(here, recipe)["ingest"]
    assert not (tmp_path / "home" / "mlflow.db").exists(), "a plan makes nothing"


def test_a_plan_looks_at_the_window_of_any_day(here, tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    (tmp_path / "days" / "2026-11-03.csv").write_text("text,label\nhello,a\n")
    recipe = tmp_path / "planned.yaml"
    source = "{url: days, window: {days: 1}}"
    recipe.write_text(RECIPE.replace("{kind: sample, rows: 400}", source))
    there = reasons(here, recipe, "--on", "2026-11-04")
    assert "no run of this recipe" in there["ingest"]
    empty = here(tmp_path / "home", "plan", recipe, "--on", "2026-11-09")
    assert empty.exit_code == 1 and "2026-11-08" in empty.stderr


def test_a_plan_says_what_the_registry_alone_knows(here, tmp_path: Path) -> None:
    recipe = tmp_path / "planned.yaml"
    recipe.write_text(RECIPE)
    assert here(tmp_path / "home", "retrain", recipe).exit_code == 0
    asked = planned(here, recipe, "--set", "training.warm_start=champion")
    assert asked["train"][0] == "unknown" and asked["evaluate"][0] == "to run"
