"""A table in, the table with the answers out: formats, blank rows, names that collide, and files
that appear whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from flows.cli.main import main
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import predict_proba
from tasks.tracking.aliases import Aliases

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]

REPOSITORY = Path(__file__).resolve().parents[2]

GOOD, BAD, PLAIN = "great lovely fast", "太差了，不推荐", "parcel arrived monday"
LABELS = ("negative", "positive", "没有意见")


@dataclass(frozen=True)
class Shop:
    """A registry whose model has a champion, and the command `predict` on it."""

    name: str
    folder: Path
    expected: Callable[[list[str]], np.ndarray]
    command: Callable[..., Result]

    def predict(self, *words: str | Path, input: str | bytes | None = None) -> Result:
        return self.command("predict", "--model", self.name, *words, input=input)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


@pytest.fixture
def shop(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    model = world.model()
    registered = world.register(model, world.evaluate(model))
    Aliases(world.tracker.client, registered.name, tmp_path / "ledger.jsonl").crown(
        registered.version, None, "test"
    )
    monkeypatch.setenv("NOISEFOLD_HOME", str(world.settings.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def command(*words: str | Path, input: str | bytes | None = None) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words], input=input)

    bundle = Bundle.load(world.store.open(model) / "bundle")
    return Shop(registered.name, tmp_path, partial(predict_proba, bundle), command)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_csv_becomes_a_parquet_with_every_column_and_the_answers(shop: Shop) -> None:
    table = shop.write(
        "mails.csv",
        f'id,body,note\n007,{GOOD},"a, ""b"""\n8,{BAD},\n9,"parcel\r\narrived\nmonday",c\n',
    )
    done = shop.predict(
        "--input", table, "--column", "body", "--output", shop.folder / "out.parquet"
    )
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert "3 of 3 rows answered" in done.stderr
    out = pq.read_table(shop.folder / "out.parquet")
    probabilities = [f"probability_{label}" for label in LABELS]
    assert out.column_names == ["id", "body", "note", "label", *probabilities, "reason", "model"]
    assert out.select(["id", "body", "note"]).to_pydict() == {
        "id": ["007", "8", "9"],
        "body": [GOOD, BAD, "parcel\r\narrived\nmonday"],
        "note": ['a, "b"', None, "c"],
    }
    assert out["label"].to_pylist() == ["positive", "negative", "没有意见"]
    assert out["reason"].to_pylist() == [None] * 3
    assert set(out["model"].to_pylist()) == {f"models:/{shop.name}/1"}
    found = np.column_stack([out[name].to_numpy() for name in probabilities])
    assert np.abs(found - shop.expected([GOOD, BAD, "parcel\r\narrived\nmonday"])).max() < 1e-6
    assert sorted(path.name for path in shop.folder.iterdir()) == [
        "ledger.jsonl",
        "mails.csv",
        "out.parquet",
    ]


@pytest.mark.parametrize("end", ["csv", "csv.gz", "jsonl", "jsonl.zst"])
def test_what_is_written_is_read_back_as_it_was(shop: Shop, end: str) -> None:
    rows = [
        {"n": "1", "text": f"{GOOD}\r", "more": ' "x",\n '},
        {"n": "2", "text": BAD, "more": "文本"},
    ]
    table = shop.write("in.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    first = shop.folder / f"out.{end}"
    assert shop.predict("--input", table, "--output", first).exit_code == 0
    # And once more, from what was written: the answers of the first are columns like any other by
    # now.
    done = shop.predict(
        "--input", first, "--output", shop.folder / "again.jsonl", "--column", "text"
    )
    assert done.exit_code == 0, done.output
    assert "has a column label already: the model's is predicted_label" in done.stderr
    again = [json.loads(line) for line in (shop.folder / "again.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in rows[0]} for row in again] == rows
    assert (
        [row["label"] for row in again]
        == [row["predicted_label"] for row in again]
        == ["positive", "negative"]
    )


def test_columns_of_a_parquet_keep_their_types(shop: Shop) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int64()),
            "when": pa.array([0, 1, 2], pa.timestamp("s")),
            "vector": pa.array([[0.5], [], None], pa.list_(pa.float32())),
            "text": pa.array([GOOD, BAD, None], pa.string()).dictionary_encode(),
        }
    )
    pq.write_table(table, shop.folder / "in.parquet")
    done = shop.predict(
        "--input", shop.folder / "in.parquet", "--output", shop.folder / "out.parquet"
    )
    assert done.exit_code == 0, done.output
    out = pq.read_table(shop.folder / "out.parquet")
    kept = ["id", "when", "vector"]
    assert out.select(kept).equals(pq.read_table(shop.folder / "in.parquet", columns=kept))
    assert out["label"].to_pylist() == ["positive", "negative", None]
    assert out["probability_negative"].null_count == 1
    assert (
        shop.predict(
            "--input", shop.folder / "in.parquet", "--output", shop.folder / "out.csv"
        ).exit_code
        == 0
    )
    assert [row["vector"] for row in rows_of(shop.folder / "out.csv")] == ["[0.5]", "[]", ""]


