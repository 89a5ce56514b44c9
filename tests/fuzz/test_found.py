"""What fuzzing found, each as a plain test of what a user relies on."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_contracts.artifacts import RawCorpus
from data_contracts.contract.contract import parse_contract
from data_contracts.errors import RecipeError, SourceError
from data_contracts.recipe.comparison import Comparison
from data_contracts.recipe.reading import merge, parse_recipe, parse_set
from data_contracts.tables.batch import Ask
from data_contracts.tables.read import read_batches
from data_contracts.urls import redacted, shown_url
from flows.cli.drafts import draft_from
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.network.tokenizer import BundleError, load_tokenizer, surrounding_ids
from tasks.reports.readable import code, markdown
from tests.fuzz.models import MlflowException, write_bundle
from tests.security.test_no_pickle import seal, sha256

SAMPLE = {"kind": "sample"}


def test_an_error_s_text_can_always_be_written() -> None:
    """Half of a surrogate pair, from a command line or from JSON, broke the log that was to hold
    the message.
    """
    with pytest.raises(RecipeError) as fault:
        parse_set("½d = \ud800")
    str(fault.value).encode()
    assert r"\ud800" in fault.value.cause
    from tasks.serving.pyfunc import read_columns

    with pytest.raises(MlflowException) as refused:
        read_columns(
            pd.DataFrame([["good"]], columns=pd.Index(["\ud800"], dtype=object)), ("text",)
        )
    str(refused.value).encode()


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize("field", ["columns.split", "columns.text", "description", "labels.values"])
def test_a_contract_or_recipe_that_no_database_takes_is_refused(field: str, text: str) -> None:
    """JSON has escapes for both, so they come with the parameters of a run, and broke the run's own
    record.
    """
    value = [text, "b"] if field == "labels.values" else text
    with pytest.raises(RecipeError, match=f"{field} holds (a NUL|half)"):
        parse_contract(merge({"name": "x"}, {field: value}), origin="test")
    with pytest.raises(RecipeError, match=f"{field} holds (a NUL|half)"):
        parse_recipe(
            {"source": SAMPLE, "contract": merge({"name": "x"}, {field: value})}, origin="test"
        )
    with pytest.raises(RecipeError, match=r"tokenizer\.path holds (a NUL|half)"):
        parse_recipe({"source": SAMPLE, "tokenizer": {"path": text}}, origin="test")


@pytest.mark.parametrize("seed", [-1, 2**31, 314937236514])
def test_a_grid_s_seed_that_no_training_takes_is_refused_with_the_grid(seed: int) -> None:
    """It was taken, and failed when its cell's turn came."""
    grid = {
        "name": "g",
        "recipe": {"source": SAMPLE, "contract": {"name": "x"}},
        "variants": {"a": {}},
        "baseline": "a",
    }
    assert Comparison.model_validate({**grid, "seeds": [0, 2**31 - 1]}).cells()
    with pytest.raises(ValueError, match="whole number from 0"):
        Comparison.model_validate({**grid, "seeds": [0, seed]})


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000 + "b"])
def test_a_manifest_that_names_no_possible_file_is_damage(store, name: str) -> None:
    def build(workspace):
        (workspace.out / "a.txt").write_text("rows")
        return {
            "digest": "d",
            "rows_in": 1,
            "rows_out": 1,
            "fingerprint": "f",
            "splits": {},
            "source_files": 1,
        }

    made = store.once(RawCorpus, inputs=["x"], config=None, version=1, build=build).manifest
    file = store.open(made) / "manifest.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({**facts, "files": {name: facts["files"]["a.txt"]}}))
    assert store.find(RawCorpus, made.key) is None
    assert not store.once(RawCorpus, inputs=["x"], config=None, version=1, build=build).cached


@pytest.mark.parametrize(
    "url",
    [
        "https://:b/s3cret0;?#$*@host:8443/a@b/c.csv",
        "https://me:p?s3cret#x@host/a.csv",
        "https://host/a#/route?token=s3cret",
        "https://host/#/a&access_token=s3cret",
    ],
)
def test_a_secret_beside_a_hash_is_not_shown(url: str) -> None:
    assert "s3cret" not in shown_url(url)
    assert "s3cret" not in redacted(f"could not read {url}: error")
    assert (
        redacted("see http://127.0.0.1:5000/#/experiments/1/runs/a")
        == "see http://127.0.0.1:5000/#/experiments/1/runs/a"
    )


