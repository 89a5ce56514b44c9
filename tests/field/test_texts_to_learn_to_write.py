"""Texts, and prompts with completions, for a model that writes: drafted, checked, judged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.errors import RecipeError
from data_contracts.kinds.base import AnyTask, Column, Metric, TaskConfig
from data_contracts.recipe.source import FileSource
from data_contracts.yaml_text import parse_yaml
from flows.cli.main import main
from tasks.artifacts.store import ArtifactStore
from tests.stages import fingerprint, ingest_source, validate_corpus

WORDS = "the a cat dog ran over under hill moon sea old new king said 山 河 月".split()
LAX = {"splits": {"min_rows": 1}, "max_quarantine_share": 1, "duplicates": {"max_share": 1}}


def sentences(count: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [" ".join([*rng.choices(WORDS, k=12), str(number)]) for number in range(count)]


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


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def book(path: Path, count: int = 300) -> Path:
    path.write_text("\n\n".join(sentences(count)), encoding="utf-8")
    return path


def pairs(count: int = 200, names: tuple[str, str] = ("prompt", "completion")) -> list[dict]:
    return [
        dict(zip(names, two, strict=True))
        for two in zip(sentences(count), sentences(count, 2), strict=True)
    ]


def contract(**parts: Any) -> DataContract:
    return parse_contract({"kind": "generate", "name": "t", **LAX, **parts}, origin="test")


# --- drafts ---------------------------------------------------------------------------------------


def test_a_book_is_drafted_by_paragraphs(tmp_path: Path) -> None:
    found, _ = drafted(book(tmp_path / "book.txt"), "--documents", "paragraph")
    assert (found.kind, found.columns.text) == ("generate", "text")
    assert found.text.max_characters < 1000, "with headroom over what is there"


def test_a_book_in_one_piece_says_how_it_is_cut(tmp_path: Path) -> None:
    told = refused(book(tmp_path / "book.txt"))
    assert "leave the valid and test split empty" in told
    assert "--documents paragraph or line" in told


def test_a_file_for_each_split_is_drafted_in_one_piece(tmp_path: Path) -> None:
    files = [book(tmp_path / f"{name}.txt", 3 + at) for at, name in enumerate(("train", "valid", "test"))]  # fmt: skip
    found, _ = drafted("--train", files[0], "--valid", files[1], "--test", files[2])
    assert (found.kind, found.splits.min_rows) == ("generate", 1)


@pytest.mark.parametrize(
    "names",
    [("prompt", "completion"), ("instruction", "response"), ("Instruction", "Output")],
)
def test_pairs_are_known_by_their_names(tmp_path: Path, names: tuple[str, str]) -> None:
    found, done = drafted(jsonl(tmp_path / "pairs.jsonl", pairs(names=names)))
    assert (found.kind, found.columns.prompt, found.columns.completion) == ("generate", *names)
    assert "template: '{prompt}'" in done.stdout
    assert "columns.text" not in done.stdout and "label" not in done.stdout


def test_questions_that_are_answered_yes_or_no_stay_a_classification(tmp_path: Path) -> None:
    rows = [
        {"question": one, "answer": "yes" if at % 2 else "no"}
        for at, one in enumerate(sentences(200))
    ]
    assert drafted(jsonl(tmp_path / "boolq.jsonl", rows))[0].kind == "classify"
    kind = drafted(jsonl(tmp_path / "boolq.jsonl", rows), "--kind", "generate")[0].kind
    assert kind == "generate"


def test_texts_with_a_label_are_classified_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    rows = [{"text": one, "label": "ab"[at % 2]} for at, one in enumerate(sentences(200))]
    file = jsonl(tmp_path / "rows.jsonl", rows)
    assert drafted(file)[0].kind == "classify"
    assert drafted(file, "--kind", "generate")[0].columns.text == "text"


def test_texts_without_a_label_name_the_way_out(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "rows.jsonl", [{"content": one} for one in sentences(200)])
    assert "--kind generate" in refused(file)
    assert drafted(file, "--kind", "generate")[0].columns.text == "content"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--kind", "poetry"],
            "--kind poetry: there is no such kind of task. There are classify, ",
        ),
        (["--kind", "generate", "--label", "x"], "rows of kind generate have no label"),
        (["--prompt", "prompt"], "--prompt is given without --completion"),
        (["--text", "prompt", "--completion", "completion"], "both are named: leave one"),
        (["--prompt", "absent", "--completion", "completion"], "--prompt absent: there is no such"),
    ],
)
def test_what_cannot_be_drafted_is_refused(tmp_path: Path, options: list[str], said: str) -> None:
    assert said in refused(jsonl(tmp_path / "pairs.jsonl", pairs()), *options)


def test_a_draft_is_passed_by_its_own_rows(tmp_path: Path) -> None:
    rows = [*pairs(), *pairs(20), {"prompt": "a cat", "completion": " "}]
    found, done = drafted(jsonl(tmp_path / "pairs.jsonl", rows))
    assert "repeat a prompt and its completion" in done.stderr
    manifest = validated(tmp_path / "pairs.jsonl", found, tmp_path)
    assert manifest.quarantined == {"empty_completion": 1, "duplicate": 20}


# --- what is refused of a contract ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"columns": {"text": "t", "prompt": "p"}}, "both are named: leave one of them out"),
        ({"columns": {"prompt": "p"}}, "prompt is named without completion"),
        ({"columns": {"completion": "p"}}, "completion is named without prompt"),
        ({"template": "{prompt}!"}, "template would say nothing of plain texts"),
        ({"prompt": {"max_characters": 9}}, "prompt would say nothing of plain texts"),
        ({"columns": {"prompt": "p", "completion": "c"}, "text": {"min_characters": 2}}, "text would say nothing of pairs"),
        ({"columns": {"prompt": "p", "completion": "c"}, "template": "Q:"}, "it does 0 times"),
        ({"columns": {"prompt": "p", "completion": "c"}, "template": "{prompt}{prompt}"}, "it does 2 times"),
        ({"columns": {"prompt": "p", "completion": "p"}}, "one column plays two roles"),
        ({"labels": {}}, "labels: unknown key"),
    ],
)  # fmt: skip
def test_a_contract_that_cannot_mean_what_it_says_is_refused(parts: dict, said: str) -> None:
    with pytest.raises(RecipeError, match="contract test:") as fault:
        contract(**parts)
    assert said in fault.value.cause


def test_a_contract_reads_back_as_it_was_written() -> None:
    for one in (
        contract(),
        contract(columns={"prompt": "p", "completion": "c"}, template="Q: {prompt}\nA: "),
    ):
        whole = json.loads(one.model_dump_json())
        assert parse_contract(whole, origin="again") == one


def test_the_template_makes_what_stands_before_the_completion() -> None:
    form = {"columns": {"prompt": "p", "completion": "c"}}
    one = contract(**form, template='{"q": "{prompt}"}\n')
    assert one.filled("{why}?") == '{"q": "{why}?"}\n'
    assert "double quotes" in contract(**form, template=r"{prompt}\n").notes({}, {})[0]


# --- judged ---------------------------------------------------------------------------------------


def validated(url: Any, by: DataContract, folder: Path, **source: Any) -> Any:
    files = FileSource(url=str(url), **source)
    store = ArtifactStore(str(folder / "artifacts"), folder / "work")
    raw = ingest_source(files, by, fingerprint(files), store, batch_rows=50).manifest
    return validate_corpus(raw, by, store, batch_rows=50).manifest


def kept(manifest: Any) -> list[dict[str, Any]]:
    return pq.read_table(Path(manifest.uri) / "corpus").to_pylist()


def test_documents_are_kept_as_they_were_written(tmp_path: Path) -> None:
    for at, one in enumerate(sentences(60)):
        (tmp_path / f"{at:02}.txt").write_bytes(f"\ufeff  {one}\r\n\r\n\tEnd. ".encode())
    (tmp_path / "none.txt").write_bytes(b"")
    manifest = validated(tmp_path / "*.txt", contract(), tmp_path)
    assert manifest.facts == {"form": "text", "template": "{prompt}"}
    assert manifest.quarantined == {"empty": 1}
    rows = {row["id"]: row["text"] for row in kept(manifest)}
    assert rows["07.txt#1"] == f"  {sentences(60)[7]}\r\n\r\n\tEnd. "


def test_pairs_keep_every_completion_and_lose_what_is_no_pair(tmp_path: Path) -> None:
    good = pairs(80)
    first = good[0]["prompt"]
    bad = [
        ({"prompt": first, "completion": "another way to go on"}, None),
        ({**good[1]}, "duplicate"),
        ({"prompt": "why", "completion": ""}, "empty_completion"),
        ({"prompt": "\n", "completion": "so"}, "empty_prompt"),
        ({"prompt": "long", "completion": "x" * 500}, "over_long_completion"),
        ({"prompt": "broken", "completion": "\ufffd"}, "broken_encoding_completion"),
        ({"prompt": 5, "completion": "five"}, "not_text"),
    ]
    by = contract(
        columns={"prompt": "prompt", "completion": "completion"},
        completion={"max_characters": 400},
        template="Q: {prompt}\nA: ",
    )
    file = jsonl(tmp_path / "pairs.jsonl", [*good, *(row for row, _ in bad)])
    manifest = validated(file, by, tmp_path)
    assert manifest.facts == {"form": "pairs", "template": "Q: {prompt}\nA: "}
    assert manifest.quarantined == {reason: 1 for _, reason in bad if reason}
    completions = {row["completion"] for row in kept(manifest) if row["prompt"] == first}
    assert completions == {good[0]["completion"], "another way to go on"}


def test_a_prompt_of_test_is_no_prompt_of_train(tmp_path: Path) -> None:
    rows = [{**row, "split": ("train", "valid", "test")[at % 3]} for at, row in enumerate(pairs(90))]  # fmt: skip
    rows.append({"prompt": rows[2]["prompt"], "completion": "another", "split": "train"})
    by = contract(columns={"prompt": "prompt", "completion": "completion", "split": "split"})
    manifest = validated(jsonl(tmp_path / "pairs.jsonl", rows), by, tmp_path)
    assert manifest.quarantined == {"leaked": 1}


def test_one_completion_of_a_prompt_may_be_made_to_count(tmp_path: Path) -> None:
    rows = [*pairs(80), {"prompt": pairs(1)[0]["prompt"], "completion": "corrected"}]
    form = {"columns": {"prompt": "prompt", "completion": "completion"}}
    by = contract(**form, conflicts={"keep": "latest"})
    manifest = validated(jsonl(tmp_path / "pairs.jsonl", rows), by, tmp_path)
    assert manifest.quarantined == {"completed_otherwise": 1}
    assert "corrected" in {row["completion"] for row in kept(manifest)}


# --- checked --------------------------------------------------------------------------------------


@pytest.fixture
def task_of_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options of the kind, where the house has none yet."""
    monkeypatch.setattr(TaskConfig, "KINDS", dict(AnyTask.kinds))
    if "generate" not in AnyTask.kinds:

        class Toy(TaskConfig):
            metrics: ClassVar[tuple[Metric, ...]] = (Metric("bits", "bits", "lower"),)
            inputs: ClassVar[tuple[Column, ...]] = (Column("prompt", "string"),)
            kind: Literal["generate"] = "generate"  # pyright: ignore[reportIncompatibleVariableOverride]


