"""`contract infer` on a file, then `retrain` with that contract on the same file: validate passes,
or infer refuses.

Made-up data of many shapes: few rows, one label for nearly all, many labels, repeats, blank cells,
other labels for the same text, splits by column and by file.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.contract.counts import per_split
from data_contracts.contract.judge import corpus_of, judge, limits
from data_contracts.contract.written import to_yaml
from data_contracts.errors import ContractViolation, SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.yaml_text import parse_yaml
from flows.cli.drafts import draft_from
from tasks.artifacts.store import ArtifactStore
from tasks.sources.look import look_closer
from tests.stages import fingerprint, ingest_source, validate_corpus

PHASES = [Phase.explicit, Phase.generate]  # a smaller example takes minutes to find
WORDS = [
    "where is",
    "my parcel",
    "invoice",
    "paid twice",
    "refund",
    "please",
    "door",
    "late",
    "包裹",
    "在",
    "哪里",
    "退款",
]


def write(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def validated(store: Path, source: FileSource, contract: DataContract) -> Any:
    """What the two stages make of the source; they keep a failed report where they refuse it."""
    shelf = ArtifactStore(str(store / "artifacts"), store / "work")
    raw = ingest_source(source, contract, fingerprint(source), shelf, batch_rows=1_000).manifest
    return validate_corpus(raw, contract, shelf, batch_rows=1_000).manifest


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "seed": draw(st.integers(0, 10_000)),
        "rows": draw(st.sampled_from([4, 12, 40, 150, 600])),
        "labels": draw(st.sampled_from([2, 3, 12, 130])),
        "commonest": draw(st.sampled_from([0.0, 0.6, 0.97, 0.9975, 1.0])),
        "words": draw(st.sampled_from([2, 6, 20])),
        "blank": draw(st.sampled_from([0.0, 0.02, 0.3])),
        "split": draw(
            st.sampled_from(
                [(), ("train", "valid", "test"), ("train", "test"), ("Train", "val", "", "TEST")]
            )
        ),
    }


def rows_of(shape: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rng = random.Random(shape["seed"])
    rows = []
    for number in range(shape["rows"]):
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, shape["words"])))
        label = 0 if rng.random() < shape["commonest"] else rng.randrange(shape["labels"])
        row = [
            text if rng.random() >= shape["blank"] else "",
            f"kind {label}" if rng.random() >= shape["blank"] / 3 else "",
        ]
        rows.append([f"n{number}", *row, *([rng.choice(shape["split"])] if shape["split"] else [])])
    return ["row_id", "message", "topic", *(["split"] if shape["split"] else [])], rows


IMBALANCED = {
    "seed": 1,
    "rows": 600,
    "labels": 2,
    "commonest": 0.9975,
    "words": 20,
    "blank": 0.0,
    "split": (),
}


@given(shapes())
@example(IMBALANCED)
@example({**IMBALANCED, "commonest": 0.0, "words": 2, "blank": 0.3})
@example({**IMBALANCED, "commonest": 0.0, "labels": 130})
@settings(max_examples=10, phases=PHASES, deadline=None, derandomize=True)
def test_what_is_drafted_passes_validate_on_its_own_rows(
    tmp_path_factory: Any, shape: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("shape")
    file = write(folder / "mails.csv", *rows_of(shape))
    try:
        rows, seen, draft = draft_from({"files": [str(file)]})
    except SourceError:
        return
    contract = parse_contract(parse_yaml(to_yaml(draft), "draft"), origin="draft")
    assert contract == draft.contract, "what is written is what was drafted"
    corpus = validated(folder, seen.source, contract)
    # What infer and check foretell is what validate finds, to the row.
    foretold = judge(corpus_of(rows, contract), contract)
    assert {
        reason: count for reason, count in foretold.first.items() if count
    } == corpus.quarantined
    assert foretold.kept == corpus.splits
    by_split = per_split(foretold.counts, "label")
    assert {split: dict(rows) for split, rows in by_split.items()} == corpus.category_rows["label"]


@given(
    shapes(),
    st.sampled_from(["latest", "earliest", "none", "all"]),
    st.sampled_from(["quarantine", "keep"]),
)
@settings(max_examples=10, phases=PHASES, deadline=None, derandomize=True)
def test_a_check_foretells_the_verdict_on_any_contract(
    tmp_path_factory: Any, shape: dict[str, Any], keep: str, action: str
) -> None:
    folder = tmp_path_factory.mktemp("shape")
    shape = {**shape, "split": (*shape["split"][:2], "nonsense") if shape["split"] else ()}
    source = FileSource(url=str(write(folder / "mails.csv", *rows_of(shape))))
    contract = parse_contract(
        {
            "name": "mails", "columns": {"id": "row_id", "text": "message", "label": "topic",
                                         "split": "split" if shape["split"] else None},
            "text": {"min_characters": 4, "max_characters": 60},
            "labels": {"values": ["kind 0", "kind 1", "kind 2"], "max_share": 0.9},
            "splits": {"min_rows": 3}, "conflicts": {"keep": keep, "max_share": 0.2},
            "duplicates": {"action": action}, "leakage": {"action": action}, "max_quarantine_share": 0.4,
        },
        origin="test",
    )  # fmt: skip
    names = [name for name in ("row_id", "message", "topic", contract.columns.split) if name]
    rows = look_closer(source, names, ["message"], ["topic"])
    foretold = judge(corpus_of(rows, contract), contract)
    broken = {limit.name for limit in limits(contract, foretold) if not limit.holds}
    try:
        corpus = validated(folder, source, contract)
    except ContractViolation as refused:
        report = refused.report or Path()
        summary = json.loads((report / "report.json").read_text(encoding="utf-8"))
        found = {one["name"] for one in summary["expectations"] if not one["passed"]}
    else:
        found = set()
        assert foretold.kept == corpus.splits
        assert {
            reason: count for reason, count in foretold.first.items() if count
        } == corpus.quarantined
    assert broken == found


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [["the same label always", "billing"]] * 3
            + [[f"text {i} of many words", "billing"] for i in range(90)],
            "billing",
        ),
        ([[f"text {i} of many words", ["a", "b"][i % 2]] for i in range(3)], "3 rows"),
    ],
)
def test_rows_that_can_make_no_contract_are_refused_with_the_way_out(
    tmp_path: Path, rows: Any, said: str
) -> None:
    file = write(tmp_path / "few.csv", ["text", "label"], rows)
    with pytest.raises(SourceError) as refused:
        draft_from({"files": [str(file)]})
    assert said in refused.value.cause
    assert "dd rows" in refused.value.remedy