BLANKS = {
    "csv": f"text,n\n{GOOD},1\n,2\n   ,3\n{BAD},4\n",
    "jsonl": "".join(
        json.dumps(row) + "\n" for row in ({"text": GOOD}, {"text": None}, {"n": 3}, {"text": BAD})
    ),
}


@pytest.mark.parametrize("kind", sorted(BLANKS))
def test_a_blank_text_refuses_its_own_row_and_no_other(shop: Shop, kind: str) -> None:
    table, out = shop.write(f"in.{kind}", BLANKS[kind]), shop.folder / "out.jsonl"
    done = shop.predict("--input", table, "--output", out)
    assert done.exit_code == 0, done.output
    assert "2 of 4 have no text" in done.stderr and f"in.{kind}, row 2" in done.stderr.replace(
        "\n", " "
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["label"] for row in rows] == ["positive", None, None, "negative"]
    assert [bool(row["reason"]) for row in rows] == [False, True, True, False]
    assert rows[1]["probability_positive"] is None and 0 < rows[0]["probability_positive"] < 1

    strict = shop.predict("--input", table, "--output", shop.folder / "strict.csv", "--strict")
    assert strict.exit_code == 1 and "2 of 4 rows have no text" in strict.stderr.replace("\n", " ")
    assert not list(shop.folder.glob("*strict*"))


def test_a_number_among_json_texts_refuses_its_own_row(shop: Shop) -> None:
    table = shop.write(
        "in.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in (GOOD, 5, {"a": 1}, BAD))
    )
    done = shop.predict("--input", table, "--output", "-", "--json")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == [GOOD, 5, {"a": 1}, BAD]
    assert [row["label"] for row in rows] == ["positive", None, None, "negative"]
    assert rows[1]["reason"] == "the text is no string but a JSON number"


def test_an_output_that_is_there_is_replaced_only_by_force_and_only_whole(shop: Shop) -> None:
    out = shop.write("out.csv", "precious\n")
    table = shop.write("in.jsonl", json.dumps({"text": GOOD}) + "\n")
    refused = shop.predict("--input", table, "--output", out)
    assert (
        refused.exit_code == 1
        and "is there already" in refused.stderr
        and "--force" in refused.stderr
    )
    broken = shop.write("broken.jsonl", json.dumps({"text": GOOD}) + "\n" + '{"text": \n')
    assert shop.predict("--input", broken, "--output", out, "--force").exit_code == 1
    assert out.read_text() == "precious\n"
    assert shop.predict("--input", table, "--output", out, "--force").exit_code == 0
    assert [row["label"] for row in rows_of(out)] == ["positive"]
    assert not list(shop.folder.glob(".*")), "no temporary file stays"


def test_a_table_on_standard_input_and_the_answers_on_standard_output(shop: Shop) -> None:
    content = f"n,body\n1,{GOOD}\n2,{BAD}\n"
    done = shop.predict("--input", "-", "--format", "csv", "--column", "body", input=content)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["n"], row["label"]) for row in rows] == [("1", "positive"), ("2", "negative")]
    unnamed = shop.predict("--input", "-", input=content)
    assert unnamed.exit_code == 1 and "--format" in unnamed.stderr


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("id,text,label\n1,hello there,spam\n2,bye,ham\n", "csv"),
        ("text\tlabel\nhello, there\tspam\nbye\tham\n", "csv"),
        ("文本;标签\n你好;a\n再见;b\n", "csv"),
        ('{"text": "hello"}\n{"text": "bye"}\n', "jsonl"),
    ],
)
def test_a_table_that_is_given_as_lines_is_told(shop: Shop, content: str, kind: str) -> None:
    done = shop.predict(input=content)
    assert done.exit_code == 1
    assert "looks like a table" in done.stderr and f"--format {kind}" in done.stderr.replace(
        "\n", " "
    )
    answered = shop.predict("--lines", "--json", input=content)
    assert len(answered.stdout.splitlines()) == len(content.splitlines()), answered.output


def test_lines_of_windows_with_a_blank_one_between(shop: Shop) -> None:
    done = shop.predict("--json", input=f"\ufeff{GOOD}\r\n\r\n{BAD}\r\n".encode())
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == [GOOD, "", BAD]
    assert [row["label"] for row in rows] == ["positive", None, "negative"]
    assert rows[1]["probabilities"] is None and "missing or empty" in rows[1]["reason"]
    assert "1 of 3 have no text, and so no answer (number 2)" in done.stderr
    shown = shop.predict(GOOD, "")
    assert shown.exit_code == 0 and "the text is missing or empty" in shown.stdout
    assert shop.predict("--strict", GOOD, "").exit_code == 1