@pytest.mark.parametrize("text", ["1. ", "12) all of it", "123456789. x", ""])
def test_a_text_that_looks_like_a_list_is_a_text(text: str) -> None:
    tokens = MarkdownIt().parse(markdown(text))
    assert [token.type for token in tokens] == [
        "paragraph_open",
        "inline",
        "paragraph_close",
    ] * bool(text)
    span = MarkdownIt().parse(code(text))[1].children
    assert span is not None and [child.type for child in span] == ["code_inline"]


@pytest.mark.parametrize(
    "text", ["http:/__x.example___A1__a____b___ c", "__a__", "a__b__ c", "f_1 and _g_", "x_y_z"]
)
def test_underscores_are_no_emphasis(text: str) -> None:
    """A second underscore stood behind one that was escaped, and opened what a later one closed."""
    [_, inline, _] = MarkdownIt().parse(markdown(text))
    assert {child.type for child in inline.children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in inline.children or []) == text
    assert markdown("x_y_z 0.5") == "x_y_z 0.5", "and what needs no escape has none"


def test_a_parquet_footer_cannot_end_the_process() -> None:
    """pyarrow 25 aborts at `metadata.row_group(0).column(1)` of a footer whose size statistics
    contradict the schema.

    What the readers do not ask for cannot hurt them: the footer here is whole, and each of its bits
    changed once.
    """
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), stream, compression="none")
    whole, refused = stream.getvalue(), 0
    for at, bit in itertools.product(range(len(whole) // 2, len(whole)), range(8)):
        data = bytearray(whole)
        data[at] ^= 1 << bit
        try:
            rows = list(
                read_batches(io.BytesIO(bytes(data)), "x", Ask(["text", "label"]), format="parquet")
            )
            assert sum(len(batch.rows) for batch in rows) == 2
        except SourceError:
            refused += 1
    assert refused > 1000


def test_a_tokenizer_that_panics_at_a_text_is_a_bundle_s_fault(tmp_path: Path) -> None:
    """A post-processor that names a token which is not there: tokenizers' Rust code panics, which
    is no Exception.
    """
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "a": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A", special_tokens=[("[CLS]", 1)]
    )
    broken = tokenizer.to_str().replace('"[CLS]":{"id":"[CLS]"', '"[CLX]":{"id":"[CLX]"').encode()
    assert broken != tokenizer.to_str().encode()
    with pytest.raises(BundleError, match="tokenizer"):
        surrounding_ids(load_tokenizer(broken))


def test_a_bundle_whose_tokenizer_lacks_its_unknown_token_is_refused(tmp_path: Path) -> None:
    """It was loaded, and failed at the first word that it did not know."""
    write_bundle(tmp_path / "bundle")
    file = tmp_path / "bundle" / "tokenizer.json"
    file.write_bytes(file.read_bytes().replace(b'"unk_token":"[UNK]"', b'"unk_token":"[UNX]"'))
    facts = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    seal(tmp_path / "bundle", {**facts, "tokenizer_sha256": sha256(file.read_bytes())})
    with pytest.raises(BundleError, match="cannot encode a text"):
        Bundle.load(tmp_path / "bundle")


def test_a_tokenizer_that_fails_at_a_text_is_told_by_the_bundle(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    bundle = Bundle.load(tmp_path / "bundle")
    bundle.tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))  # which it lacks
    with pytest.raises(BundleError, match="cannot encode a text"):
        predict_proba(bundle, ["b"])


@pytest.mark.parametrize("rows", ["text,lab\0el\n", "text,label\n"])
def test_a_draft_that_could_not_be_read_back_is_refused(tmp_path: Path, rows: str) -> None:
    """A contract is YAML, which holds no NUL."""
    body = "".join(
        f"a text of some length {i},{('yes', 'n' + chr(0) + 'o')[i % 2]}\n" for i in range(60)
    )
    (tmp_path / "a.csv").write_text(rows + body)
    with pytest.raises(SourceError, match="NUL"):
        draft_from({"files": [str(tmp_path / "a.csv")]})
