"""The peers of the translator keep to their CPU time and leave what `noisefold compare` reads."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from benchmarks.peers.translation import (
    WAYS,
    Pairs,
    Pieces,
    Words,
    as_markdown,
    batches,
    measure,
    read_pairs,
    told_of,
    train,
    translate,
    write,
)
from data_contracts.kinds.translate import Translate
from data_contracts.recipe.sections import StatisticsConfig
from lightning_modules.kinds.translate.judge import TranslateJudge
from tasks.comparing.predictions import read_predictions

GERMAN = ["Ein Mann läuft.", "Zwei Hunde, und eine Frau!", "Eine Frau liest ein Buch.", "Ein Hund."]
ENGLISH = ["A man runs.", "Two dogs, and a woman!", "A woman reads a book.", "A dog."]


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    rows = [f'"{one}","{other}"' for one, other in zip(GERMAN * 8, ENGLISH * 8, strict=True)]
    (tmp_path / "test.csv").write_text("\n".join(["source,target", *rows]), encoding="utf-8")
    return read_pairs(tmp_path / "test.csv")


@pytest.mark.parametrize("peer", WAYS)
def test_noisefold_reads_a_peers_translations_and_finds_its_figures(
    peer: str, pairs: Pairs, tmp_path: Path
) -> None:
    said, facts, told = measure(peer, 0, 0.0, pairs, pairs)
    file = tmp_path / "found" / f"{peer}-0.parquet"
    write(file, pairs, said, facts, told)
    scripts = {"source_script": "Latin", "target_script": "Latin"}
    judge = TranslateJudge(scripts, Translate(), StatisticsConfig())
    found = read_predictions(file, judge)
    assert found.scored["id"].to_pylist()[:2] == ["test.csv#1", "test.csv#2"]
    rows = pa.table({"id": pairs.ids, "source": pairs.sources, "target": pairs.targets})
    point = judge.evidence(rows, found.scored).point()
    for name in ("bleu", "chrf"):
        assert 100 * point[name] == pytest.approx(told[name], abs=0.006)
    assert found.facts.parameters == facts.parameters
    assert told_of(file.parent) == [json.loads(json.dumps(told))]


def test_a_peer_learns_and_does_not_count_less_than_its_cpu_time(pairs: Pairs) -> None:
    for seconds in (3.0, 9.0, 27.0):  # how far that leads, the machine decides
        started = time.process_time()
        trained = train(WAYS["plain"], pairs, 0, seconds)
        assert seconds <= trained.seconds <= time.process_time() - started
        if translate(trained, GERMAN, 4) == ENGLISH:
            break
    assert translate(trained, GERMAN, 4) == ENGLISH
    assert translate(trained, GERMAN, 1) == ENGLISH, "padding says nothing"


@pytest.mark.parametrize("reader", [Words, Pieces])
def test_texts_come_back_from_ids(reader: type[Words] | type[Pieces], pairs: Pairs) -> None:
    own = reader(pairs)
    assert own.texts(own.targets(ENGLISH)) == ENGLISH
    assert max(own.sizes) > max(max(ids) for ids in own.sources(GERMAN))
    assert own.bytes > 0


def test_words_are_joined_as_they_are_printed() -> None:
    text = 'A T-shirt (white), it\'s "new" - 5%.'
    own = Words(Pairs([], [], [text, text]))
    assert own.texts(own.targets([text]))[0].startswith("A T-shirt (white), it's ")
    assert own.texts([own.targets(["A zebra."])[0]]) == ["A."], "what is unknown is left out"


def test_an_epoch_has_every_pair_once_and_like_lengths_together() -> None:
    lengths = [at % 17 for at in range(1000)]
    found = batches(lengths, 8, torch.Generator().manual_seed(0))
    assert Counter(row for batch in found for row in batch) == Counter(range(1000))
    assert all(len(batch) == 8 for batch in found)
    spread = [max(lengths[row] for row in one) - min(lengths[row] for row in one) for one in found]
    assert sum(spread) / len(spread) < 2


def test_a_line_says_what_repeats_it() -> None:
    told = {
        "peer": "marian", "seed": 0, "bleu": 20.04, "chrf": 40.0, "budget": 600.0,
        "cpu_seconds_train": 600.2, "steps": 1600, "epochs": 1.76, "cpu_seconds_decode": 50.0,
        "texts_per_second": 20.0, "parameters": 6_132_736, "bytes": 24_773_905,
        "chosen": "rate 0.002", "signatures": ["nrefs:1|case:mixed"],
    }  # fmt: skip
    text = as_markdown([told])
    assert "| marian | 0 | 20.0 | 40.0 | 600 | 600.2 | 1600 | 1.76 | 50.0 |" in text
    assert "translation marian --seeds 0 --seconds 600`" in text
    assert "`nrefs:1|case:mixed`" in text
