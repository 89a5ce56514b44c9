"""A retrain of a pretrained backbone, from validated corpus to a model that predicts far from all
of this.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from data_contracts.errors import RecipeError
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.tokenizer import FileTokenizer
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import predict_proba
from tasks.tracking.runs import open_tracker
from tests.stages import run_of, tokenize_corpus, train_model

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]

TEXTS = ["great lovely fast", "太差了，不推荐", "parcel arrived monday", "非常好" * 40]

# What a server has: these packages, no network, and of this repository what lies beside the model.
PREDICT = """
import json, socket, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pytorch_lightning", "mlflow", "prefect", "pyarrow", "data_contracts"):
            raise ModuleNotFoundError(name)

def refuse(*args, **kwargs):
    raise AssertionError("something asked for the network")

sys.meta_path.insert(0, Absent())
socket.socket.connect = socket.getaddrinfo = refuse
folder = sys.argv[1]
sys.path.insert(0, folder + "/code")
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import predict_proba
bundle = Bundle.load(folder + "/artifacts/bundle")
proba = predict_proba(bundle, json.loads(sys.argv[2]))
print(json.dumps([bundle.facts["labels"], proba.tolist()]))
"""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers of 32 and its tokenizer, by character."""
    folder = tmp_path_factory.mktemp("backbone")
    characters = "abcdefghijklmnopqrstuvwxyz0123456789，太差了不推荐非常好我喜欢今天收到货物第条"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(characters)]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=24,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def make_recipe(name: str, folder: Path) -> Recipe:
    data = {
        "name": name,
        "source": {"kind": "sample"},
        "window": {"max_length": 24, "overlap": 4},
        "model": {"encoder": {"path": str(folder)}, "reparameterization": {"kind": "none"}},
        "training": {"max_epochs": 2, "learning_rate": 0.003, "batch_size": 16},
    }
    return parse_recipe(data, origin="test")


@pytest.mark.slow
def test_a_fine_tuned_backbone_is_registered_whole_and_predicts_alone(
    world: World, backbone: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(backbone, tmp_path / "own")
    recipe = make_recipe(world.recipe.name, own)
    assert isinstance(recipe.tokenizer, FileTokenizer)
    tokens = tokenize_corpus(world.corpus, recipe.tokenizer, world.store, recipe.window).manifest
    assert (tokens.windowing.prefix_ids, tokens.windowing.suffix_ids) == ((2,), (3,))
    world = replace(world, tokens=tokens, recipe=recipe)
    run = run_of(world.store, recipe, tracker=world.tracker)
    model = train_model(tokens, run).manifest
    report = world.evaluate(model)
    assert report.metrics["test/accuracy"].value > 0.5, "three classes of one size"
    registered = world.register(model, report)

    moved = make_recipe(recipe.name, backbone)
    assert train_model(tokens, run_of(world.store, moved, tracker=world.tracker)).cached, (
        "the same bytes elsewhere are the same backbone"
    )
    shutil.rmtree(own)
    expected = predict_proba(Bundle.load(world.store.open(model) / "bundle"), TEXTS)
    folder = Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=registered.model_uri, dst_path=str(tmp_path / "m")
        )
    )
    assert (
        f"transformers=={transformers.__version__}"
        in (folder / "requirements.txt").read_text().split()
    )
    command = [sys.executable, "-P", "-c", PREDICT, str(folder), json.dumps(TEXTS)]
    done = subprocess.run(
        command, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    labels, proba = json.loads(done.stdout)
    assert labels == tokens.facts["labels"]
    assert np.abs(np.array(proba) - expected).max() < 1e-6


def test_another_backbone_in_the_same_place_is_another_run(
    world: World, backbone: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(backbone, tmp_path / "own")
    runs = []
    for changed in (False, False, True):
        if changed:
            state = load_file(own / "model.safetensors")
            state[min(state)] += 1
            save_file(state, own / "model.safetensors", {"format": "pt"})
        recipe = make_recipe(world.recipe.name, own)
        runs.append(open_tracker(world.settings, recipe, "fingerprint", {}).run_id)
    assert runs[0] == runs[1] != runs[2]
    elsewhere = shutil.copytree(own, tmp_path / "elsewhere")
    assert (
        open_tracker(
            world.settings, make_recipe(world.recipe.name, elsewhere), "fingerprint", {}
        ).run_id
        == runs[2]
    )
    with (elsewhere / "tokenizer.json").open("a") as file:
        file.write("\n")
    changed = open_tracker(
        world.settings, make_recipe(world.recipe.name, elsewhere), "fingerprint", {}
    )
    assert changed.run_id not in runs, "another tokenizer in the same place is another run as well"
    (own / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"no \*\.safetensors"):
        open_tracker(world.settings, make_recipe(world.recipe.name, own), "fingerprint", {})
