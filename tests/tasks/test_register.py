"""Registration: one version per model whatever happens in between, self-contained, and readable."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import lightning_modules
from data_contracts.contract.scripts import script_of
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.kinds.heads import head_class
from lightning_modules.shipping import shipped_files
from tasks.register import Shown, build_model_folder, check_model_folder, quiet_mlflow, signature
from tasks.reports.model_card import Subject, example_rows, model_card
from tasks.serving.check import inspect
from tasks.tokenize import TRAIN_TEXTS
from tasks.tracking.bookkeeping import lineage_of, of_run

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]


def versions(world: World) -> list:
    return world.tracker.client.search_model_versions(f"name = '{world.recipe.model_name}'")


def logged_models(world: World) -> list:
    return world.tracker.client.search_logged_models([world.tracker.experiment_id])


def download(world: World, uri: str, folder: Path) -> Path:
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))


def test_version_carries_lineage_card_signature_and_example(
    world: World, capfd: pytest.CaptureFixture
) -> None:
    model = world.model()
    report = world.evaluate(model)
    registered = world.register(model, report)
    out, err = capfd.readouterr()
    assert (out, err) == ("", ""), "no chatter"
    assert registered.created
    assert registered.model_uri == f"models:/{world.recipe.model_name}/{registered.version}"
    assert registered.digest == model.digest, (
        "without a temperature the served bundle is the trained one"
    )
    version = world.tracker.client.get_model_version(registered.name, registered.version)
    assert version.run_id == world.tracker.run_id
    expected = {
        "bundle_digest": model.digest,
        "data_digest": world.corpus.digest,
        "contract": "toy v1",
        "tokenizer_digest": world.tokens.tokenizer_digest,
        "recipe": world.recipe.name,
        "git_commit": "0" * 40,
        "prefect_flow_run_id": "flow-run-1",
    }
    assert expected.items() <= lineage_of(version).items()
    assert version.tags["noisefold.digest"] == registered.digest
    assert "macro-F1" in version.description
    assert "没有意见" in version.description
    info = mlflow.models.get_model_info(registered.model_uri)
    assert info.signature.inputs.input_names() == ["text"]
    assert info.signature.outputs.input_names() == [
        "label",
        *(f"probability_{label}" for label in world.tokens.facts["labels"]),
    ]
    example = info.saved_input_example_info
    assert example is not None
    run = world.tracker.client.get_run(world.tracker.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [info.model_id]
    assert of_run(run)["noisefold.model_version"] == registered.version


def test_model_folder_is_small_whole_and_free_of_pickles_and_local_paths(
    world: World, tmp_path: Path
) -> None:
    model = world.model()
    registered = world.register(model, world.evaluate(model))
    folder = download(world, registered.model_uri, tmp_path)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    house = Path(lightning_modules.__file__).parent.parent
    served = {f"code/{file.relative_to(house).as_posix()}" for file in shipped_files("classify")}
    assert served == {name for name in files if name.startswith("code/")}
    assert {"pyfunc.py", "artifacts/bundle/model.safetensors", "artifacts/train_texts.npy"} <= files
    assert not [
        name for name in files if re.search(r"\.(pkl|pickle|pt|pth|bin|ckpt|joblib)$", name)
    ]
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".safetensors", ".npy"):
            assert "/tmp/" not in path.read_text(), path.name
    requirements = (folder / "requirements.txt").read_text().split()
    packages = ("mlflow-skinny", "torch", "tokenizers", "safetensors", "numpy", "pandas")
    assert requirements == [f"{p}=={installed(p).split('+')[0]}" for p in packages]
    inspect(folder, registered.digest)  # what is registered is what is let live
    shipped = np.load(folder / "artifacts" / "train_texts.npy", allow_pickle=False)
    assert shipped.dtype == np.uint64
    assert len(shipped) == world.tokens.splits["train"]
    assert (np.diff(shipped.astype(object)) > 0).all()


def test_loaded_model_predicts_what_the_bundle_predicts(world: World) -> None:
    model = world.model()
    report = world.evaluate(model, calibrate=True)
    registered = world.register(model, report)
    assert registered.digest != model.digest, "a temperature makes another served model"
    texts = ["great lovely fast", "太差了，不推荐", "parcel arrived monday", "非常好" * 40]
    answer = mlflow.pyfunc.load_model(registered.model_uri).predict(pd.DataFrame({"text": texts}))
    bundle = Bundle.load(world.store.open(model) / "bundle")
    bundle.facts["temperature"] = report.facts["temperature"]
    proba = predict_proba(bundle, texts)
    columns = [f"probability_{label}" for label in world.tokens.facts["labels"]]
    assert np.abs(answer[columns].to_numpy() - proba).max() < 1e-12
    assert answer["label"].tolist() == [
        world.tokens.facts["labels"][i] for i in proba.argmax(axis=1)
    ]
    assert answer["label"].tolist() == ["positive", "negative", "没有意见", "positive"]


def test_same_digest_finds_the_version_that_is_there(world: World) -> None:
    model = world.model()
    report = world.evaluate(model)
    first, again = (world.register(model, report) for _ in range(2))
    assert (first.created, again.created) == (True, False)
    assert first.version == again.version
    other_run = world.with_recipe(promotion={"margin": 0.02})
    assert other_run.tracker.run_id != world.tracker.run_id
    assert not other_run.register(model, report).created
    assert len(versions(world)) == len(logged_models(world)) == 1
    nudged = world.model(nudge=0.5)
    assert world.register(nudged, world.evaluate(nudged)).version == "2"


@pytest.mark.parametrize(
    "step", ["log_model_artifacts", "finalize_logged_model", "create_model_version"]
)
def test_attempt_that_died_is_completed_without_a_second_model(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    model = world.model()
    report = world.evaluate(model)

    def die(*args: object, **kwargs: object) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(world.tracker.client, step, die)
        with pytest.raises(ConnectionError):
            world.register(model, report)
    assert versions(world) == []
    assert world.register(model, report).created
    assert len(versions(world)) == len(logged_models(world)) == 1
    assert str(logged_models(world)[0].status) == "READY"


def test_attempt_that_died_after_the_version_finds_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = world.model()
    report = world.evaluate(model)
    with monkeypatch.context() as patch:
        patch.setattr(
            world.tracker, "set_tags", lambda tags: (_ for _ in ()).throw(ConnectionError("gone"))
        )
        with pytest.raises(ConnectionError):
            world.register(model, report)
    again = world.register(model, report)
    assert not again.created
    assert len(versions(world)) == 1


def test_folder_with_a_possible_pickle_is_refused(world: World, tmp_path: Path) -> None:
    bundle = world.store.open(world.model()) / "bundle"
    logged = world.tracker.client.create_logged_model(world.tracker.experiment_id, name="m")
    folder = tmp_path / "model"
    with quiet_mlflow():
        build_model_folder(
            folder,
            bundle,
            np.load(world.store.open(world.tokens) / TRAIN_TEXTS, allow_pickle=False),
            Shown(
                "name",
                "text",
                "card",
                [{"text": "a"}],
                signature(world.recipe.task, world.tokens.facts),
                {},
            ),
            world.tracker.run_id,
            logged,
        )
    check_model_folder(folder)
    for name in ("python_model.pkl", "weights.bin", "code/x.PT"):
        (folder / name).write_bytes(b"")
        with pytest.raises(ValueError, match=re.escape(name)):
            check_model_folder(folder)
        (folder / name).unlink()
    weights = folder / "artifacts" / "bundle" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match="changed"):
        check_model_folder(folder)


def test_card_shows_hostile_text_as_text(world: World) -> None:
    model = world.model()
    hostile = "<img src=x onerror=alert(1)> | [click](javascript:alert(1)) ```\n# Heading"
    facts = {"contract": hostile, "note": hostile}
    made = Subject(model, world.tokens, world.corpus, world.evaluate(model))
    examples = [{"text": hostile}, {"text": "\x1b[31mred"}]
    card = model_card(made, world.recipe, facts, examples)
    assert "<img" not in card.replace("\\<img", "")
    assert "\n# Heading" not in card
    assert "](javascript" not in card.replace("\\](javascript", "")
    assert "\x1b" not in card
    assert card.count("```") == 2, "the usage block alone"


def test_example_rows_show_each_script_of_the_data(world: World) -> None:
    head = head_class("classify")
    rows = example_rows(world.store.open(world.corpus) / "corpus", head, world.tokens.facts)
    texts = [row["text"] for row in rows]
    assert {script_of(text) for text in texts} == {"Latin", "Han"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["fine", 5], r"Row 1 \(from 0\): a int, not a text"),
        (pd.DataFrame({"txt": ["a"]}), "column named text is needed; found: txt"),
        ("one bare string", "list of strings"),
    ],
)
def test_bad_input_is_refused_with_its_row(given: object, message: str) -> None:
    from tasks.serving.pyfunc import read_columns

    with pytest.raises(MlflowException, match=message) as caught:
        read_columns(given, ("text",))
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    "given",
    [
        pd.DataFrame({"text": ["great", None, "太差"]}),
        pd.DataFrame({"text": ["great", "  \r\n", "太差"]}),
        ["great", "", "太差"],
        pd.Series(["great", float("nan"), "太差"], dtype=object),
        pd.DataFrame({"text": pd.array(["great", pd.NA, "太差"], dtype="string")}),
    ],
)
def test_a_text_that_is_missing_or_empty_refuses_its_own_row(world: World, given: Any) -> None:
    from tasks.serving.pyfunc import TextModel

    served = TextModel()
    served.bundle = Bundle.load(world.store.open(world.model()) / "bundle")
    plain, found = served.predict(None, ["great", "太差"]), served.predict(None, given)
    assert found.iloc[1].to_list() == [None] * 4, "null, and no NaN, which JSON does not know"
    whole = found.iloc[[0, 2]].reset_index(drop=True).infer_objects()
    pd.testing.assert_frame_equal(whole.astype(plain.dtypes), plain, check_exact=False)
    records = json.loads(json.dumps(found.to_dict("records"), allow_nan=False))
    assert records[1]["label"] is None
    assert served.predict(None, ["", None]).isna().all(axis=None)


def test_half_a_surrogate_pair_is_read_as_in_training(world: World) -> None:
    from tasks.serving.pyfunc import read_texts

    assert read_texts(["good \ud83d"], "text") == ["good \ufffd"]


def test_list_of_strings_is_as_good_as_a_frame(world: World) -> None:
    from tasks.serving.pyfunc import TextModel

    served = TextModel()
    served.bundle = Bundle.load(world.store.open(world.model()) / "bundle")
    texts = ["great", "太差"]
    frame = pd.DataFrame({"text": texts})
    pd.testing.assert_frame_equal(served.predict(None, texts), served.predict(None, frame))
    assert served.predict(None, []).shape == (0, 4)


def test_served_code_is_the_code_that_was_tested(world: World, tmp_path: Path) -> None:
    """The copies in the model folder are byte for byte the repository's files."""
    model = world.model()
    folder = download(world, world.register(model, world.evaluate(model)).model_uri, tmp_path)
    root = Path(__file__).resolve().parents[2]
    pairs = [(p, root / p.relative_to(folder / "code")) for p in (folder / "code").rglob("*.py")]
    for copy, original in [
        *pairs,
        (folder / "pyfunc.py", root / "tasks" / "serving" / "pyfunc.py"),
    ]:
        assert (
            hashlib.sha256(copy.read_bytes()).digest()
            == hashlib.sha256(original.read_bytes()).digest()
        )
