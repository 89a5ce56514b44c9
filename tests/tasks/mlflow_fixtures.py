"""A debug-sized world that has passed validation and tokenization, models of chosen quality, and
one MLflow store.

Creating the SQLite store takes seconds, so the whole session shares it; each test has a recipe
name, and with it an experiment, a run and a registered model, of its own. Load it with
`pytest_plugins = ["tests.tasks.mlflow_fixtures"]`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data_contracts.artifacts import (
    EvaluationReport,
    RegisteredModel,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.recipe.tokenizer import WindowConfig, WordTokenizer
from lightning_modules.bundle import save_bundle
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.network.tokenizer import load_tokenizer
from lightning_modules.network.windows import Windowing
from tasks.artifacts.store import ArtifactStore, RowDigest, Workspace, digest_of
from tasks.settings import Settings
from tasks.tokenize import SEEN_TEXTS, TRAIN_TEXTS
from tasks.tracking.runs import Tracker, open_tracker
from tests.stages import evaluate_model, release_run, tokenize_corpus

with warnings.catch_warnings():
    # MLflow warns of its own classes' type hints while it is imported.
    warnings.filterwarnings("ignore", message=".*type hint", category=UserWarning)
    import mlflow.pyfunc  # noqa: F401

LABELS = ("negative", "positive", "没有意见")
_WORDS = {
    "negative": (["awful", "broken", "slow", "ugly"], "太差了不推荐"),
    "positive": (["great", "lovely", "fast", "pretty"], "非常好我喜欢"),
    "没有意见": (["arrived", "monday", "parcel", "box"], "今天收到货物"),
}
_numbers = itertools.count()


@dataclass(frozen=True)
class World:
    """What stands behind evaluate, register and promote."""

    store: ArtifactStore
    settings: Settings
    corpus: ValidatedCorpus
    tokens: TokenDataset
    recipe: Recipe
    tracker: Tracker

    def model(self, *, quality: float = 1.0, nudge: float = 0.0) -> TrainedModel:
        """`quality` 1 is the trained network, 0 a decoder without weights; `nudge` gives the same
        model other bits.
        """
        return make_model(self.store, self.tokens, quality, nudge)

    def evaluate(self, model: TrainedModel, **config: Any) -> EvaluationReport:
        """`config`: options of the task."""
        sections = {"task": Classify(**config), "statistics": StatisticsConfig(samples=100)}
        return evaluate_model(model, self.tokens, self.corpus, self.store, **sections).manifest

    def register(
        self, model: TrainedModel, report: EvaluationReport, **lineage: str
    ) -> RegisteredModel:
        from tasks.register import register_model

        lineage = {"git_commit": "0" * 40, "prefect_flow_run_id": "flow-run-1", **lineage}
        made = (model, self.tokens, self.corpus, report)
        run = release_run(self.recipe, self.store, self.tracker, *made, lineage=lineage)
        return register_model(run, report)

    def with_recipe(self, **sections: Any) -> World:
        """The same world and registered model under another recipe, which means another MLflow run."""
        data = self.recipe.model_dump(mode="json") | sections
        recipe = parse_recipe(data, origin="test")
        return replace(
            self, recipe=recipe, tracker=open_tracker(self.settings, recipe, "fingerprint", {})
        )


@pytest.fixture(scope="session")
def mlflow_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    # model_construct: what the environment of the person at the keyboard says must not reach the
    # tests.
    return Settings.model_construct(
        home=tmp_path_factory.mktemp("home"), artifacts=None, mlflow_tracking_uri=None
    )


@pytest.fixture(scope="session")
def artifacts(mlflow_settings: Settings) -> tuple[ArtifactStore, ValidatedCorpus, TokenDataset]:
    store = ArtifactStore(mlflow_settings.artifacts_url, mlflow_settings.work)
    corpus = make_corpus(store)
    config = WordTokenizer(vocab_size=200, min_frequency=1)
    window = WindowConfig(max_length=16, overlap=4)
    return store, corpus, tokenize_corpus(corpus, config, store, window).manifest


@pytest.fixture
def world(mlflow_settings: Settings, artifacts: tuple) -> World:
    """A recipe name of its own, so that tests share no run, experiment or registered model."""
    store, corpus, tokens = artifacts
    recipe = make_recipe(f"test-{next(_numbers)}")
    return World(
        store,
        mlflow_settings,
        corpus,
        tokens,
        recipe,
        open_tracker(mlflow_settings, recipe, "fingerprint", {}),
    )


def make_recipe(name: str, **sections: Any) -> Recipe:
    data = {
        "name": name,
        "source": {"kind": "sample"},
        "tokenizer": {"kind": "word", "vocab_size": 200},
        "window": {"max_length": 16, "overlap": 4},
    }
    return parse_recipe({**data, **sections}, origin="test")


def make_rows(rows: int = 600, seed: int = 0, noise: float = 0.08) -> pa.Table:
    """English and Chinese in turns; a share of the labels is wrong, so that no model is perfect."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[str]] = {
        name: [] for name in ("id", "text", "label", "split", "language")
    }
    for number in range(rows):
        label = LABELS[number % 3]
        words, characters = _WORDS[label]
        chinese = number % 2 == 1
        repeat = 30 if number % 50 == 7 else 4  # now and then several windows
        text = (
            "".join(rng.choice(list(characters), repeat))
            if chinese
            else " ".join(rng.choice(words, repeat))
        )
        text += f"，第{number}条" if chinese else f" item {number}"
        columns["id"].append(f"row-{number}")
        columns["text"].append(text)
        columns["label"].append(LABELS[rng.integers(3)] if rng.random() < noise else label)
        columns["split"].append(
            "train" if number < rows // 2 else ("valid" if number % 4 == 0 else "test")
        )
        columns["language"].append("zh" if chinese else "en")
    return pa.table(columns)


