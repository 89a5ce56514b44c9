"""compare: what finished cells and other programs predict for the same test rows, as one table."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_contracts.artifacts import (
    EvaluationReport,
    Measurement,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.errors import NoisefoldError
from data_contracts.recipe.compared import CellResult, Compared, Facts, Row, Spread
from data_contracts.recipe.comparison import Cell, Comparison
from data_contracts.recipe.overlay import BIT_FIELDS, VARIED
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import DistillationConfig, WarmStartConfig
from data_contracts.results import Interval
from lightning_modules.evidence import difference, drawn
from tasks.artifacts.store import ArtifactStore, digest_of, write_durably
from tasks.comparing.predictions import TestRows, read_predictions
from tasks.comparing.table import columns_of
from tasks.evaluate import evaluate
from tasks.ingest import ingest, survey
from tasks.measure import measure
from tasks.serving.fetched import fetched_model
from tasks.settings import Settings
from tasks.stage import RunContext, looking
from tasks.start import fetched_start, with_tokenizer_of
from tasks.teach import distill, teach
from tasks.tokenize import tokenize
from tasks.train import train
from tasks.validate import validate


@dataclass(frozen=True)
class Judged:
    """Figures of one model, and those of the test rows on each resample (`evidence.drawn`)."""

    figures: dict[str, float]
    drawn: dict[str, np.ndarray]
    facts: Facts


def judge(test: TestRows, scored: pa.Table, facts: Facts, comparison: Comparison) -> Judged:
    """Figures of what was scored of the test rows, in their order."""
    judge, samples = test.judge, comparison.recipe.statistics.paired_samples
    resampled = drawn(judge.evidence(test.rows, scored), samples)
    shown = [one.name for one in columns_of(judge.metrics) if one.shown == "everywhere"]
    # What another program does not tell (a likelihood, say) is no figure of its.
    kept = {name: resampled[name] for name in shown if name in resampled}
    figures = {name: float(values[0]) for name, values in kept.items()}
    return Judged({**figures, **judge.beside(scored)}, kept, facts)


def judge_cell(
    test: TestRows,
    model: TrainedModel,
    evaluation: EvaluationReport,
    cost: Measurement,
    store: ArtifactStore,
    comparison: Comparison,
) -> Judged:
    """A finished cell, from the predictions that its evaluation left in the store."""
    found = read_predictions(store.open(evaluation) / "predictions.parquet", test.judge)
    scored = test.align(found.scored, f"evaluation {evaluation.key}")
    facts = Facts(
        parameters=model.parameters,
        bytes=cost.bytes,
        cpu_seconds_train=model.cpu_seconds or None,
        texts_per_second=cost.texts_per_second,
    )
    judged = judge(test, scored, facts, comparison)
    name = chosen_by(comparison.recipe)
    valid = {f"valid_{name}": model.validation[f"val/{name}"]}
    return replace(judged, figures={**judged.figures, **valid})


def chosen_by(recipe: Recipe) -> str:
    """The figure of the valid rows that a person chooses by: the one that the shared recipe
    monitors."""
    return (recipe.training.monitor or recipe.task.monitored()[0]).removeprefix("val/")


class Board:
    """The state of every cell of a comparison, and the table that they make so far.

    Args:
        before: an earlier table, whose rows stand for cells that this store does not hold.
    """

    def __init__(
        self,
        comparison: Comparison,
        settings: Settings,
        command: str,
        before: Compared | None = None,
    ) -> None:
        self.comparison, self.command, self.before = comparison, command, before
        self.settings = settings
        self.store = ArtifactStore(settings.artifacts_url, settings.work)
        self.corpus: ValidatedCorpus | None = None
        self.test: TestRows | None = None
        self.finished: dict[Cell, Judged] = {}
        self.failed: dict[Cell, str] = {}
        self.others: dict[str, list[tuple[str, Judged]]] = {
            name: [] for name in comparison.predictions
        }

    def read(self, corpus: ValidatedCorpus | None = None) -> None:
        """Find what is finished. Without a corpus it, too, is looked up, and where it is missing
        nothing can be.

        Raises:
            SourceError: where predictions of another program do not fit the test rows.
        """
        self.corpus = corpus or self.find_corpus()
        if self.corpus is None:
            return
        self.test = TestRows.of(self.corpus, self.store, self.comparison.recipe)
        for name, pattern in self.comparison.predictions.items():
            for path in sorted(glob.glob(pattern)):
                file = Path(path).name
                found = read_predictions(path, self.test.judge)
                scored = self.test.align(found.scored, file)
                judged = judge(self.test, scored, found.facts, self.comparison)
                self.others[name].append((file, judged))
        for cell in self.comparison.cells():
            # A fault of the cell's own is met, and told, when its turn comes.
            with suppress(NoisefoldError):
                if (found := self.find(self.comparison.recipe_of(cell))) is not None:
                    self.add(cell, *found)
            if cell not in self.finished and self._note(cell).exists():
                self.failed[cell] = self._note(cell).read_text(encoding="utf-8")

    def add(
        self, cell: Cell, model: TrainedModel, evaluation: EvaluationReport, cost: Measurement
    ) -> None:
        assert self.test is not None
        self.finished[cell] = judge_cell(
            self.test, model, evaluation, cost, self.store, self.comparison
        )
        self.failed.pop(cell, None)
        self._note(cell).unlink(missing_ok=True)

    def fail(self, cell: Cell, cause: str) -> None:
        """Remember why a cell has no figures: a failed stage leaves nothing in the store."""
        self.failed[cell] = cause
        self._note(cell).parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._note(cell), cause.encode())

    def table(self) -> Compared:
        others: dict[str, dict[Any, Judged]] = {
            name: dict(files) for name, files in self.others.items()
        }
        variants = {
            v: {c.seed: j for c, j in self.finished.items() if c.variant == v}
            for v in self.comparison.variants
        }
        baseline = {**variants, **others}[self.comparison.baseline]
        rows = [
            self._row(
                name,
                judged,
                len(self.comparison.seeds) if name in variants else len(judged),
                baseline,
            )
            for name, judged in {**variants, **others}.items()
        ]
        found = Compared(
            name=self.comparison.name,
            kind=self.comparison.recipe.task.kind,
            chosen_by=chosen_by(self.comparison.recipe),
            command=self.command,
            corpus=self.test.digest if self.test else None,
            test_rows=self.test.rows.num_rows if self.test else 0,
            unmeasured=(self.test.judge.unmeasured(self.test.rows) or None) if self.test else None,
            baseline=self.comparison.baseline,
            confidence=self.comparison.recipe.statistics.confidence,
            bootstrap_samples=self.comparison.recipe.statistics.paired_samples,
            settings=self.comparison.recipe.task.noted,
            rows=tuple(rows),
            cells=(*map(self._result, self.comparison.cells()), *self._results_of_others()),
        )
        return found.with_rows_of(self.before) if self.before is not None else found

    def _row(
        self, name: str, runs: dict[Any, Judged], planned: int, baseline: dict[Any, Judged]
    ) -> Row:
        """Two variants are compared at the seeds that both have finished, another program as a
        whole.
        """
        judged = list(runs.values())
        both_have_seeds = {name, self.comparison.baseline} <= self.comparison.variants.keys()
        shared = runs.keys() & baseline.keys() if both_have_seeds else None
        sides = [
            [run for key, run in side.items() if shared is None or key in shared]
            for side in (runs, baseline)
        ]
        differences: dict[str, Interval] = {}
        if all(sides) and name != self.comparison.baseline:
            for figure in judged[0].drawn:
                if not all(figure in run.drawn for run in chain(*sides)):
                    continue
                one, other = ([run.drawn[figure] for run in side] for side in sides)
                differences[figure] = difference(
                    one, other, self.comparison.recipe.statistics.confidence
                )
        figures = {
            figure: _spread([one.figures[figure] for one in judged])
            for figure in (judged[0].figures if judged else ())
            if all(figure in one.figures for one in judged)
        }
        return Row(
            variant=name,
            finished=len(judged),
            failed=sum(cell.variant == name for cell in self.failed),
            planned=planned,
            figures=figures,
            differences=differences,
            facts=_mean_facts([one.facts for one in judged]),
        )

    def _result(self, cell: Cell) -> CellResult:
        config, judged = self._config(cell), self.finished.get(cell)
        if judged is None:
            state = "failed" if cell in self.failed else "not run"
            return CellResult(
                variant=cell.variant,
                seed=cell.seed,
                state=state,
                cause=self.failed.get(cell),
                config=config,
            )
        return CellResult(
            variant=cell.variant,
            seed=cell.seed,
            state="finished",
            config=config,
            figures=judged.figures,
            facts=judged.facts,
        )

    def _results_of_others(self) -> Iterator[CellResult]:
        for name, files in self.others.items():
            for file, judged in files:
                yield CellResult(
                    variant=name,
                    seed=None,
                    file=file,
                    state="finished",
                    figures=judged.figures,
                    facts=judged.facts,
                )

    def find_corpus(self) -> ValidatedCorpus | None:
        """The validated rows of every cell; None where the store lacks them."""
        run = looking(self.comparison.recipe, self.settings, self.store)
        raw = ingest.find(run, survey(run.recipe.source))
        return raw and validate.find(run, raw)

    def find(self, recipe: Recipe) -> tuple[TrainedModel, EvaluationReport, Measurement] | None:
        """What the store holds of a cell; None where it lacks something of it."""
        assert self.corpus is not None
        start = fetched_start(recipe, self.store)
        if start is None and isinstance(recipe.training.warm_start, WarmStartConfig):
            return None
        if start is not None:
            recipe = with_tokenizer_of(recipe, start)
        run = looking(recipe, self.settings, self.store)
        tokens = tokenize.find(run, self.corpus)
        if tokens is not None and recipe.distillation is not None:
            tokens = self._taught(run, tokens, recipe.distillation)
        model = tokens and train.find(run, tokens, start)
        if tokens is None or model is None:
            return None
        evaluation = evaluate.find(run, model, tokens, self.corpus)
        cost = measure.find(run, model, self.corpus)
        return (model, evaluation, cost) if evaluation and cost else None

    def _taught(
        self, run: RunContext, tokens: TokenDataset, config: DistillationConfig
    ) -> TokenDataset | None:
        assert self.corpus is not None
        teacher = fetched_model(self.store.fetched, config.teacher, str(config.version))
        lessons = teacher and teach.find(run, self.corpus, teacher)
        return lessons and distill.find(run, tokens, lessons)

    def _config(self, cell: Cell) -> str:
        # What is as it is by default is left out: a table stays valid when a later version has one
        # more field.
        recipe = self.comparison.recipe_of(cell)
        try:
            return digest_of(recipe.identity((*VARIED, *BIT_FIELDS)))
        except NoisefoldError:  # a given file is not here, so its path has to stand for it
            return digest_of(recipe.model_dump(mode="json", include=set(VARIED)))

    def _note(self, cell: Cell) -> Path:
        assert self.test is not None
        return self.store.work / "failed" / f"{digest_of(self.test.digest, self._config(cell))}.txt"


def _spread(values: list[float]) -> Spread:
    return Spread(
        mean=float(np.mean(values)), sd=float(np.std(values, ddof=1)) if len(values) > 1 else None
    )


def _mean_facts(facts: list[Facts]) -> Facts:
    """Each number's mean over the runs that tell it; every setting that was chosen."""
    told: dict[str, list[Any]] = {}
    for one in facts:
        for name, value in one.model_dump(exclude_none=True).items():
            told.setdefault(name, []).append(value)
    chosen = "; ".join(dict.fromkeys(told.pop("chosen", []))) or None
    means = {name: float(np.mean(values)) for name, values in told.items()}
    whole = {name: round(means[name]) for name in ("parameters", "bytes") if name in means}
    return Facts.model_validate({**means, **whole, "chosen": chosen})
