"""A teacher's answers: of the right texts, asked for once, and never of rows that it was trained
on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import FetchedModel, Lessons
from data_contracts.contract.text import text_hash
from data_contracts.errors import RecipeError
from data_contracts.recipe.sections import DistillationConfig
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.classify.answering import predict_proba
from tasks import teach as module
from tasks.artifacts.store import ArtifactStore
from tasks.serving.check import fetch_version
from tasks.serving.fetched import fetched_model
from tasks.teach import find_teacher
from tasks.tokenize import TEACHER_TEXTS, text_hashes
from tasks.tracking.bookkeeping import lineage_of
from tests.stages import fetched, teach_corpus

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]
CONFIG = DistillationConfig(teacher="large", augmentations=2)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """Its own, so that no test finds the answers of another."""
    return ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")


def teacher_of(
    world: World, folder: Path, texts: list[str], labels: tuple[str, ...] | None = None
) -> FetchedModel:
    """The world's model, trained on `texts` as its version says, telling `labels` apart."""
    trained = Bundle.load(world.store.open(world.model()) / "bundle")
    save_bundle(
        folder / "bundle",
        trained.network,
        tokenizer_json=trained.tokenizer_json,
        facts={**trained.facts, "labels": list(labels or trained.facts["labels"])},
        windowing=trained.windowing,
    )
    hashes = np.unique(text_hashes(texts))
    np.save(folder / "train_texts.npy", hashes, allow_pickle=False)
    return fetched(folder / "bundle", "large")


def rows_of(world: World, split: str) -> pa.Table:
    return pq.read_table(
        world.store.open(world.corpus) / "corpus", filters=[("split", "==", split)]
    )


def read(store: ArtifactStore, lessons: Lessons) -> pa.Table:
    return pq.read_table(store.open(lessons) / "lessons.parquet")


def test_every_train_row_and_its_variants_have_the_teachers_probabilities(
    world: World, store, tmp_path
) -> None:
    train = rows_of(world, "train")
    teacher = teacher_of(world, tmp_path, train["text"].to_pylist())
    lessons = teach_corpus(world.corpus, CONFIG, teacher, store).manifest
    table = read(store, lessons)
    assert (lessons.rows_in, lessons.rows_out) == (train.num_rows, 3 * train.num_rows)
    own = table.filter(pa.compute.equal(table["variant"], 0))
    assert own.select(["id", "text"]).to_pydict() == train.select(["id", "text"]).to_pydict()
    bundle = Bundle.load(teacher.bundle)
    expected = predict_proba(bundle, table["text"].to_pylist())
    found = np.exp(np.stack(table["log_proba"].to_pylist()))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    right = expected[table["variant"].to_numpy() == 0].argmax(1) == [
        bundle.facts["labels"].index(label) for label in train["label"].to_pylist()
    ]
    assert lessons.figures["agreement"] == pytest.approx(right.mean())
    assert lessons.seen == {"train": train.num_rows, "valid": 0, "test": 0}
    assert teach_corpus(world.corpus, CONFIG, teacher, store).cached


def test_weight_is_no_part_of_what_is_asked(world: World, store, tmp_path) -> None:
    teacher = teacher_of(world, tmp_path, [])
    teach_corpus(world.corpus, CONFIG, teacher, store)
    assert teach_corpus(
        world.corpus, CONFIG.model_copy(update={"weight": 0.9}), teacher, store
    ).cached
    assert not teach_corpus(
        world.corpus, CONFIG.model_copy(update={"augmentations": 1}), teacher, store
    ).cached


def test_an_interrupted_attempt_asks_no_text_again(
    world: World, store, tmp_path, monkeypatch
) -> None:
    teacher = teacher_of(world, tmp_path, [])
    whole = teach_corpus(
        world.corpus, CONFIG, teacher, ArtifactStore(str(tmp_path / "b"), tmp_path / "c")
    ).manifest
    monkeypatch.setattr(module, "_PART", 50)
    asked: list[str] = []
    encode = Bundle.encode

    def dying(self: Bundle, texts: list[str]) -> Any:
        asked.extend(
            texts if len(texts) > 1 else ()
        )  # one alone is the bundle's own look at its tokenizer
        if len(asked) == 450:
            raise OSError("the disk is gone")
        return encode(self, texts)

    monkeypatch.setattr(Bundle, "encode", dying)
    with pytest.raises(OSError, match="gone"):
        teach_corpus(world.corpus, CONFIG, teacher, store)
    asked[:] = ["again"]
    lessons = teach_corpus(world.corpus, CONFIG, teacher, store).manifest
    assert len(asked) - 1 == whole.rows_out - 300, "two parts were there"
    assert (
        read(store, lessons)
        .select(["id", "variant", "text"])
        .equals(
            pq.read_table(Path(whole.uri) / "lessons.parquet", columns=["id", "variant", "text"])
        )
    )


