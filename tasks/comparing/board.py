"""compare: what finished cells and other programs predict for the same test rows, as one table.

Another program hands in a Parquet file per seed (`write_predictions`): columns `id` (string: the ids of the test split
of the validated corpus, each once, in any order) and `log_proba` (list<double>: natural logarithms of probabilities).
The schema's metadata hold `noisefold.labels`, a JSON list with the label of each place in `log_proba`, and
`noisefold.facts`, a JSON object with the fields of `Facts`, each of which may be absent.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import logsumexp

from data_contracts.artifacts import (
    EvaluationReport,
    Measurement,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.compared import CellResult, Compared, Facts, Row, Spread
from data_contracts.recipe.comparison import Cell, Comparison
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import DistillationConfig
from data_contracts.results import Interval
from lightning_modules.evidence import difference, drawn
from lightning_modules.kinds.classify import figures as m
from tasks.artifacts.store import ArtifactStore, digest_of, write_durably
from tasks.evaluate import evaluate
from tasks.ingest import ingest, survey
from tasks.measure import measure
from tasks.serving.fetched import fetched_model
from tasks.settings import Settings
from tasks.stage import RunContext, looking
from tasks.teach import distill, teach
from tasks.tokenize import tokenize
from tasks.train import train
from tasks.validate import validate

LABELS, FACTS = b"noisefold.labels", b"noisefold.facts"
_SMALLEST = float(
    np.log(np.finfo(np.float64).tiny)
)  # log of 0 is not finite, and one such row would hide all others


# --- predictions of other programs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictions:
    """N documents by id, log-probabilities (N, C) in the order of `labels`, and what the program says of itself."""

    ids: list[str]
    log_proba: np.ndarray
    labels: tuple[str, ...]
    facts: Facts


def write_predictions(
    path: str | Path,
    ids: Sequence[str],
    log_proba: Any,
    labels: Sequence[str],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write predictions for `noisefold compare`; the file appears whole or not at all.

    Args:
        ids: (N,) document ids.
        log_proba: (N, C) natural logarithms of probabilities.
        labels: (C,) the label of each column.
        facts: any of parameters, bytes, cpu_seconds_train, texts_per_second, chosen.
    """
    values = np.asarray(log_proba, np.float64)
    if values.shape != (len(ids), len(labels)):
        raise ValueError(
            f"expected log_proba of shape {(len(ids), len(labels))}, got {values.shape}"
        )
    stated = Facts.model_validate(dict(facts or {})).model_dump(exclude_none=True)
    offsets = pa.array(np.arange(len(ids) + 1) * len(labels), pa.int32())
    columns = {
        "id": pa.array(ids, pa.string()),
        "log_proba": pa.ListArray.from_arrays(offsets, pa.array(values.ravel())),
    }
    described = {
        LABELS: json.dumps(list(labels), ensure_ascii=False),
        FACTS: json.dumps(stated, ensure_ascii=False),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(
        pa.table(columns).replace_schema_metadata(described), temporary, compression="zstd"
    )
    os.replace(temporary, path)


def read_predictions(path: str | Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        SourceError: naming the file and what is wrong with it.
    """
    name = Path(path).name
    try:
        table = pq.read_table(path)
        described = table.schema.metadata or {}
        labels = tuple(json.loads(described[LABELS]))
        if (
            not labels
            or not all(isinstance(label, str) for label in labels)
            or len(set(labels)) < len(labels)
        ):
            raise ValueError("its labels are no list of distinct texts")
        facts = Facts.model_validate_json(described.get(FACTS, b"{}"))
        ids = table["id"].cast(pa.string()).to_pylist()
        # 64-bit offsets: rows times labels may be more than 2^31.
        rows = table["log_proba"].cast(pa.large_list(pa.float64())).combine_chunks()
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file.", "Correct the path under predictions.") from None
    except (pa.ArrowException, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise SourceError(
            f"{name}: no predictions file ({type(error).__name__}: {error}).", _REWRITE
        ) from None
    if rows.null_count or set(pc.list_value_length(rows).to_pylist()) - {len(labels)}:
        raise SourceError(
            f"{name}: log_proba does not have one value for each of {len(labels)} labels.", _REWRITE
        )
    log_proba = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), len(labels))
    off = np.abs(logsumexp(log_proba, axis=1)) if len(ids) else np.zeros(1)
    if not (off < 1e-3).all():  # NaN is not
        row = int(np.argmax(~(off < 1e-3)))
        raise SourceError(f"{name}: the probabilities of id {ids[row]} do not sum to 1.", _REWRITE)
    return Predictions(ids, log_proba, labels, facts)


_REWRITE = "Write it with tasks.comparing.board.write_predictions."


# --- the rows, and how a model does on them ---------------------------------------------------------------------------


@dataclass(frozen=True)
class TestRows:
    """The test split that everything is measured on: N ids and their class numbers."""

    __test__ = False  # no test class of pytest's

    ids: pa.Array
    labels: np.ndarray
    names: tuple[str, ...]
    digest: str

    @classmethod
    def of(cls, corpus: ValidatedCorpus, store: ArtifactStore) -> TestRows:
        table = read_test(corpus, store, ["id", "label"])
        number = {name: index for index, name in enumerate(corpus.facts["labels"])}
        labels = np.array([number[label] for label in table["label"].to_pylist()], np.int64)
        return cls(
            table["id"].cast(pa.large_string()).combine_chunks(),
            labels,
            corpus.facts["labels"],
            corpus.digest,
        )

    def unmeasured(self) -> tuple[str, ...]:
        """The labels that no row has."""
        counts = np.bincount(self.labels, minlength=len(self.names))
        return tuple(name for name, rows in zip(self.names, counts, strict=True) if not rows)

    def align(self, predictions: Predictions, origin: str) -> np.ndarray:
        """Log-probabilities (N, C) in the order of these rows and classes.

        Raises:
            SourceError: where ids or labels are not exactly those of the test split.
        """
        _same(origin, "labels", predictions.labels, self.names)
        if len(set(predictions.ids)) < len(predictions.ids):
            raise SourceError(f"{origin}: an id stands twice.", _REWRITE)
        places = pc.index_in(self.ids, value_set=pa.array(predictions.ids, self.ids.type))
        if places.null_count or len(predictions.ids) != len(self.ids):
            _same(origin, "ids", predictions.ids, self.ids.to_pylist())
        columns = [predictions.labels.index(name) for name in self.names]
        return np.maximum(predictions.log_proba[places.to_numpy()][:, columns], _SMALLEST)


def _same(origin: str, what: str, found: Sequence[str], wanted: Sequence[str]) -> None:
    missing, foreign = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if not missing and not foreign:
        return
    told = [
        f"{count} {kind} ({', '.join(some[:3])}{', …' if count > 3 else ''})"
        for kind, some in (("missing", missing), ("not in the test split", foreign))
        if (count := len(some))
    ]
    raise SourceError(
        f"{origin}: its {what} are not those of the {len(wanted)} of the test split: {' and '.join(told)}.",
        "Predict the test rows of this comparison's validated corpus, with the same contract.",
    )


def read_test(corpus: ValidatedCorpus, store: ArtifactStore, columns: list[str]) -> pa.Table:
    return pq.read_table(
        store.open(corpus) / "corpus", columns=columns, filters=[("split", "==", "test")]
    )


@dataclass(frozen=True)
class Judged:
    """Figures of one model, and those of the test rows on each resample (`evidence.drawn`)."""

    figures: dict[str, float]
    drawn: dict[str, np.ndarray]
    facts: Facts


def judge(test: TestRows, log_proba: np.ndarray, facts: Facts, comparison: Comparison) -> Judged:
    bins = comparison.recipe.evaluation.ece_bins
    evidence = m.evidence(test.labels, log_proba, bins=bins)
    resampled = drawn(evidence, comparison.recipe.statistics.paired_samples)
    shown = [one.name for one in Classify.metrics if one.column and one.shown == "everywhere"]
    kept = {name: resampled[name] for name in shown}
    figures = {name: float(values[0]) for name, values in kept.items()}
    return Judged({**figures, "ece_floor": m.ece_floor(log_proba, bins=bins)}, kept, facts)


def judge_cell(
    test: TestRows,
    model: TrainedModel,
    evaluation: EvaluationReport,
    cost: Measurement,
    store: ArtifactStore,
    comparison: Comparison,
) -> Judged:
    """A finished cell, from the predictions that its evaluation left in the store."""
    table = pq.read_table(
        store.open(evaluation) / "predictions.parquet", columns=["id", "probabilities"]
    )
    labels = tuple(json.loads((table.schema.metadata or {})[LABELS]))
    proba = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(-1, len(labels))
    with np.errstate(divide="ignore"):
        found = Predictions(table["id"].to_pylist(), np.log(proba), labels, Facts())
    facts = Facts(
        parameters=model.parameters,
        bytes=cost.bytes,
        cpu_seconds_train=model.cpu_seconds or None,
        texts_per_second=cost.texts_per_second,
    )
    judged = judge(test, test.align(found, f"evaluation {evaluation.key}"), facts, comparison)
    return replace(
        judged, figures={**judged.figures, "valid_macro_f1": model.validation["val/macro_f1"]}
    )


# --- what a model costs to use ----------------------------------------------------------------------------------------


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
        """Find what is finished. Without a corpus it, too, is looked up, and where it is missing nothing can be.

        Raises:
            SourceError: where predictions of another program do not fit the test rows.
        """
        self.corpus = corpus or self.find_corpus()
        if self.corpus is None:
            return
        self.test = TestRows.of(self.corpus, self.store)
        for name, pattern in self.comparison.predictions.items():
            for path in sorted(glob.glob(pattern)):
                found = read_predictions(path)
                aligned = self.test.align(found, Path(path).name)
                self.others[name].append(
                    (Path(path).name, judge(self.test, aligned, found.facts, self.comparison))
                )
        for cell in self.comparison.cells():
            with suppress(
                NoisefoldError
            ):  # a fault of the cell's own is met, and told, when its turn comes
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
        evaluation = self.comparison.recipe.evaluation
        found = Compared(
            name=self.comparison.name,
            command=self.command,
            corpus=self.test.digest if self.test else None,
            test_rows=len(self.test.labels) if self.test else 0,
            unmeasured=self.test.unmeasured() or None if self.test else None,
            baseline=self.comparison.baseline,
            confidence=self.comparison.recipe.statistics.confidence,
            bootstrap_samples=self.comparison.recipe.statistics.paired_samples,
            ece_bins=evaluation.ece_bins,
            rows=tuple(rows),
            cells=(*map(self._result, self.comparison.cells()), *self._results_of_others()),
        )
        return found.with_rows_of(self.before) if self.before is not None else found

    def _row(
        self, name: str, runs: dict[Any, Judged], planned: int, baseline: dict[Any, Judged]
    ) -> Row:
        """Two variants are compared at the seeds that both have finished, another program as a whole."""
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
                one, other = ([run.drawn[figure] for run in side] for side in sides)
                differences[figure] = difference(
                    one, other, self.comparison.recipe.statistics.confidence
                )
        figures = {
            figure: _spread([one.figures[figure] for one in judged])
            for figure in (judged[0].figures if judged else ())
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
        run = looking(recipe, self.settings, self.store)
        tokens = tokenize.find(run, self.corpus)
        if tokens is not None and recipe.distillation is not None:
            tokens = self._taught(run, tokens, recipe.distillation)
        model = tokens and train.find(run, tokens)
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
        # What is off is left out: a table stays valid when a later version has one more thing that may be on.
        sections = {"tokenizer", "model", "training", "teacher", "evaluation"}
        return digest_of(
            self.comparison.recipe_of(cell).model_dump(
                mode="json", include=sections, exclude_none=True
            )
        )

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
