"""A peer reads the validated rows and leaves predictions that `noisefold compare` takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.peers import tfidf
from benchmarks.peers.corpus import write
from benchmarks.peers.data import Corpus, Facts, Search, merit, read_corpus, write_predictions
from benchmarks.peers.table import is_peers, measure, merge
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.recipe import Recipe
from lightning_modules.kinds.classify import predictions as compare
from lightning_modules.kinds.classify.judge import ClassifyJudge, log_proba_of
from tasks.comparing.predictions import read_predictions

LABELS = ("zebra", "ant")  # not in the order of the alphabet
WORDS = {"zebra": ["stripes", "horse", "savanna"], "ant": ["hill", "worker", "queen"]}
FACTS, SEARCH = Facts(10, 40, 1.5, 100.0, "C = 1"), Search(3.0, {"scikit-learn": "1"})


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rows = [
        (
            f"x.csv#{i}",
            f"{WORDS[label][i % 3]} {WORDS[label][i // 3 % 3]} of a {'kind' if i % 5 else 'sort'}",
            label,
            part,
        )
        for i, (label, part) in enumerate(
            (label, part)
            for part in ["train"] * 12 + ["valid"] * 4 + ["test"] * 4
            for label in LABELS
        )
    ]
    ids, texts, labels, splits = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"id": ids, "text": texts, "label": labels, "split": splits})
    write(tmp_path / "corpus.parquet", table, LABELS)
    return read_corpus("animals", tmp_path / "corpus.parquet")


def test_corpus_comes_back_in_its_splits_and_label_order(corpus: Corpus) -> None:
    assert (len(corpus.train.ids), len(corpus.valid.ids), len(corpus.test.ids)) == (24, 8, 8)
    assert corpus.labels == list(LABELS)
    for text, y in zip(corpus.test.texts, corpus.test.y, strict=True):
        assert text.split()[0] in WORDS[corpus.labels[y]]


def test_tfidf_predicts_distributions_in_label_order(corpus: Corpus) -> None:
    fitted = tfidf.fit(corpus, seed=0)
    log_proba = fitted.log_proba(corpus.test.texts)
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1, rtol=1e-12)
    assert merit(corpus.test.y, log_proba)[0] == 1.0
    assert fitted.parameters > 0 and fitted.bytes > 8 * fitted.parameters - 1


def test_predictions_are_those_that_compare_reads_and_the_table_measures(
    corpus: Corpus, tmp_path: Path
) -> None:
    log_proba = np.log(np.tile([0.8, 0.2], (8, 1)))
    path = tmp_path / "tfidf-0.parquet"
    write_predictions(path, corpus.test.ids, log_proba, corpus.labels, FACTS, SEARCH)
    recipe = Recipe()
    judge = ClassifyJudge({"labels": LABELS}, Classify(), recipe.statistics)
    found = read_predictions(path, judge)
    assert found.scored["id"].to_pylist() == corpus.test.ids
    assert (found.facts.parameters, found.facts.chosen) == (10, "C = 1")
    np.testing.assert_array_equal(log_proba_of(found.scored), log_proba)

    numbers = dict(zip(corpus.test.ids, corpus.test.y.tolist(), strict=True))
    cell = measure(path, numbers, corpus.labels)
    assert cell["accuracy"] == 0.5
    assert cell["nll"] == pytest.approx(-(np.log(0.8) + np.log(0.2)) / 2)
    assert cell["ece"] == pytest.approx(0.3)
    assert json.dumps(cell)  # the table keeps it as JSON

    compare.write_predictions(
        own := tmp_path / "cut_at_256-0.parquet", corpus.test.ids, log_proba, LABELS
    )
    assert is_peers(path) and not is_peers(own), (
        "predictions of our own model lie in the same folder"
    )

    del numbers[corpus.test.ids[0]]
    with pytest.raises(SystemExit, match="other rows or labels"):
        measure(path, numbers, corpus.labels)


def test_missing_corpus_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"python -m benchmarks\.peers\.corpus trec"):
        read_corpus("trec", tmp_path / "trec.parquet")


def test_runs_whose_files_are_gone_stay_and_one_that_ran_again_is_taken_anew() -> None:
    def cell(peer: str, seed: int, accuracy: float) -> dict[str, object]:
        return {"dataset": "animals", "peer": peer, "seed": seed, "accuracy": accuracy}

    kept = [cell("tfidf", 0, 0.7), cell("fasttext", 0, 0.6)]
    fresh = [cell("tfidf", 1, 0.9), cell("tfidf", 0, 0.8)]
    assert merge(kept, fresh) == [
        cell("fasttext", 0, 0.6),
        cell("tfidf", 0, 0.8),
        cell("tfidf", 1, 0.9),
    ]
