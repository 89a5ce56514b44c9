"""Draft a contract from data: roles of the columns, limits with headroom over what is there. A person reads it next."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from data_contracts.contract import (
    SPLITS,
    Columns,
    DataContract,
    Labels,
    RowPolicy,
    Split,
    SplitShares,
    TextLimits,
)
from data_contracts.errors import SourceError
from data_contracts.table_batch import MAX_CELL_CHARACTERS
from data_contracts.table_packed import decompressed
from data_contracts.tables import name_parts, read_batches
from data_contracts.text import SPLIT_NAMES, draw_split, text_hash
from data_contracts.urls import redacted, resolve, shown_url

MAX_ROWS = 200_000  # read of each file: the limits have headroom, so more rows would hardly move them
MAX_LABELS = 100  # up to here the label values are written out
RARE_LABEL = 0.0005  # share of rows below which a value is taken for a slip and left out of the label set
HEADROOM = 2.0  # limits stand this factor above what was seen
_NAMES = {
    "text": ("text", "sentence", "review", "comment", "body", "content", "document", "message", "title", "question"),
    "label": ("label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "rating", "y"),
    "split": ("split", "fold", "subset", "partition"),
    "id": ("id", "uid", "uuid", "key", "row_id", "index"),
}


@dataclass
class _Column:
    """What the rows show of one column."""

    name: str
    cells: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.filled = 0
        self.distinct: set[str] = set()
        self.mean_length = 0.0

    def close(self) -> None:
        there = [cell for cell in self.cells if cell is not None]
        self.filled, self.distinct = len(there), set(there)
        self.mean_length = sum(map(len, there)) / max(1, len(there))


def infer_contract(source: str | Mapping[Split, str], name: str | None = None) -> DataContract:
    """Draft a contract from one file, or one per split, at a path or fsspec URL.

    Args:
        source: CSV, JSON Lines or Parquet, plain or compressed; `MAX_ROWS` rows of each file are looked at.
        name: of the data set; taken from the (first) file's name when null.
    Raises:
        SourceError: where a file cannot be read or no column looks like text and label.
    """
    urls: dict[Split | None, str] = dict(source) if isinstance(source, Mapping) else {None: source}  # type: ignore[arg-type]
    columns: dict[str, _Column] = {}
    file_splits: list[Any] = []  # Split | None, per row
    for split, url in urls.items():
        rows = 0
        for batch in read_file(url):
            for column in {*columns, *batch.columns}:
                held = columns.setdefault(column, _Column(column, [None] * len(file_splits)))
                cells = batch.columns[column].to_pylist() if column in batch.columns else [None] * len(batch.rows)
                held.cells += cells
            file_splits += [split] * len(batch.rows)
            rows += len(batch.rows)
        if not rows:
            raise SourceError(f"{shown_url(url)}: no rows.", "Check the export that writes it.")
    for column in columns.values():
        column.close()
    first = next(iter(urls.values()))
    return _draft(list(columns.values()), file_splits, name or _name_of(first), url_gives_split=None not in urls)


def read_file(url: str) -> Any:
    """Batches of at most `MAX_ROWS` rows of one file."""
    import fsspec

    plain, shown = urlsplit(url).path if "://" in url else url, shown_url(url)
    kind, compression = name_parts(plain)
    if kind is None:
        raise SourceError(
            f"{shown}: the name does not tell the format.", "Name it .csv, .jsonl or .parquet (.gz, .zst)."
        )
    seekable = kind == "parquet"
    options = {} if seekable or not url.startswith("http") else {"block_size": 0}
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(fsspec.open(resolve(url), "rb", **options))
            if seekable and compression:
                spool = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(decompressed(file, compression, shown), spool, 1 << 20)
                file, compression = spool, None
        except (SourceError, MemoryError):
            raise
        except Exception as error:  # whatever a file system raises: a person at a terminal reads it
            reason = getattr(error, "strerror", None) or redacted(str(error)) or type(error).__name__
            raise SourceError(f"{shown}: {reason}.", "Give the path of one readable file.") from None
        stream: IO[bytes] = decompressed(file, compression, shown)
        batches = read_batches(stream, plain.rsplit("/", 1)[-1], format=kind, batch_rows=20_000)
        rows = 0
        with contextlib.closing(batches):
            for batch in batches:
                yield batch
                rows += len(batch.rows)
                if rows >= MAX_ROWS:
                    return


def _name_of(url: str) -> str:
    stem = re.split(r"[\\/]", urlsplit(url).path if "://" in url else url)[-1].split(".")[0].lower()
    return re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_") or "dataset"


# --- roles ------------------------------------------------------------------------------------------------------------


def _draft(columns: list[_Column], file_splits: list[Split | None], name: str, url_gives_split: bool) -> DataContract:
    rows = len(file_splits)
    split_column = None if url_gives_split else _split_column(columns, rows)
    rest = [column for column in columns if column is not split_column]
    text = _text_column(rest, rows)
    rest.remove(text)
    label = _label_column(rest, rows)
    rest.remove(label)
    # Only a column of unique values without gaps can name rows.
    unique = [one for one in rest if one.filled == rows == len(one.distinct) and one.mean_length <= 80]
    id_column = next((one for one in unique if _rank(one.name, "id") < math.inf), None)
    shares = SplitShares(min_rows=max(1, min(20, rows // 100)))
    splits: list[Split] = []
    for at, cell in enumerate(text.cells):
        given = file_splits[at]
        if split_column is not None:
            given = SPLIT_NAMES.get((split_column.cells[at] or "").strip().casefold())  # type: ignore[assignment]
        splits.append(given or draw_split(cell or "", shares))
    roles = Columns(
        id=id_column.name if id_column else None,
        text=text.name,
        label=label.name,
        split=split_column.name if split_column else None,
    )
    try:
        return _limits(roles, text, label, splits, shares, name)
    except ValidationError as error:  # a column or a label with a NUL in it
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SourceError(f"No contract can be drafted from these rows: {what}.", "Mend the export.") from None


def _rank(name: str, role: str) -> float:
    names = _NAMES[role]
    folded = name.strip().casefold()
    return names.index(folded) if folded in names else math.inf


def _split_column(columns: list[_Column], rows: int) -> _Column | None:
    fitting = [c for c in columns if c.distinct and {v.strip().casefold() for v in c.distinct} <= SPLIT_NAMES.keys()]
    return min(fitting, key=lambda c: _rank(c.name, "split"), default=None) if rows else None


def _text_column(columns: list[_Column], rows: int) -> _Column:
    """The column of the longest strings; a usual name decides among those of similar length."""
    longest = max((c.mean_length for c in columns if c.filled), default=0.0)
    near = [c for c in columns if c.filled and c.mean_length >= 0.5 * longest and not _numeric(c)]
    if not near:
        raise SourceError(f"No column of {rows:,} rows looks like text.", "Name it: write the contract by hand.")
    return min(near, key=lambda c: (_rank(c.name, "text"), -c.mean_length))


def _label_column(columns: list[_Column], rows: int) -> _Column:
    """A column with few distinct values: a usual name first, then the fewest values (two at least)."""
    few = [c for c in columns if 2 <= len(c.distinct) <= max(20, min(1000, rows // 5)) and c.mean_length <= 100]
    if not few:
        there = ", ".join(repr(c.name) for c in columns) or "none"
        raise SourceError(
            f"No column looks like a label (2 values or more, each of them often); columns beside the text: {there}.",
            "Name it: write the contract by hand.",
        )
    return min(few, key=lambda c: (_rank(c.name, "label"), len(c.distinct)))


def _numeric(column: _Column) -> bool:
    return all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", cell) for cell in islice(column.distinct, 100))


# --- limits -----------------------------------------------------------------------------------------------------------


def _limits(
    roles: Columns, text: _Column, label: _Column, splits: list[Split], shares: SplitShares, name: str
) -> DataContract:
    rows = len(splits)
    counts = Counter(cell for cell in label.cells if cell is not None)
    labels = sorted(cell for cell, count in counts.items() if count >= RARE_LABEL * rows)
    left_out = sorted(counts.keys() - set(labels)) if 2 <= len(labels) <= MAX_LABELS else []
    if not left_out:
        labels = sorted(counts)
    bad = sum(not (cell or "").strip() for cell in text.cells) + rows - sum(counts[cell] for cell in labels)
    replaced = sum("\ufffd" in (cell or "") for cell in text.cells)
    # A tenth of the rows with U+FFFD is how these data are; a few are accidents, and go to quarantine.
    allow_replaced = replaced > 0.1 * rows
    lengths = sorted(len(cell) for cell in text.cells if cell and cell.strip())
    longest = lengths[-1] if lengths else 1
    duplicate, leaked = _repeats(text.cells, splits)
    known = set(labels)
    train = Counter(cell for cell, split in zip(label.cells, splits, strict=True) if split == "train" and cell in known)
    total = max(1, train.total())
    rarest, commonest = min(train.values(), default=0) / total, max(train.values(), default=0) / total
    values = tuple(labels) if len(labels) <= MAX_LABELS else None
    slips = f" Left out as slips, being rare: {', '.join(left_out[:20])}." if left_out else ""
    duplicates = RowPolicy(max_share=_headroom(duplicate / rows))
    leakage = RowPolicy(max_share=_headroom(leaked / rows))
    quarantined = (bad + duplicate + leaked + (0 if allow_replaced else replaced)) / rows
    return DataContract(
        name=name,
        description=f"Drafted from {rows:,} rows; check it before use.{slips}",
        columns=roles,
        text=TextLimits(
            min_characters=1,  # a short text is no fault: only blank ones are refused
            max_characters=min(_round_up(HEADROOM * longest), MAX_CELL_CHARACTERS),
            allow_replacement_character=allow_replaced,
        ),
        labels=Labels(
            values=values,
            max_count=max(2, _round_up(HEADROOM * len(labels))),
            min_share=math.floor(rarest / HEADROOM * 1000) / 1000,
            max_share=min(0.99, math.ceil((commonest + 1) / 2 * 100) / 100),
        ),
        splits=shares,
        duplicates=duplicates,
        leakage=leakage,
        max_quarantine_share=_headroom(quarantined),
    )


def _repeats(texts: list[str | None], splits: list[Split]) -> tuple[int, int]:
    """Rows that repeat a text of their split, and rows whose text stands in a later split."""
    rows_of: dict[int, list[int]] = {}
    for text, split in zip(texts, splits, strict=True):
        if text and text.strip():
            rows_of.setdefault(text_hash(text), [0, 0, 0])[SPLITS.index(split)] += 1
    duplicate = sum(max(0, count - 1) for counts in rows_of.values() for count in counts)
    leaked = sum(sum(counts[: max(i for i in range(3) if counts[i])]) for counts in rows_of.values())
    return duplicate, leaked


def _headroom(share: float) -> float:
    """Twice what was seen, at least one per cent, in steps of a tenth of a per cent."""
    return min(1.0, max(0.01, math.ceil(share * HEADROOM * 1000) / 1000))


def _round_up(number: float) -> int:
    """To two significant digits."""
    step = 10 ** max(0, math.floor(math.log10(max(1.0, number))) - 1)
    return max(1, math.ceil(number / step) * step)


# --- YAML -------------------------------------------------------------------------------------------------------------

_COMMENTS = {
    "columns": "Which column plays which role; id null: <file>#<row>, split null: drawn by hash of the text.",
    "text": "In characters (code points). Longer texts go to quarantine.",
    "labels": "Shares are those of the train split. values null: any label, within the counts.",
    "splits": "Shares of the splits that the source does not give; fewest rows that each split must keep.",
    "duplicates": "A text that stood before in the same split. keep: count only.",
    "leakage": "A train or valid text that also stands in a later split; the earlier row goes.",
    "window": "For dated files and a window in the recipe: days without a file, days since the newest; null: no limit.",
    "max_quarantine_share": "Above this share of refused rows the run stops.",
}


def to_yaml(contract: DataContract) -> str:
    """The contract as a person would write it: a comment per section, nothing left to guess."""
    lines = []
    for key, value in contract.model_dump(mode="json").items():
        if key in _COMMENTS:
            lines.append(f"\n# {_COMMENTS[key]}")
        lines.append(yaml.safe_dump({key: value}, allow_unicode=True, sort_keys=False, width=110).rstrip())
    return "\n".join(lines) + "\n"
