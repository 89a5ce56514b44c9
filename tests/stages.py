"""Single stages without a flow, each by what it takes: sections of a recipe, manifests, a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from data_contracts.artifacts import (
    EvaluationReport,
    FetchedModel,
    Lessons,
    Measurement,
    RawCorpus,
    RegisteredModel,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.contract.contract import DataContract
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import ExecutionConfig
from data_contracts.recipe.tokenizer import WindowConfig
from data_contracts.results import PromotionDecision
from tasks.artifacts.store import ArtifactStore, Outcome
from tasks.evaluate import evaluate
from tasks.ingest import ingest, survey
from tasks.measure import measure
from tasks.settings import Settings
from tasks.stage import RunContext
from tasks.teach import teach
from tasks.tokenize import tokenize
from tasks.tracking.runs import Tracker
from tasks.train import train
from tasks.validate import validate


def run_of(
    store: ArtifactStore,
    recipe: Recipe | None = None,
    *,
    tracker: Tracker | None = None,
    settings: Settings | None = None,
    **sections: Any,
) -> RunContext:
    """A run of the default recipe, or of the given one, with these sections in place of its own."""
    recipe = (recipe or Recipe()).model_copy(update=sections)
    return RunContext(recipe, settings or Settings(), store, cast(Tracker, tracker))


def in_batches(rows: int) -> ExecutionConfig:
    """Batches smaller than a recipe may ask for, so that a few rows are several of them."""
    return ExecutionConfig().model_copy(update={"batch_rows": rows})


def ingest_source(
    source: Any,
    contract: DataContract,
    fingerprint: str | None,
    store: ArtifactStore,
    *,
    batch_rows: int,
) -> Outcome[RawCorpus]:
    snapshot = survey(source)
    if fingerprint is not None:
        snapshot = snapshot.model_copy(update={"fingerprint": fingerprint})
    execution = in_batches(batch_rows)
    run = run_of(store, source=source, contract=contract, execution=execution)
    return ingest.make(run, snapshot)


def validate_corpus(
    raw: RawCorpus, contract: DataContract, store: ArtifactStore, *, batch_rows: int
) -> Outcome[ValidatedCorpus]:
    execution = in_batches(batch_rows)
    return validate.make(run_of(store, contract=contract, execution=execution), raw)


def tokenize_corpus(
    corpus: ValidatedCorpus, config: Any, store: ArtifactStore, window: WindowConfig | None = None
) -> Outcome[TokenDataset]:
    run = run_of(store, tokenizer=config, window=window or WindowConfig())
    return tokenize.make(run, corpus)


def teach_corpus(
    corpus: ValidatedCorpus, config: Any, teacher: FetchedModel, store: ArtifactStore
) -> Outcome[Lessons]:
    return teach.make(run_of(store, distillation=config), corpus, teacher)


def train_model(
    tokens: TokenDataset,
    run: RunContext,
    start: FetchedModel | None = None,
) -> Outcome[TrainedModel]:
    return train.make(run, tokens, start)


def evaluate_model(
    model: TrainedModel,
    tokens: TokenDataset,
    corpus: ValidatedCorpus,
    store: ArtifactStore,
    **sections: Any,
) -> Outcome[EvaluationReport]:
    """`sections`: `statistics`, `task`."""
    return evaluate.make(run_of(store, **sections), model, tokens, corpus)


def measure_model(
    model: TrainedModel, corpus: ValidatedCorpus, store: ArtifactStore
) -> Outcome[Measurement]:
    return measure.make(run_of(store), model, corpus)


def fetched(bundle: Path, name: str = "teacher", version: str = "1") -> FetchedModel:
    """A bundle as if it had been fetched from the registry."""
    from upath import UPath

    from tasks.artifacts.store import hash_file

    digest = hash_file(UPath(bundle / "bundle.json")).sha256
    return FetchedModel(name=name, version=version, bundle=bundle, digest=digest)


def fingerprint(source: Any) -> str:
    return survey(source).fingerprint


def release_run(
    recipe: Recipe,
    store: ArtifactStore,
    tracker: Tracker,
    *made: Any,
    ledger: Path | None = None,
    lineage: dict[str, str] | None = None,
) -> RunContext:
    """A run that has made these manifests, with its ledger in a folder of the test's."""
    home = {"home": ledger.parent} if ledger is not None else {}
    settings = Settings.model_construct(artifacts=None, mlflow_tracking_uri=None, **home)
    run = RunContext(recipe, settings, store, tracker, lineage or {})
    for manifest in made:
        run.made.add(manifest)
    return run


def promote_model(
    registered: RegisteredModel,
    *made: Any,
    recipe: Recipe,
    store: ArtifactStore,
    tracker: Tracker,
    ledger: Path,
    moves_aliases: bool = True,
) -> PromotionDecision:
    """Promote a version of these manifests."""
    from tasks import promote

    run = release_run(recipe, store, tracker, *made, ledger=ledger)
    run.moves_aliases = moves_aliases
    return promote.promote_model(run, registered)
