"""promote: does the new version become champion? A result with its reasons, never an exception.

The rule: on rows that neither model was trained on, the lower bound of the paired bootstrap interval of (challenger's
macro-F1 - champion's) lies above -margin, and the floors hold. A first champion needs the floors only. A version that
was rolled back waits for a person. What passes is first fetched from the registry and served by a fresh process, where
it has to answer as it did when it was measured.

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.artifacts import create_markdown_artifact

from data_contracts.artifacts import (
    Check,
    EvaluationReport,
    Lessons,
    PromotionDecision,
    RegisteredModel,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.errors import NoisefoldError
from data_contracts.recipe import PromotionConfig, Recipe
from lightning_modules.bundle import Bundle
from lightning_modules.objectives.metrics import paired_macro_f1_difference
from tasks.aliases import CHAMPION, Aliases
from tasks.gate import check_bounds, sentences
from tasks.progress import report
from tasks.readable import markdown, markdown_table
from tasks.serve_check import Unservable, check_served, fetch_version
from tasks.stage import STAGE
from tasks.store import ArtifactStore
from tasks.tokenize import seen_texts, text_hashes
from tasks.tracking import Tracker

SEED = 0
_AGAINST = "noisefold.promotion_against"  # the champion's version that was decided against, or none
_COMPLETE = "complete"  # marks a version that was fetched whole
_TEXTS = 2048  # scored at a time


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
    lessons: Lessons | None = None,
) -> PromotionDecision:
    """Compare with the champion, decide, and move the aliases.

    Effects: `promotion/` in the MLflow run, tags, aliases, a ledger line before each move. Safe to repeat: evidence is
    written before any alias moves, and each move leaves a champion in place.
    """
    aliases = Aliases(tracker.client, registered.name, ledger, run_id=tracker.run_id)
    with aliases.alone():
        champion_version = aliases.current().get(CHAMPION)
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
        withdrawn = aliases.withdrawn(registered.version)
        verdict = judge(registered, evaluation, tokens, champion_version, recipe, store, tracker, lessons)
        if withdrawn is not None:
            text = f"Version {registered.version} was rolled back ({withdrawn}); noisefold promote puts it back."
            verdict = Verdict(False, [text, *verdict.reasons], verdict.evidence)
        decision = PromotionDecision(
            promoted=verdict.passed,
            outcome="promoted" if verdict.passed else "not_promoted",
            reasons=tuple(verdict.reasons),
            name=registered.name,
            version=registered.version,
            champion_before=champion_version,
            **verdict.evidence,
        )
        made_from = {"bundle_digest": model.digest, "data_digest": corpus.digest}
        log_decision(decision, recipe.promotion, made_from, tracker)
        why = " ".join(decision.reasons)
        if decision.promoted:
            aliases.crown(registered.version, champion_version, why)
        elif withdrawn is None:
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
    lessons: Lessons | None = None,
) -> Verdict:
    """The rule, without any effect. All failed conditions are listed, not just the first."""
    measured = store.open(evaluation) / "predictions.parquet"
    predictions, served = pq.read_table(measured), None
    failed, held = [], []
    try:
        served = check_served(tracker.client, registered.name, registered.version, measured)
        held.append(f"Served by a fresh process, it gives {served.rows:,} rows the probabilities of its evaluation.")
    except Unservable as error:
        failed.append(f"Version {registered.version}, fetched from the registry, does not serve: {error}.")
    checks = check_bounds(evaluation, predictions, served, recipe.promotion)
    broken, kept = sentences(checks)
    failed, held = failed + broken, kept + held
    evidence: dict[str, Any] = {"checks": tuple(checks)}
    if champion_version is None:
        return Verdict(not failed, failed or ["There is no champion yet, so the floors decide.", *held], evidence)
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        try:
            champion = fetch_champion(registered.name, champion_version, tracker, Path(scratch))
        except Unservable as error:
            text = (
                f"The champion (version {champion_version}) cannot be scored: {error}. Restore its files, or take "
                "the alias away so that the floors alone decide."
            )
            return Verdict(False, [text, *failed], evidence)
        trained = seen_texts(store, tokens, lessons)
        compared = compare(predictions, champion, tokens.labels, trained, recipe)
    reasons = failed + compared.reasons if failed or not compared.passed else compared.reasons + held
    return Verdict(compared.passed and not failed, reasons, evidence | compared.evidence)


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
    hashes = text_hashes(texts)
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
    accuracy, p, alone = mcnemar(true == challenger_says, true == champion_says)
    reasons.append(
        f"Accuracy less that of version {champion.version}: {accuracy:+.4f}; {alone[0]:,} rows only the challenger has "
        f"right, {alone[1]:,} only the champion (McNemar's exact test: p = {p:.3g}; for information)."
    )
    reasons.append(
        f"Macro-F1 less that of version {champion.version}, on {len(rows):,} shared rows: {difference.value:+.4f} "
        f"({config.confidence:.0%} interval {difference.low:+.4f} to {difference.high:+.4f}); the lower bound is "
        f"{'above' if passed else 'not above'} -{config.margin:g}."
    )
    return Verdict(
        passed, reasons, {**evidence, "difference": difference, "accuracy_difference": accuracy, "mcnemar_p": p}
    )


def mcnemar(one: np.ndarray, other: np.ndarray) -> tuple[float, float, tuple[int, int]]:
    """Difference in accuracy, two-sided p of McNemar's exact test, and the rows that just one of the two has right.

    Under equal accuracy each discordant row falls to either side like a coin (McNemar 1947, doi:10.1007/BF02295996).
    Args:
        one, other: (N,) whether each model has the row right.
    """
    from scipy.stats import binomtest

    alone = int((one & ~other).sum()), int((other & ~one).sum())
    p = float(binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0
    return float(one.mean() - other.mean()), p, alone


def score_texts(bundle: Bundle, texts: list[str]) -> np.ndarray:
    parts = []
    for first in range(0, len(texts), _TEXTS):
        parts.append(bundle.predict_proba(texts[first : first + _TEXTS]))
        report("promote", min(first + _TEXTS, len(texts)), len(texts))
    return np.concatenate(parts)


def fetch_champion(name: str, version: str, tracker: Tracker, folder: Path) -> Champion:
    """Download the champion and read its bundle.

    Raises:
        Unservable: its files are gone or damaged. See Note [a champion that cannot be scored].
    """
    artifacts = fetch_version(tracker.client, name, version, folder) / "artifacts"
    try:
        hashes = np.load(artifacts / "train_texts.npy", allow_pickle=False)
        return Champion(version, Bundle.load(artifacts / "bundle"), hashes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unservable(f"{Path(error.filename or 'a file').name} is missing") from error
    except (ValueError, KeyError, TypeError) as error:  # BundleError is a ValueError
        raise Unservable(str(error)) from error


def log_decision(
    decision: PromotionDecision, config: PromotionConfig, made_from: dict[str, str], tracker: Tracker
) -> None:
    """The decision, its reasons and every bound in the MLflow run; the outcome on the version.

    A finished run has told of its decision. Where a later night decides otherwise, or against another champion, what it
    decided stands beside the first, under `promotion/` and its time, and the tags tell the newest.
    """
    against = decision.champion_before or "none"
    folder_name = "promotion"
    if tracker.closed:
        known = tracker.client.get_run(tracker.run_id).data.tags
        if (known.get("noisefold.promotion"), known.get(_AGAINST)) == (decision.outcome, against):
            return
        folder_name = f"promotion/{datetime.now(UTC):%Y-%m-%d %H.%M.%S}"
    content = {**decision.model_dump(mode="json"), "rule": config.model_dump(mode="json"), "challenger": made_from}
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        folder = Path(scratch)
        (folder / "promotion.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        (folder / "promotion.md").write_text(decision_page(decision), encoding="utf-8")
        tracker.log_folder(folder, folder_name)
    tracker.log_table(*reasons_table(decision), f"{folder_name}/reasons.json")
    if decision.difference is not None:
        value, low, high = decision.difference.value, decision.difference.low, decision.difference.high
        name = "promotion/macro_f1_difference"
        tracker.log_metrics({name: value, f"{name}_low": low, f"{name}_high": high})
    if decision.accuracy_difference is not None and decision.mcnemar_p is not None:
        found = {"accuracy_difference": decision.accuracy_difference, "mcnemar_p": decision.mcnemar_p}
        tracker.log_metrics({f"promotion/{name}": value for name, value in found.items()})
    tags = {"noisefold.promotion": decision.outcome, "noisefold.promotion_reasons": " ".join(decision.reasons)[:5000]}
    tracker.set_tags({**tags, _AGAINST: against})
    for key, text in tags.items():
        tracker.client.set_model_version_tag(decision.name, decision.version, key, text)


def decision_page(decision: PromotionDecision) -> str:
    """Reasons and bounds as Markdown, for both UIs."""
    table = [
        ("version", decision.version),
        ("champion before", decision.champion_before or "none"),
        ("rows compared", f"{decision.rows_compared:,}"),
        ("rows left out", f"{decision.rows_left_out:,}"),
    ]
    bounds = [(c.what, f"{c.value:.4f}", has_to_be(c), "yes" if c.passed else "NO") for c in decision.checks]
    word = {"promoted": "Promoted", "not_promoted": "Not promoted", "already_champion": "Champion already"}
    parts = [
        f"# {word[decision.outcome]}: {markdown(decision.name)} version {decision.version}",
        markdown_table(["#", "reason"], list(enumerate(decision.reasons, 1))),
        markdown_table(["what", "value"], table),
        *([markdown_table(["bound", "value", "has to be", "holds"], bounds)] if bounds else []),
    ]
    return "\n\n".join(parts) + "\n"


def reasons_table(decision: PromotionDecision) -> tuple[list[str], list[list[Any]]]:
    """Every reason, and every bound with its value, as one table."""
    rows: list[list[Any]] = [["reason", text, None, None, None] for text in decision.reasons]
    rows += [["bound", c.what, c.value, has_to_be(c), c.passed] for c in decision.checks]
    return ["kind", "what", "value", "has to be", "holds"], rows


def has_to_be(check: Check) -> str:
    return f"{'≥' if check.kind == 'floor' else '≤'} {check.bound:g}"


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
    lessons: Lessons | None = None,
) -> PromotionDecision:
    """Decide whether the version becomes champion, and say why. Safe to repeat."""
    decision = promote_model(
        registered,
        model,
        evaluation,
        tokens,
        corpus,
        recipe=recipe,
        store=store,
        tracker=tracker,
        ledger=ledger,
        lessons=lessons,
    )
    create_markdown_artifact(decision_page(decision), key="promotion", description=f"Version {decision.version}")
    return decision


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
    target = _target(folder, name, version)
    try:
        if not (target / _COMPLETE).exists():
            fetch_champion(name, str(version), tracker, target / "files")
            (target / _COMPLETE).touch()
        bundle = fetched_bundle(folder, name, version)
        if bundle is None:
            raise Unservable("bundle is missing")
        Bundle.load(bundle)
    except (Unservable, ValueError) as error:
        raise NoisefoldError(
            f"The registered model {name} version {version} cannot be read ({error}).",
            "Set training.warm_start to never, or move the alias champion to a version that is whole.",
        ) from error
    return str(version), bundle


def fetched_bundle(folder: Path, name: str, version: str) -> Path | None:
    """The bundle of a version that `champion_bundle` has fetched whole before, without a look at the registry."""
    target = _target(folder, name, version)
    return next(target.glob("files/**/artifacts/bundle"), None) if (target / _COMPLETE).exists() else None


def _target(folder: Path, name: str, version: str) -> Path:
    return folder / f"{name}-{version}"
