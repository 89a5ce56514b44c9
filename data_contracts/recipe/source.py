"""The section `source` of a recipe: where the rows come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Any, Literal, cast

from pydantic import Field, field_validator, model_validator

from data_contracts.contract.contract import SPLITS, Split
from data_contracts.recipe.parallel import fault_of_keys
from data_contracts.section import Section, kind_is, texts_in, unwritable
from data_contracts.urls import HOW, credential_in, misplaced_variable

OF_REVIEWS = "reviews"
# Rows of the others where a recipe does not say how many.
_ROWS = {"stories": 4_000, "phrases": 4_000, "passages": 2_400, "helpdesk": 2_400}
SAMPLES = (OF_REVIEWS, *_ROWS)


class SampleSource(Section):
    """A bundled synthetic sample in English and Chinese, made by `data_contracts.sample`: product
    reviews to sort, short stories to learn to write, sentences to translate, questions on passages,
    or what a shop is asked and its answers."""

    kind: Literal["sample"] = "sample"
    data: Literal["reviews", "stories", "phrases", "passages", "helpdesk"] = Field(
        default="reviews",
        description="Reviews have labels; stories are plain texts, phrases English sentences with "
        "their Chinese, passages short texts with questions, helpdesk what a shop is asked with "
        "its answers.",
    )
    classes: Literal[2, 4] = Field(
        default=4,
        description="Of reviews. 4: all; 2: only those that are plainly positive or negative.",
    )
    rows: int = Field(
        default=20_000,
        ge=200,
        le=5_000_000,
        description="Rows to generate, dirty ones included; where it is left out 4,000 of stories "
        "and phrases, 2,400 of passages and helpdesk.",
    )
    seed: int = Field(
        default=20260101,
        ge=0,
        description="Seed of the generator; the same seed gives the same rows.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fewer_of_others(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("data", OF_REVIEWS) == OF_REVIEWS:
            return data
        usual = _ROWS.get(data["data"]) if isinstance(data["data"], str) else None
        return data if usual is None else {"rows": usual, **data}

    @model_validator(mode="after")
    def _classes_of_reviews(self) -> SampleSource:
        if self.data != OF_REVIEWS and "classes" in self.stated():
            raise ValueError(
                f"classes are those of the reviews, and data is {self.data}: leave it out"
            )
        return self

    @property
    def reading(self) -> dict[str, Any]:
        """What shapes how rows are read, beside what the source holds."""
        return {"kind": self.kind}


class DataWindow(Section):
    """The days whose files are read, both inclusive; they also fill `{start}` and `{end}` in a
    source URL (ISO format).

    Days are told by the names of files and folders (`data_contracts.contract.days`); a name that
    does not tell one is refused.
    """

    start: date = Field(description="First day of the window.")
    end: date = Field(description="Last day of the window.")

    @model_validator(mode="after")
    def _ordered(self) -> DataWindow:
        if self.end < self.start:
            raise ValueError(f"the window ends ({self.end}) before it starts ({self.start})")
        return self


class RollingWindow(Section):
    """The last `days` days before the day on which the run was due, so a late or repeated run reads
    what it was due to.

    Which day that is, is told by the time zone of the schedule; in a terminal by the machine's.
    """

    days: int = Field(
        gt=0, le=36_600, description="Days in the window; the last one is the day before the run."
    )

    def at(self, day: date) -> DataWindow:
        return DataWindow(start=day - timedelta(days=self.days), end=day - timedelta(days=1))


class FileSource(Section):
    """CSV, JSON (lines or an array), Parquet or plain text (.txt), as it is or compressed: a file,
    a folder or a glob at an fsspec URL."""

    kind: Literal["files"] = "files"
    url: str | dict[str, str | dict[str, str]] = Field(
        description=(
            "One URL, or one per split ({train: …, test: …}). A relative path starts at "
            "the recipe's folder. With a window, dated files (2026-01-31.csv) and folders "
            "(date=2026-01-31) are read for its days; `{start}` and `{end}` are replaced "
            "by its dates. Or parallel text files, one for each role of the contract "
            "({source: a.de, target: a.en}, or such a pair per split), whose lines belong "
            "together by their numbers."
        )
    )
    format: Literal["auto", "csv", "jsonl", "json", "parquet", "text"] = Field(
        default="auto",
        description="Read from the name when auto; a .txt beside tables is then left aside.",
    )
    documents: Literal["file", "paragraph", "line"] = Field(
        default="file",
        description="What of plain text is a row: a whole file, what stands between blank lines, "
        "or each line that is not blank.",
    )
    encoding: str = Field(
        default="utf-8",
        description=(
            "Text encoding of CSV, JSON and plain text; a byte order mark, where there is one, "
            "decides."
        ),
    )
    separator: str | None = Field(
        default=None,
        description=(
            'What stands between the cells of a CSV file ("tab" for a tab); null: the '
            "comma, in .tsv and .tab the tab, or, where that header lacks the contract's "
            "columns, the one of ; tab | whose header has them all."
        ),
    )
    window: DataWindow | RollingWindow | None = Field(
        default=None,
        description=(
            "Days to read: {start, end}, or {days: 28} before the run is due; null: every file."
        ),
    )

    @field_validator("separator")
    @classmethod
    def one_character(cls, value: str | None) -> str | None:
        value = {"tab": "\t", "\\t": "\t"}.get(value or "", value)
        if value is not None and (len(value) != 1 or value in '"\r\n\0'):
            raise ValueError(
                "one character is needed, other than a quote or a line end, or the word tab"
            )
        return value

    @model_validator(mode="after")
    def _one_form_of_url(self) -> FileSource:
        if isinstance(self.url, dict) and (fault := fault_of_keys(self.url)) is not None:
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _parallel_files_are_plain_lines(self) -> FileSource:
        if self.roles and (fault := self._fault_of_parallel_files()) is not None:
            raise ValueError(
                f"url names a file for each of {' and '.join(self.roles)}, whose lines belong "
                f"together, and {fault}"
            )
        return self

    @model_validator(mode="after")
    def _window_where_named(self) -> FileSource:
        urls = list(self.urls)
        if not urls or not all(url.strip() for url in urls):
            raise ValueError("no URL is given")
        if self.window is None and any("{start}" in url or "{end}" in url for url in urls):
            raise ValueError("the URL holds {start} or {end}, so `window` must give both dates")
        return self

    @model_validator(mode="after")
    def _documents_of_plain_text(self) -> FileSource:
        if self.format not in ("auto", "text") and self.says_documents:
            raise ValueError(
                f"documents says what of plain text is a row, and format is {self.format}: leave "
                "one of them out"
            )
        return self

    @property
    def by_split(self) -> dict[Split | None, str | dict[str, str]]:
        """What is read for each split that has a URL of its own; for None where none has."""
        if isinstance(self.url, dict) and self.url.keys() <= set(SPLITS):
            return cast(dict[Split | None, str | dict[str, str]], dict(self.url))
        return {None: cast(str | dict[str, str], self.url)}

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have a URL of their own."""
        return tuple(split for split in self.by_split if split is not None)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that have a file each, whose lines belong together; none: files are tables."""
        first = next(iter(self.by_split.values()), "")
        return tuple(first) if isinstance(first, dict) else ()

    @property
    def urls(self) -> Iterator[str]:
        for one in self.by_split.values():
            yield from [one] if isinstance(one, str) else one.values()

    def _fault_of_parallel_files(self) -> str | None:
        if self.window is not None:
            return "a window chooses among dated files: leave source.window out"
        if self.format not in ("auto", "text"):
            return f"format is {self.format}: name the columns of a table in the contract instead"
        if self.says_documents and self.documents != "line":
            return f"documents is {self.documents}: leave source.documents out"
        for one in self.by_split.values():
            pair = list(one.values()) if isinstance(one, dict) else []
            if len(set(pair)) < len(pair):
                return f"{pair[0]} is given twice: name the file of each"
        return None

    @property
    def says_documents(self) -> bool:
        return "documents" in self.stated()

    @property
    def reading(self) -> dict[str, Any]:
        """What shapes how rows are read, beside what the files hold."""
        shaping = {"kind", "format", "encoding", "separator"}
        if self.documents != "file":  # no table has it, so it is in no key of one
            shaping.add("documents")
        return self.model_dump(mode="json", include=shaping)


class SqlSource(Section):
    """The rows of one query, at any database that SQLAlchemy reaches."""

    kind: Literal["sql"] = "sql"
    url: str = Field(
        min_length=1,
        description="SQLAlchemy's URL of the database, as "
        "postgresql://${DB_USER}:${DB_PASSWORD}@host/db; a relative path of SQLite's "
        "(sqlite:///mails.db) starts at the recipe's folder.",
    )
    query: str = Field(
        min_length=1,
        description="One SELECT, whose columns are those of a table. With a window it may hold "
        ":start and :end, the first and the last day, both inclusive.",
    )
    version: str | None = Field(
        default=None,
        description="A query for one value that is another whenever the rows are (SELECT "
        "max(updated) FROM mails), by which an unchanged source is known; null: all rows are read "
        "once more, and hashed.",
    )
    window: DataWindow | RollingWindow | None = Field(
        default=None, description="Days for :start and :end; null: there are none."
    )

    @model_validator(mode="after")
    def _days_where_asked(self) -> SqlSource:
        asked = [name for name in ("start", "end") if re.search(rf"(?<!:):{name}\b", self.query)]
        if asked and self.window is None:
            held = " and :".join(asked)
            raise ValueError(
                f"query holds :{held}, so `window` must say which days they are: {{days: 28}}"
            )
        if self.window is not None and not asked:
            raise ValueError("window gives the days of :start and :end, and query holds neither")
        return self

    @property
    def reading(self) -> dict[str, Any]:
        """What shapes how rows are read, beside what the database holds."""
        return {"kind": self.kind}


SOURCES = (
    "Write source: {url: mails.csv} for rows of your own, or source: {kind: "
    "sample} for the bundled sample."
)


def _kind_of_source(value: dict[str, Any]) -> str:
    """The sample where a field of it is named; nothing, or what is unknown to both, is never
    taken for the sample."""
    known = value and set(value) <= SampleSource.model_fields.keys()
    if "query" in value:
        return "sql"
    # A path under `data` is what other programs call the rows.
    return "sample" if known and value.get("data", OF_REVIEWS) in SAMPLES else "files"


Source = Annotated[
    Annotated[SampleSource | FileSource | SqlSource, Field(discriminator="kind")],
    kind_is(_kind_of_source),
]


def window_of(source: SampleSource | FileSource | SqlSource) -> DataWindow | RollingWindow | None:
    """The days that are read; None: all that there is."""
    return None if isinstance(source, SampleSource) else source.window


def on_day(
    source: SampleSource | FileSource | SqlSource, day: date
) -> SampleSource | FileSource | SqlSource:
    """The source with a rolling window fixed for a run that is due on `day`."""
    window = window_of(source)
    if not isinstance(window, RollingWindow):
        return source
    return source.model_copy(update={"window": window.at(day)})


def secret_in(section: Section) -> str | None:
    """What of a section may not be stored with it, as a sentence; None where all may."""
    for field, text in texts_in(section.model_dump()):
        if (what := unwritable(text)) is not None:
            return f"{field} holds {what}"
        if (what := credential_in(text)) is not None:
            return f"{field} holds {what}, which would be stored with the recipe. {HOW}"
        if field.startswith(("source.url", "tokenizer.path")) and misplaced_variable(text):
            return (
                f"{field} may name a variable before the @ or in the query alone: all else is shown"
            )
    return None
