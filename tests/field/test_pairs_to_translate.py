"""Pairs of a text and its translation in tables as people have them: drafted, suggested, judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.contract.rows import Rows
from data_contracts.errors import SourceError
from data_contracts.kinds.translate import Translate
from data_contracts.recipe.source import FileSource
from data_contracts.yaml_text import parse_yaml
from flows.cli.main import main
from tasks.artifacts.store import ArtifactStore
from tests.field.test_parallel_text_files import pairs
from tests.stages import fingerprint, ingest_source, validate_corpus

Row = dict[str, Any]


def rows(names: tuple[str, str] = ("source", "target"), count: int = 150) -> list[Row]:
    return [dict(zip(names, pair, strict=True)) for pair in pairs(count)]


def jsonl(path: Path, some: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    return path


def run(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def drafted(*words: Any) -> tuple[DataContract, Result]:
    done = run("contract", "infer", *words)
    assert done.exit_code == 0, done.output
    return parse_contract(parse_yaml(done.stdout, "the draft"), origin="the draft"), done


def refused(*words: Any) -> str:
    done = run("contract", "infer", *words)
    assert done.exit_code == 1, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    "names",
    [
        ("source", "target"),
        ("src", "tgt"),
        ("Source Text", "Target Text"),
        ("en", "zh"),
        ("en", "zh-CN"),
        ("eng_Latn", "zho_Hans"),
        ("text_en", "text_zh"),
        ("English", "Chinese"),
        ("英文", "中文"),
        ("原文", "译文"),
    ],
)
def test_pairs_are_known_by_their_names(tmp_path: Path, names: tuple[str, str]) -> None:
    found, done = drafted(jsonl(tmp_path / "pairs.jsonl", rows(names)))
    assert found.kind == "translate"
    assert found.sources == dict(zip(("source", "target"), names, strict=True))
    assert "script: Latin" in done.stdout and "script: Han" in done.stdout


def test_the_other_way_round_is_said(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "pairs.jsonl", rows(("en", "zh")))
    found, done = drafted(file)
    assert "For the other way round: --source zh --target en" in " ".join(done.stdout.split())
    found, _ = drafted(file, "--source", "zh", "--target", "en")
    assert found.sources == {"source": "zh", "target": "en"}


@pytest.mark.parametrize(
    ("some", "kind"),
    [
        ([{"question": one, "answer": other} for one, other in pairs(150)], "retrieve"),
        ([{"text": one, "target": "ab"[at % 2]} for at, (one, _) in enumerate(pairs(150))], "classify"),
        ([{**row, "label": "ab"[at % 2]} for at, row in enumerate(rows(("en", "zh")))], "classify"),
        ([{"source": "web", "target": "ab"[at % 2], "text": one} for at, (one, _) in enumerate(pairs(150))], "classify"),
        ([{"id": str(at), "no": str(at), "text": one, "label": "ab"[at % 2]} for at, (one, _) in enumerate(pairs(150))], "classify"),
    ],
)  # fmt: skip
def test_rows_of_other_kinds_stay_theirs(tmp_path: Path, some: list[Row], kind: str) -> None:
    assert drafted(jsonl(tmp_path / "rows.jsonl", some))[0].kind == kind


def test_any_two_columns_are_pairs_where_a_person_says_so(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "rows.jsonl", rows(("left", "right")))
    assert drafted(file, "--kind", "translate")[0].sources == {"source": "left", "target": "right"}
    named = drafted(file, "--source", "right", "--target", "left")[0]
    assert named.sources == {"source": "right", "target": "left"}
    three = jsonl(tmp_path / "three.jsonl", [{**row, "up": row["left"]} for row in rows(("left", "right"))])  # fmt: skip
    said = refused(three, "--kind", "translate")
    assert "No two columns of 150 rows are plainly a text and its translation" in said
    assert "Name them with --source and --target" in said


def test_three_languages_ask_which_two(tmp_path: Path) -> None:
    some = [{**row, "fr": row["en"].upper()} for row in rows(("en", "zh"))]
    said = refused(jsonl(tmp_path / "three.jsonl", some), "--kind", "translate")
    assert "en, zh, fr are called after languages" in said
    assert "--source and --target" in said


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_pairs_within_an_object_name_the_way_out(tmp_path: Path, ending: str) -> None:
    some = [{"translation": row} for row in rows(("en", "zh"))]
    file = tmp_path / f"opus.{ending}"
    if ending == "jsonl":
        jsonl(file, some)
    else:
        pq.write_table(pa.Table.from_pylist(some), file)
    assert "jq -c .translation in.jsonl" in refused(file)
    by = parse_contract(
        {"kind": "translate", "name": "t", "columns": {"source": "en", "target": "zh"}}, origin="t"
    )
    with pytest.raises(SourceError) as fault:
        validated(file, by, tmp_path)
    assert "no column 'en'. It has 'translation'. It stands within 'translation'" in str(fault.value)  # fmt: skip
    assert "jq -c .translation" in str(fault.value)


def test_a_column_that_is_missing_on_one_side_is_named(tmp_path: Path) -> None:
    by = parse_contract({"kind": "translate", "name": "t"}, origin="t")
    file = jsonl(tmp_path / "rows.jsonl", [{"source": one} for one, _ in pairs(20)])
    with pytest.raises(SourceError, match=r"no column 'target'\. It has 'source'"):
        validated(file, by, tmp_path)
    assert "--source is given without --target" in refused(file, "--source", "source")
    assert "rows of kind translate have no label" in refused(file, "--kind", "translate", "--label", "x")  # fmt: skip


def validated(file: Path, by: DataContract, folder: Path) -> Any:
    source = FileSource(url=str(file))
    store = ArtifactStore(str(folder / "artifacts"), folder / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=100).manifest
    return validate_corpus(raw, by, store, batch_rows=100).manifest


def test_a_draft_is_passed_by_its_own_rows(tmp_path: Path) -> None:
    """Faults among them too: a twentieth of them in another script is no other contract."""
    good = rows(count=200)
    some = [
        *good,
        good[0],
        {"source": good[1]["target"], "target": good[1]["source"]},
        {"source": "Nobody did this.", "target": "Nobody did this."},
        {"source": "Here.", "target": ""},
        {"source": "Мы здесь.", "target": "我们在这里。"},
        {"source": "No.", "target": good[2]["target"] * 5},
    ]
    found, _ = drafted(jsonl(tmp_path / "pairs.jsonl", some))
    manifest = validated(tmp_path / "pairs.jsonl", found, tmp_path)
    assert manifest.quarantined == {
        "duplicate": 1,
        "swapped": 1,
        "identical": 1,
        "empty_target": 1,
        "wrong_script_source": 1,
        "length_ratio": 1,
    }
    assert manifest.facts == {"source_script": "Latin", "target_script": "Han"}


def test_two_languages_of_one_script_and_mixed_ones_are_drafted(tmp_path: Path) -> None:
    german = [{"de": f"Hier ist {one.lower()}", "en": one} for one, _ in pairs(150)]
    both = drafted(jsonl(tmp_path / "de.jsonl", german))[0]
    assert [both.text_limits(role).script for role in ("source", "target")] == ["Latin"] * 2  # pyright: ignore[reportAttributeAccessIssue]
    mixed = [dict(zip(("source", "target"), pair if at % 3 else pair[::-1], strict=True)) for at, pair in enumerate(pairs(150))]  # fmt: skip
    none = drafted(jsonl(tmp_path / "mixed.jsonl", mixed))[0]
    assert [none.text_limits(role).script for role in ("source", "target")] == [None] * 2  # pyright: ignore[reportAttributeAccessIssue]


def test_a_recipe_is_suggested_that_the_rows_pass(tmp_path: Path) -> None:
    file, out = jsonl(tmp_path / "pairs.jsonl", rows()), tmp_path / "r.yaml"
    done = run("recipe", "suggest", file, "-o", out)
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert "task: {kind: translate}" in text and "vocab_size: 4000" in text
    checked = run("recipe", "check", out)
    assert checked.exit_code == 0, checked.output
    assert "150 of them kept" in checked.output


@pytest.mark.parametrize(
    ("count", "entries", "epochs"),
    [(100, 4_000, 30), (30_000, 4_000, 10), (150_000, 8_000, 2), (1_200_000, 16_000, 2)],
)
def test_more_pairs_have_a_larger_vocabulary_and_fewer_epochs(
    count: int, entries: int, epochs: int
) -> None:
    by = parse_contract({"kind": "translate", "name": "t"}, origin="t")

    rows = Rows({"source": ["a b"] * count, "target": ["c d"] * count})
    _, choices = Translate.suggest(rows, by, None, None)
    fields = {name: value for choice in choices for name, value in choice.fields.items()}
    assert (fields["vocab_size"], fields["max_epochs"]) == (entries, epochs)