@pytest.mark.usefixtures("task_of_the_kind")
def test_a_recipe_is_checked_before_the_night(tmp_path: Path) -> None:
    book(tmp_path / "book.txt")
    (tmp_path / "books.yaml").write_text(
        "name: books\ntask: {kind: generate}\ntokenizer: {kind: byte}\n"
        "source: {url: book.txt, documents: paragraph}\ncontract: {kind: generate, name: books}\n"
    )
    done = run("recipe", "check", tmp_path / "books.yaml")
    assert done.exit_code == 0, done.output
    assert "all 300 rows read, 300 of them kept" in " ".join(done.output.split())
    done = run("recipe", "check", tmp_path / "books.yaml", "--set", "contract.columns={text: body}")
    assert "book.txt: no column 'body'. It has 'text'." in done.output
    assert "It is plain text, which has the one column text" in " ".join(done.output.split())


def test_a_recipe_is_suggested_that_the_rows_pass(tmp_path: Path) -> None:
    """It says that it writes, which no default does."""
    folder = tmp_path / "books"
    folder.mkdir()
    book(folder / "one.txt")
    out = tmp_path / "books.yaml"
    done = run("recipe", "suggest", folder, "--documents", "paragraph", "-o", out)
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert "task: {kind: generate}" in text
    assert "  kind: generate" in text
    checked = run("recipe", "check", out)
    assert checked.exit_code == 0, checked.output
    assert "300" in checked.output
