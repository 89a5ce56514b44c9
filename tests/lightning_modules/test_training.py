"""A training that dies goes on where it was, bit for bit; and it learns."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import f1_score

from data_contracts.errors import TrainingError
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.base import objective_of
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.kinds.classify.objective import ClassifyValidation, balanced_weights
from lightning_modules.network.tokenizer import load_tokenizer
from lightning_modules.training import checkpoints, recorder
from lightning_modules.training.fit import FitResult
from lightning_modules.training.job import TrainingJob
from tests.lightning_modules.conftest import WINDOWING
from tests.lightning_modules.jobs import classification, fit

ENCODERS: dict[str, dict[str, Any]] = {
    "tanh": {"kind": "tanh", "hidden_size": 6},
    "lstm": {"kind": "lstm", "hidden_size": 5},
    "bilstm_attention": {"kind": "bilstm_attention", "hidden_size": 5},
    "transformer": {"kind": "transformer", "num_layers": 1, "num_heads": 2, "feedforward_size": 12},
}
DROPOUT = {"dropout": 0.2}
METHODS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "dropout": {"kind": "none"},
    "multiplicative_noise": {"kind": "multiplicative_noise"},
}


class Interrupted(Exception):
    pass


def model(
    encoder: str = "bilstm_attention", method: str = "multiplicative_noise", **changes: Any
) -> ModelConfig:
    return ModelConfig(
        **{"embedding": {"size": 8}, **changes},
        encoder=ENCODERS[encoder],
        dropout=DROPOUT.get(method, 0.0),
        reparameterization=METHODS[method],
    )


def training(**changes: Any) -> TrainingConfig:
    settings = {
        "max_epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.02,
    }
    return TrainingConfig(**{**settings, **changes})


def executed(arguments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What `fit` is told, with another way of carrying it out."""
    return {**arguments, "execution": arguments["execution"].model_copy(update=changes)}


def digests(out: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (out / "bundle").iterdir()
    }


def points(path: Path) -> list[tuple[str, float, int]]:
    """Metric points without what depends on the clock."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        (p["key"], p["value"], p["step"]) for p in lines if p["key"] != "train/tokens_per_second"
    ]


def interrupted_at(step: int) -> Any:
    def on_progress(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == step:
            raise Interrupted

    return on_progress


@pytest.fixture
def every_step_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "PROGRESS_SECONDS", 0.0)


@pytest.fixture(scope="module")
def unbroken(
    arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FitResult]:
    """The default method over the default encoder, uninterrupted: what the resumed ones must equal."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, fit(
        **arguments, model=model(), training=training(), work=folder / "work", out=folder / "out"
    )


CHILD = """
import os, signal, sys
from pathlib import Path
from lightning_modules.training import recorder
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
recorder.PROGRESS_SECONDS = 0.0
def die(event):
    if event["event"] == "progress" and event["step"] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
fit(TrainingJob.read(Path(sys.argv[1])), die)
"""


def test_killed_in_mid_epoch_it_ends_where_an_unbroken_one_ends(
    unbroken: tuple[Path, FitResult], arguments: dict[str, Any], tmp_path: Path
) -> None:
    """kill -9 at step 23 of 3 epochs; resumed from the checkpoint of step 20, in the second epoch."""
    folder, expected = unbroken
    assert expected.steps // 3 < 20
    assert expected.steps * 2 // 3 > 23
    settings = {"model": model(), "training": training()}
    place = {"work": tmp_path / "work", "out": tmp_path / "out"}
    job = TrainingJob(**arguments, **settings, **place, task=Classify())
    job.write(tmp_path / "job.json")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "job.json"), "23"],
        capture_output=True,
        timeout=180,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert child.stderr == b"", "nothing is printed that a user can do nothing about"
    assert not (tmp_path / "out").exists()
    with (tmp_path / "work" / "metrics.jsonl").open("a") as stream:
        stream.write('{"key": "train/lo')  # as a write torn by the kill would look
    events: list[dict[str, Any]] = []
    arguments = {**arguments, "on_progress": events.append}
    found = fit(
        **arguments,
        model=model(),
        training=training(),
        work=tmp_path / "work",
        out=tmp_path / "out",
    )
    assert events[0] == {"event": "resumed", "step": 20, "total_steps": expected.steps}
    assert digests(tmp_path / "out") == digests(folder / "out")
    assert points(tmp_path / "out" / "metrics.jsonl") == points(folder / "out" / "metrics.jsonl")
    assert found == expected


