"""A champion as an ONNX model: written, held to the champion, and served where there is no torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.conftest import refused, told

TEXTS = ["the parcel came late and wet", "很好，下次还来", "x" * 5000, "well " * 900]
# As on a server that has what the model asks for: torch is not there.
WITHOUT_TORCH = """
import importlib.abc, json, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("torch", "safetensors", "transformers"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import mlflow.pyfunc, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(pandas.DataFrame({"text": json.loads(sys.argv[2])})).to_json(double_precision=15))
"""


@pytest.fixture(scope="module")
def home(undisturbed, tmp_path_factory) -> Path:
    return shutil.copytree(undisturbed[1], tmp_path_factory.mktemp("export") / "home")


def served_without_torch(folder: Path) -> pd.DataFrame:
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_TORCH, str(folder), json.dumps(TEXTS)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return pd.DataFrame(json.loads(done.stdout)).reset_index(drop=True)


def test_an_exported_champion_answers_as_it_does_and_needs_no_torch(home, here, tmp_path):
    folder = tmp_path / "onnx"
    done = told(here(home, "export", "--onnx", "--output", folder, "--json"))
    assert done["same_answers"] == 1.0 and done["largest_difference"] <= 1e-5
    assert done["rows"] > 50 and done["precision"] == "fp32"
    lines = here(home, "predict", *TEXTS, "--json").stdout.splitlines()
    champion = [json.loads(line) for line in lines]
    exported = served_without_torch(folder)
    for row, answer in enumerate(champion):
        assert exported.loc[row, "label"] == answer["label"]
        for label, probability in answer["probabilities"].items():
            found = exported.loc[row, f"probability_{label}"]
            assert found == pytest.approx(probability, abs=1e-5)
    requirements = (folder / "requirements.txt").read_text()
    assert "onnxruntime==" in requirements and "torch" not in requirements

    refused(here(home, "export", "--output", folder), "is there already", "new folder")
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"], "nothing half-written beside it"


def test_eight_bits_are_smaller_and_tell_how_far_they_are_the_same(home, here, tmp_path):
    folder = tmp_path / "int8"
    done = here(home, "export", "--int8", "--output", folder)
    assert done.exit_code == 0, done.stderr
    assert "weights of 8 bits" in done.stdout and "have the same answer" in done.stdout
    assert len(served_without_torch(folder)) == len(TEXTS)
