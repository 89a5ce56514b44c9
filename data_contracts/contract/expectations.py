"""A DataContract as Arrow schemas and Great Expectations suites.

Two suites: the row suite judges every row and runs once per Arrow batch; the corpus suite judges shares and counts and
runs once, on a one-row frame of aggregates. So memory stays bounded whatever the size of the data. The frames are
numbers derived from the cells (see `row_frame`); what is good and what is not, Great Expectations alone decides.

Note [what a pass is worth]
Great Expectations passes an empty batch, passes a column whose values are all null under every map expectation, and
reports an expectation that it could not evaluate as a mere failure. So `Suite.run` refuses empty frames, counts the
rows that were seen, refuses null aggregates, and raises where an expectation could not be evaluated.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract.contract import SPLITS, DataContract

if TYPE_CHECKING:
    import pandas as pd

# Reasons that ingest found as it read the cell, and gave in the column `fault`.
CELL_REASONS = {
    "not_text": "texts that are not text",
    "several_labels": "rows with several labels",
    "nested_label": "labels that are objects or marks of places in the text",
    "unnamed_class": "class numbers that have no name in the file's metadata",
    "unknown_split": "rows whose split is none",
}
# Why a row may be refused, in the order in which a row's first reason is chosen. The last four are found against the
# other rows (tasks.validate); the others are expectations of the row suite.
ROW_REASONS = {
    **CELL_REASONS,
    "empty": "empty texts",
    "too_short": "texts that are too short",
    "over_long": "over-long texts",
    "broken_encoding": "texts with broken encoding (U+FFFD)",
    "control_characters": "texts with control characters",
    "bad_label": "missing or unknown labels",
}
REASONS = {
    **ROW_REASONS,
    "duplicate_id": "ids that stood before",
    "relabelled": "texts that stand in their split with another label",
    "duplicate": "texts that stood before in their split",
    "leaked": "texts that also stand in a later split",
}
CONTROL_CHARACTERS = (
    r"[\x00-\x08\x0e-\x1f\x7f\x{80}-\x{84}\x{86}-\x{9f}]"  # RE2; not tab, line ends and U+0085
)


def arrow_schema(contract: DataContract) -> pa.Schema:
    """The columns of a validated corpus, all of them text."""
    names = ("id", "text", "label", "split", *contract.columns.slices)
    return pa.schema([(name, pa.string()) for name in names])


def raw_schema(contract: DataContract) -> pa.Schema:
    """The columns of a raw corpus: those of the contract, then where each row came from."""
    places = [
        pa.field("fault", pa.string()),
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
    ]
    return pa.schema([*arrow_schema(contract), *places])


@dataclass(frozen=True)
class Expectation:
    """One line of a contract: its name, the same in plain words, the limit as a person reads it, and GX's object."""

    name: str
    words: str
    limit: str
    gx: Any = field(repr=False)
    reason: str | None = None  # of a row that breaks it


@dataclass(frozen=True)
class Result:
    """What Great Expectations found. `positions` are the rows of the batch that break a row expectation."""

    expectation: Expectation
    success: bool
    observed: Any = None
    positions: tuple[int, ...] = ()


