"""The section `source` of a recipe: where the rows come from."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from data_contracts.contract.contract import Split
from data_contracts.section import Section, kind_is

SAMPLES = ("reviews", "stories")
_STORIES = 4_000  # rows of that sample where a recipe does not say how many


class SampleSource(Section):
    """A bundled synthetic sample in English and Chinese, made by `data_contracts.sample`: product
    reviews to sort, or short stories to learn to write."""

    kind: Literal["sample"] = "sample"
    data: Literal["reviews", "stories"] = Field(
        default="reviews", description="Reviews have labels, stories do not."
    )
    classes: Literal[2, 4] = Field(
        default=4,
        description="Of reviews. 4: all; 2: only those that are plainly positive or negative.",
    )
    rows: int = Field(
        default=20_000,
        ge=200,
        le=5_000_000,
        description="Rows to generate, dirty ones included; of stories 4,000 where it is left out.",
    )
    seed: int = Field(
        default=20260101,
        ge=0,
        description="Seed of the generator; the same seed gives the same rows.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fewer_stories(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("data") != "stories":
            return data
        return {"rows": _STORIES, **data}

    @model_validator(mode="after")
    def _classes_of_reviews(self) -> SampleSource:
        if self.data == "stories" and "classes" in self.stated():
            raise ValueError("classes are those of the reviews, and data is stories: leave it out")
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
    url: str | dict[Split, str] = Field(
        description=(
            "One URL, or one per split ({train: …, test: …}). A relative path starts at "
            "the recipe's folder. With a window, dated files (2026-01-31.csv) and folders "
            "(date=2026-01-31) are read for its days; `{start}` and `{end}` are replaced "
            "by its dates."
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
    def _window_where_named(self) -> FileSource:
        urls = [self.url] if isinstance(self.url, str) else list(self.url.values())
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
    def says_documents(self) -> bool:
        return "documents" in self.stated()

    @property
    def reading(self) -> dict[str, Any]:
        """What shapes how rows are read, beside what the files hold."""
        shaping = {"kind", "format", "encoding", "separator"}
        if self.documents != "file":  # no table has it, so it is in no key of one
            shaping.add("documents")
        return self.model_dump(mode="json", include=shaping)


SOURCES = (
    "Write source: {url: mails.csv} for rows of your own, or source: {kind: "
    "sample} for the bundled sample."
)


def _kind_of_source(value: dict[str, Any]) -> str:
    """The sample where a field of it is named; nothing, or what is unknown to both, is never
    taken for the sample."""
    known = value and set(value) <= SampleSource.model_fields.keys()
    # A path under `data` is what other programs call the rows.
    return "sample" if known and value.get("data", "reviews") in SAMPLES else "files"


Source = Annotated[
    Annotated[SampleSource | FileSource, Field(discriminator="kind")], kind_is(_kind_of_source)
]