def test_a_teacher_that_lacks_a_label_is_refused_by_name(world: World, store, tmp_path) -> None:
    teacher = teacher_of(world, tmp_path, [], labels=("negative", "positive", "neither"))
    with pytest.raises(RecipeError, match="large version 1 does not know the label '没有意见'"):
        teach_corpus(world.corpus, CONFIG, teacher, store)


def test_a_teacher_that_was_trained_on_rows_it_is_measured_on_is_refused(
    world: World, store, tmp_path
) -> None:
    train, test = (rows_of(world, split)["text"].to_pylist() for split in ("train", "test"))
    with pytest.raises(RecipeError, match=r"was trained on 5 of the \d+ test rows"):
        teach_corpus(
            world.corpus, CONFIG, teacher_of(world, tmp_path / "a", [*train, *test[:5]]), store
        )
    lessons = teach_corpus(
        world.corpus, CONFIG, teacher_of(world, tmp_path / "b", [*train, test[0]]), store
    ).manifest
    assert lessons.seen["test"] == 1, "one in a hundred is told, and left out by promotion"
    assert text_hash(test[0]) in np.load(store.open(lessons) / TEACHER_TEXTS, allow_pickle=False)


def test_the_version_is_pinned_in_the_run_and_found_again_without_the_registry(
    world: World, tmp_path
) -> None:
    model = world.model()
    world.tracker.client.set_registered_model_alias(
        world.recipe.model_name, "champion", world.register(model, world.evaluate(model)).version
    )
    config = DistillationConfig(teacher=world.recipe.model_name)
    found = find_teacher(config, world.tracker, tmp_path)
    assert world.tracker.tag("noisefold.teacher") == f"{world.recipe.model_name}/1"
    other = world.model(quality=0.5)
    world.tracker.client.set_registered_model_alias(
        world.recipe.model_name, "champion", world.register(other, world.evaluate(other)).version
    )
    assert find_teacher(config, world.tracker, tmp_path) == found, (
        "a rerun learns from the same version"
    )
    assert fetched_model(tmp_path, config.teacher, "1") == found
    assert fetched_model(tmp_path, config.teacher, "2") is None
    (tmp_path / f"{config.teacher}-1" / "complete").unlink()
    assert fetched_model(tmp_path, config.teacher, "1") is None, "half fetched is not fetched"


def test_a_teacher_that_is_not_there_is_told_with_a_remedy(world: World, tmp_path) -> None:
    with pytest.raises(RecipeError, match="no champion of nobody to learn from") as told:
        find_teacher(DistillationConfig(teacher="nobody"), world.tracker, tmp_path)
    assert "Train the teacher first" in told.value.remedy
    with pytest.raises(RecipeError, match="nobody version 3 cannot be read"):
        find_teacher(DistillationConfig(teacher="nobody", version=3), world.tracker, tmp_path)


def test_a_version_carries_what_its_teacher_was_trained_on(world: World, tmp_path) -> None:
    from tests.tasks.mlflow_fixtures import make_model

    test = rows_of(world, "test")["text"].to_pylist()
    model = make_model(world.store, world.tokens, nudge=0.25, taught=[text_hash(test[0])])
    world.tracker.set_tags({"noisefold.teacher": "large/1"})
    registered = world.register(model, world.evaluate(model))
    folder = fetch_version(world.tracker.client, registered.name, registered.version, tmp_path)
    hashes = np.load(folder / "artifacts" / "train_texts.npy", allow_pickle=False)
    assert (
        text_hash(test[0]) in hashes
        and text_hash(rows_of(world, "train")["text"][0].as_py()) in hashes
    )
    version = world.tracker.client.get_model_version(registered.name, registered.version)
    assert lineage_of(version)["teacher"] == "large/1"
