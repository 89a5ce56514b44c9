"""No text of a fold stands in two of its splits, and each is tested once."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.prepare_folds import prepare


@pytest.mark.parametrize("name", ["cmrc2018", "xquad_en"])
def test_every_text_is_tested_once_and_learnt_in_no_fold_that_tests_it(
    name: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "context"])
        writer.writerows([f"q{n}", f"text {n // 3},\nline"] for n in range(300))
    prepare(name, file, tmp_path, folds=4)
    tested: list[str] = []
    for fold in range(4):
        found: dict[str, list[dict[str, str]]] = {}
        for split in ("train", "valid", "test"):
            path = tmp_path / name / str(fold) / f"{split}.csv"
            with path.open(newline="", encoding="utf-8") as stream:
                found[split] = list(csv.DictReader(stream))
        contexts = {split: {row["context"] for row in rows} for split, rows in found.items()}
        assert sum(map(len, contexts.values())) == 100 == len(set.union(*contexts.values()))
        assert sum(map(len, found.values())) == 300 and all(found.values())
        tested += contexts["test"]
        if name == "xquad_en":  # five texts one after the other are of one article
            of_test = {int(text.split()[1].rstrip(",")) // 5 for text in contexts["test"]}
            assert {article % 4 for article in of_test} == {fold}
    assert len(tested) == len(set(tested)) == 100
