"""The verdicts of `validate` on rows in memory, without Great Expectations, whose import alone takes seconds.

For `contract infer`, which must draft what its own rows pass, and for `recipe check`. A test holds this against what
validate says of the same rows; where they differ, validate is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract.contract import SPLITS, DataContract, Split
from data_contracts.contract.expectations import (
    CONTROL_CHARACTERS,
    REASONS,
    ROW_REASONS,
    shown_count,
    shown_share,
)
from data_contracts.contract.rows import Rows
from data_contracts.contract.text import SPLIT_NAMES, draw_split, text_hash
from data_contracts.tables.labels import label_text

_LABEL_FAULTS = {"several_labels", "nested_label", "unnamed_class"}


@dataclass
class Corpus:
    """Rows under their roles, as `ingest` writes them; a row's split is train where its cell names none."""

    texts: list[str | None]
    labels: list[str | None]
    splits: list[Split]
    ids: list[tuple[str, str] | None]  # file and id: an id need be unique within its file alone
    faults: list[str | None]
    places: list[int]  # of each row among the rows it was taken from

    def __len__(self) -> int:
        return len(self.texts)


def corpus_of(rows: Rows, contract: DataContract) -> Corpus:
    """The rows that the contract selects, by the columns that it names."""
    columns, cells = contract.columns, rows.columns
    chosen = [
        at
        for at in range(len(rows))
        if all(
            (label_text(cells[name][at] or "") or "") in values
            for name, values in contract.select.items()
        )
    ]
    texts = [cells[columns.text][at] for at in chosen]
    faults = [rows.faults[at] for at in chosen]
    splits = _splits(rows, contract, chosen, texts, faults)
    ids = [None] * len(rows) if columns.id is None else cells[columns.id]
    return Corpus(
        texts,
        [cells[columns.label][at] for at in chosen],
        splits,
        [None if (one := ids[at]) is None else (rows.files[at], one) for at in chosen],
        faults,
        chosen,
    )


def _splits(
    rows: Rows,
    contract: DataContract,
    chosen: list[int],
    texts: list[str | None],
    faults: list[str | None],
) -> list[Split]:
    """By the URL, by the row, or drawn; what names no split becomes a fault of the row."""
    given = {one for one in rows.splits if one is not None}
    drawn: tuple[Split, ...] = tuple(one for one in ("valid", "test") if one not in given)
    cells = (
        None if given or contract.columns.split is None else rows.columns[contract.columns.split]
    )
    found: list[Split] = []
    for number, at in enumerate(chosen):
        one = None if rows.splits[at] == "train" and drawn else rows.splits[at]
        if cells is not None and (name := label_text(cells[at] or "")) is not None:
            one = SPLIT_NAMES.get(name.casefold(), "train")
            if name.casefold() not in SPLIT_NAMES:
                faults[number] = faults[number] or "unknown_split"
        found.append(one or draw_split(texts[number] or "", contract.splits, drawn))
    return found


@dataclass
class Verdicts:
    """What the contract says of the rows. A row may have several reasons; `first` counts each refused row once."""

    rows: int
    reasons: list[list[str]]  # per row, in the order of `REASONS`; empty: kept
    found: Counter[str] = field(default_factory=Counter)  # rows per reason, kept ones too
    labels: dict[Split, Counter[str]] = field(default_factory=dict)  # of the kept rows

    @property
    def first(self) -> Counter[str]:
        return Counter(reasons[0] for reasons in self.reasons if reasons)

    @property
    def kept(self) -> dict[Split, int]:
        return {split: counts.total() for split, counts in self.labels.items()}


def judge(corpus: Corpus, contract: DataContract) -> Verdicts:
    """Every row by itself, then against the others."""
    found = _row_reasons(corpus, contract)
    verdicts = Verdicts(len(corpus), found)
    for reason in ROW_REASONS:
        verdicts.found[reason] = sum(reason in row for row in found)
    _repeated_ids(corpus, verdicts)
    _same_texts(corpus, contract, verdicts)
    order = {reason: at for at, reason in enumerate(REASONS)}
    for reasons in found:
        reasons.sort(key=order.__getitem__)
    verdicts.labels = {split: Counter() for split in SPLITS}
    for reasons, split, label in zip(found, corpus.splits, corpus.labels, strict=True):
        if not reasons and label is not None:
            verdicts.labels[split][label] += 1
    return verdicts


def _row_reasons(corpus: Corpus, contract: DataContract) -> list[list[str]]:
    limits = contract.text
    texts = pa.array(corpus.texts, pa.string())
    visible = pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)
    checks = {
        "empty": pc.equal(visible, 0),
        "too_short": pc.and_(pc.greater(visible, 0), pc.less(visible, limits.min_characters)),
        "over_long": pc.greater(pc.utf8_length(texts), limits.max_characters),
    }
    if not limits.allow_replacement_character:
        checks["broken_encoding"] = pc.greater(pc.count_substring(texts, "\ufffd"), 0)
    if not limits.allow_control_characters:
        checks["control_characters"] = pc.greater(
            pc.count_substring_regex(texts, CONTROL_CHARACTERS), 0
        )
    known = None if contract.labels.values is None else set(contract.labels.values)
    broken = {reason: pc.fill_null(check, False).to_pylist() for reason, check in checks.items()}
    broken["bad_label"] = [
        fault not in _LABEL_FAULTS and (label is None or (known is not None and label not in known))
        for label, fault in zip(corpus.labels, corpus.faults, strict=True)
    ]
    found: list[list[str]] = [[] if fault is None else [fault] for fault in corpus.faults]
    for reason, rows in broken.items():
        for reasons, is_broken in zip(found, rows, strict=True):
            if is_broken:
                reasons.append(reason)
    return found


