"""Word vectors from text files: which rows they fill, what is refused, and what a run says of it."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from data_contracts.errors import TrainingError
from data_contracts.recipe.files import vectors_digest
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.bundle import Bundle
from lightning_modules.starting.vectors import load_vectors
from tests.lightning_modules.jobs import fit

VOCABULARY = {
    "[PAD]": 0,
    "[UNK]": 1,
    "Good": 2,
    "good": 3,
    "Bad": 4,
    "new york": 5,
    "电": 6,
    "fresh": 7,
}
GLOVE = "good 1 2\nGood 3 4\nbad 5 6\nBad 7 8\nnew york -1 1e-2\n电 0.5 .25\nother 9 9\ngood 8 8\n"
VECTORS = Path(__file__).parents[3] / "shared" / "data" / "word_vectors"


def written(path: Path, text: str) -> str:
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return str(path)


@pytest.mark.parametrize("name", ["plain.txt", "packed.txt.gz"])
@pytest.mark.parametrize("header", ["", "8 2\n"])
def test_tokens_take_their_own_vector_or_the_lower_cased_one(
    tmp_path: Path, name: str, header: str
) -> None:
    table = torch.full((8, 2), 77.0)
    found = load_vectors(table, VOCABULARY, written(tmp_path / name, header + GLOVE))
    assert found.tolist() == [False, False, True, True, True, True, True, False]
    expected = [[77, 77], [77, 77], [3, 4], [1, 2], [7, 8], [-1, 0.01], [0.5, 0.25], [77, 77]]
    assert table.tolist() == [pytest.approx(row) for row in expected]
    table = torch.zeros(8, 2)
    assert (
        load_vectors(table, VOCABULARY, written(tmp_path / name, "bad 5 6\ngood 1 2\n")).sum() == 3
    )
    assert table[[2, 3, 4]].tolist() == [[1, 2], [1, 2], [5, 6]], (
        "the lower-cased vector where there is no other"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("good 1 2 3\n", r"bad\.txt holds vectors of size 3, and model.embedding.size is 2"),
        ("1 300\ngood 1 2\n", r"bad\.txt holds vectors of size 300, and model.embedding.size is 2"),
        ("good 1 2\nbad 1\n", r"bad\.txt, line 2: 1 values where 2 belong"),
        ("fresh 1 2\ngood 1 x\n", r"bad\.txt, line 2: could not convert string to float"),
        ("fresh 1 2\ngood 1 nan\n", r"bad\.txt, line 2: a value is not finite"),
        ("3 2\ngood 1 2\nbad 1 2\n", r"bad\.txt, line 3: the file ends after 2 of 3 vectors"),
        ("", r"bad\.txt, line 1: the file is empty"),
    ],
)
def test_files_that_are_no_vectors_of_this_size_are_named(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        load_vectors(torch.zeros(8, 2), VOCABULARY, written(tmp_path / "bad.txt", text))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.txt cannot be read: No such file"):
        load_vectors(torch.zeros(8, 2), VOCABULARY, str(tmp_path / "none.txt"))
    torn = tmp_path / "torn.txt.gz"
    torn.write_bytes(gzip.compress(GLOVE.encode() * 100)[:-20])
    with pytest.raises(TrainingError, match=r"torn\.txt\.gz cannot be read"):
        load_vectors(torch.zeros(8, 2), VOCABULARY, str(torn))
    torn.write_text(GLOVE)
    with pytest.raises(TrainingError, match=r"torn\.txt\.gz cannot be read: Not a gzipped file"):
        load_vectors(torch.zeros(8, 2), VOCABULARY, str(torn))


def test_a_training_starts_from_its_vectors_and_says_what_they_cover(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    file, moved = (tmp_path / name for name in ("vectors.txt", "moved.txt"))
    written(file, "".join(f"word{i} {i}{' 0.5' * 7}\n" for i in range(20)) + f"GOOD{' 1' * 8}\n")
    events: list[dict[str, Any]] = []
    training = TrainingConfig(max_epochs=1, learning_rate=1e-9)
    settings = {**arguments, "on_progress": events.append, "training": training}

    def run(vectors: Path, name: str) -> Bundle:
        model = ModelConfig(
            embedding={"size": 8, "vectors": str(vectors)},
            encoder={"kind": "tanh"},
            reparameterization={"kind": "none"},
        )
        fit(model=model, work=tmp_path / "w", out=tmp_path / name, **settings)
        return Bundle.load(tmp_path / name / "bundle")

    first = run(file, "o1")
    table = first.network.state_dict()["embedding.weight"]
    assert table[first.tokenizer.token_to_id("word7")].tolist() == pytest.approx(
        [7] + [0.5] * 7, abs=1e-4
    )
    assert first.meta["train/vector_coverage_vocabulary"] == pytest.approx(20 / 45)
    points = [
        json.loads(line) for line in (tmp_path / "o1" / "metrics.jsonl").read_text().splitlines()
    ]
    share = {p["key"]: p["value"] for p in points if p["step"] == 0}
    assert share == {name: value for name, value in first.meta.items() if "coverage" in name}
    assert 0.35 < share["train/vector_coverage_tokens"] < 0.55
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert len(notes) == 1
    assert "44.4% of the vocabulary" in notes[0]

    shutil.move(
        file, moved
    )  # the same content elsewhere is the same training; other content is another
    events.clear()
    assert run(moved, "o2").digest == first.digest
    assert "resumed" in {event["event"] for event in events}
    written(moved, moved.read_text().replace("word7 7", "word7 9"))
    events.clear()
    assert run(moved, "o3").digest != first.digest
    assert "resumed" not in {event["event"] for event in events}


def test_the_cache_key_follows_the_content_and_not_the_path(tmp_path: Path) -> None:
    one, same, other = (
        written(tmp_path / name, text)
        for name, text in (("a", GLOVE), ("b", GLOVE), ("c", "x 1 2\n"))
    )
    sections = [ModelConfig(embedding={"vectors": path}).identity() for path in (one, same, other)]
    assert sections[0] == sections[1] != sections[2]
    assert sections[0]["embedding"]["vectors"] == vectors_digest(one)
    assert ModelConfig().identity() == {}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("glove_twitter_25d_subset.txt", 25, ("good", "Bad")),
        ("tencent_char_200d.txt.gz", 200, ("电", "好")),
    ],
)
def test_published_files_are_read(name: str, size: int, words: tuple[str, str]) -> None:
    if not (VECTORS / name).exists():
        pytest.skip(f"{VECTORS / name} is not there")
    table = torch.zeros(3, size)
    found = load_vectors(table, {words[0]: 0, words[1]: 1, "qqqqzz": 2}, str(VECTORS / name))
    assert found.tolist() == [True, True, False]
    assert table[:2].norm(dim=1).min() > 0.5
