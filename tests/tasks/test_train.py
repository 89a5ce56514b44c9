"""train runs in a process of its own: killed, it is taken up where it stopped; orphaned, it ends;
wrong, it says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from data_contracts.errors import TrainingError
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import ExecutionConfig, TrainingConfig
from data_contracts.recipe.tokenizer import WordTokenizer
from tasks.artifacts.store import ArtifactStore
from tasks.engines import local
from tasks.engines.fork_server import Child
from tasks.progress import Progress, listening
from tasks.retries import Interrupted, can_heal
from tasks.settings import Settings
from tasks.stage import RunContext
from tasks.tracking.runs import open_tracker
from tests.stages import run_of, tokenize_corpus, train_model
from tests.tasks.test_tokenize import make_corpus

MODEL = ModelConfig.model_validate(
    {"embedding": {"size": 8}, "encoder": {"kind": "tanh", "hidden_size": 8}}
)
# Long enough (480 steps) that progress, told a few times a second, is told well before the end.
EXECUTION = ExecutionConfig(checkpoint_every_steps=7)
TRAINING = TrainingConfig(max_epochs=12, batch_size=4, patience=99)
TEXTS = {
    "train": [
        f"the {w} is {'good' if i % 2 else 'bad'} {i % 7}"
        for i in range(80)
        for w in ("screen", "battery")
    ],
    "valid": ["the screen is good", "the battery is bad"] * 4,
    "test": ["the screen is bad"],
}


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    return open_tracker(
        Settings(home=tmp_path_factory.mktemp("mlflow"), artifacts=None),
        Recipe(),
        "train-tests",
        {},
    )


def run(
    store: ArtifactStore,
    tracker,
    training: TrainingConfig = TRAINING,
    execution: ExecutionConfig | None = None,
) -> RunContext:
    execution = execution or EXECUTION
    return run_of(store, tracker=tracker, model=MODEL, training=training, execution=execution)


def train(
    folder: Path,
    tracker,
    training: TrainingConfig = TRAINING,
    execution: ExecutionConfig | None = None,
):
    store = ArtifactStore(str(folder / "artifacts"), folder / "work")
    tokens = tokenize_corpus(
        make_corpus(store, TEXTS), WordTokenizer(min_frequency=1), store
    ).manifest
    return train_model(tokens, run(store, tracker, training, execution)), store


@pytest.fixture
def children(monkeypatch) -> list[Child]:
    """The training processes, as they are started."""
    started: list[Child] = []
    original = local._start

    def recording(*arguments):
        child = original(*arguments)
        started.append(child)
        return child

    monkeypatch.setattr(local, "_start", recording)
    return started


def test_killed_training_is_a_healable_fault_and_ends_as_if_undisturbed(
    tmp_path, tracker, children
):
    undisturbed, _ = train(tmp_path / "a", tracker)

    def kill_in_mid_epoch(progress):
        if progress.stage == "train" and progress.done >= 12 and len(children) == 2:
            children[-1].kill()

    with listening(kill_in_mid_epoch), pytest.raises(Interrupted, match="SIGKILL") as caught:
        train(tmp_path / "b", tracker)
    assert can_heal(caught.value)
    heard: list[Progress] = []
    with listening(heard.append):
        resumed, _ = train(tmp_path / "b", tracker)
    told = [report.note for report in heard if report.state == "told"]
    assert re.fullmatch(r"Training goes on from step \d+ of 480\.", told[0])
    assert resumed.manifest.digest == undisturbed.manifest.digest
    assert resumed.manifest.steps == undisturbed.manifest.steps
    history = tracker.client.get_metric_history(tracker.run_id, "train/loss")
    assert [m.step for m in history] == sorted({m.step for m in history})


def test_wall_clock_limit_ends_the_attempt_and_leaves_no_process(tmp_path, tracker, children):
    limited = ExecutionConfig(limits={"train": 0.5})
    with pytest.raises(Interrupted, match=r"limit of 0 s|limit of 1 s"):
        train(tmp_path, tracker, execution=limited)
    assert all(child.poll() is not None for child in children)


def test_interrupted_parent_takes_its_child_along(tmp_path, tracker, children):
    def interrupt(progress):
        if progress.stage == "train" and progress.state == "running":
            raise KeyboardInterrupt

    with listening(interrupt), pytest.raises(KeyboardInterrupt):
        train(tmp_path, tracker)
    assert children[-1].poll() is not None


def test_orphan_ends_by_itself(tmp_path):
    """A parent that is killed cannot stop its child: the end of stdin tells the child."""
    (tmp_path / "job.json").write_text(json.dumps({"work": str(tmp_path)}))
    (tmp_path / "training.lock").touch()
    from filelock import FileLock

    with FileLock(tmp_path / "training.lock"):  # the child waits here as long as it lives
        child = subprocess.Popen(
            [sys.executable, "-m", "tasks.engines.training_process", str(tmp_path / "job.json")],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(1.5)
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(10) == 1


def test_one_class_is_refused_before_any_process_starts(tmp_path, tracker, children):
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    tokens = tokenize_corpus(
        make_corpus(store, TEXTS), WordTokenizer(min_frequency=1), store
    ).manifest
    with pytest.raises(TrainingError, match="one label only"):
        train_model(tokens.model_copy(update={"facts": {"labels": ["a"]}}), run(store, tracker))
    assert not children


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there, so asking for it is no fault")
def test_fault_of_the_recipe_comes_back_as_cause_and_remedy(tmp_path, tracker):
    with pytest.raises(TrainingError, match="CUDA") as caught:
        train(tmp_path, tracker, execution=ExecutionConfig(accelerator="cuda"))
    assert caught.value.remedy
    assert not can_heal(caught.value)


def test_damaged_tokens_end_with_the_childs_last_word(tmp_path, tracker):
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    tokens = tokenize_corpus(
        make_corpus(store, TEXTS), WordTokenizer(min_frequency=1), store
    ).manifest
    (store.open(tokens) / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(TrainingError, match="The training process failed"):
        train_model(tokens, run(store, tracker))


def test_progress_reaches_the_listener(tmp_path, tracker):
    seen = []
    with listening(seen.append):
        train(tmp_path, tracker)
    steps = [p for p in seen if p.state == "running"]
    points = [point for p in seen for point in p.points]
    assert {"train/loss", "val/macro_f1"} <= {point["key"] for point in points}
    assert steps[-1].done <= steps[-1].total
    assert "loss" in steps[-1].note


def test_a_training_that_keeps_epochs_by_another_metric_is_another_training(tmp_path, tracker):
    one_epoch = [
        TRAINING.model_copy(update={"max_epochs": 1, "monitor": monitor})
        for monitor in (None, "val/nll")
    ]
    first, second = (train(tmp_path, tracker, training)[0].manifest for training in one_epoch)
    assert first.key != second.key


def test_how_often_it_saves_makes_no_other_training(tmp_path, tracker):
    one_epoch = TRAINING.model_copy(update={"max_epochs": 1})
    first, second = (
        train(tmp_path, tracker, one_epoch, ExecutionConfig(checkpoint_every_steps=steps))[0]
        for steps in (7, 1000)
    )
    assert second.cached and second.manifest == first.manifest
    assert first.manifest.rows_in == 160, "the windows that an epoch goes through"
