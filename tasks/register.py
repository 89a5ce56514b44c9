"""register: the folded model as a version in the MLflow registry that needs nothing of this
repository.

The version's digest is that of the served bundle (weights, tokenizer, labels, temperature). It
stands as a tag on the logged model and on the version, so an attempt that died anywhere is taken up
where it stopped.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from prefect.client.schemas import State
from prefect.states import Completed

from data_contracts.artifacts import (
    EvaluationReport,
    RegisteredModel,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.kinds.base import TaskConfig
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import WarmStartConfig
from lightning_modules.bundle_files import with_facts
from tasks.artifacts.store import ArtifactStore, digest_of
from tasks.evaluate import headlines
from tasks.profiles import FILE as PROFILE
from tasks.profiles import profile_of
from tasks.reports.model_card import Subject, example_rows, model_card
from tasks.reports.readable import fit, markdown, with_interval
from tasks.serving.check import NOISE_FILE, pickles
from tasks.stage import RunContext, step
from tasks.tokenize import SEEN_TEXTS
from tasks.tracking.bookkeeping import DIGEST, LINEAGE, TEACHER, WARM_START
from tasks.tracking.data_sets import name_and_digest
from tasks.tracking.registry_page import LIMIT, WHOLE_CARD
from tasks.tracking.runs import Tracker, quiet_mlflow
from tasks.tracking.versions import model_of

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature

    from lightning_modules.bundle import Bundle

ROOT = Path(__file__).resolve().parent.parent
# mlflow-skinny is MLflow without its UI, SQL store and plots; it loads and serves a model.
_SERVING = ("mlflow-skinny", "torch", "tokenizers", "safetensors", "numpy", "pandas")


@step
def register(run: RunContext, report: EvaluationReport) -> RegisteredModel | State[RegisteredModel]:
    """Find or create the registry's version of this run's model. Safe to repeat: it holds one per
    digest.
    """
    version = register_model(run, report)
    if version.created:
        return version
    text = f"Version {version.version} holds this model already"
    return Completed(name="Cached", message=text, data=version)


def register_model(run: RunContext, evaluation: EvaluationReport) -> RegisteredModel:
    """Find the version with this model's digest, or create it; `created` says which.

    Effects: a logged model and a version in MLflow, tagged with what they were made from. Safe to
        repeat.
    """
    recipe, store, tracker = run.recipe, run.store, run.tracker
    model, tokens, corpus = (
        run.made[TrainedModel],
        run.made[TokenDataset],
        run.made[ValidatedCorpus],
    )
    name, client = recipe.model_name, tracker.client
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch, quiet_mlflow():
        staged = Path(scratch)
        facts = recipe.task.served_facts(evaluation.facts)
        digest = stage_bundle(model, facts, store, staged / "bundle")
        # Between the search and the creation no other process on this machine may create the same
        # version.
        with store.lock(f"register-{digest_of(name, digest)}"):
            found = find_version(tracker, name, digest)
            created = found is None
            if found is None:
                lineage = made_from(run, evaluation)
                tags = {DIGEST: digest, LINEAGE: json.dumps(lineage, ensure_ascii=False)}
                # Here: a rerun that finds everything done loads no torch.
                from lightning_modules.kinds.heads import head_class

                head = head_class(recipe.task.kind)
                examples = example_rows(store.open(corpus) / "corpus", head, tokens.facts)
                _write_profile(staged, recipe.task, store.open(corpus), store.open(tokens))
                made = Subject(model, tokens, corpus, evaluation)
                card = model_card(made, recipe, lineage, examples)
                seen = np.load(store.open(model) / SEEN_TEXTS, allow_pickle=False)
                asks = signature(recipe.task, tokens.facts)
                shown = Shown(name, recipe.task.model_type, card, examples, asks, tags)
                logged = log_model(tracker, staged, seen, digest, shown)
                _ensure_registered_model(tracker, name, recipe)
                found = client.create_model_version(
                    name,
                    source=f"models:/{logged.model_id}",
                    run_id=tracker.run_id,
                    tags=tags,
                    description=fit(card, LIMIT, WHOLE_CARD),
                    model_id=logged.model_id,
                )
            dataset = name_and_digest(corpus, "test")
            if model_id := model_of(found):
                tracker.log_model_metrics(model_id, headlines(evaluation, recipe.task), dataset)
    tracker.set_tags(
        {"noisefold.model_name": name, "noisefold.model_version": found.version, DIGEST: digest}
    )
    uri = f"models:/{name}/{found.version}"
    return RegisteredModel(
        key=digest_of("register", name, digest),
        uri=uri,
        digest=digest,
        files={},
        rows_in=evaluation.rows_out,
        rows_out=evaluation.rows_out,
        name=name,
        version=str(found.version),
        run_id=found.run_id or tracker.run_id,
        model_uri=uri,
        created=created,
    )


def _write_profile(staged: Path, task: TaskConfig, corpus: Path, tokens: Path) -> None:
    """What the test rows look like to the model as it will be served, for `noisefold monitor`."""
    from lightning_modules.bundle import Bundle

    bundle = Bundle.load(staged / "bundle")
    profile = profile_of(bundle, type(task), corpus / "corpus", tokens)
    (staged / PROFILE).write_text(profile.model_dump_json(), encoding="utf-8")


def _models_before(model: TrainedModel, recipe: Recipe, tracker: Tracker) -> dict[str, str]:
    """The registered models, NAME/VERSION, that a model has learnt or started from."""
    named = isinstance(recipe.training.warm_start, WarmStartConfig)
    tags = ((TEACHER, model.taught_by), (WARM_START, named and model.warm_started_from))
    return {tag: str(tracker.tag(tag)) for tag, had in tags if had}


def find_version(tracker: Tracker, name: str, digest: str) -> Any | None:
    """The oldest usable version of this name with this digest."""
    found = tracker.client.search_model_versions(
        f"name = '{name}' and tags.`{DIGEST}` = '{digest}'"
    )
    ready = [v for v in found if v.status == "READY"]
    return min(ready, key=lambda v: int(v.version), default=None)


@dataclass(frozen=True)
class Shown:
    """What a version tells of itself."""

    name: str
    model_type: str
    card: str  # Markdown
    examples: list[dict[str, str]]  # rows that it may be asked
    signature: ModelSignature
    tags: dict[str, str]


def stage_bundle(
    model: TrainedModel, facts: dict[str, Any], store: ArtifactStore, folder: Path
) -> str:
    """The bundle as it will be served, what the evaluation decided included; returns its digest.
    Beside its folder, where there is any, the noise that it was trained with.
    """
    trained = store.open(model)
    if (noise := trained / NOISE_FILE).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(noise, folder.parent / NOISE_FILE)
    return with_facts(trained / "bundle", model.digest, facts, folder)


def log_model(
    tracker: Tracker, staged: Path, seen: np.ndarray, digest: str, shown: Shown
) -> LoggedModel:
    """Log the model under the run, or complete what an earlier attempt left (found by its
    digest).
    """
    from mlflow.entities import LoggedModelOutput

    client = tracker.client
    found = client.search_logged_models([tracker.experiment_id], f"tags.`{DIGEST}` = '{digest}'")
    usable = [logged for logged in found if str(logged.status) != "FAILED"]
    ready = [logged for logged in usable if str(logged.status) == "READY"]
    if ready:
        return ready[0]
    # One that is still PENDING lost its writer: its upload is repeated into the same place.
    logged = (
        usable[0]
        if usable
        else client.create_logged_model(
            tracker.experiment_id,
            name=_logged_name(shown.name),
            source_run_id=tracker.run_id,
            tags=shown.tags,
            model_type=shown.model_type,
        )
    )
    folder = staged / "model"
    build_model_folder(folder, staged / "bundle", seen, shown, tracker.run_id, logged)
    outputs = client.get_run(tracker.run_id).outputs
    if logged.model_id not in {
        output.model_id for output in (outputs.model_outputs if outputs else [])
    }:
        client.log_outputs(tracker.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    client.log_model_artifacts(logged.model_id, str(folder))
    return client.finalize_logged_model(logged.model_id, "READY")


def build_model_folder(
    folder: Path, bundle: Path, seen: np.ndarray, shown: Shown, run_id: str, logged: LoggedModel
) -> None:
    """Everything the model is, in MLflow's layout, checked before it goes anywhere.

    Raises:
        ValueError: where a file in it could hold a pickle, or the bundle does not load from it.
    """
    from mlflow.models import Model
    from pandas import DataFrame

    from lightning_modules.bundle import Bundle
    from lightning_modules.shipping import ship

    loaded = Bundle.load(bundle)
    code = ship(loaded.kind, folder.parent / "code")
    card_file, hashes_file = folder.parent / "MODEL_CARD.md", folder.parent / "train_texts.npy"
    card_file.write_text(shown.card, encoding="utf-8")
    np.save(hashes_file, seen, allow_pickle=False)
    staged = {"noise": folder.parent / NOISE_FILE, "profile": folder.parent / PROFILE}
    beside = {name: path for name, path in staged.items() if path.exists()}
    save_pyfunc(
        folder,
        Model(
            artifact_path="model",
            run_id=run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        ),
        code=code,
        artifacts={
            "bundle": bundle,
            "train_texts": hashes_file,
            "model_card": card_file,
            **beside,
        },
        signature=shown.signature,
        examples=DataFrame(shown.examples),
        requirements=serving_requirements(loaded),
    )
    check_model_folder(folder)


def save_pyfunc(  # noqa: PLR0913 - what MLflow takes, by its names
    folder: Path,
    model: Model,
    *,
    code: Sequence[Path],
    artifacts: Mapping[str, Path],
    signature: ModelSignature,
    examples: Any,
    requirements: list[str],
) -> None:
    """A model from code in MLflow's layout, that knows no path of this machine.

    Args:
        artifacts: `bundle` is the one that serving reads.
    """
    import mlflow

    mlflow.pyfunc.save_model(
        str(folder),
        mlflow_model=model,
        python_model=str(ROOT / "tasks" / "serving" / "pyfunc.py"),
        code_paths=list(map(str, code)),
        artifacts={name: str(path) for name, path in artifacts.items()},
        signature=signature,
        input_example=examples,
        pip_requirements=requirements,
    )
    _forget_local_paths(folder)


def check_model_folder(folder: Path) -> None:
    """No file that could hold a pickle, and a bundle that loads from where serving will find it."""
    from lightning_modules.bundle import Bundle

    if suspects := pickles(folder):
        raise ValueError(f"the model folder holds files that may be pickles: {', '.join(suspects)}")
    Bundle.load(folder / "artifacts" / "bundle")
    np.load(folder / "artifacts" / "train_texts.npy", allow_pickle=False)


def signature(task: TaskConfig, facts: dict[str, Any]) -> ModelSignature:
    """What the kind asks and answers."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    asked = [ColSpec(one.type, one.name, required=one.required) for one in task.inputs]
    told = [ColSpec(one.type, one.name, required=one.required) for one in task.outputs(facts)]
    # Null, or an empty list, as the default: what the recipe says of it stands in the bundle.
    params = [
        ParamSpec(one.name, one.type, [], shape=(-1,))
        if one.listed
        else ParamSpec(one.name, one.type, None)
        for one in task.params
    ]
    schema: Any = ParamSchema(params) if params else None  # null is what it takes for none
    return ModelSignature(inputs=Schema([*asked]), outputs=Schema([*told]), params=schema)


