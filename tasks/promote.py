"""promote: does the new version become champion? A result with its reasons, never an exception.

The rule: on rows that neither model was trained on, the lower bound of the paired bootstrap interval of (challenger's
macro-F1 - champion's) lies above -margin, and the floors hold. A first champion needs the floors only.

# Note [a champion that cannot be scored]
Where the champion's files are gone or unreadable there is nothing to compare with, and the challenger is not promoted:
whatever serves the champion now may still hold it, and a silent swap would hide the loss. The reason says what to do:
restore the files, or take the alias away, after which the floors alone decide. A registry that does not answer is
another matter: that error is raised, and a later attempt may find it well.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task

from data_contracts.artifacts import (
    EvaluationReport,
    PromotionDecision,
    RegisteredModel,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.errors import NoisefoldError
from data_contracts.recipe import PromotionConfig, Recipe
from data_contracts.text import text_hash
from lightning_modules.bundle import Bundle
from lightning_modules.objectives.metrics import paired_macro_f1_difference
from tasks.aliases import CHAMPION, Aliases
from tasks.progress import report
from tasks.readable import markdown, markdown_table
from tasks.register import quiet_mlflow
from tasks.stage import STAGE
from tasks.store import ArtifactStore
from tasks.tracking import Tracker

SEED = 0
_TEXTS = 2048  # scored at a time
# What MLflow answers when it is well and the files are not there.
_GONE = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"}


class Unscorable(Exception):
    """The champion's files are missing or cannot be read."""


