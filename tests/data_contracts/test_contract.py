"""A contract file says exactly what it says: unknown keys and impossible values are refused by
name.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.contract.contract import SPLITS, load_contract, parse_contract
from data_contracts.contract.sections import SplitShares
from data_contracts.contract.text import draw_split, normalise, text_hash
from data_contracts.errors import RecipeError

BUNDLED = sorted(
    path.stem for path in (Path(__file__).parents[2] / "data_contracts" / "contract").glob("*.yaml")
)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_contract_loads_under_its_own_name(name: str) -> None:
    contract = load_contract(name)
    assert contract.name == name
    assert contract.description.endswith(".")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"name": "x", "colums": {}}, "colums: unknown key"),
        ({"name": "x", "text": {"max_chars": 3}}, "text.max_chars: unknown key"),
        ({"name": "X!"}, "name:"),
        (
            {"name": "x", "columns": {"text": "a", "label": "a"}},
            "columns: one column plays two roles",
        ),
        (
            {"name": "x", "columns": {"slices": ["row"]}},
            "columns: slice columns may not be named row",
        ),
        ({"name": "x", "labels": {"values": ["a"]}}, "labels.values: needs two labels"),
        ({"name": "x", "labels": {"values": ["a", "a"]}}, "labels.values: needs two labels"),
        (
            {"name": "x", "splits": {"valid": 0.5, "test": 0.5}},
            "splits: valid + test leave nothing",
        ),
        ({"name": "x", "leakage": {"max_share": 2}}, "leakage.max_share:"),
        ([], "contract:"),
    ],
)
def test_fault_is_named_by_its_field(data: object, field: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_contract(data, origin="mine.yaml")
    assert "mine.yaml" in caught.value.cause
    assert field in caught.value.cause


def test_missing_contract_lists_the_bundled_ones() -> None:
    with pytest.raises(RecipeError) as caught:
        load_contract("sst3")
    assert "sst2" in caught.value.remedy


def test_relative_contract_starts_at_the_base(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nlabels: {values: [0, 1]}\n", encoding="utf-8")
    assert load_contract("mine.yaml", base=tmp_path).labels.values == ("0", "1")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Good  phone", " good\tPHONE\n"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("STRASSE", "straße"),
        ("ﬁne", "fine"),
    ],
)
def test_writing_alone_makes_no_other_text(a: str, b: str) -> None:
    assert normalise(a) == normalise(b)
    assert text_hash(a) == text_hash(b)
    assert draw_split(a, SplitShares()) == draw_split(b, SplitShares())


def test_hash_and_draw_never_change() -> None:
    """A champion's train rows must not turn up in a later test split: these values are forever."""
    assert text_hash("Good phone") == 14889655585247687708
    drawn = [draw_split(f"text {i}", SplitShares()) for i in range(12)]
    assert "".join(split[1] for split in drawn) == "errarearrrrr"  # t_e_st, t_r_ain, v_a_lid


def test_draw_keeps_its_shares() -> None:
    drawn = [draw_split(f"text {i}", SplitShares(valid=0.1, test=0.2)) for i in range(10_000)]
    shares = {split: drawn.count(split) / len(drawn) for split in SPLITS}
    # Four standard errors of a share at 10,000 draws are 0.016.
    assert shares == pytest.approx({"train": 0.7, "valid": 0.1, "test": 0.2}, abs=0.016)


@given(st.text(), st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0, 0.05), st.floats(0, 0.05))
def test_larger_shares_take_rows_from_train_alone(
    text: str, valid: float, test: float, v: float, t: float
) -> None:
    before = draw_split(text, SplitShares(valid=valid, test=test))
    after = draw_split(text, SplitShares(valid=valid + v, test=test + t))
    assert after == before or before == "train"


@given(st.text())
def test_given_split_gives_nothing_away(text: str) -> None:
    shares = SplitShares(valid=0.4, test=0.4)
    assert draw_split(text, shares, ("valid",)) in ("train", "valid")
    assert draw_split(text, shares, ()) == "train"
