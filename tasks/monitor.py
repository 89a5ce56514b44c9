"""monitor: new rows of a source beside those that a registered version was measured on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import closing
from typing import Any

from data_contracts.artifacts import Drift, FetchedModel, Snapshot
from data_contracts.errors import SourceError
from data_contracts.recipe.monitor import MonitorRecipe
from data_contracts.recipe.source import FileSource
from lightning_modules.bundle import Bundle
from tasks.answered import types_of
from tasks.artifacts.store import digest_of
from tasks.drift import compare
from tasks.ingest import refuse_changed, source_files
from tasks.profiles import Vocabulary, load_profile, signals
from tasks.progress import report
from tasks.reports.drifted import log_drift
from tasks.serving.asked_rows import asked_rows, columns_of
from tasks.serving.predict import predictor_of
from tasks.sources.files import list_files
from tasks.stage import Here, RunContext, stage
from tasks.tracking.data_sets import of_asked


def _tell(drift: Drift, run: RunContext[MonitorRecipe]) -> None:
    with run.tracker.once("monitor", drift.key) as fresh:
        if fresh:
            log_drift(drift, run.tracker)
            recipe = run.recipe
            rows = of_asked(recipe.name, recipe.verb, drift, recipe.source)
            run.tracker.log_data_sets([rows])


@stage(
    Drift,
    version=2,
    shaped_by=("model", "column", "rows", "min_rows", "alpha", "min_psi", "seed", "source.reading"),
    tell=_tell,
)
def monitor(here: Here[MonitorRecipe], snapshot: Snapshot, model: FetchedModel) -> dict[str, Any]:
    """Compare the rows with the version's profile. Safe to repeat.

    Raises:
        SourceError: the rows cannot be read, are too few, or change while they are read.
        NoisefoldError: the version carries no profile.
    """
    recipe = here.recipe
    name = f"{model.name} version {model.version}"
    profile = load_profile(model.bundle.parent, name)
    source = source_files(recipe.source, here.keep)
    files = list_files(source)
    predictor = predictor_of(model.folder, model.name, model.version)
    columns, asked = columns_of(files, source, recipe.column, here.keep, predictor)
    drawn = _Drawn(recipe.rows, recipe.seed)
    types: dict[str, str] = {}
    for file in files:
        with closing(asked_rows(file, source, asked, here.keep)) as batches:
            for rows in batches:
                types = types or types_of(rows)
                for row in zip(*rows.asked.values(), strict=True):
                    drawn.offer(row)
                report("monitor", drawn.offered)
    refuse_changed(recipe.source, snapshot, source)
    have = _answerable(drawn.rows, list(asked), predictor.optional)
    if len(have) < recipe.min_rows:
        raise SourceError(
            f"{_names(source)}: {len(have):,} rows with a text, and fewer than {recipe.min_rows:,} "
            "(min_rows) say too little.",
            "Give it more days (source.window), or set min_rows lower, to 30 at least.",
        )
    questions = {name: [row[place] for row in have] for place, name in enumerate(asked)}
    bundle: Bundle = predictor.bundle
    vocabulary = Vocabulary(profile.token_counts, profile.token_total, profile.vocab_size)
    seen = signals(bundle, predictor.task, questions, vocabulary)
    found = compare(profile, seen, recipe.alpha, recipe.min_psi)
    drifted = any(one.drifted for one in found)
    values = {name: [round(float(v), 6) for v in told] for name, told in seen.numbers.items()}
    content = {"numbers": values, "categories": seen.categories}
    (here.out / "signals.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    told = [one.model_dump() for one in found]
    return {
        "digest": digest_of(told, drawn.offered),
        "rows_in": drawn.offered,
        "rows_out": len(have),
        "model": predictor.uri,
        "fingerprint": snapshot.fingerprint,
        "columns": {one: types.get(one, "string") for one in columns},
        "reference_rows": profile.rows,
        "refused": len(drawn.rows) - len(have),
        "signals": tuple(found),
        "drifted": drifted,
        "warnings": tuple(_sentence(one) for one in found if one.drifted),
    }


class _Drawn:
    """At most so many rows of all that are offered, each as likely as any other (Vitter 1985)."""

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.offered = most, 0
        self.rows: list[tuple[str | None, ...]] = []
        self._place: Callable[[int], int] = random.Random(seed).randrange

    def offer(self, row: tuple[str | None, ...]) -> None:
        self.offered += 1
        if len(self.rows) < self.most:
            self.rows.append(row)
        elif (place := self._place(self.offered)) < self.most:
            self.rows[place] = row


def _answerable(
    rows: list[tuple[str | None, ...]], asked: list[str], optional: Any
) -> list[tuple[str | None, ...]]:
    needed = [place for place, name in enumerate(asked) if name not in optional]
    return [row for row in rows if all((row[place] or "").strip() for place in needed)]


def _names(source: FileSource) -> str:
    return ", ".join(file.name for file in list_files(source)[:3])


def _sentence(one: Any) -> str:
    return (
        f"{one.signal} has moved: {one.before} before, {one.now} now (PSI {one.psi:.2f}, "
        f"p {one.adjusted_p:.1g})."
    )
