"""The rows of a query, as a file that every reader of tables reads.

They are written as JSON Lines, which keep numbers, texts and nulls apart. One SELECT sees one state
of the database; its transaction is rolled back, so that nothing can be changed by it. What the rows
are now is told by their own hash, in whatever order the database gives them, or by the value of a
query that is cheaper (`source.version`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.source import DataWindow, SqlSource
from data_contracts.urls import redact_values, resolve, shown_url
from tasks.artifacts.store import digest_of

_AT_ONCE = 1000
NAME = "query.jsonl"


def write_rows(source: SqlSource, path: Path, most: int | None = None) -> None:
    """Write what the query gives now; the file appears when it is whole.

    Args:
        most: rows, the first ones; None: all.
    Raises:
        SourceError: the database refuses the query or the login, it has no rows, or a value is none
            that a table holds.
        OSError: it does not answer; a later attempt may succeed.
    """
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file, closing(_lines(source)) as lines:
        for line in islice(lines, most):
            file.write(line + "\n")
    os.replace(temporary, path)


def fingerprint(source: SqlSource, written: Path | None = None) -> str:
    """Of the query, its days and the rows that it gives.

    Args:
        written: these rows, where they are at hand; None: the database is asked.
    """
    days = [str(day) for day in _days(source).values()]
    asked = ["sql", " ".join(source.query.split()), days]
    if source.version is not None:
        with _connected(source) as connection:
            value = connection.execute(_text(source, source.version)).scalar()
        return digest_of(*asked, source.version, _plain(value, source, "version"))
    total, rows = 0, 0
    lines = _lines(source) if written is None else _written(written)
    for line in lines:
        # A sum of hashes (Clarke 2003): a database may give the same rows in another order.
        one = hashlib.blake2b(line.encode(), digest_size=16).digest()
        total = (total + int.from_bytes(one, "little")) % (1 << 128)
        rows += 1
    return digest_of(*asked, rows, f"{total:032x}")


def shown(source: SqlSource) -> str:
    """Where the rows come from, without what may be secret."""
    return f"{shown_url(source.url)}: {' '.join(source.query.split())}"


def _written(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def _lines(source: SqlSource) -> Generator[str]:
    with _connected(source) as connection:
        streamed = connection.execution_options(stream_results=True, yield_per=_AT_ONCE)
        result = streamed.execute(_text(source, source.query), _days(source))
        names = list(result.keys())
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SourceError(
                f"source.query: two columns are called {twice!r}.",
                "Give each a name of its own (AS).",
            )
        for row in result:
            cells = {
                name: _plain(value, source, name) for name, value in zip(names, row, strict=True)
            }
            yield json.dumps(cells, ensure_ascii=False)


def _days(source: SqlSource) -> dict[str, date]:
    window = source.window
    if not isinstance(window, DataWindow):
        return {}
    given = {"start": window.start, "end": window.end}
    return {name: day for name, day in given.items() if f":{name}" in source.query}


def _text(source: SqlSource, query: str) -> Any:
    from sqlalchemy import text

    if ";" in query.strip().rstrip(";"):
        raise SourceError(
            f"{shown_url(source.url)}: the query is several statements.", "Write one SELECT."
        )
    return text(query.strip().rstrip(";"))


@contextmanager
def _connected(source: SqlSource) -> Iterator[Any]:
    """A connection whose transaction is rolled back; faults sorted into those to mend (SourceError)
    and those that may heal (ConnectionError).
    """
    from sqlalchemy import create_engine, exc

    where = shown_url(source.url)
    try:
        engine = create_engine(resolve(source.url, encoded=True))
    except (exc.ArgumentError, ValueError):
        raise SourceError(
            f"source.url: {where} is no URL of a database.",
            "Write it as SQLAlchemy does: postgresql://host/database, sqlite:///file.db.",
        ) from None
    except (exc.NoSuchModuleError, ImportError) as error:
        raise SourceError(
            f"source.url: no driver for {where} is installed ({redact_values(str(error))}).",
            "Install it beside noisefold: psycopg2-binary for PostgreSQL, pymysql for MySQL.",
        ) from None
    try:
        with engine.connect() as connection:
            try:
                yield connection
            finally:
                connection.rollback()
    except NoisefoldError:
        raise
    except exc.OperationalError as error:
        told = _told(error)
        if _heals(engine.dialect.name, told.lower()):
            raise ConnectionError(f"{where}: {told}") from None
        raise _refused(where, told) from None
    except exc.SQLAlchemyError as error:
        raise _refused(where, _told(error)) from None
    finally:
        engine.dispose()


def _heals(dialect: str, told: str) -> bool:
    """Whether another attempt may succeed. To SQLite's driver a wrong query is an operational error
    like any other.
    """
    if dialect == "sqlite":
        return "locked" in told or "busy" in told
    return "password" not in told and "does not exist" not in told


def _refused(where: str, told: str) -> SourceError:
    return SourceError(
        f"{where}: the database refuses the query ({told}).",
        "Check source.query, source.url and what its user may read.",
    )


def _told(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return redact_values((lines or [type(error).__name__])[0][:300]).rstrip(".")


def _plain(value: Any, source: SqlSource, name: str) -> Any:
    """A value as JSON has it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, dict | list):
        return value
    raise SourceError(
        f"{shown_url(source.url)}: column {name!r} holds {type(value).__name__}, which is no value "
        "of a table.",
        "Cast it in source.query, or leave it out.",
    )