@dataclass(frozen=True)
class Champion:
    """The model that serves now, and the hashes of the texts it was trained on."""

    version: str
    bundle: Bundle
    train_texts: np.ndarray


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may pass, why, and on what evidence."""

    passed: bool
    reasons: list[str]
    evidence: dict[str, Any]


def promote_model(
    registered: RegisteredModel,
    model: TrainedModel,
    evaluation: EvaluationReport,
    tokens: TokenDataset,
    corpus: ValidatedCorpus,
    *,
    recipe: Recipe,
    store: ArtifactStore,
    tracker: Tracker,
    ledger: Path,
) -> PromotionDecision:
    """Compare with the champion, decide, and move the aliases.

    Effects: `promotion/` in the MLflow run, tags, aliases, a ledger line before each move. Safe to repeat: evidence is
    written before any alias moves, and each move leaves a champion in place.
    """
    aliases = Aliases(tracker, registered.name, ledger)
    before = aliases.current()
    champion_version = before.get(CHAMPION)
    if champion_version == registered.version:
        # A first attempt may have died after the decisive move; its evidence is in the run already.
        aliases.settle_champion(registered.version)
        return PromotionDecision(
            promoted=False,
            outcome="already_champion",
            reasons=(f"Version {registered.version} is the champion already.",),
            name=registered.name,
            version=registered.version,
            champion_before=champion_version,
        )
    verdict = judge(registered, evaluation, tokens, champion_version, recipe, store, tracker)
    evidence = verdict.evidence
    decision = PromotionDecision(
        promoted=verdict.passed,
        outcome="promoted" if verdict.passed else "not_promoted",
        reasons=tuple(verdict.reasons),
        name=registered.name,
        version=registered.version,
        champion_before=champion_version,
        **evidence,
    )
    log_decision(decision, recipe.promotion, {"bundle_digest": model.digest, "data_digest": corpus.digest}, tracker)
    why = " ".join(decision.reasons)
    if decision.promoted:
        aliases.crown(registered.version, champion_version, why)
    else:
        aliases.keep_challenger(registered.version, champion_version, why)
    return decision


def judge(
    registered: RegisteredModel,
    evaluation: EvaluationReport,
    tokens: TokenDataset,
    champion_version: str | None,
    recipe: Recipe,
    store: ArtifactStore,
    tracker: Tracker,
) -> Verdict:
    """The rule, without any effect. All failed conditions are listed, not just the first."""
    failed, held = check_floors(evaluation, recipe.promotion)
    if champion_version is None:
        return Verdict(not failed, failed or ["There is no champion yet, so the floors decide.", *held], {})
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        try:
            champion = fetch_champion(registered.name, champion_version, tracker, Path(scratch))
        except Unscorable as error:
            text = (
                f"The champion (version {champion_version}) cannot be scored: {error}. Restore its files, or take "
                "the alias away so that the floors alone decide."
            )
            return Verdict(False, [text, *failed], {})
        predictions = pq.read_table(store.open(evaluation) / "predictions.parquet")
        trained = np.load(store.open(tokens) / "train_texts.npy", allow_pickle=False)
        compared = compare(predictions, champion, tokens.labels, trained, recipe)
    reasons = failed + compared.reasons if failed or not compared.passed else compared.reasons + held
    return Verdict(compared.passed and not failed, reasons, compared.evidence)


def check_floors(evaluation: EvaluationReport, config: PromotionConfig) -> tuple[list[str], list[str]]:
    """Floors that fail, and floors that hold; one of 0 is no floor."""
    failed, held = [], []
    floors = (("accuracy", "accuracy", config.min_accuracy), ("macro_f1", "macro-F1", config.min_macro_f1))
    for name, shown, floor in floors:
        value = evaluation.metrics[f"test/{name}"].value
        if value < floor:
            failed.append(f"Test {shown} {value:.4f} is below the floor of {floor:g}.")
        elif floor > 0:
            held.append(f"Test {shown} {value:.4f} meets the floor of {floor:g}.")
    return failed, held


def compare(
    predictions: pa.Table, champion: Champion, labels: tuple[str, ...], trained: np.ndarray, recipe: Recipe
) -> Verdict:
    """Champion and challenger on the same rows: unseen by both in training, and of labels that both know."""
    config, reasons = recipe.promotion, []
    shared = [label for label in labels if label in champion.bundle.labels]
    ours, theirs = ([list(names).index(label) for label in shared] for names in (labels, champion.bundle.labels))
    if len(shared) < len(labels) or len(shared) < len(champion.bundle.labels):
        added = sorted(set(labels) - set(shared))
        dropped = sorted(set(champion.bundle.labels) - set(shared))
        reasons.append(
            f"The label set changed (new: {', '.join(added) or 'none'}; gone: {', '.join(dropped) or 'none'}), "
            f"so the {len(shared)} shared labels are compared."
        )
    texts, names = predictions["text"].to_pylist(), predictions["label"].to_pylist()
    known = {label: index for index, label in enumerate(shared)}
    hashes = np.fromiter(map(text_hash, texts), np.uint64, len(texts))
    seen = np.isin(hashes, trained) | np.isin(hashes, champion.train_texts)
    rows = np.flatnonzero(~seen & np.array([name in known for name in names], dtype=bool))
    evidence: dict[str, Any] = {"rows_compared": len(rows), "rows_left_out": len(texts) - len(rows)}
    if seen.any():
        reasons.append(f"{int(seen.sum()):,} test rows that a model was trained on are left out.")
    if len(shared) < 2:
        return Verdict(False, [*reasons, "Fewer than two labels are shared, so nothing can be compared."], evidence)
    fewest = recipe.contract.splits.min_rows
    if len(rows) < fewest:
        text = f"{len(rows):,} rows are left to compare; the contract asks for {fewest:,} (splits.min_rows)."
        return Verdict(False, [*reasons, text], evidence)

    true = np.array([known[names[row]] for row in rows])
    # Among the shared labels only: a model is not blamed for a class that the other does not know.
    proba = np.stack(predictions["probabilities"].combine_chunks().to_numpy(zero_copy_only=False)[rows])
    challenger_says = proba[:, ours].argmax(axis=1)
    champion_says = score_texts(champion.bundle, [texts[row] for row in rows])[:, theirs].argmax(axis=1)
    difference = paired_macro_f1_difference(
        true, challenger_says, champion_says, samples=config.bootstrap_samples, confidence=config.confidence, seed=SEED
    )
    passed = difference.low > -config.margin
    reasons.append(
        f"Macro-F1 less that of version {champion.version}, on {len(rows):,} shared rows: {difference.value:+.4f} "
        f"({config.confidence:.0%} interval {difference.low:+.4f} to {difference.high:+.4f}); the lower bound is "
        f"{'above' if passed else 'not above'} -{config.margin:g}."
    )
    return Verdict(passed, reasons, {**evidence, "difference": difference})


def score_texts(bundle: Bundle, texts: list[str]) -> np.ndarray:
    parts = []
    for first in range(0, len(texts), _TEXTS):
        parts.append(bundle.predict_proba(texts[first : first + _TEXTS]))
        report("promote", min(first + _TEXTS, len(texts)), len(texts))
    return np.concatenate(parts)


def fetch_champion(name: str, version: str, tracker: Tracker, folder: Path) -> Champion:
    """Download the champion and read its bundle.

    Raises:
        Unscorable: its files are gone or damaged. See Note [a champion that cannot be scored].
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        source = tracker.client.get_model_version_download_uri(name, version)
        with quiet_mlflow():
            local = download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=tracker.tracking_uri)
        artifacts = Path(local) / "artifacts"
        hashes = np.load(artifacts / "train_texts.npy", allow_pickle=False)
        return Champion(version, Bundle.load(artifacts / "bundle"), hashes)
    except MlflowException as error:
        if error.error_code not in _GONE and not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise Unscorable(error.message.splitlines()[0]) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unscorable(f"{Path(error.filename or 'a file').name} is missing") from error
    except (ValueError, KeyError, TypeError) as error:  # BundleError is a ValueError
        raise Unscorable(str(error)) from error