class Suite:
    """Expectations that run together on pandas frames, in an ephemeral context that writes and sends nothing."""

    def __init__(self, name: str, expectations: Sequence[Expectation]) -> None:
        self.name, self.expectations = name, tuple(expectations)
        with _quiet():
            gx = _great_expectations()
            from great_expectations.data_context.types.base import (
                DataContextConfig,
                InMemoryStoreBackendDefaults,
                ProgressBarsConfig,
            )

            # The default ephemeral context makes a temporary folder for its docs and leaves it behind.
            config = DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
            )
            context = gx.get_context(mode="ephemeral", project_config=config)
            context.variables.progress_bars = ProgressBarsConfig(globally=False)
            asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
            self._batches = asset.add_batch_definition_whole_dataframe(name)
            self._suite = context.suites.add(
                gx.ExpectationSuite(name=name, expectations=[e.gx for e in expectations])
            )

    def run(self, frame: pd.DataFrame) -> list[Result]:
        """Evaluate every expectation on the frame; see Note [what a pass is worth]."""
        if frame.empty:
            raise ValueError(f"suite {self.name}: an empty frame would pass whatever is expected")
        with _quiet():
            # Not ValidationDefinition.run: it keeps every result in its store, so memory would grow with the batches.
            outcome = self._batches.get_batch(batch_parameters={"dataframe": frame}).validate(
                self._suite,
                result_format={
                    "result_format": "COMPLETE",
                    "unexpected_index_column_names": ["position"],
                    "return_unexpected_index_query": False,
                },
            )
        by_name = {one.expectation_config.meta["name"]: one for one in outcome.results}
        return [
            self._result(expectation, by_name.get(expectation.name), len(frame))
            for expectation in self.expectations
        ]

    def _result(self, expectation: Expectation, found: Any, rows: int) -> Result:
        if found is None:
            raise RuntimeError(
                f"suite {self.name}: expectation {expectation.name} was not evaluated"
            )
        if fault := _exception(found.exception_info):
            raise RuntimeError(f"suite {self.name}, expectation {expectation.name}: {fault}")
        result = found.result
        if result["element_count"] != rows:
            raise RuntimeError(
                f"expectation {expectation.name} saw {result['element_count']} of {rows} rows"
            )
        if expectation.reason is None:
            if result.get("missing_count"):
                raise RuntimeError(f"expectation {expectation.name}: the aggregate is null")
            return Result(expectation, bool(found.success))
        positions = tuple(
            sorted(int(one["position"]) for one in result.get("unexpected_index_list") or ())
        )
        if len(positions) != result["unexpected_count"] or bool(positions) == bool(found.success):
            raise RuntimeError(
                f"expectation {expectation.name}: count and index of its unexpected rows disagree"
            )
        return Result(expectation, bool(found.success), len(positions), positions)


def row_suite(contract: DataContract) -> Suite:
    """What each row must meet; runs on `row_frame`."""
    expect = _great_expectations().expectations
    limits, labels = contract.text, contract.labels

    def row(
        name: str, reason: str, words: str, limit: str, kind: Any, **arguments: Any
    ) -> Expectation:
        return Expectation(name, words, limit, kind(meta={"name": name}, **arguments), reason)

    between, not_null = expect.ExpectColumnValuesToBeBetween, expect.ExpectColumnValuesToNotBeNull
    rows = [
        row(f"cell_{reason}", reason, f"no {words}", "none", between, column=reason, max_value=0)
        for reason, words in CELL_REASONS.items()
    ]
    rows += [
        row("text_not_empty", "empty", "every text holds something", "not null, not blank", not_null, column="visible"),
        row(
            "text_min_characters", "too_short", "no text is too short", f"at least {limits.min_characters} characters",
            between, column="visible", min_value=limits.min_characters,
        ),
        row(
            "text_max_characters", "over_long", "no text is too long", f"at most {limits.max_characters:,} characters",
            between, column="characters", max_value=limits.max_characters,
        ),
    ]  # fmt: skip
    if not limits.allow_replacement_character:
        words = "no text has broken encoding"
        rows.append(
            row(
                "text_encoding",
                "broken_encoding",
                words,
                "no U+FFFD",
                between,
                column="broken",
                max_value=0,
            )
        )
    if not limits.allow_control_characters:
        words = "no text holds control characters"
        rows.append(
            row(
                "text_controls",
                "control_characters",
                words,
                "no C0 or C1 control",
                between,
                column="controls",
                max_value=0,
            )
        )
    rows.append(
        row(
            "label_not_null",
            "bad_label",
            "every row has a label",
            "not null",
            not_null,
            column="label",
        )
    )
    if labels.values is not None:
        kind, shown = expect.ExpectColumnValuesToBeInSet, _shortened(", ".join(labels.values))
        words = "every label is a known one"
        rows.append(
            row(
                "label_known",
                "bad_label",
                words,
                shown,
                kind,
                column="label",
                value_set=list(labels.values),
            )
        )
    return Suite("rows", rows)


