"""Two data sets never become one registered model by a name that was cleaned, and never by one that
is the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from data_contracts.errors import RecipeError
from data_contracts.recipe.names import dataset_name
from data_contracts.recipe.reading import load_recipe, parse_recipe
from flows.cli.main import main
from tasks.tracking.bookkeeping import LINEAGE


@pytest.mark.parametrize(
    "files",
    [
        ("外卖.csv", "酒店.csv", "外賣.csv"),
        ("a b.csv", "a_b.csv", "a-b.csv", "a.b.csv", "a  b.csv"),
        ("Ä.csv", "A.csv", "Å.csv"),
        ("отзывы.csv", "отзыв.csv"),
        ("x" * 90 + "1.csv", "x" * 90 + "2.csv"),
        ("🍕.csv", "🍔.csv"),
    ],
)
def test_names_that_differ_stay_different(files: tuple[str, ...]) -> None:
    names = [dataset_name(f"/exports/{file}") for file in files]
    assert len(set(names)) == len(files), names
    assert names == [dataset_name(f"elsewhere/{file}") for file in files], (
        "the same wherever the file lies"
    )


def test_names_are_readable_and_fit_the_contract() -> None:
    assert (
        dataset_name("mails.csv.gz") == "mails" and dataset_name("reviews.v2.jsonl") == "reviews.v2"
    )
    assert dataset_name("外卖.csv").startswith("wai-mai-")
    assert (
        dataset_name("news/part-0.parquet")
        == dataset_name("news/*.parquet")
        == dataset_name("/x/news/")
        == "news"
    )
    assert dataset_name("imdb/data/train-00000-of-00001.parquet") == "imdb"
    assert dataset_name("mails-train.csv", "mails-test.csv") == "mails"
    assert dataset_name("trec/train.csv", "trec/test.csv") == "trec"
    assert dataset_name("/x/multi30k/train.de", "/x/multi30k/train.en") == "multi30k"
    assert dataset_name("/x/multi30k.de.gz", "/x/multi30k.en.gz") == "multi30k"
    assert dataset_name("https://me:pw@host/a/mails.csv?token=x") == "mails"
    for odd in ("", ".", "..", "/", "*", "-.csv", "s3://bucket/part-0.parquet", "x" * 500):
        parse_recipe({"name": dataset_name(odd), "source": {"rows": 400}}, origin="test")


def test_suggested_recipes_of_two_files_have_two_models(tmp_path: Path) -> None:
    models = set()
    for name, words in (("外卖", "味道不错"), ("酒店", "位置方便")):
        rows = "".join(
            f"{words}，第{i}次，{'很好' if i % 2 else '很差'},{i % 2}\n" for i in range(200)
        )
        (tmp_path / f"{name}.csv").write_text("review,label\n" + rows, encoding="utf-8")
        out = tmp_path / f"{name}.yaml"
        done = CliRunner().invoke(
            main, ["recipe", "suggest", str(tmp_path / f"{name}.csv"), "-o", str(out)]
        )
        assert done.exit_code == 0, done.output
        models.add(load_recipe(out).model_name)
    assert len(models) == 2


def test_a_model_of_other_data_is_not_taken_over_by_a_name_alone(tmp_path: Path) -> None:
    from tasks.settings import Settings
    from tasks.tracking.owner import refuse_other_data
    from tasks.tracking.runs import connect

    client, _ = connect(Settings(home=tmp_path, artifacts=None))
    recipe = parse_recipe(
        {"name": "dataset", "source": {"rows": 400}, "contract": {"name": "hotel"}}, origin="test"
    )
    refuse_other_data(client, recipe)  # no model yet
    client.create_registered_model("noisefold-dataset")
    version = client.create_model_version(
        "noisefold-dataset", "file:///x", tags={LINEAGE: '{"contract": "waimai v3"}'}
    )
    refuse_other_data(client, recipe)  # no champion yet
    client.set_registered_model_alias("noisefold-dataset", "champion", version.version)
    with pytest.raises(
        RecipeError, match="contract waimai, and this recipe has contract hotel"
    ) as refused:
        refuse_other_data(client, recipe)
    assert "registry.model_name: noisefold-dataset" in refused.value.remedy
    told = recipe.model_copy(
        update={"registry": recipe.registry.model_copy(update={"model_name": "noisefold-dataset"})}
    )
    refuse_other_data(client, told)
    refuse_other_data(
        client,
        recipe.model_copy(
            update={"contract": recipe.contract.model_copy(update={"name": "waimai"})}
        ),
    )
