"""How amounts are judged: by the square of what they are off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.kinds.base import Metric
from data_contracts.results import Block, Interval, Table
from lightning_modules.bundle import Bundle
from lightning_modules.evidence import Evidence
from lightning_modules.kinds.judging import JUDGES, Comparable, Rivals, RowFigure
from tests.kinds.amount.config import Amount


class AmountJudge:
    metrics: ClassVar[tuple[Metric, ...]] = Amount.metrics
    token_columns: ClassVar[tuple[str, ...]] = ("id", "window", "input_ids")
    truth: ClassVar[tuple[str, ...]] = ("amount",)
    fits: ClassVar[bool] = False
    exact: ClassVar[tuple[str, ...]] = ("id",)

    def __init__(self, facts: Mapping[str, Any], task: Amount, *_: Any) -> None:
        self.task = task

    def score(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        first = windows["window"].to_numpy() == 0
        document = np.cumsum(first) - 1
        total = np.zeros(int(first.sum()))
        for rows, amounts in bundle.run(windows["input_ids"].to_pylist()):
            np.add.at(total, document[rows], amounts)
        ids = windows["id"].filter(pa.array(first))
        return pa.table({"id": ids, "said_amount": total * bundle.facts["scale"]})

    def fitted(self, rows: pa.Table, scored: pa.Table) -> Self:
        return self

    def tried(self, bundle: Bundle, rows: pa.Table, tokens: Path) -> Self:
        return self

    @property
    def decided(self) -> Any:
        return None

    def facts(self) -> dict[str, Any]:
        return {}

    def without_rows(self, tokens: Path) -> dict[str, tuple[str, ...]]:
        return {}

    def warnings(self, without: Mapping[str, tuple[str, ...]]) -> list[str]:
        return []

    def gaps(self, without: Mapping[str, tuple[str, ...]]) -> list[str]:
        return []

    def row_figure(self, predictions: pa.Table) -> RowFigure:
        return RowFigure("Closeness", np.exp(-np.abs(_off(predictions, predictions))))

    def comparable(self, predictions: pa.Table, champion: Bundle) -> Comparable:
        return Comparable(np.ones(len(predictions), dtype=bool))

    def ask(self, bundle: Bundle, predictions: pa.Table) -> pa.Table:
        answers = bundle.predict({"said": predictions["said"].to_pylist()})
        return pa.table({"said_amount": answers["amount"]})

    def against(
        self, predictions: pa.Table, asked: pa.Table, champion: Bundle, name: str
    ) -> Rivals:
        ours = self.evidence(predictions, predictions)
        return Rivals(ours, self.evidence(predictions, asked), f"of {name}")

    def against_constant(self, predictions: pa.Table, tokens: Path) -> Rivals:
        train = pq.read_table(tokens / "train.parquet", columns=["amount", "window"])
        first = train["window"].to_numpy() == 0
        mean = float(train["amount"].to_numpy()[first].mean()) * self.task.scale
        always = pa.table({"said_amount": np.full(len(predictions), mean)})
        ours = self.evidence(predictions, predictions)
        whose = f"of always answering {mean:.3g} (the mean of the train split)"
        return Rivals(ours, self.evidence(predictions, always), whose)

    def evidence(self, rows: pa.Table, scored: pa.Table) -> Evidence:
        off = _off(rows, scored)
        values = np.stack([np.ones(len(off)), off**2], axis=1)
        return Evidence(values, lambda sums: {"squared_error": sums[:, 1] / sums[:, 0]})

    def answers(self, rows: pa.Table, scored: pa.Table) -> pa.Table:
        told = ["id", "said", "amount"]
        return rows.select(told).append_column("said_amount", scored["said_amount"])

    def predictions(self, table: pa.Table) -> pa.Table:
        return table.select(["id", "said_amount"])

    def unmeasured(self, rows: pa.Table) -> tuple[str, ...]:
        return ()

    def beside(self, scored: pa.Table) -> dict[str, float]:
        return {}

    def report(
        self, rows: pa.Table, scored: pa.Table, found: Mapping[str, Interval]
    ) -> list[Block]:
        figure = found["squared_error"]
        return [Table(("figure", "value"), (("squared error", figure.value),), "figures")]


def _off(rows: pa.Table, scored: pa.Table) -> np.ndarray:
    return scored["said_amount"].to_numpy() - rows["amount"].cast(pa.float64()).to_numpy()


JUDGES["amount"] = AmountJudge
