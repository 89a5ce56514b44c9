"""Pairs of a text and its translation: each rule has a row that breaks it, for that reason alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.contract.expectations import pandas_frame, row_suite
from data_contracts.contract.frames import raw_schema, row_frame
from data_contracts.contract.judge import Corpus, judge
from data_contracts.contract.verdicts import broken_rows
from data_contracts.errors import RecipeError

ENGLISH = "The teacher from London bought two old books last week."
CHINESE = "来自伦敦的那位老师上个星期买了两本旧书。"
GOOD = [
    (ENGLISH, CHINESE),
    ("2024", "2024 年"),  # no letter of its script
    ("OK.", "没问题，我马上就去把这件事情办好，请放心。"),  # short pairs are in any proportion
    ("12:30", "12:30 整"),
    ("He bought an iPhone.", "他买了一部 iPhone 和一个 iPad。"),
]
# Each with one fault.
BAD = [
    ("", CHINESE, "empty_source"),
    (ENGLISH, " \t", "empty_target"),
    (ENGLISH, None, "empty_target"),
    (f"{ENGLISH} {ENGLISH}", f"{CHINESE}{CHINESE}" * 3, "over_long_target"),
    (ENGLISH * 4, CHINESE * 4, "over_long_source"),
    (f"{ENGLISH}\ufffd", CHINESE, "broken_encoding_source"),
    (ENGLISH, f"{CHINESE}\x07", "control_characters_target"),
    (CHINESE, ENGLISH, "swapped"),
    ("We are here.", "we  are HERE.", "identical"),
    ("Мы здесь.", "我们在这里。", "wrong_script_source"),
    ("We are here.", "Мы здесь.", "wrong_script_target"),
    ("A", f"{CHINESE}{CHINESE}{CHINESE}", "length_ratio"),
]


def contract(**parts: Any) -> DataContract:
    sides = {
        "source": {"script": "Latin", "max_characters": 200, "allow_control_characters": False},
        "target": {"script": "Han", "max_characters": 100, "allow_control_characters": False},
    }
    return parse_contract({"kind": "translate", "name": "t", **sides, **parts}, origin="test")


def raw(by: DataContract, pairs: Any) -> pa.Table:
    sources = [one for one, *_ in pairs]
    targets = [other for _, other, *_ in pairs]
    count = len(sources)
    cells = {
        "id": [str(at) for at in range(count)],
        "source": sources,
        "target": targets,
        "split": ["train"] * count,
        "fault": [None] * count,
        "file": ["a.csv"] * count,
        "row": list(range(count)),
    }
    return pa.table(cells, schema=raw_schema(by))


def told(by: DataContract, pairs: Any) -> list[list[str]]:
    """The reasons of each pair."""
    table = raw(by, pairs)
    found = judge(Corpus(table, list(range(len(table)))), by).verdicts
    return [found.named(int(mask)) for mask in found.reasons]


def test_each_fault_has_a_reason_of_its_own_and_good_pairs_have_none() -> None:
    by = contract()
    assert told(by, GOOD) == [[]] * len(GOOD)
    assert told(by, BAD) == [[reason] for *_, reason in BAD]
    words = [by.reasons[reason].words for *_, reason in BAD]
    assert "targets in another script than Han" in words
    assert len({*words}) == len({reason for *_, reason in BAD})


def test_great_expectations_finds_the_rows_that_numpy_finds() -> None:
    by = contract()
    table = raw(by, [*GOOD, *BAD])
    found = broken_rows(by, table)
    results = row_suite(by).run(pandas_frame(row_frame(by, table)))
    assert {one.rule.name: list(one.positions) for one in results} == {
        name: positions.tolist() for name, positions in found.items()
    }
    assert np.concatenate(list(found.values())).size >= len(BAD)


def test_a_target_fifty_times_longer_is_refused_and_a_proportion_is_an_option() -> None:
    long = "我" * 50
    assert told(contract(), [("A", long)]) == [["length_ratio"]]
    assert told(contract(), [(long[:1], "A" * 50)]) == [["swapped", "length_ratio"]]
    assert told(contract(max_ratio=None), [("A", long)]) == [[]]
    assert told(contract(max_ratio=2.0), [(ENGLISH, CHINESE)]) == [["length_ratio"]]


def test_a_pair_that_nobody_translated_may_be_kept() -> None:
    pair = ("NASA", "NASA")
    latin = {"target": {"script": "Latin"}}
    assert told(contract(**latin), [pair]) == [["identical"]]
    assert told(contract(**latin, identical="keep"), [pair]) == [[]]
    assert told(contract(), [pair]) == [["identical"]], "and not for its script"
    assert told(contract(identical="keep"), [pair]) == [["wrong_script_target"]]


def test_without_a_script_any_language_passes_and_a_note_tells_of_it() -> None:
    any_script = {"source": {}, "target": {}}
    by = contract(**any_script)
    pairs = [*GOOD, (CHINESE, ENGLISH)]
    assert told(by, pairs) == [[]] * len(pairs)
    counts = by.count(raw(by, pairs))
    [of_sources, of_targets] = by.notes(counts, {})
    assert "3 sources are in Latin script, and others are not: Han 1" in of_sources
    assert "target.script: Han in the contract" in of_targets
    assert contract().notes(counts, {}) == []


def test_one_side_alone_may_name_its_script() -> None:
    by = contract(target={})
    assert told(by, [(CHINESE, ENGLISH)]) == [["wrong_script_source"]]
    assert "swapped" not in by.reasons


def test_japanese_and_chinese_are_told_apart_where_kana_tell() -> None:
    by = contract(source={"script": "Han"}, target={"script": "Hiragana"})
    good = [("我们在学校里。", "私たちは学校にいます。"), ("东京大学", "東京大学の方へ"), ("电视", "テレビです")]  # fmt: skip
    assert told(by, good) == [[]] * 3
    assert told(by, [(good[0][1], good[0][0])]) == [["swapped"]]


def test_the_facts_are_the_scripts_of_most_rows_and_add_up() -> None:
    by = contract(source={}, target={})
    table = raw(by, GOOD)
    whole = by.count(table)
    parts = by.count(table.slice(0, 2)) + by.count(table.slice(2))
    assert parts == whole
    facts = {"source_script": "Latin", "target_script": "Han"}
    assert by.learn(whole) == facts
    numbers = raw(by, [("1", "2")])
    assert set(by.learn(by.count(numbers)).values()) == {"Common"}
    assert by.learn(by.count(raw(by, []))) == dict.fromkeys(facts, "Common")


def test_a_source_may_have_several_targets_unless_it_is_said_otherwise() -> None:
    other = "那位老师上个星期买了两本书。"
    pairs = [(ENGLISH, CHINESE), (ENGLISH, other), (f" {ENGLISH.upper()}", CHINESE)]
    assert told(contract(), pairs) == [[], [], ["duplicate"]]
    latest = contract(conflicts={"keep": "latest"})
    assert told(latest, pairs[:2]) == [["translated_otherwise"], []]
    none = contract(conflicts={"keep": "none"})
    assert told(none, pairs[:2]) == [["translated_otherwise"]] * 2


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"source": {"script": "English"}}, "English is no script by Unicode's names, as Latin,"),
        ({"columns": {"source": "a", "target": "a"}}, "one column plays two roles"),
        ({"max_ratio": 1}, "greater than 1"),
        ({"identical": "drop"}, "'quarantine' or 'keep'"),
        ({"labels": {}}, "labels: unknown key"),
        ({"source": {"scripts": "Latin"}}, "source.scripts: unknown key"),
    ],
)
def test_a_contract_that_cannot_mean_what_it_says_is_refused(parts: dict, said: str) -> None:
    with pytest.raises(RecipeError, match="contract test:") as fault:
        contract(**parts)
    assert said in fault.value.cause


@pytest.mark.parametrize("written", ["latin", "LATIN", "Canadian-aboriginal", "tai le"])
def test_a_script_is_known_however_it_is_written(written: str) -> None:
    by = contract(source={"script": written})
    assert by.source.script in ("Latin", "Canadian_Aboriginal", "Tai_Le")  # pyright: ignore[reportAttributeAccessIssue]
    assert parse_contract(json.loads(by.model_dump_json()), origin="again") == by
