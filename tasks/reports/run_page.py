"""One page per run: data, training, figures, the gate, lineage and cost, as one HTML file.

It is drawn from the manifests that the run made or found and from their files, so it knows no kind
of task; what is the kind's own are the blocks of its evaluation. A run that failed has a page of
what it came to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_contracts.artifacts import (
    Artifact,
    EvaluationReport,
    RegisteredModel,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.contract.contract import SPLITS
from data_contracts.contract.shown import shown_share
from data_contracts.recipe.recipe import Recipe
from data_contracts.results import Block, Cell, Table
from tasks.artifacts.store import ArtifactStore
from tasks.reports import blocks
from tasks.reports.curves import Curves
from tasks.reports.decision import has_to_be
from tasks.reports.html import render
from tasks.reports.story import Story
from tasks.stage import Made, RunContext

A = TypeVar("A", bound=Artifact)
_CHANGE = 0.01  # share by which a value of a category has to change to be named


def run_page(
    story: Story,
    run: RunContext,
    lineage: Mapping[str, str],
    before: dict[str, Any] | None = None,
    refused: Path | None = None,
) -> str:
    """The page.

    Args:
        run: the retrain, with the manifests that there are by now.
        lineage: what is known of the run itself, by words.
        before: `report.json` of the champion's data, where there was a champion.
        refused: folder of validation's report on rows that break their contract.
    """
    made, store = run.made, run.store
    corpus, tokens = made.get(ValidatedCorpus), made.get(TokenDataset)
    model, report = made.get(TrainedModel), made.get(EvaluationReport)
    data = None
    if (folder := refused if corpus is None else store.open(corpus)) is not None:
        data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    curves = Curves.read(store.open(model) / "metrics.jsonl") if model is not None else Curves()
    best = None if model is None else model.steps * model.best_epoch / max(model.epochs, 1)
    return render(
        "run.html.j2",
        story=story,
        split_names=SPLITS,
        data=data,
        changes=[] if data is None or before is None else changes(before, data),
        tokens=None if tokens is None else _tokens(tokens),
        training=None if model is None else _training(model, run.recipe),
        panels=curves.panels(best),
        slices=None if report is None else _slices(report),
        evaluation=[] if report is None else _blocks(report, store),
        bounds=_bounds(story),
        lineage=_lineage(made, lineage),
        recipe=yaml.safe_dump(
            run.recipe.model_dump(mode="json"), allow_unicode=True, sort_keys=False
        ),
    )


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What differs between two data sets: rows, refused rows by reason, shares of categories.

    Args:
        before, now: what `report.json` of validation says of each.
    Returns:
        (what, before, now) in words; what has not changed is left out.
    """
    pairs = [("rows in", before["rows_in"], now["rows_in"])]
    pairs += [("rows kept", before["rows_kept"], now["rows_kept"])]
    pairs += [
        (f"rows kept in {split}", before["splits"].get(split, 0), now["splits"].get(split, 0))
        for split in SPLITS
    ]
    ours, theirs = _reasons(now), _reasons(before)
    pairs += [(words, theirs.get(words, 0), ours.get(words, 0)) for words in {**ours, **theirs}]
    told = [(what, f"{old:,}", f"{new:,}") for what, old, new in pairs if old != new]
    for name, values in now["categories"].items():
        told += _shares(name, before["categories"].get(name, {"rows": {}}), values)
    return told


def _reasons(report: dict[str, Any]) -> dict[str, int]:
    return {f"refused: {one['words']}": one["rows"] for one in report["reasons"]}


def _shares(name: str, before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Values whose share of the kept rows has changed, those that changed most first."""
    ours, theirs = _of_all(now["rows"]), _of_all(before["rows"])
    found = []
    for value in {**ours, **theirs}:
        old, new = theirs.get(value), ours.get(value)
        moved = abs((new or 0) - (old or 0))
        if moved >= _CHANGE or old is None or new is None:
            shown = ["none" if share is None else shown_share(share) for share in (old, new)]
            found.append((-moved, f"share of {name} {value}", *shown))
    return [(what, old, new) for _, what, old, new in sorted(found)[:20]]


def _of_all(rows: dict[str, dict[str, int]]) -> dict[str, float]:
    totals = {value: sum(counts.values()) for value, counts in rows.items()}
    whole = sum(totals.values()) or 1
    return {value: rows / whole for value, rows in totals.items() if rows}


def _tokens(tokens: TokenDataset) -> list[tuple[str, Cell]]:
    return [
        ("tokens", tokens.tokens),
        ("windows", tokens.rows_out),
        ("vocabulary", tokens.vocab_size),
        ("documents cut into several windows", shown_share(tokens.over_length_share)),
        *(
            (f"tokens of {split} that the vocabulary lacks", shown_share(share))
            for split, share in tokens.unknown_shares.items()
        ),
    ]


def _training(model: TrainedModel, recipe: Recipe) -> list[tuple[str, Cell]]:
    network = recipe.model
    return [
        ("encoder", network.encoder.kind),
        ("noise on the weights", network.reparameterization.kind),
        ("weights after folding", model.parameters),
        ("epochs", model.epochs),
        ("steps", model.steps),
        (f"epoch that is kept, by {model.monitor}", model.best_epoch),
        *model.validation.items(),
        ("CPU seconds", round(model.cpu_seconds, 1)),
        ("started from", model.warm_started_from or "scratch"),
    ]


def _slices(report: EvaluationReport) -> Table | None:
    """How good the answers are on parts of the test rows; None where the rows have no parts."""
    return (
        Table(("where", report.row_figure, "rows"), report.slices)
        if len(report.slices) > 1
        else None
    )


def _blocks(report: EvaluationReport, store: ArtifactStore) -> list[Block]:
    return blocks.load((store.open(report) / blocks.FILE).read_text(encoding="utf-8"))


def _bounds(story: Story) -> Table | None:
    checks = story.decision.checks if story.decision is not None else ()
    rows = tuple((c.what, c.value, has_to_be(c), "yes" if c.passed else "no") for c in checks)
    return Table(("bound", "value", "has to be", "holds"), rows) if rows else None


def _lineage(made: Made, run: Mapping[str, str]) -> list[tuple[str, str]]:
    found = [(words, text) for words, text in run.items() if text]
    corpus, version = made.get(ValidatedCorpus), made.get(RegisteredModel)
    if corpus is not None:
        found.append(("contract", f"{corpus.contract_name} version {corpus.contract_version}"))
    for kind in (ValidatedCorpus, TokenDataset, TrainedModel, EvaluationReport):
        artifact = made.get(kind)
        if artifact is not None:
            found.append((f"{artifact.stage}: digest, key", f"{artifact.digest}, {artifact.key}"))
    if version is not None:
        found.append(("registered as", version.model_uri))
        found.append(("digest of the served bundle", version.digest))
    return found
