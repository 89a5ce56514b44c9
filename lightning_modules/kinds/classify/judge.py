"""How a classifier is judged: log-probabilities of each document, a temperature, figures, a report.

Shapes: N documents, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.kinds.base import Metric
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.results import Block, Interval
from lightning_modules.evidence import Evidence, Floats
from lightning_modules.kinds.classify import figures as m
from lightning_modules.kinds.classify.answering import log_proba_of_windows
from lightning_modules.kinds.classify.label_rows import (
    label_counts,
    labels_without_rows,
    missing_labels,
)
from lightning_modules.kinds.classify.predictions import LABELS, log_proba_of_file
from lightning_modules.kinds.classify.report import Told, report_of, surest_errors
from lightning_modules.kinds.classify.rivals import (
    against_champion,
    against_commonest,
    of_shared_labels,
)
from lightning_modules.kinds.classify.selecting import Selection, decided
from lightning_modules.kinds.classify.selecting import report_of as selection_report
from lightning_modules.kinds.judging import JUDGES, Comparable, Rivals, RowFigure, with_slices

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

ROLES = ("id", "text", "label")  # of a validated row; the others are slices


class ClassifyJudge:
    """See `lightning_modules.kinds.base.Judge`.

    `scored` has id and log_proba, a list of C at temperature 1. A temperature is fitted in any
    case, if the rows can tell one, and both sets of figures are found; those under their plain
    names carry it only where the recipe says so, the others are `calibrated/…` or `uncalibrated/…`.
    """

    metrics: ClassVar[tuple[Metric, ...]] = Classify.metrics
    token_columns: ClassVar[tuple[str, ...]] = ("id", "window", "input_ids")
    truth: ClassVar[tuple[str, ...]] = ("label",)
    fits: ClassVar[bool] = True
    exact: ClassVar[tuple[str, ...]] = ("id", "label", "predicted")

    def __init__(
        self, facts: Mapping[str, Any], task: Classify, statistics: StatisticsConfig
    ) -> None:
        self.labels: tuple[str, ...] = tuple(facts["labels"])
        self.task, self.statistics = task, statistics
        self.temperature = m.Temperature(1.0, "no rows were looked at")
        self.selection = Selection()

    @property
    def decided(self) -> Any:
        return decided(self.selection, self.temperature.value)

    @property
    def applied(self) -> bool:
        """Whether the model is registered with the fitted temperature."""
        return self.task.calibrate and self.temperature.why_not is None

    def facts(self) -> dict[str, Any]:
        """`temperature`: fitted on valid, null where `temperature_why_not` says that none could be.

        It is applied only where the recipe asks for it (`temperature_applied`). `abstain_below` and
        `conformal`: see `Selection`.
        """
        return {
            "temperature": None if self.temperature.why_not else self.temperature.value,
            "temperature_why_not": self.temperature.why_not,
            "temperature_applied": self.applied,
            **self.selection.facts(),
        }

    def score(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        known = tuple(bundle.facts["labels"])
        if known != self.labels:
            raise ValueError(f"the bundle's labels {known} are not those of {self.labels}")
        first = windows["window"].to_numpy() == 0  # windows of a document stand together, from 0
        log_proba = log_proba_of_windows(
            bundle, windows["input_ids"].to_pylist(), np.cumsum(first) - 1
        )
        ids = windows["id"].filter(pa.array(first))
        return pa.table({"id": ids, "log_proba": _lists(log_proba)})

    def fitted(self, rows: pa.Table, scored: pa.Table) -> Self:
        judge = copy(self)
        labels = self._numbers(rows)
        judge.temperature = m.fit_temperature(log_proba_of(scored), labels)
        judge.selection = Selection.fitted(self.task, judge._served(scored), labels)
        return judge

    def tried(self, bundle: Bundle, rows: pa.Table, tokens: Path) -> Self:
        return self

    def without_rows(self, tokens: Path) -> dict[str, tuple[str, ...]]:
        return labels_without_rows(tokens, self.labels)

    def gaps(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        return missing_labels(without, len(self.labels))

    def warnings(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        told = self.gaps(without)
        if self.task.calibrate and self.temperature.why_not:
            told.append(
                "No temperature is applied, though the recipe asks for one: "
                f"{self.temperature.why_not}."
            )
        return [*told, *self.selection.warnings(self.task)]

    def evidence(self, rows: pa.Table, scored: pa.Table) -> Evidence:
        plain = log_proba_of(scored)
        served, beside = plain, {}
        if self.temperature.why_not is None:
            scaled = m.apply_temperature(plain, self.temperature.value)
            served = scaled if self.applied else plain
            other = plain if self.applied else scaled
            beside = {self._other_name: other}
        labels = self._numbers(rows)
        found = m.evidence(
            labels,
            served,
            parts=m.part_names(self.labels),
            bins=self.task.ece_bins,
            beside=beside,
        )
        return self.selection.added_to(found, served, labels)

    def answers(self, rows: pa.Table, scored: pa.Table) -> pa.Table:
        """id, text, label, predicted, confidence, correct, probabilities, and the slices.

        `probabilities` follows the order of labels in the schema's metadata (`noisefold.labels`).
        """
        log_proba = self._served(scored)
        names = np.array(self.labels, dtype=object)
        predicted = log_proba.argmax(axis=1)
        proba = np.exp(log_proba)
        columns: dict[str, Any] = {
            "id": pa.array(scored["id"].to_pylist(), pa.string()),
            "text": rows["text"],
            "label": pa.array(names[self._numbers(rows)], pa.string()),
            "predicted": pa.array(names[predicted], pa.string()),
            "confidence": proba.max(axis=1),
            "correct": predicted == self._numbers(rows),
            "probabilities": _lists(proba),
        }
        selected = self.selection.columns(log_proba)
        if "abstain" in selected:
            columns["abstain"] = selected["abstain"]
        if "label_set" in selected:
            inside = selected["label_set"]
            columns["label_set"] = [names[row].tolist() for row in inside]
        described = {LABELS: json.dumps(list(self.labels), ensure_ascii=False)}
        return pa.table(with_slices(columns, rows, ROLES)).replace_schema_metadata(described)

    def predictions(self, table: pa.Table) -> pa.Table:
        log_proba = log_proba_of_file(table, self.labels)
        return pa.table({"id": table["id"], "log_proba": _lists(log_proba)})

    def unmeasured(self, rows: pa.Table) -> tuple[str, ...]:
        counts = np.bincount(self._numbers(rows), minlength=len(self.labels))
        return tuple(name for name, many in zip(self.labels, counts, strict=True) if not many)

    def beside(self, scored: pa.Table) -> dict[str, float]:
        return {"ece_floor": m.ece_floor(self._served(scored), bins=self.task.ece_bins)}

    def report(
        self, rows: pa.Table, scored: pa.Table, found: Mapping[str, Interval]
    ) -> list[Block]:
        log_proba = self._served(scored)
        told = Told(
            labels=self.labels,
            temperature=self.temperature,
            applied=self.applied,
            other=self._other_name,
            bins=self.task.ece_bins,
            confidence=self.statistics.confidence,
            most_errors=self.task.worst_errors,
        )
        labels = self._numbers(rows)
        selective = selection_report(
            self.selection, self.task, log_proba, labels, self.statistics.confidence
        )
        return report_of(told, rows, labels, log_proba, found, selective)

    def worst(self, rows: pa.Table, scored: pa.Table) -> Sequence[int]:
        most = self.task.worst_errors
        return surest_errors(rows["id"], self._numbers(rows), self._served(scored), most).tolist()

    # --- the gate

    def row_figure(self, predictions: pa.Table) -> RowFigure:
        return RowFigure("Accuracy", predictions["correct"].to_numpy().astype(np.float64))

    def comparable(self, predictions: pa.Table, champion: Bundle) -> Comparable:
        return of_shared_labels(predictions, self.labels, champion)

    def ask(self, bundle: Bundle, predictions: pa.Table) -> pa.Table:
        answers = bundle.predict({"text": predictions["text"].to_pylist()})
        return pa.table({"predicted": pa.array(answers["label"], pa.string())})

    def against(
        self, predictions: pa.Table, asked: pa.Table, champion: Bundle, name: str
    ) -> Rivals:
        says = asked["predicted"].to_pylist()
        return against_champion(predictions, says, self.labels, champion, name)

    def against_constant(self, predictions: pa.Table, tokens: Path) -> Rivals:
        return against_commonest(predictions, self.commonest(tokens))

    def commonest(self, tokens: Path) -> str:
        """The label of most documents of the train split; of several the first in their order."""
        counts = label_counts(tokens, "train", len(self.labels))
        return self.labels[int(counts.argmax())]

    @property
    def _other_name(self) -> str:
        return "uncalibrated" if self.applied else "calibrated"

    def _served(self, scored: pa.Table) -> Floats:
        """(N, C) log-probabilities as the registered model gives them."""
        plain = log_proba_of(scored)
        return m.apply_temperature(plain, self.temperature.value) if self.applied else plain

    def _numbers(self, rows: pa.Table) -> np.ndarray:
        """(N,) class numbers."""
        numbers = pc.index_in(rows["label"], value_set=pa.array(self.labels, rows["label"].type))
        if numbers.null_count:
            raise ValueError(f"{numbers.null_count} rows have a label that the model does not know")
        return numbers.to_numpy().astype(np.int64)


def log_proba_of(scored: pa.Table) -> Floats:
    """(N, C), natural logarithms at temperature 1, of what `score` gave."""
    lists = scored["log_proba"]
    flat = [chunk.flatten().to_numpy() for chunk in lists.chunks]
    return np.concatenate(flat).reshape(len(lists), lists.type.list_size)


def _lists(values: Floats) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


JUDGES["classify"] = ClassifyJudge
