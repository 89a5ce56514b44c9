"""Long documents are several windows; the figures by which an epoch is kept are still those of
documents.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_contracts.kinds.classify import Classify
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import StatisticsConfig, TrainingConfig
from data_contracts.recipe.tokenizer import WindowConfig, WordTokenizer
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.judge import ClassifyJudge
from tasks.evaluate import read_rows, score_split
from tests.lightning_modules.jobs import fit
from tests.stages import tokenize_corpus

pytest_plugins = ["tests.tasks.mlflow_fixtures"]

MODEL = ModelConfig.model_validate(
    {
        "embedding": {"size": 8},
        "encoder": {"kind": "tanh", "hidden_size": 8},
        "reparameterization": {"kind": "none"},
    }
)


def reviews(rows: int = 300) -> pa.Table:
    """3 to 63 words each, English and Chinese, most of them of any label: three labels that are
    hard to tell.
    """
    rng = np.random.default_rng(0)
    own = {
        "bad": ["slow", "broken", "差"],
        "good": ["fast", "lovely", "好"],
        "neither": ["box", "monday", "货"],
    }
    words = [*(f"word{number}" for number in range(20)), *own["bad"], *own["good"], *own["neither"]]
    labels = rng.choice(list(own), rows).tolist()
    texts = [
        " ".join([*rng.choice(words, rng.integers(0, 60)), *rng.choice(own[label], 2), str(number)])
        for number, label in enumerate(labels)
    ]
    splits = [("train", "train", "valid", "test")[number % 4] for number in range(rows)]
    columns = {
        "id": [str(number) for number in range(rows)],
        "text": texts,
        "label": labels,
        "split": splits,
    }
    return pa.table({**columns, "language": ["en"] * rows})


@pytest.mark.parametrize(
    ("max_length", "monitor"), [(6, "val/macro_f1"), (16, "val/nll"), (512, "val/accuracy")]
)
def test_epoch_is_kept_by_what_the_model_shows_on_documents(
    max_length: int, monitor: str, store, tmp_path: Path
) -> None:
    from tests.tasks.mlflow_fixtures import make_corpus

    corpus = make_corpus(store, reviews())
    config = WordTokenizer(vocab_size=200, min_frequency=1)
    window = WindowConfig(max_length=max_length, overlap=2)
    tokens = tokenize_corpus(corpus, config, store, window).manifest
    folder = store.open(tokens)
    assert (tokens.windows["valid"] > tokens.splits["valid"]) is (max_length < 512)
    training = TrainingConfig.model_validate(
        {"max_epochs": 4, "patience": 4, "batch_size": 7, "learning_rate": 0.05, "monitor": monitor}
    )
    result = fit(
        tokens=folder, vocab_size=tokens.vocab_size, facts=tokens.facts, model=MODEL,
        windowing=tokens.windowing, training=training, work=tmp_path / "work", out=tmp_path / "out",
    )  # fmt: skip
    assert result.windows == tokens.windows["train"]
    judge = ClassifyJudge(tokens.facts, Classify(), StatisticsConfig())
    bundle = Bundle.load(tmp_path / "out" / "bundle")
    scored = score_split(judge, bundle, folder / "valid.parquet")
    valid = read_rows(store.open(corpus), "valid", scored["id"], ["id", "label"])
    measured = judge.evidence(valid, scored).point()
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    kept = history[result.best_epoch - 1]
    assert {name: kept[f"val/{name}"] for name in ("accuracy", "macro_f1", "nll")} == pytest.approx(
        {name: measured[name] for name in ("accuracy", "macro_f1", "nll")}, abs=1e-6
    )
    assert result.validation["val/macro_f1"] == pytest.approx(measured["macro_f1"]), (
        "the column of a comparison to choose by"
    )
    assert (result.monitor, result.best_value) == (monitor, kept[monitor])
    best = min if monitor == "val/nll" else max
    assert kept[monitor] == best(epoch[monitor] for epoch in history)
