"""promote: does the new version become champion? A result with its reasons, never an exception.

The rule: on rows that neither model was trained on, the lower bound of the paired bootstrap interval of (challenger's
macro-F1 - champion's) lies above -margin, and the floors hold. Where there is no champion, a constant answer takes its
place: the lower bound of (macro-F1 - that of always answering the commonest label of the train split) lies above 0. A
version that was rolled back waits for a person. What passes is first fetched from the registry and served by a fresh
process, where it has to answer as it did when it was measured.

# Note [judged as served]
Each model is judged by the one label that it gives to whoever asks it: the argmax over all its labels. Where the label
set changed, the rows are those of the shared labels, and any other answer to such a row is wrong, be it a label that is
new or one that is gone. An argmax among the shared labels alone would be an answer that nobody is ever given.

# Note [a champion that cannot be scored]
Where the champion's files are gone or unreadable there is nothing to compare with, and the challenger is not promoted:
whatever serves the champion now may still hold it, and a silent swap would hide the loss. The reason says what to do:
restore the files, or take the alias away, after which the rule for a first champion decides. A registry that does not
answer is another matter: that error is raised, and a later attempt may find it well.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect.artifacts import create_markdown_artifact

from data_contracts.artifacts import (
    EvaluationReport,
    RegisteredModel,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.errors import listed
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import PromotionConfig, StatisticsConfig
from data_contracts.results import Check, Interval, PromotionDecision
from lightning_modules.bundle import Bundle
from lightning_modules.evidence import Evidence, paired
from lightning_modules.kinds.classify.figures import answers
from lightning_modules.kinds.classify.head import predict_proba
from lightning_modules.kinds.classify.label_rows import label_counts, missing_labels
from tasks.artifacts.store import ArtifactStore
from tasks.gate import bounds_in_words, check_bounds, sentences, small_slices
from tasks.progress import report
from tasks.reports.readable import markdown, markdown_table
from tasks.serving.check import Unservable, check_served
from tasks.serving.fetched import Champion, fetch_champion
from tasks.stage import RunContext, step
from tasks.tokenize import SEEN_TEXTS, text_hashes
from tasks.tracking.aliases import CHAMPION, Aliases
from tasks.tracking.runs import Tracker

SEED = 0
_AGAINST = "noisefold.promotion_against"  # the champion's version that was decided against, or none
_TEXTS = 2048  # scored at a time


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may pass, why, and on what evidence."""

    passed: bool
    reasons: list[str]
    evidence: dict[str, Any]


@step
def promote(run: RunContext, registered: RegisteredModel) -> PromotionDecision:
    """Decide whether the version becomes champion, and say why. Safe to repeat."""
    decision = promote_model(run, registered)
    about = f"Version {decision.version}"
    create_markdown_artifact(decision_page(decision), key="promotion", description=about)
    return decision


def promote_model(run: RunContext, registered: RegisteredModel) -> PromotionDecision:
    """Compare with the champion, decide, and move the aliases.

    Effects: `promotion/` in the MLflow run, tags, aliases, a ledger line before each move. Safe to repeat: evidence is
    written before any alias moves, and each move leaves a champion in place.
    """
    tracker, ledger = run.tracker, run.settings.ledger
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
        verdict = judge(run, registered, champion_version)
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
        made_from = {
            "bundle_digest": run.made[TrainedModel].digest,
            "data_digest": run.made[ValidatedCorpus].digest,
        }
        log_decision(decision, run.recipe.promotion, made_from, tracker)
        why = " ".join(decision.reasons)
        if decision.promoted:
            aliases.crown(registered.version, champion_version, why)
        elif withdrawn is None:
            aliases.keep_challenger(registered.version, champion_version, why)
        return decision


