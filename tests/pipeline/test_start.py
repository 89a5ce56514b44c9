"""A classifier starts from a language model of its field, as a person asks for it: by name."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_contracts.contract.text import text_hash
from lightning_modules.bundle import Bundle
from tasks.tracking.bookkeeping import lineage_of, of_run
from tests.pipeline.conftest import mlflow_client, refused, told

ENCODER = {"kind": "lstm", "hidden_size": 8}
COMMON: dict[str, Any] = {
    "window": {"max_length": 48, "overlap": 8},
    "statistics": {"samples": 100},
    "promotion": {"beat_constant": False},
    "execution": {"retries": 0},
}
LM: dict[str, Any] = {
    **COMMON,
    "name": "lm",
    "task": {"kind": "generate", "counted": None, "samples": 2, "writing": {"max_tokens": 5}},
    "contract": {"kind": "generate", "name": "rooms", "columns": {"text": "text"},
                 "splits": {"min_rows": 5}},
    "tokenizer": {"kind": "character"},
    "model": {"embedding": {"size": 8}, "encoder": ENCODER},
    "training": {"max_epochs": 1},
}  # fmt: skip
LABELS: dict[str, Any] = {
    **COMMON,
    "name": "labels",
    "contract": {"name": "rooms", "columns": {"text": "text", "label": "label"},
                 "labels": {"values": ["bad", "good"]}, "splits": {"min_rows": 5}},
    "model": {"embedding": {"size": 8}, "encoder": ENCODER},
    "training": {"max_epochs": 1, "warm_start": {"model": "noisefold-lm"}},
}  # fmt: skip


def rows(file: Path, seed: int) -> None:
    draw = random.Random(seed)
    words = {"good": ["clean", "quiet", "bright"], "bad": ["dirty", "loud", "dark"]}
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["text", "label"])
        for row in range(240):
            label = draw.choice(["good", "bad"])
            table.writerow([f"room {seed}-{row} was {draw.choice(words[label])}", label])


def written(folder: Path, recipe: dict[str, Any], **sections: Any) -> Path:
    told = {"source": {"kind": "files", "url": str(folder / "rooms.csv")}, **recipe, **sections}
    file = folder / f"{told['name']}.yaml"
    file.write_text(yaml.safe_dump(told))
    return file


def planned(done: Any) -> dict[str, str]:
    assert done.exit_code == 0, done.output
    return {one["stage"]: one["state"] for one in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("start")
    rows(found / "rooms.csv", 0)
    rows(found / "others.csv", 1)
    return found


def test_a_classifier_starts_from_a_language_model(here: Any, folder: Path) -> None:
    home, file = folder / "home", written(folder, LABELS)
    refused(here(home, "retrain", file), "no champion of noisefold-lm to start from",
            "Train noisefold-lm first")  # fmt: skip
    told(here(home, "retrain", written(folder, LM), "--json"))

    done = told(here(home, "retrain", file, "--json"))
    trained = Path(done["artifacts"]["train"])
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["warm_started_from"]
    client = mlflow_client(home)
    run = client.get_run(done["run_id"])
    assert of_run(run)["noisefold.warm_start"] == "noisefold-lm/1"
    assert run.data.params["training.warm_start.model"] == "noisefold-lm"
    assert run.data.params["tokenizer.kind"] == "model"
    version = client.get_model_version("noisefold-labels", done["decision"]["version"])
    assert lineage_of(version)["warm_start"] == "noisefold-lm/1"
    assert "noisefold-lm/1" in version.description

    # It has the language model's tokens, and counts what that has read as read.
    lm = next(home.rglob("noisefold-lm-1/**/bundle"))
    known = Bundle.load(lm).tokenizer.get_vocab()
    assert Bundle.load(trained / "bundle").tokenizer.get_vocab() == known
    seen = np.load(trained / "seen_texts.npy", allow_pickle=False)
    assert np.isin(np.load(lm.parent / "train_texts.npy", allow_pickle=False), seen).all()

    again = told(here(home, "retrain", file, "--json"))
    assert {stage["state"] for stage in again["stages"][:5]} == {"cached"}

    # A version that is named is planned without a look at the registry.
    pinned = ("--set", "training.warm_start={model: noisefold-lm, version: 1}")
    states = planned(here(home, "plan", file, "--json", *pinned))
    assert (states["tokenize"], states["train"]) == ("found", "to run")
    assert planned(here(home, "plan", file, "--json"))["tokenize"] == "unknown"


def test_cells_of_a_comparison_start_from_a_version(here: Any, folder: Path) -> None:
    home = folder / "home"
    told(here(home, "retrain", written(folder, LM), "--json"))
    start = {"model": "noisefold-lm", "version": 1}
    scratch = {**LABELS, "tokenizer": {"kind": "character"}, "training": {"max_epochs": 1},
               "source": {"kind": "files", "url": str(folder / "rooms.csv")}}  # fmt: skip
    own = {"tokenizer": {"kind": "model"}}
    grid = {
        "name": "starts",
        "recipe": scratch,
        "seeds": [0],
        "baseline": "scratch",
        "variants": {
            "scratch": {},
            "started": {"training.warm_start": start, **own},
            "wider": {"training.warm_start": start, **own, "model.embedding.size": 16},
            "from nothing": {"training.warm_start": {**start, "version": 9}, **own},
        },
    }
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(grid))
    table = json.loads(here(home, "compare", file, "--json").stdout)
    table = table.get("table", table)
    causes = {cell["variant"]: (cell["state"], cell.get("cause") or "") for cell in table["cells"]}
    assert causes["scratch"][0] == causes["started"][0] == "finished"
    assert "have size 8, and model.embedding.size is 16" in causes["wider"][1]
    assert "version 9 cannot be read" in causes["from nothing"][1]
    read = json.loads(here(home, "compare", file, "--report", "--json").stdout)
    assert read.get("table", read)["rows"][1] == table["rows"][1]

    grid["variants"]["started"] = {"training.warm_start": {"model": "noisefold-lm"}, **own}
    file.write_text(yaml.safe_dump(grid))
    refused(here(home, "compare", file), "training.warm_start.version must be a number")


def test_a_model_that_has_read_the_test_rows_is_refused(here: Any, folder: Path) -> None:
    home = folder / "home"
    done = told(here(home, "retrain", written(folder, LM), "--json"))
    with (folder / "rooms.csv").open() as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    known = np.load(Path(done["artifacts"]["train"]) / "seen_texts.npy", allow_pickle=False)
    read = [text for text in texts if text_hash(text) in known]
    new = [text for text in texts if text_hash(text) not in known]
    sources = {}
    for split, some in (("train", read[60:]), ("valid", new), ("test", read[:60])):
        sources[split] = str(folder / f"{split}.csv")
        with Path(sources[split]).open("w", newline="") as out:
            labels = [["bad", "good"][row % 2] for row in range(len(some))]
            csv.writer(out).writerows([["text", "label"], *zip(some, labels, strict=True)])
    file = written(folder, {**LABELS, "name": "leaky"}, source={"kind": "files", "url": sources})
    refused(here(home, "retrain", file), "was trained on", "test rows", "same splits")
