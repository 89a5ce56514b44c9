"""fastText's supervised mode (Joulin 2017, https://arxiv.org/abs/1607.01759): 100 dimensions, word
1- to 2-grams.

Learning rate and epochs are chosen on validation; the table of n-grams keeps its default of
2,000,000 rows. English is lower-cased with punctuation as words of its own, as fastText's own
examples do; Chinese has a space between characters.
"""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.data import CHINESE, LONG, Corpus, Fitted, Rows, merit

RATES = (0.1, 0.25, 0.5, 1.0)
EPOCHS = (5, 15, 40)
FLOOR = 1e-7  # fastText leaves a class out whose probability it rounds to nothing


def prepare(text: str, chinese: bool) -> str:
    """One line: words, or characters where the text is Chinese, with a space between."""
    return " ".join(re.findall(r"[a-z0-9]+|\S" if chinese else r"\w+|[^\w\s]", text.lower()))


def write_training_file(path: Path, rows: Rows, chinese: bool, seed: int) -> None:
    """Shuffled: fastText reads in the order of the file, and some data sets are ordered by class."""
    lines = [
        f"__label__{y} {prepare(text, chinese)}\n"
        for y, text in zip(rows.y, rows.texts, strict=True)
    ]
    path.write_text("".join(np.random.default_rng(seed).permutation(lines)), encoding="utf-8")


def fit(corpus: Corpus, seed: int) -> Fitted:
    chinese, count = corpus.name in CHINESE, len(corpus.labels)

    def predictor(model: Any) -> Any:
        def log_proba(texts: Sequence[str]) -> NDArray[np.float64]:
            p = np.full((len(texts), count), FLOOR)
            for row, text in enumerate(texts):
                found, probabilities = model.predict(prepare(text, chinese), k=count)
                p[row, [int(label.removeprefix("__label__")) for label in found]] = np.maximum(
                    probabilities, FLOOR
                )
            return np.log(p / p.sum(axis=1, keepdims=True))

        return log_proba

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        write_training_file(path, corpus.train, chinese, seed)

        def train(rate: float, epochs: int) -> Any:
            settings = {"dim": 100, "wordNgrams": 2, "thread": 1, "seed": seed, "verbose": 0}
            return fasttext.train_supervised(str(path), lr=rate, epoch=epochs, **settings)

        def score(rate: float, epochs: int) -> tuple[float, float]:
            return merit(corpus.valid.y, predictor(train(rate, epochs))(corpus.valid.texts))

        if (
            corpus.name in LONG
        ):  # the rate at few epochs, then epochs at that rate: the whole grid takes an hour
            rate = max(RATES, key=lambda rate: score(rate, EPOCHS[0]))
            epochs = max(EPOCHS[:2], key=lambda epochs: score(rate, epochs))
        else:
            rate, epochs = max(itertools.product(RATES, EPOCHS), key=lambda choice: score(*choice))
        started = time.process_time()
        model = train(rate, epochs)
        seconds = time.process_time() - started
        model.save_model(str(Path(folder) / "model.bin"))
        size = (Path(folder) / "model.bin").stat().st_size
    parameters = model.get_input_matrix().size + model.get_output_matrix().size
    return Fitted(predictor(model), parameters, size, f"lr {rate:g}, {epochs} epochs", seconds)