def log_decision(
    decision: PromotionDecision, config: PromotionConfig, made_from: dict[str, str], tracker: Tracker
) -> None:
    """The decision and its reasons in the MLflow run, and on the version."""
    content = {**decision.model_dump(mode="json"), "rule": config.model_dump(mode="json"), "challenger": made_from}
    word = "Promoted" if decision.promoted else "Not promoted"
    table = [
        ("version", decision.version),
        ("champion before", decision.champion_before or "none"),
        ("rows compared", f"{decision.rows_compared:,}"),
        ("rows left out", f"{decision.rows_left_out:,}"),
    ]
    page = "\n\n".join(
        [
            f"# {word}: {markdown(decision.name)} version {decision.version}",
            markdown_table(["#", "reason"], list(enumerate(decision.reasons, 1))),
            markdown_table(["what", "value"], table),
        ]
    )
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        folder = Path(scratch)
        (folder / "promotion.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        (folder / "promotion.md").write_text(page + "\n", encoding="utf-8")
        tracker.log_folder(folder, "promotion")
    if decision.difference is not None:
        value, low, high = decision.difference.value, decision.difference.low, decision.difference.high
        name = "promotion/macro_f1_difference"
        tracker.log_metrics({name: value, f"{name}_low": low, f"{name}_high": high})
    tags = {"noisefold.promotion": decision.outcome, "noisefold.promotion_reasons": " ".join(decision.reasons)[:5000]}
    tracker.set_tags(tags)
    for key, text in tags.items():
        tracker.client.set_model_version_tag(decision.name, decision.version, key, text)


@task(name="promote", **STAGE)
def promote(
    registered: RegisteredModel,
    model: TrainedModel,
    evaluation: EvaluationReport,
    tokens: TokenDataset,
    corpus: ValidatedCorpus,
    recipe: Recipe,
    store: ArtifactStore,
    tracker: Tracker,
    ledger: Path,
) -> PromotionDecision:
    """Decide whether the version becomes champion, and say why. Safe to repeat."""
    return promote_model(
        registered, model, evaluation, tokens, corpus, recipe=recipe, store=store, tracker=tracker, ledger=ledger
    )


def champion_bundle(tracker: Tracker, name: str, folder: Path, version: str | None = None) -> tuple[str, Path] | None:
    """Version and bundle folder of the champion, or of a pinned version; None where there is no champion yet.

    Raises:
        NoisefoldError: where the version's files are gone or damaged.
    """
    if version is None:
        found = tracker.client.search_registered_models(f"name = '{name}'")
        version = dict(found[0].aliases).get(CHAMPION) if found else None
    if version is None:
        return None
    target = folder / f"{name}-{version}"
    complete = target / "complete"
    try:
        if not complete.exists():
            fetch_champion(name, str(version), tracker, target / "files")
            complete.touch()
        bundle = next(target.glob("files/**/artifacts/bundle"))
        Bundle.load(bundle)
    except (Unscorable, ValueError, StopIteration) as error:
        raise NoisefoldError(
            f"The champion {name} version {version} cannot be read ({error}).",
            "Set training.warm_start to never, or move the alias champion to a version that is whole.",
        ) from error
    return str(version), bundle