@pytest.mark.usefixtures("every_step_reports")
@pytest.mark.parametrize(
    ("encoder", "method", "stops"),
    [
        ("tanh", "dropout", (7,)),
        ("transformer", "none", (23, 28)),  # twice in one epoch: 19 steps each
        (
            "bilstm_attention",
            "dropout",
            (19, 39),
        ),  # just before a validation, and right after a new epoch began
    ],
)
def test_resume_is_exact_for_every_method(
    encoder: str, method: str, stops: tuple[int, ...], arguments: dict[str, Any], tmp_path: Path
) -> None:
    settings = {
        "model": model(encoder, method),
        "training": training(),
    }
    arguments = executed(arguments, threads=2 if encoder == "tanh" else 1)
    expected = fit(**arguments, **settings, work=tmp_path / "w1", out=tmp_path / "o1")
    for stop in stops:
        broken = {**arguments, "on_progress": interrupted_at(stop)}
        with pytest.raises(Interrupted):
            fit(**broken, **settings, work=tmp_path / "w2", out=tmp_path / "o2")
    assert fit(**arguments, **settings, work=tmp_path / "w2", out=tmp_path / "o2") == expected
    assert digests(tmp_path / "o2") == digests(tmp_path / "o1")
    assert points(tmp_path / "o2" / "metrics.jsonl") == points(tmp_path / "o1" / "metrics.jsonl")


OTHERS: dict[str, dict[str, Any]] = {
    "gaussian_posterior": {"kind": "gaussian_posterior"},
    "weight_norm": {"kind": "weight_norm"},
    "sigma_reparam": {"kind": "sigma_reparam"},
    "sparse": {"kind": "sparse"},
    "rank_one": {"kind": "multiplicative_noise", "sampling": "rank_one"},
}