def row_frame(table: pa.Table) -> pd.DataFrame:
    """The numbers that the row suite looks at, from Arrow kernels: pandas is given no text column to copy.

    Lengths are in code points. `visible` (characters left when white space is stripped) is null for a blank text.
    """
    import pandas as pd

    text = table.column("text")
    visible = pc.utf8_length(pc.utf8_trim_whitespace(text))
    columns = {
        "position": pa.array(range(table.num_rows), pa.int64()),
        "visible": pc.if_else(pc.equal(visible, 0), None, visible),
        "characters": pc.utf8_length(text),
        "broken": pc.count_substring(text, "\ufffd"),
        "controls": pc.count_substring_regex(text, CONTROL_CHARACTERS),
    }
    if "fault" in table.schema.names:
        fault = table.column("fault")
        columns |= {
            reason: pc.fill_null(pc.equal(fault, reason), False).cast(pa.int8())
            for reason in CELL_REASONS
        }
    frame = pa.table(columns).to_pandas()
    # object, not pandas' own string type: its null is NaN in one version and NA in another.
    frame["label"] = pd.Series(table.column("label").to_pylist(), dtype=object)
    return frame


def corpus_suite(contract: DataContract) -> Suite:
    """What the rows must meet together; runs on a one-row frame with a column per expectation, of the same name."""
    expect = _great_expectations().expectations.ExpectColumnValuesToBeBetween
    labels, found = contract.labels, []

    def add(name: str, words: str, low: float | None = None, high: float | None = None) -> None:
        show = shown_share if name.endswith("_share") else shown_count
        limit = f"at least {show(low)}" if low is not None else ""
        limit += (" and " if limit else "") + f"at most {show(high)}" if high is not None else ""
        gx = expect(column=name, min_value=low, max_value=high, meta={"name": name})
        found.append(Expectation(name, words, limit, gx))

    add("rows_kept", "rows kept", low=1)
    add("quarantine_share", "quarantined rows, all reasons", high=contract.max_quarantine_share)
    for reason in (*ROW_REASONS, "duplicate_id"):
        add(f"{reason}_share", REASONS[reason], high=contract.max_quarantine_share)
    add("relabelled_share", REASONS["relabelled"], high=contract.conflicts.max_share)
    add("duplicate_share", REASONS["duplicate"], high=contract.duplicates.max_share)
    add("leaked_share", REASONS["leaked"], high=contract.leakage.max_share)
    for split in SPLITS:
        add(f"{split}_not_empty", f"the {split} split holds rows", low=1)
        add(f"{split}_rows", f"rows of the {split} split", low=contract.splits.min_rows)
    # One class is no classification, whatever min_count allows.
    add(
        "label_count",
        "different labels in the train split",
        low=max(2, labels.min_count),
        high=labels.max_count,
    )
    add(
        "smallest_label_share", "share of the rarest label in the train split", low=labels.min_share
    )
    add(
        "largest_label_share",
        "share of the commonest label in the train split",
        high=labels.max_share,
    )
    return Suite("corpus", found)


def corpus_frame(facts: dict[str, float]) -> pd.DataFrame:
    """One row of aggregates. None of them may be null: a null passes."""
    import pandas as pd

    unknown = [name for name, value in facts.items() if value is None or not math.isfinite(value)]
    if unknown:
        raise ValueError(f"aggregates without a value: {', '.join(unknown)}")
    return pd.DataFrame([{"position": 0, **facts}])


def shown_share(share: float | None) -> str:
    return f"{(share or 0) * 100:.3g} %"


def shown_count(count: float | None) -> str:
    return f"{int(count or 0):,}"


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _exception(info: Any) -> str | None:
    """The message of an expectation that could not be evaluated; GX nests it one level deeper for metrics."""
    if not isinstance(info, dict):
        return None
    if "raised_exception" in info:
        return (
            str(info.get("exception_message") or "an exception")
            if info["raised_exception"]
            else None
        )
    return next((text for one in info.values() if (text := _exception(one))), None)


def _great_expectations() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read at import
    with _quiet():
        import great_expectations as gx
        import great_expectations.expectations

        # Evaluated expectations log their own failures; the report says all of it better.
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
    return gx


class _quiet(warnings.catch_warnings):
    """Great Expectations' own deprecation warnings are nothing that a user can act on."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
