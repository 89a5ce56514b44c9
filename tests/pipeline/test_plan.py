"""noisefold plan: what a retrain would find, and what it would run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECIPE = """
name: planned
source: {kind: sample, rows: 400}
contract: sample
tokenizer: {kind: word, vocab_size: 300}
model: {embedding: {size: 8}, encoder: {kind: tanh, hidden_size: 8}}
training: {max_epochs: 1}
promotion: {beat_constant: false}
"""


def planned(here: Any, recipe: Path, *options: str) -> dict[str, tuple[str, Any]]:
    done = here(recipe.parent / "home", "plan", recipe, "--json", *options)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {one["stage"]: (one["state"], one["key"]) for one in lines}


def test_a_plan_names_what_is_there_and_what_would_run(here, tmp_path: Path) -> None:
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


def test_a_plan_says_what_the_registry_alone_knows(here, tmp_path: Path) -> None:
    recipe = tmp_path / "planned.yaml"
    recipe.write_text(RECIPE)
    assert here(tmp_path / "home", "retrain", recipe).exit_code == 0
    asked = planned(here, recipe, "--set", "training.warm_start=champion")
    assert asked["train"][0] == "unknown" and asked["evaluate"][0] == "to run"
