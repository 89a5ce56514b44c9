"""What a peer reads and what it leaves behind: one Parquet file each way, pyarrow and numpy alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

HOME = Path(__file__).resolve().parents[2] / ".noisefold" / "benchmarks"
LABELS, FACTS, SEARCH = "noisefold.labels", "noisefold.facts", "noisefold.search"
CHINESE = frozenset({"chnsenticorp", "chnsenticorp_contaminated", "thucnews"})
LONG = frozenset({"imdb", "newsgroups"})

LogProba = Callable[[Sequence[str]], NDArray[np.float64]]


@dataclass(frozen=True)
class Rows:
    ids: list[str]
    texts: list[str]
    y: NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """One data set; `y` numbers the labels in the order of `labels`."""

    name: str
    labels: list[str]
    train: Rows
    valid: Rows
    test: Rows


@dataclass(frozen=True)
class Fitted:
    """A peer as tuned on the validation split: `log_proba` maps N texts to (N, C) natural
    logarithms.
    """

    log_proba: LogProba
    parameters: int
    bytes: int
    chosen: str
    cpu_seconds_train: float  # of the chosen configuration alone


@dataclass(frozen=True)
class Facts:
    parameters: int
    bytes: int
    cpu_seconds_train: float
    texts_per_second: float
    chosen: str


@dataclass(frozen=True)
class Search:
    """What stands beside the facts: no part of what `noisefold compare` reads."""

    cpu_seconds: float  # of every configuration tried, the chosen one included
    versions: dict[str, str]


def corpus_file(name: str) -> Path:
    return HOME / "corpora" / f"{name}.parquet"


def predictions_file(name: str, peer: str, seed: int) -> Path:
    return HOME / "peers" / name / f"{peer}-{seed}.parquet"


def read_corpus(name: str, path: Path | None = None) -> Corpus:
    path = path or corpus_file(name)
    if not path.exists():
        raise SystemExit(
            f"{path}: not there. Write it first: .venv/bin/python -m benchmarks.peers.corpus {name}"
        )
    table = pq.read_table(path)
    labels: list[str] = json.loads(table.schema.metadata[LABELS.encode()])
    number = {label: at for at, label in enumerate(labels)}

    def rows(split: str) -> Rows:
        part = table.filter(pa.compute.equal(table["split"], split))
        y = np.array([number[label] for label in part["label"].to_pylist()], dtype=np.int64)
        return Rows(part["id"].to_pylist(), part["text"].to_pylist(), y)

    return Corpus(name, labels, rows("train"), rows("valid"), rows("test"))


def write_predictions(
    path: Path,
    ids: Sequence[str],
    log_proba: NDArray[np.float64],
    labels: Sequence[str],
    facts: Facts,
    search: Search,
) -> None:
    """Test predictions as `noisefold compare` reads them: id, log_proba in the order of
    `noisefold.labels`.
    """
    told = {LABELS: list(labels), FACTS: asdict(facts), SEARCH: asdict(search)}
    columns = {
        "id": pa.array(ids, pa.string()),
        "log_proba": pa.array(log_proba.tolist(), pa.list_(pa.float64())),
    }
    table = pa.table(columns).replace_schema_metadata(
        {k: json.dumps(v, ensure_ascii=False) for k, v in told.items()}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def merit(y: NDArray[np.int64], log_proba: NDArray[np.float64]) -> tuple[float, float]:
    """What validation chooses by: accuracy, then NLL (negated)."""
    accuracy = float((log_proba.argmax(axis=1) == y).mean())
    return accuracy, float(log_proba[np.arange(len(y)), y].mean())
