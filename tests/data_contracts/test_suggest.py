"""A suggested recipe is valid as it stands, fits the rows it was made for, and says why."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers

from data_contracts.recipe.profile import unknown_share
from data_contracts.recipe.reading import load_recipe
from flows.cli.main import main


def write_rows(path: Path, texts: list[str], labels: tuple[str, ...] = ("no", "yes")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label"])
        rows.writerows([f"{text} {i}", labels[i % len(labels)]] for i, text in enumerate(texts))
    return path


def suggest(data: Path, *options: str) -> Path:
    out = data.with_suffix(".yaml")
    result = CliRunner().invoke(main, ["recipe", "suggest", str(data), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A folder whose tokenizer knows English words only."""
    words = {
        word: i
        for i, word in enumerate(
            ["[UNK]", "[PAD]", "where", "is", "my", "parcel", *map(str, range(400))]
        )
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "backbone"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_each_choice_stands_under_its_reason_and_the_recipe_is_valid(tmp_path: Path) -> None:
    path = suggest(write_rows(tmp_path / "mails.csv", ["where is my parcel"] * 300))
    text = path.read_text(encoding="utf-8")
    for section in ("contract:", "tokenizer:", "model:", "training:"):
        before = text[: text.index("\n" + section)].splitlines()[-1]
        assert before.startswith("#") and before.endswith("."), section
    recipe = load_recipe(path)
    assert recipe.name == "mails"
    assert Path(recipe.source.url).resolve() == (tmp_path / "mails.csv").resolve(), (
        "the path holds from the recipe's folder"
    )


def test_short_texts_get_a_bilstm_and_long_ones_windows(tmp_path: Path) -> None:
    short = load_recipe(suggest(write_rows(tmp_path / "short.csv", ["where is my parcel"] * 300)))
    long = load_recipe(
        suggest(write_rows(tmp_path / "long.csv", ["where is my parcel " * 100] * 300))
    )
    assert (short.model.encoder.kind, long.model.encoder.kind) == ("bilstm_attention", "tanh")
    assert short.window.max_length < long.window.max_length == 512
    assert short.task.wide is None and short.model.ngrams is not None
    assert long.task.wide is not None and long.task.wide.naive_bayes
    assert long.training.groups == {}
    larger = load_recipe(
        suggest(write_rows(tmp_path / "many.csv", ["where is my parcel " * 100] * 6_000))
    )
    many, group = larger.task.wide, larger.training.groups["wide"]
    assert many is not None and many.buckets > long.task.wide.buckets and group.epsilon > 1e-8, (
        "many more n-grams"
    )
    assert group.learning_rate is not None
    topics = suggest(
        write_rows(tmp_path / "topics.csv", ["where is my parcel " * 100] * 300, ("a", "b", "c"))
    )
    models = [recipe.model for recipe in (short, long, load_recipe(topics))]
    regularizers = [(model.reparameterization.kind, model.dropout) for model in models]
    assert regularizers == [("multiplicative_noise", 0.0), ("none", 0.5), ("none", 0.0)], (
        "what was ahead on such texts"
    )


def test_chinese_is_read_by_character_with_longer_ngrams(tmp_path: Path) -> None:
    recipe = load_recipe(suggest(write_rows(tmp_path / "zh.csv", ["这个手机的屏幕非常好"] * 300)))
    assert recipe.tokenizer.kind == "word"
    assert recipe.model.ngrams is not None and recipe.model.ngrams.max_n == 3


def test_a_backbone_that_knows_the_language_is_fine_tuned(tmp_path: Path, backbone: Path) -> None:
    data = write_rows(tmp_path / "mails.csv", ["where is my parcel"] * 300)
    content = yaml.safe_load(suggest(data, "--backbone", str(backbone)).read_text(encoding="utf-8"))
    assert content["model"]["encoder"] == {"kind": "pretrained", "path": "backbone"}
    assert content["model"]["reparameterization"]["kind"] == "low_rank"
    assert content["model"]["reparameterization"]["noise"]["kind"] == "multiplicative_noise"
    assert "task" not in content, "on as few rows n-grams gained nothing"
    data = write_rows(tmp_path / "many.csv", ["where is my parcel " * 6] * 6_000)
    wide = load_recipe(suggest(data, "--backbone", str(backbone))).task.wide
    assert wide is not None and wide.share is not None
    assert 0 < wide.share < 0.5, "n-grams beside it, and the backbone has the larger say"


def test_for_many_rows_a_backbone_gives_its_token_vectors_alone(
    tmp_path: Path, backbone: Path
) -> None:
    data = write_rows(tmp_path / "mails.csv", ["where is my parcel " * 6] * 50_001)
    refused = CliRunner().invoke(
        main, ["recipe", "suggest", str(data), "--backbone", str(backbone)]
    )
    assert (
        refused.exit_code == 1
        and "config.json does not say the size of its vectors" in refused.output
    )
    (backbone / "config.json").write_text('{"model_type": "bert", "hidden_size": 32}')
    path = suggest(data, "--backbone", str(backbone))
    model = load_recipe(path).model
    assert model.encoder.kind == "bilstm_attention"
    assert (
        model.embedding.vectors == str(backbone)
        and model.embedding.size == 32
        and model.embedding.init_std == 1.0
    )
    assert "fine-tuning takes hours" in path.read_text(encoding="utf-8")


def test_a_backbone_that_does_not_is_passed_over_with_the_share(
    tmp_path: Path, backbone: Path
) -> None:
    data = write_rows(tmp_path / "zh.csv", ["这个手机的屏幕非常好"] * 300)
    path = suggest(data, "--backbone", str(backbone))
    assert load_recipe(path).model.encoder.kind != "pretrained"
    assert "passed over" in path.read_text(encoding="utf-8")
    assert unknown_share(str(backbone), ["where parcel nonsense"]) == pytest.approx(1 / 3)


def test_bad_input_is_named(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "mails.csv", ["where is my parcel"] * 300)
    run = CliRunner().invoke
    assert (
        "tokenizer.json"
        in run(main, ["recipe", "suggest", str(data), "--backbone", str(tmp_path)]).output
    )
    other = tmp_path / "other.csv"
    other.write_text("question,kind\nwhy,a\nhow,b\n")
    found = run(main, ["recipe", "suggest", str(other), "--contract", "trec"]).output
    assert "no column 'text'" in found
    out = tmp_path / "there.yaml"
    out.write_text("mine")
    assert "is there already" in run(main, ["recipe", "suggest", str(data), "-o", str(out)]).output
    assert out.read_text() == "mine"