@pytest.mark.usefixtures("every_step_reports")
@pytest.mark.parametrize("method", OTHERS)
def test_resume_is_exact_within_the_warm_up_and_the_patience(
    method: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped while beta still rises, and again one epoch before the early stop, which a ruinous
    rate brings about.
    """
    settings = {
        "model": ModelConfig(
            embedding={"size": 8},
            encoder=ENCODERS["tanh"],
            dropout=0.3 if method == "sparse" else 0.0,
            reparameterization=OTHERS[method],
        ),
        "training": training(max_epochs=12, patience=2, learning_rate=0.2),
    }
    expected = fit(**arguments, **settings, work=tmp_path / "w1", out=tmp_path / "o1")
    # sparse counts no epoch before its network has its final size.
    assert expected.epochs == expected.best_epoch + 2 < 12 or method == "sparse", "it stops early"
    in_patience = 19 * (expected.epochs - 1) + 7
    for stop in (8, in_patience):
        with pytest.raises(Interrupted):
            fit(
                **{**arguments, "on_progress": interrupted_at(stop)},
                **settings,
                work=tmp_path / "w2",
                out=tmp_path / "o2",
            )
    assert fit(**arguments, **settings, work=tmp_path / "w2", out=tmp_path / "o2") == expected
    assert digests(tmp_path / "o2") == digests(tmp_path / "o1")
    found = points(tmp_path / "o2" / "metrics.jsonl")
    assert found == points(tmp_path / "o1" / "metrics.jsonl")
    betas = {step: value for key, value, step in found if key == "train/beta"}
    # The highest, not the last: sparse sets beta to 0 once its network has its final size.
    assert not betas or betas[min(betas)] < max(betas.values()), (
        "beta was still rising at the first stop"
    )


@pytest.mark.usefixtures("every_step_reports")
def test_sigterm_saves_the_step_it_arrives_in(
    unbroken: tuple[Path, FitResult], arguments: dict[str, Any], tmp_path: Path
) -> None:
    """Lightning ends the fit after the batch; the checkpoint of that step is there, though none was
    due before 57.
    """
    folder, expected = unbroken
    settings = {"model": model(), "work": tmp_path / "work", "out": tmp_path / "out"}
    arguments = executed(arguments, checkpoint_every_steps=1000)

    def terminate(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == 23:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        fit(**{**arguments, "on_progress": terminate}, **settings, training=training())
    events: list[dict[str, Any]] = []
    arguments = {**arguments, "on_progress": events.append}
    assert fit(**arguments, **settings, training=training()) == expected
    assert events[0] == {"event": "resumed", "step": 23, "total_steps": 57}
    assert digests(tmp_path / "out") == digests(folder / "out")


LEVERS = {
    "accumulate_grad_batches": 3,
    "ema_decay": 0.9,
    "schedule": "constant",
    "groups": {"wide": {"learning_rate": 0.05, "epsilon": 1e-4}},
}


@pytest.mark.usefixtures("every_step_reports")
@pytest.mark.parametrize(
    "stops", [(3, 9), (5,), (7,)]
)  # 7 steps each epoch, the last of one batch only
def test_resume_is_exact_with_averaging_accumulation_and_all_features(
    stops: tuple[int, ...], arguments: dict[str, Any], tmp_path: Path
) -> None:
    beside = {"buckets": 64, "max_n": 2, "size": 3}
    wide = {"buckets": 64, "max_n": 3}
    features = {"embedding": {"size": 8, "bias": True}, "ngrams": beside}
    settings = {
        "model": model("lstm", **features),
        "task": Classify.model_validate({"wide": wide}),
        "training": training(**LEVERS),
    }
    arguments = executed(arguments, checkpoint_every_steps=2)
    expected = fit(**arguments, **settings, work=tmp_path / "w1", out=tmp_path / "o1")
    assert expected.steps == 21
    for stop in stops:
        with pytest.raises(Interrupted):
            fit(
                **{**arguments, "on_progress": interrupted_at(stop)},
                **settings,
                work=tmp_path / "w2",
                out=tmp_path / "o2",
            )
    assert fit(**arguments, **settings, work=tmp_path / "w2", out=tmp_path / "o2") == expected
    assert digests(tmp_path / "o2") == digests(tmp_path / "o1")
    found = points(tmp_path / "o2" / "metrics.jsonl")
    assert found == points(tmp_path / "o1" / "metrics.jsonl")
    assert len({(key, step) for key, _, step in found}) == len(found), "no step appears twice"
    assert {rate for key, rate, step in found if key == "train/learning_rate" and step > 2} == {
        0.02
    }
    bundle = Bundle.load(tmp_path / "o2" / "bundle")
    assert type(bundle.network.embedding) is torch.nn.Embedding
    assert bundle.network.describe()["ngrams"].items() >= beside.items()
    assert bundle.network.describe()["wide"].items() >= wide.items()
    assert bundle.network.head.wide.idf.max() > 1  # of the train split
    assert bundle.network.head.wide.table.weight.any()
    assert predict_proba(bundle, ["good word1 good", "bad"]).shape == (2, 3)


def test_the_bundle_holds_the_average_of_the_weights(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    """One epoch of 19 steps, against the formula over the weights after each step."""
    from lightning_modules.training.recorder import Recorder

    seen: list[dict[str, torch.Tensor]] = []
    original = Recorder.on_train_batch_end

    def watching(self: Any, trainer: Any, pl_module: Any, *rest: Any) -> None:
        original(self, trainer, pl_module, *rest)
        seen.append({name: p.detach().clone() for name, p in pl_module.network.named_parameters()})

    settings = training(max_epochs=1, ema_decay=0.8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", watching)
        fit(
            **arguments,
            model=model("tanh", "none"),
            training=settings,
            work=tmp_path / "w",
            out=tmp_path / "o",
        )
    torch.manual_seed(settings.seed)
    found = Bundle.load(tmp_path / "o" / "bundle").network.state_dict()
    share = [1 - min(0.8, (1 + t) / (10 + t)) for t in range(1, len(seen) + 1)]
    assert (len(seen), share[0], share[-1]) == (19, pytest.approx(9 / 11), pytest.approx(9 / 29))
    moved = [name for name in found if not torch.allclose(found[name], seen[-1][name])]
    assert moved, "the last weights are another model"
    # What the start contributes has decayed to the product of all d_t, below 1e-6 of it.
    average = {name: torch.zeros_like(value) for name, value in seen[0].items()}
    for weights, of_new in zip(seen, share, strict=True):
        average = {name: average[name].lerp(weights[name], of_new) for name in average}
    for name in found:
        torch.testing.assert_close(found[name], average[name], rtol=1e-4, atol=1e-5)


def test_accumulated_batches_step_as_one_batch_of_their_rows(
    arguments: dict[str, Any], tmp_path: Path, token_folder: Path
) -> None:
    """Two batches of 8 equal rows give the gradient of 16: the same function after training, to
    rounding.
    """
    rows = pq.read_table(token_folder / "train.parquet")
    short = rows.filter(pa.compute.equal(rows["length"], 12)).slice(0, 64)
    (tmp_path / "tokens").mkdir()
    pq.write_table(short, tmp_path / "tokens" / "train.parquet")
    pq.write_table(rows.slice(0, 60), tmp_path / "tokens" / "valid.parquet")
    shutil.copy(token_folder / "tokenizer.json", tmp_path / "tokens")
    arguments = {**arguments, "tokens": tmp_path / "tokens"}
    results = []
    for size, count in (
        (64, 1),
        (16, 4),
    ):  # the whole split each step, so that the order has no part in it
        settings = training(batch_size=size, accumulate_grad_batches=count, max_epochs=4)
        folder = tmp_path / str(size)
        result = fit(
            **arguments,
            model=model("lstm", "none"),
            training=settings,
            work=folder / "w",
            out=folder / "o",
        )
        assert result.steps == 4
        results.append(
            predict_proba(Bundle.load(folder / "o" / "bundle"), ["good", "bad word3", "table good"])
        )
    assert results[0] == pytest.approx(results[1], abs=1e-4)


def test_precision_of_a_gpu_is_refused_on_a_cpu(arguments: dict[str, Any], tmp_path: Path) -> None:
    settings = {"model": model("lstm"), "training": training()}
    arguments = executed(arguments, precision="bf16-mixed")
    with pytest.raises(TrainingError, match="bf16-mixed is for a GPU"):
        fit(**arguments, **settings, work=tmp_path / "w", out=tmp_path / "o")


def test_called_again_when_finished_it_gives_the_same(
    unbroken: tuple[Path, FitResult], arguments: dict[str, Any], tmp_path: Path
) -> None:
    folder, expected = unbroken
    events: list[dict[str, Any]] = []
    arguments = {**arguments, "on_progress": events.append}
    settings = {"model": model(), "training": training(), "work": folder / "work"}
    assert fit(**arguments, **settings, out=tmp_path / "out") == expected
    assert [event["event"] for event in events] == ["resumed"]
    assert digests(tmp_path / "out") == digests(folder / "out")


@pytest.mark.usefixtures("every_step_reports")
def test_damaged_and_foreign_checkpoints_are_set_aside(
    unbroken: tuple[Path, FitResult], arguments: dict[str, Any], tmp_path: Path
) -> None:
    folder, expected = unbroken
    settings = {"work": tmp_path / "work", "out": tmp_path / "out", "model": model()}
    with pytest.raises(Interrupted):
        fit(**{**arguments, "on_progress": interrupted_at(23)}, **settings, training=training())
    older, newer = sorted((tmp_path / "work" / "checkpoints").glob("*.ckpt"))
    newer.write_bytes(newer.read_bytes()[:-100])
    events: list[dict[str, Any]] = []
    arguments = {**arguments, "on_progress": events.append}
    found = fit(**arguments, **settings, training=training())
    assert newer.name in events[0]["message"]
    assert "bytes have changed" in events[0]["message"]
    assert events[1]["event"] == "resumed"
    assert events[1]["step"] == int(older.name.split("-")[1]) < 20
    assert found == expected
    assert digests(tmp_path / "out") == digests(folder / "out")
    events.clear()
    other = fit(**arguments, **settings, training=training(seed=1, max_epochs=1))
    assert all("other data or settings" in e["message"] for e in events if e["event"] == "note")
    assert "resumed" not in {e["event"] for e in events}
    assert other.bundle_digest != expected.bundle_digest
    steps = [step for _, _, step in points(tmp_path / "out" / "metrics.jsonl")]
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("small", "share", "expected"),
    [
        (0, 1e-9, [5, 19, 38, 57]),
        (0, 1e9, [5, 10, 15, 19, 20, 25]),
        (1 << 30, 1e-9, [5, 10, 15, 19, 20, 25]),
    ],
    ids=["large and slow", "large and fast", "small"],
)
def test_a_large_model_is_saved_less_often_within_an_epoch(
    small: int,
    share: float,
    expected: list[int],
    arguments: dict[str, Any],
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(checkpoints, "SMALL_CHECKPOINT", small)
    monkeypatch.setattr(checkpoints, "SAVING_SHARE", share)
    saved, save = [], checkpoints.Checkpoints.save

    def told(self: checkpoints.Checkpoints, trainer: Any) -> None:
        saved.append(trainer.global_step)
        save(self, trainer)

    monkeypatch.setattr(checkpoints.Checkpoints, "save", told)
    fit(
        **arguments,
        model=model(),
        training=training(),
        work=tmp_path / "work",
        out=tmp_path / "out",
    )
    assert saved[: len(expected)] == expected
    assert saved[-1] == 57


def test_results_and_metrics(unbroken: tuple[Path, FitResult]) -> None:
    folder, result = unbroken
    assert (result.epochs, result.steps) == (3, 57)
    assert result.history == json.loads((folder / "out" / "history.json").read_text())
    best = max(result.history, key=lambda epoch: epoch["val/macro_f1"])
    assert (result.best_epoch, result.validation["val/macro_f1"]) == (
        best["epoch"],
        best["val/macro_f1"],
    )
    found = points(folder / "out" / "metrics.jsonl")
    names = {key for key, _, _ in found}
    train = {"loss", "nll", "kl", "beta", "gradient_norm", "noise_alpha", "learning_rate"}
    assert names == {f"train/{n}" for n in train} | {"epoch"} | {
        f"val/{n}" for n in ("loss", "accuracy", "macro_f1", "nll")
    }
    assert len({(key, step) for key, _, step in found}) == len(found), "no step appears twice"
    assert [(value, step) for key, value, step in found if key == "epoch"] == [
        (1, 19),
        (2, 38),
        (3, 57),
    ]
    rates = [value for key, value, _ in found if key == "train/learning_rate"]
    assert 0 < rates[-1] < rates[0] <= 0.02
    betas = [value for key, value, _ in found if key == "train/beta"]
    assert betas == sorted(betas)
    assert betas[-1] == pytest.approx(0.01)
    bundle = Bundle.load(folder / "out" / "bundle")
    assert bundle.digest == result.bundle_digest
    assert sum(p.numel() for p in bundle.network.parameters()) == result.parameters
    pickles = [
        p
        for p in (folder / "out").rglob("*")
        if p.suffix in (".pkl", ".pt", ".pth", ".ckpt", ".bin")
    ]
    assert not pickles
    assert type(bundle.network.head.decoder) is torch.nn.Linear


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_a_tiny_corpus(method: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    settings = training(max_epochs=8, learning_rate=0.03, patience=8)
    result = fit(
        **arguments,
        task=Classify(class_weights="balanced"),
        model=model("tanh", method),
        training=settings,
        work=tmp_path / "w",
        out=tmp_path / "o",
    )
    nll = [
        value for key, value, _ in points(tmp_path / "o" / "metrics.jsonl") if key == "train/nll"
    ]
    assert nll[-1] < 0.6 * nll[0]
    assert result.validation["val/macro_f1"] > 0.8
    bundle = Bundle.load(tmp_path / "o" / "bundle")
    assert bundle.facts["labels"][int(predict_proba(bundle, ["good"]).argmax())] == "positive"


def test_early_stopping_keeps_the_best_and_resumes_to_the_same(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    """A learning rate that ruins the model; after the stop, a second call must not go on training."""
    settings = {
        "model": model("tanh", "none"),
        "training": training(max_epochs=30, patience=2, learning_rate=0.2),
    }
    first = fit(**arguments, **settings, work=tmp_path / "w", out=tmp_path / "o")
    assert first.epochs == first.best_epoch + 2 < 30
    assert fit(**arguments, **settings, work=tmp_path / "w", out=tmp_path / "o") == first


def test_the_epoch_kept_is_the_best_by_the_monitored_metric(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    def fitted(name: str, **changes: Any) -> FitResult:
        settings = training(
            patience=99, learning_rate=0.05, warmup=0, schedule="constant", **changes
        )
        place = {"work": tmp_path / name, "out": tmp_path / f"{name}.out"}
        return fit(**arguments, model=model("tanh", "none"), training=settings, **place)

    kept = {}
    for monitor, best in (("val/macro_f1", max), ("val/accuracy", max), ("val/nll", min)):
        result = fitted(monitor.removeprefix("val/"), monitor=monitor, max_epochs=8)
        epoch = best(result.history, key=lambda epoch, by=monitor: epoch[by])
        assert (result.best_epoch, result.best_value) == (epoch["epoch"], epoch[monitor])
        assert result.validation["val/macro_f1"] == epoch["val/macro_f1"]
        kept[monitor] = result
    assert kept["val/nll"].best_epoch != kept["val/macro_f1"].best_epoch
    assert kept["val/macro_f1"] == fitted("unset", max_epochs=8)
    # Its weights, too: those of a training that ended with that epoch.
    early = fitted("early", monitor="val/nll", max_epochs=kept["val/nll"].best_epoch)
    assert (
        early.bundle_digest == kept["val/nll"].bundle_digest != kept["val/macro_f1"].bundle_digest
    )


def test_warm_start_matches_tokens_and_labels(
    unbroken: tuple[Path, FitResult], tokenizer_json: bytes
) -> None:
    """Another vocabulary and another label order: rows move with their token's text and their
    label.
    """
    from lightning_modules.network.network import build_network
    from lightning_modules.training.warm_start import warm_start

    folder, _ = unbroken
    source = Bundle.load(folder / "out" / "bundle")
    words = json.loads(tokenizer_json)
    words["model"]["vocab"] = {"[PAD]": 0, "[UNK]": 1, "fresh": 2, "bad": 3, "good": 4}
    description = {
        **source.network.describe(),
        "vocab_size": 5,
        "embedding_rows": 5,
        "num_classes": 2,
    }
    torch.manual_seed(0)
    network = build_network(description)
    fresh = network.embedding.weight[2].clone()
    objective = objective_of(Classify(), {"labels": ["positive", "new"]})
    taken = warm_start(network, objective, folder / "out" / "bundle", json.dumps(words).encode())
    assert taken == set(network.state_dict())
    old = source.network
    assert torch.equal(network.embedding.weight[4], old.embedding.weight[2])
    assert torch.equal(network.embedding.weight[3], old.embedding.weight[3])
    assert torch.equal(network.embedding.weight[2], fresh)
    assert torch.equal(network.head.decoder.weight[0], old.head.decoder.weight[1])
    assert torch.equal(network.encoder.query.weight, old.encoder.query.weight)


@pytest.mark.parametrize("part", ["ngrams", "wide"])
def test_warm_start_takes_ngrams_only_under_the_same_vocabulary(
    part: str, arguments: dict[str, Any], tokenizer_json: bytes, tmp_path: Path
) -> None:
    from lightning_modules.network.network import build_network
    from lightning_modules.training.warm_start import warm_start

    given = {part: {"buckets": 64}}
    settings = {
        "model": model("tanh", **given if part == "ngrams" else {}),
        "task": Classify.model_validate(given if part == "wide" else {}),
        "training": training(max_epochs=1),
    }
    fit(**arguments, **settings, work=tmp_path / "w", out=tmp_path / "o")
    source = Bundle.load(tmp_path / "o" / "bundle")
    table = source.network.stored()[f"{part}.table.weight"]
    labels = arguments["facts"]["labels"]
    assert table.abs().sum() > 0
    words = json.loads(tokenizer_json)
    swapped = words["model"]["vocab"]
    swapped["good"], swapped["bad"] = swapped["bad"], swapped["good"]
    for text, named, same in (
        (tokenizer_json, labels, True),
        (json.dumps(words).encode(), labels, False),
        (
            tokenizer_json,
            labels[::-1],
            part == "ngrams",
        ),  # a column of the wide table is a label
    ):
        network = build_network(source.network.describe())
        objective = objective_of(Classify(), {"labels": named})
        warm_start(network, objective, tmp_path / "o" / "bundle", text)
        assert torch.equal(network.stored()[f"{part}.table.weight"], table) == same


def test_warm_started_training_begins_where_the_champion_ended(
    unbroken: tuple[Path, FitResult], arguments: dict[str, Any], tmp_path: Path
) -> None:
    folder, first = unbroken
    settings = {"model": model(), "training": training(max_epochs=1, learning_rate=1e-6)}
    cold = fit(**arguments, **settings, work=tmp_path / "w0", out=tmp_path / "o0")
    warm = fit(
        **arguments,
        **settings,
        work=tmp_path / "w",
        out=tmp_path / "o",
        start=folder / "out" / "bundle",
    )
    assert warm.validation["val/macro_f1"] == pytest.approx(
        first.validation["val/macro_f1"], abs=0.05
    )
    assert warm.history[0]["val/nll"] < cold.history[0]["val/nll"] - 0.1


def lessons_that_turn_labels(arguments: dict[str, Any], path: Path) -> Path:
    """A teacher that gives each document the class after its own, and knows a text of its own for
    each class.
    """
    table = pq.read_table(arguments["tokens"] / "train.parquet", columns=["id", "label"])
    label_of = dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))
    rows = [(name, 0, "", (label + 1) % 3) for name, label in label_of.items()]
    rows += [
        (name, 1, ("bad", "good", "table")[label], (label + 1) % 3)
        for name, label in label_of.items()
    ]
    sure = np.log(np.full((3, 3), 0.01) + np.eye(3) * 0.97)
    columns = {
        "id": pa.array([row[0] for row in rows]),
        "variant": pa.array([row[1] for row in rows], pa.int32()),
        "text": pa.array([row[2] for row in rows]),
        "log_proba": pa.array([sure[row[3]] for row in rows], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), path)
    return path


def taught(arguments: dict[str, Any], lessons: Path, weight: float, folder: Path) -> dict[str, Any]:
    """The arguments with token rows that have the lessons, as the stage distill writes them."""
    shutil.copytree(arguments["tokens"], folder)
    tokenizer = load_tokenizer((folder / "tokenizer.json").read_bytes())
    classification().soften(
        arguments["tokens"] / "train.parquet",
        lessons,
        weight,
        lambda texts: WINDOWING.encode(tokenizer, texts),
        folder / "train.parquet",
    )
    return {**arguments, "tokens": folder}


def test_a_student_learns_what_its_teacher_says(arguments: dict[str, Any], tmp_path: Path) -> None:
    lessons = lessons_that_turn_labels(arguments, tmp_path / "lessons.parquet")
    settings = {
        "model": model("tanh", "none"),
        "training": training(max_epochs=6, patience=9, monitor="val/nll"),
    }

    def says(weight: float) -> list[str]:
        place = {"work": tmp_path / f"w{weight}", "out": tmp_path / f"o{weight}"}
        folder = tmp_path / f"t{weight}"
        fit(**taught(arguments, lessons, weight, folder), **settings, **place)
        bundle = Bundle.load(place["out"] / "bundle")
        return [
            bundle.facts["labels"][k]
            for k in predict_proba(bundle, ["bad", "good", "table"]).argmax(axis=1)
        ]

    turned = ["positive", "neither", "negative"]
    assert says(1.0) == turned
    assert says(0.1) == turned, "of texts that have no label the teacher alone is believed"


@pytest.mark.usefixtures("every_step_reports")
def test_resume_is_exact_with_a_teacher_and_takes_no_checkpoint_of_another(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    lessons = lessons_that_turn_labels(arguments, tmp_path / "lessons.parquet")
    settings = {"model": model("tanh"), "training": training()}
    other = taught(arguments, lessons, 0.6, tmp_path / "other")
    arguments = taught(arguments, lessons, 0.5, tmp_path / "tokens")
    expected = fit(**arguments, **settings, work=tmp_path / "w1", out=tmp_path / "o1")
    with pytest.raises(Interrupted):
        fit(
            **{**arguments, "on_progress": interrupted_at(23)},
            **settings,
            work=tmp_path / "w2",
            out=tmp_path / "o2",
        )
    assert fit(**arguments, **settings, work=tmp_path / "w2", out=tmp_path / "o2") == expected
    heard: list[dict[str, Any]] = []
    fit(
        **{**other, "on_progress": heard.append},
        **settings,
        work=tmp_path / "w2",
        out=tmp_path / "o3",
    )
    assert "resumed" not in {event["event"] for event in heard}


def test_a_loss_that_is_no_number_is_named(arguments: dict[str, Any], tmp_path: Path) -> None:
    settings = training(learning_rate=10.0, gradient_clip=1e30, max_epochs=10, warmup=0.0)
    broken = model("tanh", "none")
    from lightning_modules.training import module

    original = module.TextModule._losses

    def poisoned(self: Any, batch: Any) -> Any:
        nll, own = original(self, batch)
        return nll, own * (math.nan if self.global_step == 20 else 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.TextModule, "_losses", poisoned)
        with pytest.raises(
            TrainingError, match=r"became nan in epoch 2, at or up to \d+ steps before step 2\d"
        ) as info:
            fit(
                **arguments,
                model=broken,
                training=settings,
                work=tmp_path / "w",
                out=tmp_path / "o",
            )
    assert "learning_rate" in info.value.remedy
    assert not (tmp_path / "o").exists()
    latest = max(int(p.name.split("-")[1]) for p in (tmp_path / "w" / "checkpoints").glob("*.ckpt"))
    assert latest <= 20, "no checkpoint is written from which nothing could go on"


def test_splits_that_cannot_train_are_named(
    arguments: dict[str, Any], tmp_path: Path, token_folder: Path
) -> None:
    settings = {
        "model": model("tanh", "none"),
        "training": training(),
        "work": tmp_path / "w",
        "out": tmp_path / "o",
    }
    train, valid = (
        pq.read_table(token_folder / f"{split}.parquet") for split in ("train", "valid")
    )
    one = train.filter(pa.compute.equal(train["label"], 1))
    for name, pair, message in (
        ("one", (one, valid), "one class only .'positive'"),
        ("no_train", (train.slice(0, 0), valid), "train split has no rows"),
        ("no_valid", (train, valid.slice(0, 0)), "valid split has no rows"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for split, table in zip(("train", "valid"), pair, strict=True):
            pq.write_table(table, folder / f"{split}.parquet")
        shutil.copy(token_folder / "tokenizer.json", folder)
        with pytest.raises(TrainingError, match=message):
            fit(**{**arguments, "tokens": folder}, **settings)


def test_torch_settings_are_put_back(arguments: dict[str, Any], tmp_path: Path) -> None:
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        list(warnings.filters),
    )
    fit(**arguments, model=model("tanh", "none"), training=training(max_epochs=1),
        work=tmp_path / "w", out=tmp_path / "o")  # fmt: skip
    assert (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        list(warnings.filters),
    ) == before


def test_balanced_weights_count_every_class_the_same() -> None:
    objective = classification(class_weights="balanced")
    objective.class_weights = balanced_weights(np.array([6, 3, 0]))
    assert objective.class_weights.tolist() == pytest.approx([0.5, 1.0, 0.0])
    logits, labels = torch.randn(4, 3), torch.tensor([0, 0, 1, 0])
    each = -logits.log_softmax(-1)[torch.arange(4), labels]
    expected = (each * torch.tensor([0.5, 0.5, 1.0, 0.5])).mean()
    assert float(objective.nats(logits, {"labels": labels})) / 4 == pytest.approx(float(expected))
    plain = float(classification().nats(logits, {"labels": labels}))
    assert plain == pytest.approx(float(each.sum()))


def test_validation_gathers_windows_to_documents_in_any_order() -> None:
    """Four documents of 1, 3, 1 and 2 windows; each says what the mean of its windows'
    probabilities says.
    """
    torch.manual_seed(0)
    documents, of_document = torch.tensor([0, 1, 1, 1, 2, 3, 3]), torch.tensor([0, 0, 1, 0])
    logits, objective = 3 * torch.randn(7, 3), classification()
    objective.class_weights = torch.tensor([0.5, 2.0, 0.0])
    found = []
    for order in (torch.arange(7), torch.tensor([6, 2, 0, 4, 3, 5, 1])):
        gathered = ClassifyValidation(objective, 4)
        for rows in order.split(3):
            gathered.add_logits(
                logits[rows], {"labels": of_document[documents[rows]], "documents": documents[rows]}
            )
        found.append(gathered.metrics())
    proba = torch.stack([logits[documents == d].double().softmax(-1).mean(0) for d in range(4)])
    says = proba.argmax(-1)
    expected = {
        "accuracy": float((says == of_document).double().mean()),
        "nll": float(-proba[torch.arange(4), of_document].log().mean()),
        "macro_f1": f1_score(of_document, says, labels=[0, 1], average="macro", zero_division=0),
        "loss": float(
            objective.nats(logits, {"labels": of_document[documents]}) / 7
        ),  # over the windows
    }
    for one in found:
        assert one == pytest.approx(expected, rel=1e-6)


def test_validation_has_the_macro_f1_of_the_test_split() -> None:
    """The mean over the classes that occur among the labels: class 2 is said, and is nobody's."""
    gathered = ClassifyValidation(classification(), 3)
    gathered.add_logits(
        torch.eye(3)[[0, 2, 1]], {"labels": torch.tensor([0, 0, 1]), "documents": torch.arange(3)}
    )
    assert gathered.metrics()["macro_f1"] == pytest.approx(5 / 6)
