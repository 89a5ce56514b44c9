"""measure: what a folded model costs to use, from text to answer, on one thread."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.artifacts import Measurement, TrainedModel, ValidatedCorpus
from data_contracts.tables.take import evenly, take_rows
from lightning_modules.bundle import Bundle
from tasks.artifacts.store import digest_of
from tasks.engines.threads import threads
from tasks.stage import Here, RunContext, stage

# How it is measured is the stage's: whoever changes one of these raises its version.
TEXTS, PASS_SECONDS, PASSES, PASSES_SECONDS = 1000, 4.0, 5, 1.0


def _tell(cost: Measurement, run: RunContext) -> None:
    model = run.made[TrainedModel]
    run.tracker.log_metrics(
        {
            "cost/bundle_bytes": cost.bytes,
            "cost/texts_per_second": cost.texts_per_second,
            "cost/parameters": model.parameters,
            "cost/cpu_seconds_train": model.cpu_seconds,
        }
    )


@stage(Measurement, version=1, tell=_tell)
def measure(here: Here, model: TrainedModel, corpus: ValidatedCorpus) -> dict[str, Any]:
    """CPU time of a prediction on up to 1,000 test rows, from text to answer, on one thread.

    The lower quartile of 5 passes or more (a second's worth), since other work on the machine
    lengthens a pass and nothing shortens it. A slow model gets fewer rows, as many as it predicts
    in about 4 s.
    """
    bundle = Bundle.load(here.open(model) / "bundle", model.digest)
    predict = partial(answer, bundle)
    columns = bundle.head.columns(bundle.facts)
    rows = some_rows(here.open(corpus) / "corpus", columns, TEXTS)
    with one_thread():
        few = every(rows, -(-len(rows) // 32))
        cpu_seconds(predict, few)
        each = max(cpu_seconds(predict, few), 1e-6) / len(few)
        rows = every(rows, max(1, math.ceil(len(rows) * each / PASS_SECONDS)))
        passes = max(PASSES, min(100, int(PASSES_SECONDS / (len(rows) * each))))
        seconds = np.quantile([cpu_seconds(predict, rows) for _ in range(passes)], 0.25)
    speed = round(len(rows) / float(seconds), 2)
    size = sum(file.size for name, file in model.files.items() if name.startswith("bundle/"))
    return {
        "digest": digest_of(model.digest, size, speed),
        "rows_in": len(rows),
        "rows_out": len(rows),
        "bytes": size,
        "texts_per_second": speed,
    }


def some_rows(corpus: Path, columns: Sequence[str], most: int) -> pa.Table:
    """The columns that are named, of test rows at even distances, `most` of them where there are
    more.
    """
    rows = pq.read_table(corpus, columns=list(columns), filters=[("split", "==", "test")])
    return take_rows(rows, evenly(len(rows), most))


def every(rows: pa.Table, step: int) -> pa.Table:
    return take_rows(rows, np.arange(0, len(rows), step))


def answer(bundle: Bundle, rows: pa.Table) -> None:
    bundle.predict(bundle.head.questions(bundle.facts, rows.to_pydict()))


def cpu_seconds(predict: Callable[[Any], Any], asked: Any) -> float:
    """CPU time of this thread: the flow's other threads are no part of it."""
    started = time.thread_time()
    predict(asked)
    return time.thread_time() - started


@contextmanager
def one_thread() -> Iterator[None]:
    """torch and tokenizers work in the calling thread alone."""
    name = "TOKENIZERS_PARALLELISM"
    parallel = os.environ.get(name)
    os.environ[name] = "false"
    try:
        with threads(1):
            yield
    finally:
        os.environ.pop(name)
        if parallel is not None:
            os.environ[name] = parallel