def _repeated_ids(corpus: Corpus, verdicts: Verdicts) -> None:
    seen: set[tuple[str, str]] = set()
    for reasons, one in zip(verdicts.reasons, corpus.ids, strict=True):
        if reasons or one is None:
            continue
        if one in seen:
            reasons.append("duplicate_id")
            verdicts.found["duplicate_id"] += 1
        seen.add(one)


def _same_texts(corpus: Corpus, contract: DataContract, verdicts: Verdicts) -> None:
    """Other labels of the same text, repeats, and leaks into a later split, among the rows without a fault so far."""
    place, keep = {split: at for at, split in enumerate(SPLITS)}, contract.conflicts.keep
    groups: dict[int, list[int]] = {}
    for at, reasons in enumerate(verdicts.reasons):
        if not reasons:
            groups.setdefault(text_hash(corpus.texts[at] or ""), []).append(at)

    def note(reason: str, at: int, quarantine: bool) -> None:
        verdicts.found[reason] += 1
        if quarantine:
            verdicts.reasons[at].append(reason)

    for rows in groups.values():
        if len(rows) == 1:
            continue
        relabelled = [
            at
            for split in SPLITS
            for at in _relabelled([r for r in rows if corpus.splits[r] == split], corpus, keep)
        ]
        there = [at for at in rows if at not in relabelled] if keep == "none" else rows
        latest = max((place[corpus.splits[at]] for at in there), default=0)
        seen: set[tuple[Split, str | None]] = set()
        for at in rows:
            if at in relabelled:
                note("relabelled", at, keep != "all")
            if at not in relabelled or keep == "all":
                one = (corpus.splits[at], corpus.labels[at])
                if one in seen:
                    note("duplicate", at, contract.duplicates.action == "quarantine")
                seen.add(one)
            if at in there and place[corpus.splits[at]] < latest:
                note("leaked", at, contract.leakage.action == "quarantine")


def _relabelled(rows: Sequence[int], corpus: Corpus, keep: str) -> list[int]:
    """Of rows with one text in one split, those whose label does not count."""
    if len({corpus.labels[at] for at in rows}) < 2:
        return []
    if keep == "none":
        return list(rows)
    counts = corpus.labels[rows[0 if keep == "earliest" else -1]]
    return [at for at in rows if corpus.labels[at] != counts]


@dataclass(frozen=True)
class Limit:
    """One of the contract's limits on the rows together, and what they come to. Shares are within [0, 1]."""

    name: str
    words: str
    observed: float
    low: float | None = None
    high: float | None = None

    @property
    def holds(self) -> bool:
        return (self.low is None or self.observed >= self.low) and (
            self.high is None or self.observed <= self.high
        )

    def __str__(self) -> str:
        show = shown_share if self.name.endswith("_share") else shown_count
        too_few = self.low is not None and self.observed < self.low
        bound = f"at least {show(self.low)}" if too_few else f"at most {show(self.high)}"
        return f"{self.words}: {show(self.observed)}, allowed is {bound}"


def limits(contract: DataContract, verdicts: Verdicts) -> list[Limit]:
    """The corpus suite of `data_contracts.contract.expectations`, with its names and words."""
    labels, rows, train = contract.labels, max(1, verdicts.rows), verdicts.labels["train"]
    kept, most = verdicts.kept, contract.max_quarantine_share
    counts = [train[label] for label in labels.values or train]
    of_train = max(1, train.total())
    shares = {reason: verdicts.found[reason] / rows for reason in REASONS}
    bounds = {
        "relabelled": contract.conflicts.max_share,
        "duplicate": contract.duplicates.max_share,
        "leaked": contract.leakage.max_share,
    }
    return [
        Limit("rows_kept", "rows kept", sum(kept.values()), low=1),
        Limit("quarantine_share", "quarantined rows, all reasons", verdicts.first.total() / rows, high=most),
        *[Limit(f"{name}_share", REASONS[name], share, high=bounds.get(name, most)) for name, share in shares.items()],
        *[Limit(f"{one}_not_empty", f"the {one} split holds rows", kept[one], low=1) for one in SPLITS],
        *[Limit(f"{one}_rows", f"rows of the {one} split", kept[one], low=contract.splits.min_rows) for one in SPLITS],
        Limit(
            "label_count", "different labels in the train split", len(train),
            low=max(2, labels.min_count), high=labels.max_count,
        ),
        Limit(
            "smallest_label_share", "share of the rarest label in the train split",
            min(counts, default=0) / of_train, low=labels.min_share,
        ),
        Limit(
            "largest_label_share", "share of the commonest label in the train split",
            max(counts, default=0) / of_train, high=labels.max_share,
        ),
    ]  # fmt: skip
