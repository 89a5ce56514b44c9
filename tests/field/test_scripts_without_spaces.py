"""Thai, Lao, Khmer, Burmese, Tibetan: a sentence is no single token, and it is said where most
tokens are unknown.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from data_contracts.recipe.reading import load_recipe
from flows.cli.main import main
from tests.pipeline.conftest import TINY, told
from tests.stages import fingerprint, ingest_source, tokenize_corpus, validate_corpus

# Phrases as they stand in reviews: the first two say good, the next two bad, the others neither.
PHRASES = {
    "thai": "อร่อยมาก บริการดี ไม่อร่อย ผิดหวัง วันนี้ ร้านนี้ อาหาร พนักงาน กับเพื่อน น้ำซุป",
    "lao": "ແຊບຫຼາຍ ບໍລິການດີ ບໍ່ແຊບ ຜິດຫວັງ ມື້ນີ້ ຮ້ານນີ້ ອາຫານ ພະນັກງານ ກັບໝູ່ ນ້ຳ",
    "khmer": "ឆ្ងាញ់ណាស់ សេវាល្អ មិនឆ្ងាញ់ ខកចិត្ត ថ្ងៃនេះ ហាងនេះ អាហារ បុគ្គលិក ជាមួយមិត្ត ទឹក",
    "burmese": "အရသာရှိတယ် ဝန်ဆောင်မှုကောင်း မကောင်းဘူး စိတ်ပျက်တယ် ဒီနေ့ ဒီဆိုင် အစားအစာ ဝန်ထမ်း သူငယ်ချင်း ရေ",
    "tibetan": "ཞིམ་པོ་འདུག་ ཡག་པོ་འདུག་ ཞིམ་པོ་མི་འདུག་ ཡིད་ཐང་ཆད་ དེ་རིང་ ཟ་ཁང་འདི་ ཁ་ལག་ ལས་བྱེད་པ་ གྲོགས་པོ་ ཆུ་",
}


def reviews(path: Path, script: str, rows: int) -> Path:
    """One sentence each, of twelve phrases in any order, one of which says what the writer thinks."""
    draw, phrases = random.Random(0), PHRASES[script].split()
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label"])
        for row in range(rows):
            words = draw.choices(phrases[4:], k=11)
            words.insert(draw.randrange(12), phrases[2 * (row % 2) + draw.randrange(2)])
            table.writerow(["".join(words), ("good", "bad")[row % 2]])
    return path


def suggested(data: Path, name: str) -> Path:
    recipe = data.with_name(f"{name}.yaml")
    done = CliRunner().invoke(main, ["recipe", "suggest", str(data), "-o", str(recipe)])
    assert done.exit_code == 0, done.output
    return recipe


@pytest.mark.parametrize("script", PHRASES)
def test_the_test_split_is_known_to_the_vocabulary_of_train(
    store, tmp_path: Path, script: str
) -> None:
    recipe = load_recipe(suggested(reviews(tmp_path / "reviews.csv", script, 200), script))
    assert recipe.model.ngrams is not None and recipe.model.ngrams.max_n == 3, (
        "a unit says less than a word"
    )
    assert 16 < recipe.window.max_length <= 256, "its length is counted in those units"
    raw = ingest_source(
        recipe.source, recipe.contract, fingerprint(recipe.source), store, batch_rows=1000
    ).manifest
    corpus = validate_corpus(raw, recipe.contract, store, batch_rows=1000).manifest
    tokens = tokenize_corpus(corpus, recipe.tokenizer, store, recipe.window).manifest
    assert (
        tokens.unknown_shares == {"train": 0.0, "valid": 0.0, "test": 0.0} and not tokens.warnings
    )
    assert 12 * tokens.rows_out < tokens.tokens, "more than a token for each phrase"


def test_a_model_of_thai_reviews_learns_what_they_say(here, tmp_path: Path) -> None:
    recipe = suggested(reviews(tmp_path / "reviews.csv", "thai", 400), "thai")
    small = ["model.embedding.size=16", "model.encoder.hidden_size=8", "task.wide.buckets=20000"]
    quick = [
        "training.max_epochs=5",
        "statistics.samples=100",
    ]
    changes = [f"--set={change}" for change in (*small, *quick)]
    result = told(here(tmp_path / "home", "retrain", recipe, "--json", *changes))
    assert result["metrics"]["test/accuracy"]["value"] > 0.95
    assert result["warnings"] == []


def test_unknown_tokens_are_told_in_terminal_summary_and_both_stores(here, tmp_path: Path) -> None:
    """In any language: whatever keeps the vocabulary from the words of the texts."""
    recipe, home = tmp_path / "rare.yaml", tmp_path / "home"
    words = {**TINY["tokenizer"], "min_frequency": 400}
    recipe.write_text(json.dumps({**TINY, "name": "rare", "tokenizer": words}))
    result = told(here(home, "retrain", recipe, "--json"))
    (warning,) = result["warnings"]
    assert "% of the tokens of train and " in warning and "% of the tokens of test" in warning
    assert "tokenizer.kind: bpe" in warning and "min_frequency (it is 400)" in warning
    uri = f"sqlite:///{home / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    summary = Path(client.download_artifacts(result["run_id"], "summary.md", str(tmp_path)))
    assert "**Note:** The vocabulary does not know" in summary.read_text(encoding="utf-8")
    again = here(home, "retrain", recipe)
    assert again.exit_code == 0 and "The vocabulary does not know" in again.output, (
        "a night from the cache says so too"
    )
