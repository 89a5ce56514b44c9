"""`recipe check` says before the night what the night would stumble over, and refuses a recipe that
says nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli.main import main

ROWS = [
    (f"where is my parcel number {i}", "delivery")
    if i % 2
    else (f"invoice {i} was paid", "billing")
    for i in range(200)
]
CONTRACT = "contract: {name: mails, labels: {values: [billing, delivery]}, splits: {min_rows: 5}}\n"


def check(folder: Path, recipe: str, *options: str) -> Result:
    (folder / "mails.yaml").write_text(recipe, encoding="utf-8")
    return CliRunner().invoke(main, ["recipe", "check", str(folder / "mails.yaml"), *options])


def write(
    file: Path, rows: list[tuple[str, str]], header: str = "text,label", encoding: str = "utf-8"
) -> None:
    file.write_text(
        "".join(f"{line}\n" for line in [header, *map(",".join, rows)]), encoding=encoding
    )


def said(done: Result) -> str:
    return " ".join(done.output.split())


def test_a_good_recipe_says_what_it_would_read(tmp_path: Path) -> None:
    write(tmp_path / "mails.csv", [*ROWS, ("where is it", "Delivery")])
    done = check(tmp_path, "source: {url: mails.csv}\n" + CONTRACT)
    assert done.exit_code == 0, done.output
    assert "all 201 rows read, 200 of them kept" in said(done)
    assert "1 for missing or unknown labels ('Delivery' 1)" in said(done)
    assert "billing 100, delivery 100" in said(done)
    assert "'Delivery'" in done.stderr, "labels that look alike are a warning"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("source: {url: absent.csv}\n" + CONTRACT, ["absent.csv: no such file"]),
        (
            "source: {url: mails.csv}\ncontract: {name: m, columns: {text: body}}\n",
            ["no column 'body'", "'text'"],
        ),
        (
            "source: {url: mails.csv}\ncontract: {name: m, labels: {values: [spam, ham]}}\n",
            ["A retrain would stop", "missing or unknown labels: 100 %", "'billing' 100"],
        ),
        ("source: {url: mails.csv}\n" + CONTRACT.replace("5", "500"), ["rows of the test split"]),
        ("source: {url: gbk.csv}\n" + CONTRACT, ["not utf-8", "set source.encoding to 'gb18030'"]),
        ("source: {url: folder}\n" + CONTRACT, ["no file of a known kind"]),
    ],
)
def test_what_a_retrain_would_stumble_over_is_said_with_the_way_out(
    tmp_path: Path, recipe: str, words: list[str]
) -> None:
    write(tmp_path / "mails.csv", ROWS)
    write(tmp_path / "gbk.csv", [("等了很久才送到，味道太咸了", "billing")] * 9, encoding="gb18030")
    (tmp_path / "folder").mkdir()
    done = check(tmp_path, recipe)
    assert done.exit_code == 1
    for word in words:
        assert word in said(done), said(done)
    assert "Traceback" not in done.output
    assert check(tmp_path, recipe, "--no-data").exit_code == 0, "the file alone is in order"


def test_a_label_without_test_rows_is_pointed_out(tmp_path: Path) -> None:
    write(tmp_path / "mails.csv", [*ROWS, ("a refund is what I want", "refund")])
    done = check(
        tmp_path, "source: {url: mails.csv}\n" + CONTRACT.replace("delivery]", "delivery, refund]")
    )
    assert done.exit_code == 0 and "Labels without a row in test: refund." in done.stderr


def test_only_the_first_rows_of_a_large_file_are_read(tmp_path: Path) -> None:
    write(
        tmp_path / "mails.csv",
        [(f"{text} again {i}", label) for i in range(60) for text, label in ROWS],
    )
    done = check(tmp_path, "source: {url: mails.csv}\n" + CONTRACT)
    assert done.exit_code == 0 and "the first 10,000 rows read" in said(done)


def test_rows_that_an_annotator_rejected_are_not_taken_in_silence(tmp_path: Path) -> None:
    lines = [
        f'{{"text": "{t}", "label": "{x}", "answer": "{"reject" if i == 7 else "accept"}"}}'
        for i, (t, x) in enumerate(ROWS)
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    done = check(tmp_path, "source: {url: p.jsonl}\n" + CONTRACT)
    assert done.exit_code == 1 and "select: {answer: [accept]}" in said(done)
    done = check(
        tmp_path,
        "source: {url: p.jsonl}\n" + CONTRACT.replace("{name", "{select: {answer: [accept]}, name"),
    )
    assert done.exit_code == 0 and "Not selected by the contract: 1" in said(done)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("{}", ["source is missing", "source: {kind: sample}"]),
        ("name: x", ["source is missing"]),
        ("name: x\nsource: {}", ["source.url", "is missing"]),
        ("name: x\nsource: {url: mails.csv}", ["contract is missing", "noisefold contract infer"]),
        ("source: mails.csv\n" + CONTRACT, ["source: {url: …}"]),
        (
            "source: {train: a.csv, test: b.csv}\n" + CONTRACT,
            ["did you mean source.url.train", "source.url.test"],
        ),
        (
            "source: {path: mails.csv}\n" + CONTRACT,
            ["source.path (line 1)", "did you mean source.url?"],
        ),
        ("data: mails.csv\n" + CONTRACT, ["data: did you mean source.url?"]),
        (
            "source: {rows: 400}\ntraining:\n  epochs: 3",
            ["training.epochs (line 3)", "training.max_epochs"],
        ),
        ("source: {rows: 400}\nlearning_rate: 0.1", ["did you mean", "training.learning_rate"]),
        (
            "source: {rows: 400}\ntraining: {max_epochs: many}",
            ["a whole number is expected (got 'many')"],
        ),
        ("source: {url: a.csv, delimiter: ';'}\n" + CONTRACT, ["did you mean source.separator?"]),
    ],
)
def test_a_recipe_that_says_nothing_or_says_it_elsewhere_is_answered(
    tmp_path: Path, recipe: str, words: list[str]
) -> None:
    for command in (["recipe", "check"], ["retrain"]):
        (tmp_path / "mails.yaml").write_text(recipe, encoding="utf-8")
        done = CliRunner().invoke(main, [*command, str(tmp_path / "mails.yaml")])
        assert done.exit_code == 1
        for word in words:
            assert word in said(done), said(done)


def test_a_deployment_without_a_source_is_refused_on_a_worker_too() -> None:
    """There the form's values reach the flow, and no recipe file is read."""
    from pydantic import ValidationError

    from data_contracts.recipe.recipe import Recipe

    with pytest.raises(ValidationError, match="source is missing"):
        Recipe.model_validate({"name": "mails", "training": {"max_epochs": 2}})
    assert Recipe().source.kind == "sample", "the form's own default"


def test_a_data_file_in_the_place_of_a_recipe_is_told(tmp_path: Path) -> None:
    write(tmp_path / "mails.csv", ROWS)
    done = CliRunner().invoke(main, ["retrain", str(tmp_path / "mails.csv")])
    assert done.exit_code == 1 and "recipe suggest" in said(done)
