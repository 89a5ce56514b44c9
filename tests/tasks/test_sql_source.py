"""Rows of a query: read as a file of the same rows is, known again, and refused in a sentence."""

from __future__ import annotations

import csv
import sqlite3
from datetime import date
from pathlib import Path

import pyarrow.dataset as dataset
import pytest
import yaml
from click.testing import CliRunner

from data_contracts.contract.contract import load_contract
from data_contracts.errors import RecipeError, SourceError
from data_contracts.recipe.reading import load_recipe, parse_recipe
from data_contracts.recipe.source import DataWindow, FileSource, RollingWindow, SqlSource
from flows.cli.main import main
from tasks.ingest import survey
from tests.stages import ingest_source

ROWS = [
    ("great", "positive", "2026-03-01"), ("太差了", "negative", "2026-03-02"),
    ('said "no", left', "negative", "2026-03-02"), (None, "positive", "2026-03-03"),
    ("fine\nby me", None, "2026-03-04"),
]  # fmt: skip
QUERY = "SELECT body AS text, label FROM mails"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "mails.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE mails (body TEXT, label TEXT, day TEXT, raw BLOB)")
        connection.executemany("INSERT INTO mails VALUES (?, ?, ?, NULL)", ROWS)
    return file


def source(database: Path, query: str = QUERY, **more) -> SqlSource:
    return SqlSource(url=f"sqlite:///{database}", query=query, **more)


def rows_of(corpus, store) -> list[tuple]:
    table = dataset.dataset(sorted(store.open(corpus).glob("part-*.parquet"))).to_table()
    return [(row["text"], row["label"], row["row"]) for row in table.to_pylist()]


def test_a_query_gives_the_rows_that_a_file_of_them_gives(database, tmp_path, store) -> None:
    with (tmp_path / "mails.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows([text or "", label or ""] for text, label, _ in ROWS)
    contract = load_contract("sample").model_copy(
        update={"columns": load_contract("sample").columns.model_copy(update={"slices": (), "id": None, "split": None})}
    )  # fmt: skip
    asked = source(database)
    by_query = ingest_source(asked, contract, None, store, batch_rows=2).manifest
    files = FileSource(url=str(tmp_path / "mails.csv"))
    by_file = ingest_source(files, contract, None, store, batch_rows=2).manifest
    assert rows_of(by_query, store) == rows_of(by_file, store)
    with sqlite3.connect(database) as connection:  # nothing was changed, and nothing is locked
        assert connection.execute("SELECT count(*) FROM mails").fetchone() == (5,)
        connection.execute("INSERT INTO mails VALUES ('late', 'positive', '2026-03-05', NULL)")
    with pytest.raises(SourceError, match="changed while it was read"):
        ingest_source(asked, contract, "as it was before", store, batch_rows=2)


def test_the_same_rows_are_known_in_any_order_and_others_are_not(database) -> None:
    before = survey(source(database)).fingerprint
    upside_down = source(
        database, "SELECT body AS text, label FROM (SELECT * FROM mails ORDER BY day DESC)"
    )
    assert survey(source(database)).fingerprint == before != survey(upside_down).fingerprint
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT * FROM mails").fetchall()
        connection.execute("DELETE FROM mails")
        connection.executemany("INSERT INTO mails VALUES (?, ?, ?, ?)", rows[::-1])
    assert survey(source(database)).fingerprint == before
    newest = source(database, version="SELECT max(day) FROM mails")
    known = survey(newest).fingerprint
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO mails VALUES ('new', 'positive', '2026-03-09', NULL)")
    assert survey(source(database)).fingerprint != before
    assert survey(newest).fingerprint != known


def test_a_window_gives_the_query_its_days(database, store) -> None:
    query = f"{QUERY} WHERE day BETWEEN :start AND :end"
    rolling = source(database, query, window=RollingWindow(days=2))
    fixed = rolling.model_copy(update={"window": rolling.window.at(date(2026, 3, 4))})
    assert fixed.window == DataWindow(start=date(2026, 3, 2), end=date(2026, 3, 3))
    later = rolling.model_copy(update={"window": rolling.window.at(date(2026, 3, 5))})
    assert survey(fixed).fingerprint != survey(later).fingerprint
    for fault, fields in (
        (":start", {"query": query}), ("neither", {"query": QUERY, "window": {"days": 2}}),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=fault):
            parse_recipe(
                {"source": {"url": "sqlite:///x.db", **fields}, "contract": "sample"}, origin="x"
            )


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT * FROM nowhere", ["no such table"]),
        ("SELECT body, body FROM mails", ["two columns are called 'body'"]),
        ("SELECT 1; DROP TABLE mails", ["several statements"]),
        ("SELECT X'00ff' AS text", ["'text' holds bytes", "Cast it"]),
        ("SELEC body", ["refuses the query", "syntax error"]),
    ],
)
def test_a_query_that_gives_no_rows_of_a_table_is_refused(database, query, words) -> None:
    with pytest.raises(SourceError) as fault:
        survey(source(database, query))
    for word in words:
        assert word in f"{fault.value.cause} {fault.value.remedy}"


def test_what_is_no_database_and_what_holds_a_password_is_refused(tmp_path, monkeypatch) -> None:
    with pytest.raises(SourceError, match="no URL of a database"):
        survey(SqlSource(url="mails.db", query=QUERY))
    with pytest.raises(SourceError, match="no driver"):
        survey(SqlSource(url="mysql+pymysql://host/db", query=QUERY))
    open_url = {"url": "postgresql://ana:secret@host/db", "query": QUERY}
    with pytest.raises(RecipeError, match="a user name or password"):
        parse_recipe({"source": open_url, "contract": "sample"}, origin="x")
    with pytest.raises(SourceError, match="DB_PASSWORD"):
        survey(SqlSource(url="postgresql://ana:${DB_PASSWORD}@host/db", query=QUERY))
    monkeypatch.setenv("DB_PASSWORD", "p@ss/word")
    with pytest.raises((SourceError, OSError)) as fault:
        survey(SqlSource(url="postgresql://ana:${DB_PASSWORD}@127.0.0.1:1/db", query=QUERY))
    assert "p@ss" not in str(fault.value)


def test_a_recipe_reads_a_database_beside_it_and_check_looks_at_its_first_rows(database) -> None:
    recipe = {
        "source": {"url": "sqlite:///mails.db", "query": QUERY}, "name": "mails",
        "contract": {"name": "mails", "columns": {"text": "text", "label": "label"}, "labels": {"min_count": 1}},
    }  # fmt: skip
    file = database.parent / "mails.yaml"
    file.write_text(yaml.safe_dump(recipe))
    assert load_recipe(file).source.url == f"sqlite:///{database}"
    done = CliRunner().invoke(main, ["recipe", "check", str(file)])
    assert "5 rows" in done.output and "query.jsonl" in done.output, done.output