def judge(run: RunContext, registered: RegisteredModel, champion_version: str | None) -> Verdict:
    """The rule, without any effect. All failed conditions are listed, not just the first."""
    recipe, store, tracker = run.recipe, run.store, run.tracker
    model, tokens, evaluation = (
        run.made[TrainedModel],
        run.made[TokenDataset],
        run.made[EvaluationReport],
    )
    measured = store.open(evaluation) / "predictions.parquet"
    predictions, served = pq.read_table(measured), None
    failed, held = [], []
    try:
        served = check_served(tracker.client, registered.name, registered.version, measured)
        held.append(
            f"Served by a fresh process, it gives {served.rows:,} rows the probabilities of its evaluation."
        )
    except Unservable as error:
        failed.append(
            f"Version {registered.version}, fetched from the registry, does not serve: {error}."
        )
    checks = check_bounds(evaluation, predictions, served, recipe.promotion, recipe.task)
    broken, kept = sentences(checks)
    failed, held = failed + broken, kept + held
    slices = recipe.promotion.slices
    if slices is not None and (small := small_slices(predictions, slices)):
        held.append(
            f"Slices of fewer than {slices.min_rows:,} rows decide nothing (promotion.slices.min_rows): "
            f"{listed(small)}."
        )
    unknown = missing_labels(evaluation.without_rows, len(tokens.facts["labels"]))
    evidence: dict[str, Any] = {"checks": tuple(checks)}
    trained = np.load(store.open(model) / SEEN_TEXTS, allow_pickle=False)
    if champion_version is None:
        compared = first_champion(predictions, commonest_label(store, tokens), trained, recipe)
        return _together(failed, compared, held, unknown, evidence)
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        try:
            champion = fetch_champion(registered.name, champion_version, tracker, Path(scratch))
        except Unservable as error:
            text = (
                f"The champion (version {champion_version}) cannot be scored: {error}. Restore its files, or take "
                "the alias away so that the rule for a first champion decides."
            )
            return Verdict(False, [text, *failed, *unknown], evidence)
        compared = compare(predictions, champion, tokens.facts["labels"], trained, recipe)
    return _together(failed, compared, held, unknown, evidence)


def _together(
    failed: list[str],
    compared: Verdict,
    held: list[str],
    unknown: list[str],
    evidence: dict[str, Any],
) -> Verdict:
    """What does not hold first, then the comparison; what holds is told where nothing fails, what is unknown always."""
    passed = compared.passed and not failed
    reasons = [*failed, *compared.reasons, *(held if passed else []), *unknown]
    return Verdict(passed, reasons, evidence | compared.evidence)


def commonest_label(store: ArtifactStore, tokens: TokenDataset) -> str:
    """The label of most documents of the train split; of several the first in the order of the labels."""
    return tokens.facts["labels"][
        int(label_counts(store.open(tokens), "train", len(tokens.facts["labels"])).argmax())
    ]


def first_champion(
    predictions: pa.Table, majority: str, trained: np.ndarray, recipe: Recipe
) -> Verdict:
    """Whether a version does better than a constant answer, on its test rows without those that it was trained on."""
    config = recipe.promotion
    floors = f"floors: {bounds_in_words(config) or 'none set'}"
    if not config.beat_constant:
        why = f"No version is champion, so the floors decide ({floors}; promotion.beat_constant is off)."
        return Verdict(True, [why], {})
    reasons = [
        f"No version is champion, so it has to beat a constant answer, and the floors decide ({floors})."
    ]
    seen = np.isin(text_hashes(predictions["text"].to_pylist()), trained)
    rows = predictions.select(["label", "predicted"]).filter(pa.array(~seen)).to_pydict()
    reasons += _left_out(int(seen.sum()))
    count = len(rows["label"])
    evidence: dict[str, Any] = {"rows_compared": count, "rows_left_out": int(seen.sum())}
    if too_few := _too_few(count, recipe):
        return Verdict(False, [*reasons, too_few], evidence)
    which = "the commonest label of the train split"
    if majority not in rows["label"]:  # always wrong, so there is nothing in beating it
        majority, which = (
            Counter(rows["label"]).most_common(1)[0][0],
            "the commonest label among them",
        )
    number = {
        name: place
        for place, name in enumerate(dict.fromkeys([*rows["label"], *rows["predicted"], majority]))
    }
    true = np.array([number[name] for name in rows["label"]])
    says = np.array([number[name] for name in rows["predicted"]])
    constant = np.full(count, number[majority])
    ours, theirs = _both(true, says, constant)
    found = _paired(ours, theirs, recipe.statistics)
    passed = found.low > 0
    reasons.append(
        f"Macro-F1 {_macro_f1(ours):.4f} less {_macro_f1(theirs):.4f}, that of always answering {majority} "
        f"({which}), on {count:,} rows: {found.value:+.4f} ({recipe.statistics.confidence:.0%} interval {found.low:+.4f} to "
        f"{found.high:+.4f}); the lower bound is {'above' if passed else 'not above'} 0."
    )
    if len(set(rows["predicted"])) == 1:
        passed = False
        reasons.append(
            f"It answers all of them with {rows['predicted'][0]}, so it is a constant answer itself."
        )
    if not passed:
        reasons.append(
            "promotion.beat_constant: false lets the floors alone decide on a first champion."
        )
    return Verdict(passed, reasons, {**evidence, "over_majority": found})


