"""measure: what a folded model costs to use, from text to answer, on one thread."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_contracts.artifacts import Measurement, TrainedModel, ValidatedCorpus
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
    """CPU time of a prediction on up to 1,000 test texts, from text to probabilities, on one thread.

    The lower quartile of 5 passes or more (a second's worth), since other work on the machine lengthens a pass and
    nothing shortens it. A slow model gets fewer texts, as many as it predicts in about 4 s.
    """
    bundle = Bundle.load(here.open(model) / "bundle", model.digest)
    predict = partial(answer, bundle)
    texts = some_texts(here.open(corpus) / "corpus", TEXTS)
    with one_thread():
        few = texts[:: -(-len(texts) // 32)]
        cpu_seconds(predict, few)
        each = max(cpu_seconds(predict, few), 1e-6) / len(few)
        texts = texts[:: max(1, math.ceil(len(texts) * each / PASS_SECONDS))]
        passes = max(PASSES, min(100, int(PASSES_SECONDS / (len(texts) * each))))
        seconds = np.quantile([cpu_seconds(predict, texts) for _ in range(passes)], 0.25)
    speed = round(len(texts) / float(seconds), 2)
    size = sum(file.size for name, file in model.files.items() if name.startswith("bundle/"))
    return {
        "digest": digest_of(model.digest, size, speed),
        "rows_in": len(texts),
        "rows_out": len(texts),
        "bytes": size,
        "texts_per_second": speed,
    }


def some_texts(corpus: Path, most: int) -> list[str]:
    """Test texts at even distances, `most` of them where there are more."""
    texts = pq.read_table(corpus, columns=["text"], filters=[("split", "==", "test")])["text"]
    return texts.take(np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(int)).to_pylist()


def answer(bundle: Bundle, texts: list[str]) -> None:
    bundle.predict({"text": texts})


def cpu_seconds(predict: Callable[[list[str]], Any], texts: list[str]) -> float:
    """CPU time of this thread: the flow's other threads are no part of it."""
    started = time.thread_time()
    predict(texts)
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