def make_corpus(
    store: ArtifactStore, table: pa.Table | None = None, name: str = "toy"
) -> ValidatedCorpus:
    table = make_rows() if table is None else table
    digest = RowDigest(["id", "text", "label", "split"])
    digest.update(table)

    def build(workspace: Workspace) -> dict[str, Any]:
        (workspace.out / "corpus").mkdir()
        half = table.num_rows // 2
        for part, piece in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(piece, workspace.out / "corpus" / f"part-{part:05d}.parquet")
        splits = table["split"].to_pylist()
        return {
            "digest": digest.hexdigest(),
            "rows_in": table.num_rows + 3,
            "rows_out": table.num_rows,
            "contract_name": name,
            "contract_version": 1,
            "facts": {"labels": sorted(set(table["label"].to_pylist()))},
            "splits": {split: splits.count(split) for split in ("train", "valid", "test")},
            "quarantined": {"text_empty": 3},
        }

    return store.once(
        ValidatedCorpus, inputs=[digest.hexdigest()], config={}, version=1, build=build
    ).manifest


def make_model(
    store: ArtifactStore,
    tokens: TokenDataset,
    quality: float = 1.0,
    nudge: float = 0.0,
    taught: Sequence[int] = (),
) -> TrainedModel:
    """`taught`: hashes of the texts that its teacher was trained on."""

    def build(workspace: Workspace) -> dict[str, Any]:
        folder = store.open(tokens)
        network = teach(folder, tokens)
        with torch.no_grad():
            network.head.decoder.weight.mul_(quality)
            network.head.decoder.bias.mul_(quality)
            network.embedding.weight[0].add_(
                nudge
            )  # the padding vector: other bits, and no other prediction
        digest = save_bundle(
            workspace.out / "bundle",
            network,
            tokenizer_json=(folder / "tokenizer.json").read_bytes(),
            facts={"labels": list(tokens.facts["labels"]), "temperature": 1.0},
            windowing=Windowing.of(tokens.windowing),
        )
        seen = np.load(folder / TRAIN_TEXTS, allow_pickle=False)
        seen = np.union1d(seen, np.array(taught, np.uint64))
        np.save(workspace.out / SEEN_TEXTS, seen, allow_pickle=False)
        return {
            "digest": digest,
            "taught_by": "a-teacher" if taught else None,
            "rows_in": tokens.windows["train"],
            "rows_out": tokens.windows["train"],
            "run_id": "f" * 32,
            "best_epoch": 1,
            "epochs": 1,
            "steps": 60,
            "monitor": "val/macro_f1",
            "validation": {"val/macro_f1": 0.9},
            "parameters": sum(p.numel() for p in network.parameters()),
        }

    key = digest_of(tokens.digest)
    return store.once(
        TrainedModel,
        inputs=[key],
        config={"quality": quality, "nudge": nudge, "taught": list(map(int, taught))},
        version=1,
        build=build,
    ).manifest


def teach(folder: Path, tokens: TokenDataset, steps: int = 60) -> TextNetwork:
    """A tanh network, trained for a second on the train windows."""
    table = pq.read_table(folder / "train.parquet")
    pad = load_tokenizer((folder / "tokenizer.json").read_bytes()).token_to_id("[PAD]")
    lengths = torch.tensor(table["length"].to_pylist())
    ids = torch.full((table.num_rows, int(lengths.max())), pad)
    for row, values in enumerate(table["input_ids"].to_pylist()):
        ids[row, : len(values)] = torch.tensor(values)
    labels = torch.tensor(table["label"].to_pylist())
    torch.manual_seed(0)
    sizes = {
        "vocab_size": tokens.vocab_size,
        "embedding_dim": 16,
        "num_classes": len(tokens.facts["labels"]),
    }
    network = build_network({**sizes, "encoder": {"kind": "tanh", "hidden_size": 16}})
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(ids, lengths), labels).backward()
        optimizer.step()
    return network