def _both(true: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[Evidence, Evidence]:
    """Evidence of two models on the same rows, of class numbers (N,) as each answers."""
    classes = int(max(true.max(), one.max(), other.max())) + 1
    return answers(true, one, classes), answers(true, other, classes)


def _paired(one: Evidence, other: Evidence, config: StatisticsConfig) -> Interval:
    options = {"samples": config.paired_samples, "confidence": config.confidence}
    return paired(one, other, Classify.metrics[0], **options, seed=SEED)


def _macro_f1(evidence: Evidence) -> float:
    return evidence.point()[Classify.metrics[0].name]


def _left_out(seen: int) -> list[str]:
    return [f"{seen:,} test rows that a model was trained on are left out."] if seen else []


def _too_few(rows: int, recipe: Recipe) -> str | None:
    fewest = recipe.contract.splits.min_rows
    if rows >= fewest:
        return None
    return f"{rows:,} rows are left to compare; the contract asks for {fewest:,} (splits.min_rows)."


def compare(
    predictions: pa.Table,
    champion: Champion,
    labels: tuple[str, ...],
    trained: np.ndarray,
    recipe: Recipe,
) -> Verdict:
    """Champion and challenger on the same rows: unseen by both in training, and of labels that both know.

    See Note [judged as served].
    """
    config, reasons = recipe.promotion, []
    shared = [label for label in labels if label in champion.bundle.facts["labels"]]
    texts, names = predictions["text"].to_pylist(), predictions["label"].to_pylist()
    known = {label: index for index, label in enumerate(shared)}
    hashes = text_hashes(texts)
    seen = np.isin(hashes, trained) | np.isin(hashes, champion.train_texts)
    of_shared = np.array([name in known for name in names], dtype=bool)
    rows = np.flatnonzero(~seen & of_shared)
    evidence: dict[str, Any] = {"rows_compared": len(rows), "rows_left_out": len(texts) - len(rows)}
    changed = len(shared) < len(labels) or len(shared) < len(champion.bundle.facts["labels"])
    if changed:
        added = sorted(set(labels) - set(shared))
        dropped = sorted(set(champion.bundle.facts["labels"]) - set(shared))
        others = int((~of_shared).sum())
        reasons.append(
            f"The label set changed (new: {', '.join(added) or 'none'}; gone: {', '.join(dropped) or 'none'}), "
            f"so rows of the {len(shared)} shared labels are compared"
            f"{f', and {others:,} of new labels are not' if others else ''}."
        )
    reasons += _left_out(int(seen.sum()))
    if len(shared) < 2:
        text = (
            "Fewer than two labels are shared, so nothing can be compared. `noisefold promote` makes it champion by "
            "hand; without the alias champion the rule for a first champion decides."
        )
        return Verdict(False, [*reasons, text], evidence)
    if too_few := _too_few(len(rows), recipe):
        return Verdict(False, [*reasons, too_few], evidence)

    # Any label that is not shared is one and the same wrong answer: number len(shared).
    true = np.array([known[names[row]] for row in rows])
    predicted = predictions["predicted"].to_pylist()
    challenger_says = np.array([known.get(predicted[row], len(shared)) for row in rows])
    answers = served_labels(champion.bundle, [texts[row] for row in rows])
    champion_says = np.array([known.get(label, len(shared)) for label in answers])
    if changed:
        beside = [int((says == len(shared)).sum()) for says in (challenger_says, champion_says)]
        reasons.append(
            f"A label that is not shared is the answer of the challenger to {beside[0]:,} of them, of version "
            f"{champion.version} to {beside[1]:,}; as served, that is wrong."
        )
    if absent := [label for label, index in known.items() if index not in true]:
        reasons.append(
            f"No compared row has the label {listed(absent)}, so the comparison says nothing of it."
        )
    ours, theirs = _both(true, challenger_says, champion_says)
    difference = _paired(ours, theirs, recipe.statistics)
    passed = difference.low > -config.margin
    accuracy, p, alone = mcnemar(true == challenger_says, true == champion_says)
    right = [f"{float((says == true).mean()):.4f}" for says in (challenger_says, champion_says)]
    reasons.append(
        f"Accuracy {right[0]} less {right[1]}, that of version {champion.version}: {accuracy:+.4f}; {alone[0]:,} rows "
        f"only the challenger has right, {alone[1]:,} only the champion (McNemar's exact test: p = {p:.3g}; for "
        "information)."
    )
    reasons.append(
        f"Macro-F1 {_macro_f1(ours):.4f} less {_macro_f1(theirs):.4f}, that of version "
        f"{champion.version}, on {len(rows):,} shared rows: {difference.value:+.4f} ({recipe.statistics.confidence:.0%} interval "
        f"{difference.low:+.4f} to {difference.high:+.4f}); the lower bound is {'above' if passed else 'not above'} "
        f"-{config.margin:g}."
    )
    return Verdict(
        passed,
        reasons,
        {**evidence, "difference": difference, "accuracy_difference": accuracy, "mcnemar_p": p},
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


def served_labels(bundle: Bundle, texts: list[str]) -> list[str]:
    """The label that serving gives to each text, see `tasks.serving.pyfunc`."""
    found: list[str] = []
    for first in range(0, len(texts), _TEXTS):
        best = predict_proba(bundle, texts[first : first + _TEXTS]).argmax(axis=1)
        found += [bundle.facts["labels"][index] for index in best]
        report("promote", min(first + _TEXTS, len(texts)), len(texts))
    return found


def log_decision(
    decision: PromotionDecision,
    config: PromotionConfig,
    made_from: dict[str, str],
    tracker: Tracker,
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
    content = {
        **decision.model_dump(mode="json"),
        "rule": config.model_dump(mode="json"),
        "challenger": made_from,
    }
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        folder = Path(scratch)
        (folder / "promotion.json").write_text(
            json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        (folder / "promotion.md").write_text(decision_page(decision), encoding="utf-8")
        tracker.log_folder(folder, folder_name)
    tracker.log_table(*reasons_table(decision), f"{folder_name}/reasons.json")
    if decision.difference is not None:
        value, low, high = (
            decision.difference.value,
            decision.difference.low,
            decision.difference.high,
        )
        name = "promotion/macro_f1_difference"
        tracker.log_metrics({name: value, f"{name}_low": low, f"{name}_high": high})
    if decision.over_majority is not None:
        found = decision.over_majority
        name = "promotion/macro_f1_over_majority"
        tracker.log_metrics(
            {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        )
    if decision.accuracy_difference is not None and decision.mcnemar_p is not None:
        found = {
            "accuracy_difference": decision.accuracy_difference,
            "mcnemar_p": decision.mcnemar_p,
        }
        tracker.log_metrics({f"promotion/{name}": value for name, value in found.items()})
    tags = {
        "noisefold.promotion": decision.outcome,
        "noisefold.promotion_reasons": " ".join(decision.reasons)[:5000],
    }
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
    bounds = [
        (
            c.what,
            "–" if c.value is None else f"{c.value:.4f}",
            has_to_be(c),
            "yes" if c.passed else "NO",
        )
        for c in decision.checks
    ]
    word = {
        "promoted": "Promoted",
        "not_promoted": "Not promoted",
        "already_champion": "Champion already",
    }
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
