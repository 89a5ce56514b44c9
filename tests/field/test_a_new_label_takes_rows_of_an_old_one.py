"""Week two brings a new label, whose texts are like those of an old one; the new model answers with
it throughout.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from data_contracts.recipe.tokenizer import WindowConfig
from data_contracts.results import PromotionDecision
from tasks import promote
from tasks.serving.check import Served
from tests.stages import promote_model

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]

OLD, NEW, OTHER = "账单", "理财", "配送"


@pytest.fixture(autouse=True)
def serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving in a fresh process takes seconds, and tests/tasks/test_releases.py holds it."""
    monkeypatch.setattr(promote, "check_served", lambda *_: Served(200, 1.5, 0.5))


def week(new_rows: int, old_rows: int = 120) -> pa.Table:
    """Texts of OLD and NEW cannot be told apart; in week two most such texts of the train split are
    NEW.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("id", "text", "label", "split", "language")
    }
    kinds = [
        (OLD, old_rows, "这个月 账单 不对"),
        (NEW, new_rows, "这个月 账单 不对"),
        (OTHER, old_rows, "包裹 没有 送到"),
    ]
    for label, count, text in kinds:
        for number in range(count):
            columns["id"].append(f"{label}-{number}")
            columns["text"].append(
                f"{text} {label} {number}" if label == OTHER else f"{text} {number}"
            )
            columns["label"].append(label)
            columns["split"].append(("train", "train", "valid", "test")[number % 4])
            columns["language"].append("zh")
    return pa.table(columns)


def retrained(
    world: World, table: pa.Table, name: str, ledger: Path
) -> tuple[PromotionDecision, World]:
    """A model trained on these rows, and what promotion decides."""
    from dataclasses import replace

    from data_contracts.recipe.tokenizer import WordTokenizer
    from tests.stages import tokenize_corpus
    from tests.tasks.mlflow_fixtures import make_corpus

    corpus = make_corpus(world.store, table, name)
    config = WordTokenizer(vocab_size=60, min_frequency=4)
    window = WindowConfig(max_length=16, overlap=4)
    tokens = tokenize_corpus(corpus, config, world.store, window).manifest
    here = replace(world, corpus=corpus, tokens=tokens)
    model = here.model()
    report = here.evaluate(model)
    decision = promote_model(
        here.register(model, report), model, report, tokens, corpus, recipe=here.recipe, store=here.store,
        tracker=here.tracker, ledger=ledger,
    )  # fmt: skip
    return decision, here


def test_the_champion_that_knows_the_old_label_stays(world: World, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    first, _ = retrained(world, week(0), "week-one", ledger)
    assert first.promoted
    second, here = retrained(world, week(480), "week-two", ledger)
    assert not second.promoted
    assert second.difference is not None
    assert (second.difference.value, second.difference.high) == (-0.5, -0.5), (
        "F1 of the old label falls from 1 to 0"
    )
    assert second.notes["accuracy_difference"] == pytest.approx(-0.5)
    assert second.rows_compared == 60
    told = " ".join(second.reasons)
    assert "Accuracy 0.5000 less 1.0000" in told
    assert "0 rows only the challenger has right, 30 only the champion" in told
    assert f"new: {NEW}; gone: none" in told
    version = here.tracker.client.get_model_version(second.name, second.version)
    assert "30 only the champion" in version.description, "the registry's page says so, too"
    assert '"to": "2"' in ledger.read_text() and "30 only the champion" in ledger.read_text()