def serving_requirements(bundle: Bundle) -> list[str]:
    """What a server installs, at the versions this model was tested with; torch's build (+cpu) is
    its choice.
    """
    pretrained = bundle.network.describe()["encoder"]["kind"] == "pretrained"
    backbone = ("transformers",) if pretrained else ()
    return [f"{package}=={installed(package).split('+')[0]}" for package in (*_SERVING, *backbone)]


def made_from(run: RunContext, evaluation: EvaluationReport) -> dict[str, str]:
    """What the version was made from, and the figure by which its kind is judged."""
    recipe, made = run.recipe, run.made
    model, tokens, corpus = made[TrainedModel], made[TokenDataset], made[ValidatedCorpus]
    before = _models_before(model, recipe, run.tracker)
    first = next(iter(headlines(evaluation, recipe.task).items()), None)
    headline = f"{recipe.task.metrics[0].words} {with_interval(first[1])}" if first else ""
    facts = {
        "data_digest": corpus.digest,
        "contract": f"{corpus.contract_name} v{corpus.contract_version}",
        "tokens_digest": tokens.digest,
        "tokenizer_digest": tokens.tokenizer_digest,
        "bundle_digest": model.digest,
        "trained_in_run": model.run_id,
        "recipe": recipe.name,
        "recipe_digest": digest_of(recipe.identity_of_run()),
        "headline": f"{headline} on {evaluation.rows_out:,} test rows",
        **before,
        **run.lineage,
    }
    return {name.removeprefix("noisefold."): str(value) for name, value in facts.items()}


def _forget_local_paths(folder: Path) -> None:
    """MLmodel names the folders it was staged in; loading uses the names relative to the model, so
    keep just those.
    """
    path = folder / "MLmodel"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    flavor = content["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _logged_name(name: str) -> str:
    """A logged model's name may not hold / : . % " or '."""
    return "".join("-" if c in "/:.%\"'" else c for c in name)


def about_model(recipe: Recipe) -> str:
    """What the registered model is, in the first sentences of its page."""
    return (
        f"{markdown(recipe.task.words)} of the noisefold recipe {markdown(recipe.name)}. Its runs "
        "move the aliases champion, challenger and previous."
    )


def _ensure_registered_model(tracker: Tracker, name: str, recipe: Recipe) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracker.client.create_registered_model(name, description=about_model(recipe))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
