"""promote: does the new version become champion? A result with its reasons, never an exception.

The rule is in `tasks.contest`, the bounds are in `tasks.gate`. A version that was rolled back waits
for a person. What passes is first fetched from the registry and served by a fresh process, where it
has to answer as it did when it was measured.

# Note [a champion that cannot be scored]
Where the champion's files are gone or unreadable there is nothing to compare with, and the
challenger is not promoted: whatever serves the champion now may still hold it, and a silent swap
would hide the loss. The reason says what to do: restore the files, or take the alias away, after
which the rule for a first champion decides. A registry that does not answer is another matter: that
error is raised, and a later attempt may find it well.
"""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from data_contracts.artifacts import (
    EvaluationReport,
    RegisteredModel,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.errors import listed
from data_contracts.results import PromotionDecision
from lightning_modules.kinds.judging import judge_of
from tasks.contest import Verdict, compare, first_champion
from tasks.gate import Sliced, check_bounds, sentences, small_slices
from tasks.register import about_model
from tasks.reports.decision import decision_page, reasons_table
from tasks.reports.story import OUTCOMES
from tasks.serving.check import Unservable, check_served
from tasks.serving.fetched import fetch_champion
from tasks.stage import RunContext, step
from tasks.tokenize import SEEN_TEXTS
from tasks.tracking.aliases import CHAMPION, Aliases
from tasks.tracking.bookkeeping import OUTCOME
from tasks.tracking.registry_page import show

_OUTCOME_LIMIT = 500  # characters of an outcome with its reasons, on a version
_JUDGED = (
    "Judged only: the run was asked to move no alias (an old night that is made up for). noisefold "
    "promote moves one by hand; a retrain of the same data decides anew."
)
PROMOTED = "noisefold.promoted"  # an event of Prefect's
_JUDGED_ONLY, _DECIDED = ("would_pass", "would_not_pass"), ("promoted", "not_promoted")
_AGAINST = "noisefold.promotion_against"  # the champion's version that was decided against, or none


@step
def promote(run: RunContext, registered: RegisteredModel) -> PromotionDecision:
    """Decide whether the version becomes champion, and say why. Safe to repeat."""
    decision = promote_model(run, registered)
    about = f"Version {decision.version}"
    create_markdown_artifact(decision_page(decision), key="promotion", description=about)
    # By this event `noisefold notify --promotions` knows. A temporary server tells nobody.
    if decision.promoted and PREFECT_API_URL.value():
        resource = f"noisefold.model.{decision.name}"
        emit_event(
            PROMOTED,
            {"prefect.resource.id": resource, "prefect.resource.name": decision.name},
            payload={
                "name": decision.name,
                "version": decision.version,
                "why": " ".join(decision.reasons)[:5000],
                "run": run.tracker.run_url(),
            },
        )
    return decision


def promote_model(run: RunContext, registered: RegisteredModel) -> PromotionDecision:
    """Compare with the champion, decide, and move the aliases.

    Effects: `promotion/` in the MLflow run, tags, aliases, a ledger line before each move. Safe to
    repeat: evidence is written before any alias moves, and each move leaves a champion in place.
    """
    tracker, ledger = run.tracker, run.settings.ledger
    aliases = Aliases(tracker.client, registered.name, ledger, run_id=tracker.run_id)
    with aliases.alone():
        champion_version = aliases.current().get(CHAMPION)
        if champion_version == registered.version:
            # A first attempt may have died after the decisive move; its evidence is in the run.
            if run.moves_aliases:
                aliases.settle_champion(registered.version)
                show(aliases, [registered.version])
            if not tracker.closed and tracker.tag(OUTCOME) is None:
                tracker.set_tags({OUTCOME: OUTCOMES["already_champion"].lower()})
            return PromotionDecision(
                promoted=False,
                outcome="already_champion",
                reasons=(f"Version {registered.version} is the champion already.",),
                name=registered.name,
                version=registered.version,
                champion_before=champion_version,
            )
        withdrawn = aliases.withdrawn(registered.version)
        verdict = decide(run, registered, champion_version)
        if withdrawn is not None:
            text = (
                f"Version {registered.version} was rolled back ({withdrawn}); noisefold promote "
                "puts it back."
            )
            verdict = Verdict(False, [text, *verdict.reasons], verdict.evidence)
        promoted = verdict.passed and run.moves_aliases
        decision = PromotionDecision(
            promoted=promoted,
            outcome=_outcome(verdict.passed, run.moves_aliases),
            reasons=tuple(verdict.reasons if run.moves_aliases else [_JUDGED, *verdict.reasons]),
            name=registered.name,
            version=registered.version,
            champion_before=champion_version,
            **verdict.evidence,
        )
        log_decision(decision, run)
        why = " ".join(decision.reasons)
        if decision.promoted:
            aliases.crown(registered.version, champion_version, why)
        elif withdrawn is None and run.moves_aliases:
            aliases.keep_challenger(registered.version, champion_version, why)
        show(aliases, [registered.version, champion_version], about_model(run.recipe))
        return decision


def _outcome(
    passed: bool, moves_aliases: bool
) -> Literal["promoted", "not_promoted", "would_pass", "would_not_pass"]:
    """In a word of its own where no alias may move, so that a later night on the same data finds
    that nothing was decided yet, and tells of its own decision.
    """
    if moves_aliases:
        return "promoted" if passed else "not_promoted"
    return "would_pass" if passed else "would_not_pass"


def decide(run: RunContext, registered: RegisteredModel, champion_version: str | None) -> Verdict:
    """The rule, without any effect. All failed conditions are listed, not just the first."""
    recipe, store, tracker = run.recipe, run.store, run.tracker
    model = run.made[TrainedModel]
    tokens = run.made[TokenDataset]
    evaluation = run.made[EvaluationReport]
    judge = judge_of(recipe.task, tokens.facts, recipe.statistics)
    measured = store.open(evaluation) / "predictions.parquet"
    predictions = pq.read_table(measured)
    served = None
    failed: list[str] = []
    held: list[str] = []
    try:
        served = check_served(tracker.client, registered.name, registered.version, measured)
        held.append(
            f"Served by a fresh process, it gives {served.rows:,} rows the {served.compared} of "
            "its evaluation."
        )
    except Unservable as error:
        failed.append(
            f"Version {registered.version}, fetched from the registry, does not serve: {error}."
        )
    identified_by, own = recipe.contract.identified_by, recipe.task.slices
    sliced = Sliced(predictions, judge.row_figure(predictions), identified_by, own)
    checks = check_bounds(evaluation, sliced, served, recipe.promotion, recipe.task)
    broken, kept = sentences(checks)
    failed += broken
    held += kept
    slices = recipe.promotion.slices
    if slices is not None and (small := small_slices(sliced, slices)):
        held.append(
            f"Slices of fewer than {slices.min_rows:,} rows decide nothing "
            f"(promotion.slices.min_rows): {listed(small)}."
        )
    unknown = judge.gaps(evaluation.without_rows)
    evidence: dict[str, Any] = {"checks": tuple(checks)}
    trained = np.load(store.open(model) / SEEN_TEXTS, allow_pickle=False)
    if champion_version is None:
        compared = first_champion(judge, predictions, store.open(tokens), trained, recipe)
        return _together(failed, compared, held, unknown, evidence)
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        try:
            champion = fetch_champion(registered.name, champion_version, tracker, Path(scratch))
        except Unservable as error:
            text = (
                f"The champion (version {champion_version}) cannot be scored: {error}. Restore its "
                "files, or take the alias away so that the rule for a first champion decides."
            )
            return Verdict(False, [text, *failed, *unknown], evidence)
        compared = compare(judge, predictions, champion, trained, recipe)
    return _together(failed, compared, held, unknown, evidence)


def _together(
    failed: list[str],
    compared: Verdict,
    held: list[str],
    unknown: list[str],
    evidence: dict[str, Any],
) -> Verdict:
    """What does not hold first, then the comparison; what holds is told where nothing fails, what
    is unknown always.
    """
    passed = compared.passed and not failed
    reasons = [*failed, *compared.reasons, *(held if passed else []), *unknown]
    return Verdict(passed, reasons, evidence | compared.evidence)


def log_decision(decision: PromotionDecision, run: RunContext) -> None:
    """The decision, its reasons and every bound in the MLflow run; the outcome on the version.

    A finished run has told of its decision. Where a later night decides otherwise, or against
    another champion, what it decided stands beside the first, under `promotion/` and its time, and
    the tags tell the newest. What was only judged says nothing where a night has decided.
    """
    tracker, config = run.tracker, run.recipe.promotion
    made_from = {
        "bundle_digest": run.made[TrainedModel].digest,
        "data_digest": run.made[ValidatedCorpus].digest,
    }
    against = decision.champion_before or "none"
    outcome = OUTCOMES[decision.outcome].lower()
    folder_name = "promotion"
    if tracker.closed:
        known, decided = tracker.tag(OUTCOME), [OUTCOMES[one].lower() for one in _DECIDED]
        if decision.outcome in _JUDGED_ONLY and known in decided:
            return
        if (known, tracker.tag(_AGAINST)) == (outcome, against):
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
    tracker.set_tags({OUTCOME: outcome, _AGAINST: against})
    told = outcome if decision.promoted else f"{outcome}: {' '.join(decision.reasons)}"
    tracker.client.set_model_version_tag(
        decision.name, decision.version, OUTCOME, told[:_OUTCOME_LIMIT]
    )
