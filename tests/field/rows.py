"""What the tests here share: small files, read and judged as a retrain does it."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.recipe.source import FileSource
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import ArtifactStore, Outcome
from tests.stages import fingerprint, ingest_source, validate_corpus

WIDE: dict[str, Any] = {
    "splits": {"min_rows": 1}, "duplicates": {"max_share": 1}, "labels": {"max_share": 1},
    "conflicts": {"max_share": 1}, "max_quarantine_share": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What came of a retrain's first two stages."""

    labels: tuple[str, ...]
    told: tuple[str, ...]
    quarantined: dict[str, int]
    kept: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    report: str  # report.json
    page: str  # report.html, unescaped


def contract(**parts: Any) -> DataContract:
    return parse_contract({"name": "t", **WIDE, **parts}, origin="test")


def csv_of(
    path: Path, rows: Sequence[Mapping[str, Any]], encoding: str = "utf-8", **dialect: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), **dialect)
        writer.writeheader()
        writer.writerows(rows)
    return path


def mails(count: int = 60) -> list[dict[str, str]]:
    """Rows in two languages; every text is another one."""
    return [
        {
            "text": f"我的第{i}个包裹还没有到" if i % 2 else f"bill number {i}, twice",
            "label": "配送" if i % 2 else "billing",
        }
        for i in range(count)
    ]


def ingested(url: Any, by: DataContract, folder: Path, **source: Any) -> Outcome:
    files = FileSource(
        url={k: str(v) for k, v in url.items()} if isinstance(url, dict) else str(url), **source
    )
    store = ArtifactStore(str(folder / "artifacts"), folder / "work")
    return ingest_source(files, by, fingerprint(files), store, batch_rows=100)


def rows_of(url: Any, by: DataContract | None = None, **source: Any) -> list[dict[str, Any]]:
    """The rows as ingest gives them."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = ingested(url, by or contract(), Path(folder), **source).manifest
        return pa.concat_tables(read_parts(Path(manifest.uri), 100)).to_pylist()


def judge(url: Any, source: dict[str, Any] | None = None, **parts: Any) -> Told:
    """The rows as validate judges them by a contract of these parts."""
    import html

    by = contract(**parts)
    with tempfile.TemporaryDirectory() as folder:
        raw = ingested(url, by, Path(folder), **(source or {})).manifest
        store = ArtifactStore(str(Path(folder) / "artifacts"), Path(folder) / "work")
        manifest = validate_corpus(raw, by, store, batch_rows=100).manifest
        place = Path(manifest.uri)
        return Told(
            manifest.labels, list(manifest.warnings), manifest.quarantined,
            pq.read_table(place / "corpus").to_pylist(), pq.read_table(place / "quarantine.parquet").to_pylist(),
            (place / "report.json").read_text(encoding="utf-8"),
            html.unescape((place / "report.html").read_text(encoding="utf-8")),
        )  # fmt: skip
