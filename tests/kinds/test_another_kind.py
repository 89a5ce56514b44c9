"""A kind that stands in tests/ alone is learnt in the training process, shipped, and answers in a
process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import WindowingFacts
from data_contracts.errors import TrainingError
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import ExecutionConfig, TrainingConfig
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.base import import_room, objective_of
from lightning_modules.kinds.heads import head_class
from lightning_modules.network.tokenizer import load_tokenizer
from lightning_modules.network.windows import Windowing
from lightning_modules.shipping import ship, shipped_files
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
from tasks.engines.local import run_child
from tests.kinds.amount.config import Amount

TASK = Amount(scale=2.0)
WINDOWING = Windowing(max_length=12, overlap=3)
METHODS: tuple[dict[str, Any], ...] = (
    {"kind": "multiplicative_noise"},
    {"kind": "sparse", "beta": 0.001},
)


@pytest.fixture(scope="module", autouse=True)
def room() -> None:
    import_room(TASK)


def rows(count: int, seed: int) -> pa.Table:
    """Texts of at most 12 words that say their amount: two for each "good"."""
    rng = np.random.default_rng(seed)
    words = [
        rng.choice(["good", *(f"word{i}" for i in range(9))], rng.integers(1, 12))
        for _ in range(count)
    ]
    columns = {
        "id": [f"{seed}-{row}" for row in range(count)],
        "said": [" ".join(one) for one in words],
        "amount": [2.0 * float((one == "good").sum()) for one in words],
    }
    return pa.table(columns)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: bytes) -> Path:
    folder = tmp_path_factory.mktemp("amounts")
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    objective = objective_of(TASK, {})
    for seed, (split, count) in enumerate({"train": 300, "valid": 60}.items()):
        table = objective.encode(rows(count, seed), load_tokenizer(tokenizer_json), WINDOWING)
        pq.write_table(table, folder / f"{split}.parquet")
    return folder


def job(tokens: Path, folder: Path, method: dict[str, Any], **changes: Any) -> TrainingJob:
    settings: dict[str, Any] = {
        "tokens": tokens,
        "facts": {},
        "vocab_size": 45,
        "windowing": WindowingFacts.model_validate(WINDOWING),
        "task": TASK,
        "model": ModelConfig.model_validate(
            {"embedding": {"size": 8}, "encoder": {"kind": "tanh"}, "reparameterization": method}
        ),
        "training": TrainingConfig(max_epochs=6, batch_size=16),
        "execution": ExecutionConfig(accelerator="cpu"),
        "work": folder / "work",
        "out": folder / "out",
    }
    return TrainingJob(**{**settings, **changes})


@pytest.fixture(scope="module", params=METHODS, ids=lambda method: method["kind"])
def trained(
    request: pytest.FixtureRequest, tokens: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """In the training process, which imports no kind by itself."""
    folder = tmp_path_factory.mktemp("trained")
    result = run_child(job(tokens, folder, request.param), timeout_seconds=300)
    return folder / "out" / "bundle", result


def test_it_is_learnt_in_the_training_process_and_its_metric_tells_the_epoch(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = trained
    assert result["monitor"] == "val/squared_error"
    errors = [epoch["val/squared_error"] for epoch in result["history"]]
    assert result["validation"]["val/squared_error"] == errors[result["best_epoch"] - 1]
    assert result["validation"]["val/squared_error"] < 0.7 * errors[0]
    facts = json.loads((folder / "bundle.json").read_text())
    assert facts["network"]["kind"] == "amount" and facts["scale"] == 2.0
    assert "labels" not in facts


def test_what_ships_answers_in_a_process_that_has_nothing_else(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    texts = ["good good word1", "word2", "good"]
    expected = Bundle.load(trained[0]).predict({"said": texts})
    assert min(expected["amount"][0], expected["amount"][2]) > expected["amount"][1]
    tops = ship("amount", tmp_path / "code")
    assert [top.name for top in tops] == ["lightning_modules", "tests"]
    names = {file.name for file in (tmp_path / "code" / "tests").rglob("*.py")}
    assert names == {"__init__.py", "head.py", "scaling.py"}
    code = (
        "import sys, json\n"
        "for name in ('pydantic', 'pyarrow', 'pytorch_lightning', 'data_contracts', 'tasks'):\n"
        "    sys.modules[name] = None\n"
        "from lightning_modules.bundle import Bundle\n"
        "answers = Bundle.load(sys.argv[1]).predict({'said': json.loads(sys.argv[2])})\n"
        "print(json.dumps([answers, sys.modules['lightning_modules.bundle'].__file__]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(trained[0]), json.dumps(texts)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "code")},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers, home = json.loads(done.stdout)
    # Another process may add float32 numbers up in another order.
    assert answers == {"amount": pytest.approx(expected["amount"], rel=1e-5)}
    assert home.startswith(str(tmp_path))


def test_a_resumed_training_of_another_kind_is_exact(tokens: Path, tmp_path: Path) -> None:
    whole = fit(job(tokens, tmp_path / "whole", METHODS[0]), lambda event: None)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(job(tokens, tmp_path / "broken", METHODS[0]), stop)
    assert fit(job(tokens, tmp_path / "broken", METHODS[0]), lambda event: None) == whole


def test_a_champion_of_another_kind_gives_its_body_alone(
    trained: tuple[Path, dict[str, Any]],
    arguments: dict[str, Any],
    tmp_path: Path,
) -> None:
    from tests.lightning_modules.jobs import fit as fit_classes

    settings = {
        "model": ModelConfig.model_validate(
            {"embedding": {"size": 8}, "encoder": {"kind": "tanh"}}
        ),
        "training": TrainingConfig(max_epochs=1, batch_size=16),
        "work": tmp_path / "work",
        "out": tmp_path / "out",
    }
    fit_classes(**arguments, **settings, start=trained[0])
    assert Bundle.load(tmp_path / "out" / "bundle").kind == "classify"


def test_a_kind_that_learns_from_no_teacher_says_so(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="kind amount does not learn from a teacher"):
        objective_of(TASK, {}).soften(
            tokens, tokens, 0.5, lambda texts: ([], np.zeros(0)), tmp_path
        )


def test_what_ships_needs_no_more_than_a_served_model_has() -> None:
    """`shipped_files` refuses whatever else is imported; the data contracts are none of it."""
    for kind in ("classify", "amount"):
        files = shipped_files(kind)
        assert not [file for file in files if "data_contracts" in file.parts]
    parts = {file.name for file in shipped_files("classify")}
    assert {"objective.py", "figures.py", "fit.py", "naive_bayes.py"}.isdisjoint(parts)


def test_a_head_that_imports_what_no_server_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "greedy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "head.py").write_text(
        "import pandas\nfrom lightning_modules.kinds.heads import Head\n"
        "class Greedy(Head):\n    kind = 'greedy'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    __import__("greedy.head")
    with pytest.raises(ValueError, match=r"greedy/head\.py imports pandas, which no served model"):
        ship("greedy", tmp_path / "code")


@pytest.mark.parametrize("kind", ["nobody", "os.path", "../x", "heads", ""])
def test_a_kind_that_nobody_defines_is_none(kind: str) -> None:
    with pytest.raises(LookupError, match="not known here"):
        head_class(kind)


def test_a_fact_that_would_hide_a_field_of_the_bundle_is_refused(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    bundle = Bundle.load(trained[0])
    with pytest.raises(ValueError, match="may not be called 'digest'"):
        save_bundle(
            tmp_path,
            bundle.network,
            tokenizer_json=bundle.tokenizer_json,
            windowing=bundle.windowing,
            facts={"digest": "mine"},
        )
