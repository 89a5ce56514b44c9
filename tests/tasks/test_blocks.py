"""Blocks are drawn whatever kind they come from; a kind without labels is judged as well."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.errors import NoisefoldError
from data_contracts.kinds.base import Metric
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.results import Bars, Curve, Interval, Matrix, Table, Text
from lightning_modules.evidence import Evidence
from tasks.evaluate import score_split, write_report
from tasks.reports.blocks import as_json, dump, flat, load, write_files
from tasks.reports.html import cell, render, ticks

KNOWN = Interval(value=0.91234, low=0.9, high=0.95)
CLASSES = Table(
    ("label", "rows", "f1"), (("a|b", 3, KNOWN), ("=1+1", 0, None)), name="classes",
    headings=("label", "rows", "F1"),
)  # fmt: skip
BLOCKS = [
    Text("# not a heading <b>", "note"),
    Text("Classes", "heading"),
    CLASSES,
    Table(("id",), ()),
    Matrix("errors_by_class", "Errors", ("a|b", "=1+1"), ((2, 1), (0, 0))),
    Curve("loss", "Loss", "position", "nats", (0, 10, 20), (4, 0), (3.5, None), (1.2, None)),
    Bars("by_class", "F1", "F1", ("a|b", "=1+1"), (KNOWN, None), (3, 0)),
]


def test_page_shows_each_block_and_no_markup_of_the_data() -> None:
    page = render("evaluation.html.j2", title="Evaluation", content=BLOCKS)
    assert '<p class="note"># not a heading &lt;b&gt;</p>' in page
    assert "<h3>Classes</h3>" in page
    for heading in ("label", "rows", "F1"):
        assert f">{heading}</th>" in page
    assert "0.912 (0.900 to 0.950)" in page
    assert "a|b" in page
    assert '<p class="soft">None.</p>' in page, "of a table without rows"
    for title in ("Errors", "Loss", "F1"):
        assert f"<h3>{title}</h3>" in page
    assert page.count("<svg") == 2, "the curve, and the bar of the class that has rows"
    assert [cell(one) for one in CLASSES.rows[1]] == ["=1+1", "0", "–"]


def test_page_asks_for_nothing_outside_itself() -> None:
    page = render("evaluation.html.j2", title="Evaluation", content=BLOCKS)
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)


def test_blocks_come_back_as_they_were() -> None:
    assert load(dump(BLOCKS)) == BLOCKS


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.2, 0.9), (-3, 7), (1e-6, 2e-6), (0, 12345)])
def test_ticks_are_few_and_round(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 <= one <= high + 1e-9 for one in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])


def test_blocks_with_a_name_are_files(tmp_path: Path) -> None:
    write_files(BLOCKS, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "classes.csv", "errors_by_class.csv",
    ]  # fmt: skip
    with (tmp_path / "classes.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["label", "rows", "f1", "f1_low", "f1_high"],
            ["a|b", "3", "0.91234", "0.9", "0.95"],
            ["'=1+1", "0", "", "", ""],
        ]
    assert flat(BLOCKS[4])[0] == ["true \\ predicted", "a|b", "=1+1"]


def test_json_has_them_by_name() -> None:
    content = json.loads(json.dumps(as_json(BLOCKS), allow_nan=False))
    assert list(content) == ["classes", "errors_by_class", "loss", "by_class"]
    assert content["classes"][0] == {"label": "a|b", "rows": 3, "f1": KNOWN.model_dump()}
    assert content["errors_by_class"] == [[2, 1], [0, 0]]
    assert content["loss"]["position"] == [3.5, None]


class TextsJudge:
    """A language model's judge, which knows of no label: nats, tokens and bytes of each text."""

    metrics = (Metric("bits_per_byte", "bits per byte", "lower"),)
    token_columns = ("id", "window", "input_ids")
    truth = ()
    fits = False
    exact = ("id", "tokens")
    decided = None

    def score(self, bundle: Any, windows: pa.Table) -> pa.Table:
        first = windows["window"].to_numpy() == 0
        lengths = [len(ids) for ids in windows["input_ids"].to_pylist()]
        tokens = np.bincount(np.cumsum(first) - 1, weights=lengths)
        ids = windows["id"].filter(pa.array(first))
        return pa.table({"id": ids, "tokens": tokens.astype(np.int64), "nats": 2.5 * tokens})

    def fitted(self, rows: pa.Table, scored: pa.Table) -> TextsJudge:
        return self

    def facts(self) -> dict[str, Any]:
        return {}

    def without_rows(self, tokens: Path) -> dict[str, tuple[str, ...]]:
        return {}

    def warnings(self, without: Any) -> list[str]:
        return []

    def evidence(self, rows: pa.Table, scored: pa.Table) -> Evidence:
        size = [len(text.encode()) for text in rows["text"].to_pylist()]
        return Evidence(
            np.stack([scored["nats"].to_numpy(), np.array(size, float)], axis=1),
            lambda sums: {"bits_per_byte": sums[:, 0] / np.log(2) / sums[:, 1]},
        )

    def answers(self, rows: pa.Table, scored: pa.Table) -> pa.Table:
        return scored.append_column("text", rows["text"])

    def report(self, rows: pa.Table, scored: pa.Table, found: Any) -> list[Any]:
        return [Table(("figure", "value"), tuple(found.items()))]


def test_a_kind_without_labels_goes_through_the_evaluation(tmp_path: Path) -> None:
    windows = pa.table(
        {
            "id": [f"r{row // 2}" for row in range(80)],
            "window": [row % 2 for row in range(80)],
            "input_ids": [[1] * (3 + row % 5) for row in range(80)],
        }
    )
    pq.write_table(windows, tmp_path / "test.parquet")
    judge = TextsJudge()
    scored = score_split(judge, None, tmp_path / "test.parquet")
    assert scored["id"].to_pylist() == [f"r{row}" for row in range(40)]
    rows = pa.table({"id": scored["id"], "text": ["字" * (2 + row % 3) for row in range(40)]})
    statistics = StatisticsConfig(samples=50)
    fields = write_report(judge, rows, scored, {}, statistics, tmp_path)
    tokens = sum(3 + row % 5 for row in range(80))
    expected = 2.5 * tokens / np.log(2) / sum(3 * (2 + row % 3) for row in range(40))
    assert fields["metrics"]["test/bits_per_byte"].value == pytest.approx(expected)
    assert list(fields["metrics"]) == ["test/bits_per_byte"]
    assert pq.read_table(tmp_path / "predictions.parquet").num_rows == 40
    assert ">bits_per_byte</td>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    pq.write_table(windows.slice(0, 0), tmp_path / "valid.parquet")
    with pytest.raises(NoisefoldError, match="valid split has no rows"):
        score_split(judge, None, tmp_path / "valid.parquet")


def test_the_stage_knows_no_kind() -> None:
    import tasks.evaluate
    import tasks.reports.blocks
    import tasks.reports.html

    for module in (tasks.evaluate, tasks.reports.blocks, tasks.reports.html):
        source = Path(module.__file__).read_text(encoding="utf-8")
        for word in ("macro_f1", "probability_", "class_weights", "temperature", "kinds.classify"):
            assert word not in source, (module.__name__, word)
