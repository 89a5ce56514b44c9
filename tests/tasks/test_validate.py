"""Every row is kept or quarantined with its reason; past the limits the stage says what, how much
and where.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_contracts.artifacts import RawCorpus, ValidatedCorpus
from data_contracts.contract.contract import SPLITS, DataContract, load_contract, parse_contract
from data_contracts.contract.frames import raw_schema
from data_contracts.contract.text import normalise
from data_contracts.errors import ContractViolation
from data_contracts.recipe.source import FileSource, SampleSource
from data_contracts.sample.generator import DIRTY_ROWS, dirty_rows
from tasks.artifacts.store import ArtifactStore, RowDigest
from tests.stages import fingerprint, ingest_source, validate_corpus

REAL_DATA = Path(__file__).resolve().parents[2] / "../shared/data"
COUNTER = itertools.count()
Row = tuple[str | None, str | None, str]  # text, label, split


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")


def contract(**parts: Any) -> DataContract:
    wide = {
        "splits": {"min_rows": 1}, "duplicates": {"max_share": 1}, "leakage": {"max_share": 1},
        "conflicts": {"max_share": 1},
        "max_quarantine_share": 1, "labels": {"values": ["a", "b"], "max_share": 1},
    }  # fmt: skip
    return parse_contract({"name": "t", **wide, **parts}, origin="test")


def raw_corpus(
    store: ArtifactStore, rows: Iterable[Row], by: DataContract, ids: list[str] | None = None
) -> RawCorpus:
    rows = list(rows)
    columns = list(zip(*rows, strict=True))
    numbers = range(1, len(rows) + 1)
    arrays = [
        ids or [f"x.csv#{n}" for n in numbers],
        *columns,
        [None] * len(rows),
        ["x.csv"] * len(rows),
        list(numbers),
    ]
    schema = raw_schema(by)
    table = pa.Table.from_arrays(
        [pa.array(a, f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema
    )

    def build(workspace: Any) -> dict[str, Any]:
        pq.write_table(table, workspace.out / "part-00000.parquet")
        digest = RowDigest(schema.names)
        digest.update(table)
        counts = {split: sum(row[2] == split for row in rows) for split in SPLITS}
        return {
            "digest": digest.hexdigest(), "rows_in": len(rows), "rows_out": len(rows), "fingerprint": "f",
            "splits": counts, "source_files": 1,
        }  # fmt: skip

    return store.once(
        RawCorpus, inputs=[str(next(COUNTER))], config=None, version=1, build=build
    ).manifest


def validate(
    store: ArtifactStore, rows: Iterable[Row], by: DataContract, **how: Any
) -> ValidatedCorpus:
    return validate_corpus(raw_corpus(store, rows, by, **how), by, store, batch_rows=100).manifest


def corpus(manifest: ValidatedCorpus) -> list[dict[str, Any]]:
    return pq.read_table(Path(manifest.uri) / "corpus").to_pylist()


def quarantine(manifest: ValidatedCorpus) -> dict[int, list[str]]:
    """Reasons by row number."""
    rows = pq.read_table(Path(manifest.uri) / "quarantine.parquet").to_pylist()
    assert all(row["reason"] == row["reasons"][0] for row in rows)
    return {row["row"]: row["reasons"] for row in rows}


def violation(store: ArtifactStore, rows: Iterable[Row], by: DataContract) -> str:
    with pytest.raises(ContractViolation) as caught:
        validate(store, rows, by)
    assert not list(Path(str(store.root)).glob("validate/*"))
    report = Path(caught.value.remedy.rpartition(": ")[2])
    assert {path.name for path in report.parent.iterdir()} == {
        "report.html",
        "report.json",
        "quarantine.parquet",
    }
    assert "contract broken" in report.read_text(encoding="utf-8")
    return caught.value.cause


def good(count: int, seed: int = 0) -> list[Row]:
    return [(f"text {seed} {i}", "ab"[i % 2], SPLITS[i % 3]) for i in range(count)]


# --- reasons --------------------------------------------------------------------------------------


def test_sample_quarantine_holds_exactly_the_planted_rows(store: ArtifactStore) -> None:
    source, by = SampleSource(), load_contract("sample")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=4_000).manifest
    manifest = validate_corpus(raw, by, store, batch_rows=4_000).manifest
    assert manifest.quarantined == DIRTY_ROWS
    assert manifest.rows_out == sum(manifest.splits.values()) == 20_000 - sum(DIRTY_ROWS.values())
    assert manifest.labels == by.labels.values
    assert (manifest.contract_name, manifest.contract_version) == ("sample", 1)
    report = json.loads((Path(manifest.uri) / "report.json").read_text(encoding="utf-8"))
    assert {reason["name"]: reason["rows"] for reason in report["reasons"]} == DIRTY_ROWS
    assert validate_corpus(raw, by, store, batch_rows=50_000).cached
    elsewhere = ArtifactStore(str(store.root) + "-2", store.work)
    again = validate_corpus(raw, by, elsewhere, batch_rows=7_777).manifest
    assert again.digest == manifest.digest
    assert again.quarantined == manifest.quarantined


def test_a_row_carries_all_its_reasons(store: ArtifactStore) -> None:
    rows: list[Row] = [
        *good(30),
        ("x\ufffd" * 50, "c", "train"),
        (None, None, "test"),
        ("  ", "a", "valid"),
    ]
    manifest = validate(store, rows, contract(text={"max_characters": 60}))
    assert quarantine(manifest) == {
        31: ["over_long", "broken_encoding", "bad_label"], 32: ["empty", "bad_label"], 33: ["empty"],
    }  # fmt: skip
    assert manifest.quarantined == {"empty": 2, "over_long": 1}


def test_of_duplicates_the_later_goes_and_of_leaks_the_earlier_split(store: ArtifactStore) -> None:
    rows: list[Row] = [
        *good(30),
        ("Same  text", "b", "test"),  # 31, stays: the latest split
        ("same text", "a", "train"),  # 32 leaks, whatever its label
        ("SAME TEXT", "a", "valid"),  # 33 leaks
        ("ｓａｍｅ text", "a", "train"),  # 34 repeats 32 and leaks
        ("other", "a", "valid"),  # 35 stays
        ("other ", "a", "valid"),  # 36 repeats
        ("broken", "z", "test"),  # 37 has a fault of its own, so 38 leaks nothing
        ("broken", "a", "train"),  # 38 stays
    ]
    manifest = validate(store, rows, contract())
    assert quarantine(manifest) == {
        32: ["leaked"], 33: ["leaked"], 34: ["duplicate", "leaked"], 36: ["duplicate"], 37: ["bad_label"],
    }  # fmt: skip
    kept = validate(
        store,
        rows,
        contract(
            duplicates={"action": "keep", "max_share": 1},
            leakage={"action": "keep", "max_share": 1},
        ),
    )
    assert quarantine(kept) == {37: ["bad_label"]}
    report = json.loads((Path(kept.uri) / "report.json").read_text(encoding="utf-8"))
    assert {reason["name"]: reason["rows"] for reason in report["reasons"]} == {
        "bad_label": 1,
        "duplicate": 2,
        "leaked": 3,
    }


def test_repeated_ids_go(store: ArtifactStore) -> None:
    ids = [f"k{i}" for i in range(28)] + ["k3", "k4"]
    assert quarantine(validate(store, good(30), contract(), ids=ids)) == {
        29: ["duplicate_id"],
        30: ["duplicate_id"],
    }


def test_labels_are_sorted_where_the_contract_names_none(store: ArtifactStore) -> None:
    rows: list[Row] = [(f"text {i}", f"label {9 - i % 5}", SPLITS[i % 3]) for i in range(60)]
    manifest = validate(store, rows, contract(labels={}))
    assert manifest.labels == tuple(f"label {i}" for i in range(5, 10))


def test_digest_follows_rows_and_label_order(store: ArtifactStore) -> None:
    first = validate(store, good(30), contract())
    assert validate(store, reversed(good(30)), contract()).digest != first.digest  # other ids
    turned = validate(store, good(30), contract(labels={"values": ["b", "a"], "max_share": 1}))
    assert turned.digest != first.digest  # class ids are positions


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.none(),
                st.sampled_from(["same", "Same ", "", "\u3000", "\ufffd", "x" * 50]),
                st.text(max_size=8),
            ),
            st.sampled_from(["a", "b", "a", "b", "z", None]),
            st.sampled_from(SPLITS),
        ),
        max_size=60,
    )
)
def test_rows_in_are_kept_or_quarantined(store: ArtifactStore, rows: list[Row]) -> None:
    by = contract(text={"max_characters": 40})
    manifest = validate(store, [*good(12), *rows], by)
    kept, refused = corpus(manifest), quarantine(manifest)
    assert len(kept) + len(refused) == manifest.rows_in == 12 + len(rows)
    assert manifest.rows_out == len(kept)
    assert sum(manifest.quarantined.values()) == len(refused)
    assert not {row["id"] for row in kept} & {f"x.csv#{row}" for row in refused}
    texts = [normalise(row["text"]) for row in kept]
    assert len(set(texts)) == len(texts)  # neither a duplicate nor a leak is left
    assert all(
        row["label"] in ("a", "b") and row["text"].strip() and "\ufffd" not in row["text"]
        for row in kept
    )


# --- limits ---------------------------------------------------------------------------------------


def test_all_rows_quarantined(store: ArtifactStore) -> None:
    message = violation(store, [("", "a", "train")] * 5, contract())
    assert (
        "rows_kept: rows kept, 0 (limit: at least 1); mostly empty texts, e.g. x.csv row 1, text ''"
        in message
    )


def test_one_class_only(store: ArtifactStore) -> None:
    message = violation(store, [(f"text {i}", "a", SPLITS[i % 3]) for i in range(30)], contract())
    assert "label_count: different labels in the train split, 1 (limit: at least 2" in message
    assert message.count("\n  - ") == 1


def test_empty_test_split(store: ArtifactStore) -> None:
    rows: list[Row] = [(t, la, "valid" if s == "test" else s) for t, la, s in good(30)]
    assert "test_not_empty: the test split holds rows, 0 (limit: at least 1)" in violation(
        store, rows, contract()
    )


def test_unknown_labels(store: ArtifactStore) -> None:
    rows: list[Row] = [
        *good(90),
        *[(f"odd {i}", f"\x1b[31m{'!' * 100}", "train") for i in range(10)],
    ]
    message = violation(store, rows, contract(max_quarantine_share=0.05))
    assert (
        "bad_label_share: missing or unknown labels, 10 % (limit: at most 5 %); e.g. x.csv row 91, "
        "label '\\x1b[31m!!" in message
    )
    assert message.count("row 9") == 6  # three cells each for the share of this reason and of all
    assert "\x1b" not in message
    assert "… (105 characters)" in message


def test_leakage_and_duplicates_over_the_limit(store: ArtifactStore) -> None:
    rows = [*good(90), *[(t, la, "train") for t, la, s in good(30) if s == "test"], *good(3)]
    by = contract(duplicates={"max_share": 0.01}, leakage={"max_share": 0.05})
    message = violation(store, rows, by)
    assert (
        "leaked_share: texts that also stand in a later split, 9.71 % (limit: at most 5 %)"
        in message
    )
    assert (
        "duplicate_share: texts that stood before in their split, 2.91 % (limit: at most 1 %)"
        in message
    )


def test_class_shares(store: ArtifactStore) -> None:
    rows: list[Row] = [(f"text {i}", "a" if i % 30 else "b", SPLITS[i % 3]) for i in range(90)]
    message = violation(
        store, rows, contract(labels={"values": ["a", "b"], "min_share": 0.2, "max_share": 0.8})
    )
    assert (
        "smallest_label_share: share of the rarest label in the train split, 10 % (limit: at least "
        "20 %)" in message
    )
    assert (
        "largest_label_share: share of the commonest label in the train split, 90 % (limit: at "
        "most 80 %)" in message
    )


def test_wrong_schema_is_named(store: ArtifactStore) -> None:
    raw = raw_corpus(store, good(30), contract())
    with pytest.raises(ContractViolation, match="Column 'lang' of the raw corpus is missing"):
        validate_corpus(raw, contract(columns={"slices": ["lang"]}), store, batch_rows=100)


def test_second_attempt_forgets_the_first_failure(store: ArtifactStore) -> None:
    violation(store, good(3), contract(splits={"min_rows": 5}))
    assert validate(store, good(30), contract(splits={"min_rows": 5})).rows_out == 30


# --- report ---------------------------------------------------------------------------------------


def test_report_stands_alone_and_escapes_everything(store: ArtifactStore) -> None:
    attack = "<script>alert('x')</script><img src=https://evil.example/x>"
    rows: list[Row] = [
        *good(30),
        (attack + "\ufffd", "a", "train"),
        ("fine", attack, "train"),
        ("fine too\u202e", "b", "test"),
    ]
    rows += [(f"more {i}", attack + "2", "train") for i in range(3)]
    by = contract(labels={"values": ["a", "b", attack + "2"], "max_share": 1}, description=attack)
    page = (Path(validate(store, rows, by).uri) / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    for tag in ("<script", "<img", "<link", "<iframe", "@import", "url(", 'src="', "href="):
        assert tag not in page
    assert not any(
        f"{mark}{scheme}://" in page
        for scheme in ("http", "https")
        for mark in ('"', "'", "=")
        if mark != "="
    )
    assert "contract kept" in page


def test_sample_report_names_no_address(store: ArtifactStore) -> None:
    source, by = SampleSource(rows=2_000), load_contract("sample")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=1_000).manifest
    manifest = validate_corpus(raw, by, store, batch_rows=1_000).manifest
    assert manifest.quarantined == dirty_rows(2_000)
    page = (Path(manifest.uri) / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert not any(unicodedata.category(c) == "Cc" and c != "\n" for c in page)


# --- size -----------------------------------------------------------------------------------------

CHILD = """
import resource, sys
from pathlib import Path
from data_contracts.contract.contract import parse_contract
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import ExecutionConfig
from data_contracts.recipe.source import FileSource
from tasks.artifacts.store import ArtifactStore
from tasks.ingest import ingest, survey
from tasks.settings import Settings
from tasks.stage import looking
from tasks.validate import validate
source, work = FileSource(url=sys.argv[1]), Path(sys.argv[2])
sections = {"source": source, "contract": parse_contract({"name": "t"}, origin="test"),
            "execution": ExecutionConfig(batch_rows=1_000)}