def test_more_rows_than_are_answered_at_a_time(shop: Shop) -> None:
    texts = [GOOD, BAD, PLAIN, ""] * 150
    table = shop.write(
        "many.csv", "text,n\n" + "".join(f'"{text}",{n}\n' for n, text in enumerate(texts))
    )
    out = shop.folder / "many.csv.gz"
    assert shop.predict("--input", table, "--output", out).exit_code == 0
    with gzip.open(out, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["n"] for row in rows] == [str(n) for n in range(600)]
    assert [row["label"] for row in rows] == ["positive", "negative", "没有意见", ""] * 150
    lines = shop.predict("--json", input="\n".join(texts[:599]))
    assert len(lines.stdout.splitlines()) == 599


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--input", "absent.csv"], ["absent.csv", "--input"]),
        (["--input", "two.csv"], ["which column holds the texts", "--column"]),
        (["--input", "two.csv", "--column", "bodi"], ["no column 'bodi'", "'body'", "--column"]),
        (
            ["--input", "two.csv", "--column", "body", "--output", "x.xlsx"],
            ["does not tell the format", ".parquet"],
        ),
        (
            ["--input", "two.csv", "--column", "body", "--output", "absent/x.csv"],
            ["cannot be written"],
        ),
        (
            ["--input", "two.csv", "--column", "body", "--output", "https://127.0.0.1:1/x.csv"],
            ["takes no files"],
        ),
        (["--input", "numbers.parquet"], ["type int64, expected text"]),
        (["--input", "torn.parquet"], ["not a Parquet file"]),
        (["--input", "two.csv", "hello"], ["Both texts and --input"]),
        (["--output", "x.csv", "hello"], ["--output is about a table"]),
        (["--input", "empty.jsonl"], ["no rows"]),
        (["--input", "note.txt"], ["note.txt is plain text", "--lines", "--format csv"]),
        (
            ["--input", "two.csv", "--column", "body", "--output", "x.txt"],
            ["does not tell the format", ".parquet"],
        ),
    ],
)
def test_a_fault_is_one_message_with_the_way_out(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, words: list[str], told: list[str]
) -> None:
    monkeypatch.chdir(shop.folder)
    shop.write("two.csv", f"n,body\n1,{GOOD}\n")
    shop.write("torn.parquet", b"PAR1 and no more")
    shop.write("empty.jsonl", "\n")
    shop.write("note.txt", GOOD)
    pq.write_table(pa.table({"text": [1, 2]}), shop.folder / "numbers.parquet")
    before = sorted(shop.folder.iterdir())
    done = shop.predict(*words)
    message = " ".join(done.stderr.split())
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output and len(done.stderr.splitlines()) >= 2
    for word in told:
        assert word in message
    assert sorted(shop.folder.iterdir()) == before


def test_what_there_is_is_named_where_something_is_asked_for_that_is_not(shop: Shop) -> None:
    done = shop.predict("--version", "9", GOOD)
    message = " ".join(done.stderr.split())
    assert (
        done.exit_code == 1
        and "has no version 9. Its newest versions: 1. Aliases: champion (1)." in message
    )
    done = shop.command("predict", "--model", shop.name.removeprefix("noisefold-"), GOOD)
    assert done.exit_code == 1 and f"Did you mean {shop.name}?" in " ".join(done.stderr.split())


def test_a_summary_for_scripts(shop: Shop) -> None:
    table = shop.write("in.csv", BLANKS["csv"])
    done = shop.predict("--input", table, "--output", shop.folder / "out.csv", "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["rows"], told["refused"], told["model"]) == (4, 2, f"models:/{shop.name}/1")


def test_predict_loads_what_the_model_needs_and_no_more(shop: Shop, world: World) -> None:
    """What trains and what orchestrates costs seconds to load, and the code that answers is the
    version's own.
    """
    code = (
        "import sys\nfrom flows.cli.main import main\n"
        f"try:\n    main(['predict', '--model', {shop.name!r}, '--json', {GOOD!r}])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'prefect', 'pytorch_lightning', 'matplotlib', 'great_expectations'} & "
        "set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(sys.modules['lightning_modules.bundle'].__file__, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=300,
        env={**os.environ, "NOISEFOLD_HOME": str(world.settings.home)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "positive"
    assert not Path(done.stderr.split()[-1]).is_relative_to(REPOSITORY)


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("semicolons.csv", "n;body\n1;the parcel is late\n2;a second charge\n", ["--column", "body"]),
        ("tabs.tsv", "n\tbody\n1\tthe parcel is late\n2\ta second charge\n", ["--column", "body"]),
        ("given.csv", "n|body\n1|the parcel is late\n2|a second charge\n", ["--separator", "|", "--column", "body"]),
        ("array.json", '[{"n": 1, "body": "the parcel is late"}, {"n": 2, "body": "a second '
                       'charge"}]', ["-c", "body"]),
    ],
)  # fmt: skip
def test_tables_are_read_as_training_reads_them(shop, name, content, options):
    table, answers = shop.write(name, content), shop.folder / "answers.jsonl"
    done = shop.predict("--input", table, *options, "--output", answers)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert [str(row["n"]) for row in rows] == ["1", "2"]
    assert all(row["label"] in LABELS and row["body"] for row in rows)
