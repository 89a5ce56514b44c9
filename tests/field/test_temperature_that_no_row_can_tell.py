"""`task.calibrate: true`, and every valid row is right: no text may be given a label with
probability 1.
"""

from __future__ import annotations

import html
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from data_contracts.recipe.tokenizer import WindowConfig, WordTokenizer
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import predict_proba
from tasks.register import stage_bundle
from tests.stages import tokenize_corpus

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]


def mails(rows: int) -> pa.Table:
    kinds = [("配送", "包裹 没有 送到"), ("billing", "the bill is wrong")]
    return pa.table(
        {
            "id": [str(number) for number in range(rows)],
            "text": [f"{kinds[number % 2][1]} {number}" for number in range(rows)],
            "label": [kinds[number % 2][0] for number in range(rows)],
            "split": [("train", "valid", "test")[number // 2 % 3] for number in range(rows)],
            "language": ["en"] * rows,
        }
    )


@pytest.mark.parametrize(
    ("rows", "why"), [(240, "has all 80 rows right"), (60, "20 rows are too few")]
)
def test_a_temperature_that_is_not_to_be_had_is_not_applied(
    world: World, rows: int, why: str, tmp_path
) -> None:
    from tests.tasks.mlflow_fixtures import make_corpus

    corpus = make_corpus(world.store, mails(rows), f"mails-{rows}")
    config = WordTokenizer(vocab_size=60, min_frequency=4)
    window = WindowConfig(max_length=16, overlap=4)
    tokens = tokenize_corpus(corpus, config, world.store, window).manifest
    here = replace(world, corpus=corpus, tokens=tokens)
    model = here.model()
    asked, not_asked = here.evaluate(model, calibrate=True), here.evaluate(model)
    assert (asked.facts["temperature"], asked.facts["temperature_applied"]) == (None, False)
    assert why in str(asked.facts["temperature_why_not"])
    assert why in asked.warnings[0], "in the summaries, since the recipe asks for one"
    assert (
        not_asked.warnings == ()
        and not_asked.facts["temperature_why_not"] == asked.facts["temperature_why_not"]
    )
    assert asked.metrics == not_asked.metrics, "as measured without"
    assert not any("calibrated" in name for name in asked.metrics)
    facts = here.recipe.task.served_facts(asked.facts)
    stage_bundle(model, facts, here.store, tmp_path / "served")
    served = Bundle.load(tmp_path / "served")
    assert served.facts["temperature"] == 1.0
    assert predict_proba(served, ["hello world"]).max() < 0.99
    page = (here.store.open(asked) / "report.html").read_text(encoding="utf-8")
    assert "registered at temperature 1" in page and why in html.unescape(page)
    registered = here.register(model, asked)
    assert (
        why
        in here.tracker.client.get_model_version(registered.name, registered.version).description
    )