store = ArtifactStore(str(work / "a"), work / "w")
run = looking(Recipe().model_copy(update=sections), Settings(), store)
raw = ingest.make(run, survey(source)).manifest
print(validate.make(run, raw).manifest.rows_out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Ten times the rows (4 MB -> 40 MB of text) may cost 25 MB more: allocator slack and some
    bytes per row.
    """
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(2_000)]
    peaks = []
    for rows in (5_000, 50_000):
        path = tmp_path / f"{rows}.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("text,label\n")
            file.writelines(
                f"{i} {' '.join(rng.choices(words, k=100))},{'ab'[i % 2]}\n" for i in range(rows)
            )
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), str(tmp_path / str(rows))],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        kept, peak = map(int, done.stdout.split())
        assert kept == rows
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 25, peaks


# --- public data sets -----------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.skipif(
    not REAL_DATA.is_dir(), reason="the public data sets do not stand beside the checkout"
)
@pytest.mark.parametrize(
    ("name", "splits", "quarantined"),
    [
        ("sst2", {"train": 6917, "valid": 872, "test": 1821}, {"leaked": 3}),
        ("trec", {"train": 4902, "valid": 539, "test": 500}, {"leaked": 11}),
        ("ag_news", {"train": 10093, "valid": 1106, "test": 7600}, {"leaked": 1}),
        ("chnsenticorp", {"train": 8913, "valid": 1161, "test": 1200}, {"leaked": 726}),
    ],
)
def test_public_data_keep_their_contract(
    store: ArtifactStore, name: str, splits: dict[str, int], quarantined: dict[str, int]
) -> None:
    files = {
        split: str(path) for split in SPLITS if (path := REAL_DATA / name / f"{split}.csv").exists()
    }
    source, by = FileSource(url=files), load_contract(name)  # type: ignore[arg-type]
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=50_000).manifest
    manifest = validate_corpus(raw, by, store, batch_rows=50_000).manifest
    assert manifest.splits == splits
    assert manifest.quarantined == quarantined
