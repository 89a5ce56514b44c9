"""Nothing from outside is unpickled or run: by the source of the four packages, and by files that
would show it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from data_contracts.errors import NoisefoldError
from data_contracts.recipe.reading import load_recipe
from lightning_modules.bundle import Bundle, BundleError, save_bundle
from lightning_modules.network.network import build_network
from lightning_modules.network.windows import Windowing
from lightning_modules.training.checkpoints import Checkpoints
from tasks.serving.check import Unservable, inspect
from tests.lightning_modules.conftest import WORDS, make_tokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "tasks", "lightning_modules", "data_contracts")
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
CALLS = {
    "eval",
    "exec",
    "read_pickle",
    "full_load",
    "unsafe_load",
    "system",
    "popen",
    "set_default_tensor_type",
}


def faults(tree: ast.AST) -> list[str]:
    """Calls and imports through which bytes become code."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            found += [
                f"line {node.lineno}: import {n}" for n in names if n.split(".")[0] in MODULES
            ]
        if not isinstance(node, ast.Call):
            continue
        name, of = name_of(node.func)
        options = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if (
            (name in CALLS and not (name == "eval" and of))
            or options.get("shell")
            or options.get("trust_remote_code")
        ):
            found.append(f"line {node.lineno}: {of}.{name}")
        if (of, name) == ("torch", "load") and options.get("weights_only") is not True:
            found.append(f"line {node.lineno}: torch.load without weights_only=True")
        if (of, name) in {("np", "load"), ("numpy", "load")} and options.get(
            "allow_pickle"
        ) is not False:
            found.append(f"line {node.lineno}: np.load without allow_pickle=False")
        if of == "yaml" and name in {"load", "load_all"}:
            found.append(f"line {node.lineno}: yaml.{name}")
        if (
            name == "fit"
            and "ckpt_path" in {k.arg for k in node.keywords}
            and options.get("weights_only") is not True
        ):
            found.append(f"line {node.lineno}: fit without weights_only=True")
        if (
            name == "from_pretrained"
            and of == "AutoModel"
            and options.get("use_safetensors") is not True
        ):
            found.append(f"line {node.lineno}: from_pretrained without use_safetensors=True")
    return found


def name_of(function: ast.expr) -> tuple[str, str]:
    if isinstance(function, ast.Attribute):
        return function.attr, function.value.id if isinstance(function.value, ast.Name) else "…"
    return (function.id, "") if isinstance(function, ast.Name) else ("", "")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_source_reads_a_pickle_or_runs_a_text(package: str) -> None:
    found = {
        str(file.relative_to(REPOSITORY)): faults(ast.parse(file.read_text(encoding="utf-8")))
        for file in (REPOSITORY / package).rglob("*.py")
    }
    assert found
    assert {file: what for file, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "torch.load(p)", "np.load(p)", "yaml.load(t, Loader=L)", "eval(t)",
     "subprocess.run(c, shell=True)", "t.fit(m, ckpt_path=p)", "yaml.unsafe_load(t)", "pd.read_pickle(p)"],
)  # fmt: skip
def test_the_scan_sees_what_it_looks_for(source: str) -> None:
    assert faults(ast.parse(source))


class Canary:
    """Unpickled, it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.fixture
def canary(tmp_path: Path):
    file = tmp_path / "canary"
    yield Canary(file)
    assert not file.exists(), "something was unpickled"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    encoder = {"kind": "tanh", "hidden_size": 4}
    network = build_network(
        {"vocab_size": 45, "embedding_dim": 4, "encoder": encoder, "num_classes": 2}
    )
    settings = {
        "tokenizer_json": make_tokenizer(WORDS),
        "facts": {"labels": ["a", "b"], "temperature": 1.0},
        "windowing": Windowing(12, 3),
    }
    save_bundle(tmp_path / "model" / "artifacts" / "bundle", network, **settings)
    return tmp_path / "model" / "artifacts" / "bundle"


def test_the_canary_sings_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "sung")))
    assert (tmp_path / "sung").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "bundle.json"])
def test_a_pickle_in_a_bundle_s_place_is_refused(bundle: Path, canary: Canary, name: str) -> None:
    for payload in (pickle.dumps(canary), torch_file(bundle.parent / "x.pt", canary)):
        (bundle / name).write_bytes(payload)
        facts = json.loads((bundle / "bundle.json").read_text()) if name != "bundle.json" else None
        if facts is not None:  # with digests that fit, as an attacker would have them
            facts["weights_sha256" if name.startswith("model") else "tokenizer_sha256"] = sha256(
                payload
            )
            seal(bundle, facts)
        with pytest.raises(BundleError):
            Bundle.load(bundle)


def torch_file(path: Path, content: object) -> bytes:
    torch.save(content, path)
    return path.read_bytes()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def seal(bundle: Path, facts: dict) -> None:
    """Write a description with the digest that its content has."""
    stated = {k: v for k, v in facts.items() if k not in ("digest", "meta")}
    text = json.dumps(stated, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    (bundle / "bundle.json").write_text(json.dumps({**facts, "digest": sha256(text.encode())}))


def test_a_hostile_checkpoint_is_set_aside_with_a_note(tmp_path: Path, canary: Canary) -> None:
    folder, notes = tmp_path / "checkpoints", []
    checkpoints = Checkpoints(folder, 1, "identity", recorder=None)  # type: ignore[arg-type]
    payload = torch_file(tmp_path / "x.pt", {"noisefold": canary})
    file = folder / f"step-000000005-{sha256(payload)[:16]}.ckpt"
    for data in (payload, pickle.dumps(canary)):
        file = folder / f"step-000000005-{sha256(data)[:16]}.ckpt"
        file.write_bytes(data)
        assert checkpoints.latest(notes.append) is None
        assert file.with_suffix(".damaged").exists() and not file.exists()
    assert len(notes) == 2 and all("set aside" in note["message"] for note in notes)


def test_an_object_array_in_a_model_is_refused(bundle: Path, canary: Canary) -> None:
    from tasks.serving.fetched import fetch_champion

    np.save(bundle.parent / "train_texts.npy", np.array([canary], dtype=object), allow_pickle=True)

    class Registry:
        tracking_uri = "unused"

        def get_model_version_download_uri(self, *_: str) -> str:
            return str(bundle.parent.parent)

        def get_model_version(self, *_: str):
            return type("Version", (), {"tags": {}})

    tracker = type("Tracker", (), {"client": Registry()})
    with pytest.raises(Unservable, match="pickle"):
        fetch_champion("m", "1", tracker, bundle.parents[2] / "fetched")  # type: ignore[arg-type]


OURS = {
    "loader_module": "mlflow.pyfunc.loaders.code_model",
    "model_code_path": "pyfunc.py",
    "code": "code",
    "artifacts": {
        name: {"path": path, "uri": path}
        for name, path in {
            "bundle": "artifacts/bundle",
            "train_texts": "artifacts/train_texts.npy",
            "model_card": "artifacts/MODEL_CARD.md",
        }.items()
    },
    "cloudpickle_version": "3.1.2",
    "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    "python_version": "3.11.7",
    "streamable": False,
}


@pytest.mark.parametrize(
    "change",
    [
        {"loader_module": "mlflow.sklearn"},
        {"loader_module": "mlflow.pyfunc.model"},
        {"loader_module": None},
        {"python_model": "python_model.dat"},
        {"model_code_path": "../../elsewhere.py"},
        {"model_code_path": "absent.py"},
        {"model_code_path": "code/pyfunc.py"},
        {"artifacts": {"bundle": {"path": "../other", "uri": "x"}}},
        {"artifacts": {**OURS["artifacts"], "more": {"path": "artifacts/more", "uri": "x"}}},
        {"code": "../code"},
        {"code": None},
        {"data": "data"},
        {"config": {"bundle": "../other"}},
    ],
)
def test_a_version_that_asks_for_another_loader_is_refused(bundle: Path, change: dict) -> None:
    model = bundle.parent.parent
    (model / "pyfunc.py").write_text("")
    (model / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": OURS}}))
    inspect(model, None)
    (model / "MLmodel").write_text(
        yaml.safe_dump({"flavors": {"python_function": {**OURS, **change}}})
    )
    with pytest.raises(Unservable, match="another way"):
        inspect(model, None)


def test_a_version_with_a_second_flavor_or_an_unreadable_mlmodel_or_a_link_is_refused(
    bundle: Path,
) -> None:
    model = bundle.parent.parent
    (model / "pyfunc.py").write_text("")
    (model / "MLmodel").write_text(
        yaml.safe_dump({"flavors": {"python_function": OURS, "sklearn": {}}})
    )
    with pytest.raises(Unservable, match=r"another way .*flavor sklearn"):
        inspect(model, None)
    for text in (
        "flavors: [",
        "flavors: {}",
        "[]",
        yaml.safe_dump({"flavors": {"python_function": "text"}}),
    ):
        (model / "MLmodel").write_text(text)
        with pytest.raises(Unservable, match="MLmodel cannot be read"):
            inspect(model, None)
    (model / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": OURS}}))
    (model / "code").symlink_to("/etc")
    with pytest.raises(Unservable, match="code is a link"):
        inspect(model, None)


@pytest.mark.parametrize(
    "name", ["python_model.pkl", "data/model.joblib", "weights.pt", "code/x.pickle"]
)
def test_a_version_with_a_file_that_may_be_a_pickle_is_refused(
    bundle: Path, canary: Canary, name: str
) -> None:
    file = bundle.parent.parent / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps(canary))
    with pytest.raises(Unservable, match="pickles"):
        inspect(bundle.parent.parent, None)


def test_a_version_with_another_bundle_than_was_registered_is_refused(bundle: Path) -> None:
    digest = json.loads((bundle / "bundle.json").read_text())["digest"]
    inspect(bundle.parent.parent, digest)
    with pytest.raises(Unservable, match="not the one that was registered"):
        inspect(bundle.parent.parent, "0" * 64)
    with pytest.raises(BundleError, match="not the bundle of digest"):
        Bundle.load(bundle, "0" * 64)


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.mkdir ['{}']", "!!python/name:os.system", "!!python/module:os"],
)
def test_yaml_tags_build_nothing(tmp_path: Path, canary: Canary, tag: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("name: " + tag.format(canary.file))
    with pytest.raises(NoisefoldError, match="constructor"):
        load_recipe(file)


def test_a_python_extension_type_in_parquet_is_not_unpickled(
    tmp_path: Path, canary: Canary
) -> None:
    """CVE-2023-47248: older versions of Arrow unpickled a type from the metadata of a column."""
    from data_contracts.tables.batch import Ask
    from data_contracts.tables.read import read_batches

    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(canary),
    }
    schema = pa.schema([pa.field("text", pa.string(), metadata=metadata), ("label", pa.string())])
    pq.write_table(pa.table([["a"], ["b"]], schema=schema), tmp_path / "x.parquet")
    with (tmp_path / "x.parquet").open("rb") as stream:
        ask = Ask(columns=["text", "label"], texts=["text"])
        rows = list(read_batches(stream, "x.parquet", ask, format="parquet"))
    assert rows[0].columns["text"].to_pylist() == ["a"]


def test_a_backbone_with_a_pickle_alone_is_refused(tmp_path: Path, canary: Canary) -> None:
    from data_contracts.recipe.files import digest

    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    shutil.copyfile(
        _written(tmp_path / "p", pickle.dumps(canary)), tmp_path / "backbone" / "pytorch_model.bin"
    )
    with pytest.raises(NoisefoldError, match="may hold a pickle"):
        digest(str(tmp_path / "backbone"))


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
