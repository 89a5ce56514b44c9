"""The rules of a contract as Great Expectations suites.

Two suites: the row suite judges every row and runs once per Arrow batch; the corpus suite judges
shares and counts and runs once, on a one-row frame of aggregates. So memory stays bounded whatever
the size of the data. The frames are numbers derived from the cells
(`data_contracts.contract.frames`).

Note [what a pass is worth]
Great Expectations passes an empty batch, passes a column whose values are all null under every map
expectation, and reports an expectation that it could not evaluate as a mere failure. So `Suite.run`
refuses empty frames, counts the rows that were seen, refuses null aggregates, and raises where an
expectation could not be evaluated.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data_contracts.contract.contract import DataContract
from data_contracts.contract.rules import CorpusRule, RowRule

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """What Great Expectations found. `positions` are the batch's rows that break a row rule."""

    rule: RowRule | CorpusRule
    success: bool
    observed: Any = None
    positions: tuple[int, ...] = ()


class Suite:
    """Rules that run together on frames, in an ephemeral context that writes and sends nothing."""

    def __init__(self, name: str, rules: Sequence[RowRule] | Sequence[CorpusRule]) -> None:
        self.name, self.rules = name, tuple(rules)
        with _quiet():
            gx = _great_expectations()
            from great_expectations.data_context.types.base import (
                DataContextConfig,
                InMemoryStoreBackendDefaults,
                ProgressBarsConfig,
            )

            # The default ephemeral context makes a temporary folder for its docs and leaves it
            # behind.
            config = DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
            )
            context = gx.get_context(mode="ephemeral", project_config=config)
            context.variables.progress_bars = ProgressBarsConfig(globally=False)
            asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
            self._batches = asset.add_batch_definition_whole_dataframe(name)
            self._suite = context.suites.add(
                gx.ExpectationSuite(name=name, expectations=[_expectation(rule) for rule in rules])
            )

    def run(self, frame: pd.DataFrame) -> list[Result]:
        """Evaluate every expectation on the frame; see Note [what a pass is worth]."""
        if frame.empty:
            raise ValueError(f"suite {self.name}: an empty frame would pass whatever is expected")
        with _quiet():
            # Not ValidationDefinition.run: it keeps every result in its store, so memory would grow
            # with the batches.
            outcome = self._batches.get_batch(batch_parameters={"dataframe": frame}).validate(
                self._suite,
                result_format={
                    "result_format": "COMPLETE",
                    "unexpected_index_column_names": ["position"],
                    "return_unexpected_index_query": False,
                },
            )
        by_name = {one.expectation_config.meta["name"]: one for one in outcome.results}
        return [self._result(rule, by_name.get(rule.name), len(frame)) for rule in self.rules]

    def _result(self, rule: RowRule | CorpusRule, found: Any, rows: int) -> Result:
        if found is None:
            raise RuntimeError(f"suite {self.name}: expectation {rule.name} was not evaluated")
        if fault := _exception(found.exception_info):
            raise RuntimeError(f"suite {self.name}, expectation {rule.name}: {fault}")
        result = found.result
        if result["element_count"] != rows:
            raise RuntimeError(
                f"expectation {rule.name} saw {result['element_count']} of {rows} rows"
            )
        if isinstance(rule, CorpusRule):
            if result.get("missing_count"):
                raise RuntimeError(f"expectation {rule.name}: the aggregate is null")
            return Result(rule, bool(found.success))
        places = result.get("unexpected_index_list") or ()
        positions = tuple(sorted(int(one["position"]) for one in places))
        if len(positions) != result["unexpected_count"] or bool(positions) == bool(found.success):
            raise RuntimeError(
                f"expectation {rule.name}: count and index of its unexpected rows disagree"
            )
        return Result(rule, bool(found.success), len(positions), positions)


def row_suite(contract: DataContract) -> Suite:
    """What each row must meet; runs on `pandas_frame` of the row frame."""
    return Suite("rows", contract.all_row_rules)


def corpus_suite(contract: DataContract) -> Suite:
    """What the rows must meet together; runs on `corpus_frame`."""
    return Suite("corpus", contract.corpus_rules())


def _expectation(rule: RowRule | CorpusRule) -> Any:
    expect, meta = _great_expectations().expectations, {"name": rule.name}
    if isinstance(rule, RowRule) and rule.given:
        return expect.ExpectColumnValuesToNotBeNull(column=rule.column, meta=meta)
    if isinstance(rule, RowRule) and rule.values is not None:
        values = list(rule.values)
        return expect.ExpectColumnValuesToBeInSet(column=rule.column, value_set=values, meta=meta)
    column = rule.column if isinstance(rule, RowRule) else rule.name
    return expect.ExpectColumnValuesToBeBetween(
        column=column, min_value=rule.low, max_value=rule.high, meta=meta
    )


def pandas_frame(frame: pa.Table) -> pd.DataFrame:
    """A row frame as Great Expectations takes it, with the position of each row."""
    import pandas as pd

    numbers = [field.name for field in frame.schema if not pa.types.is_string(field.type)]
    table = frame.select(numbers).add_column(0, "position", [range(frame.num_rows)])
    found = table.to_pandas()
    for name in frame.column_names:
        if name not in numbers:
            # object, not pandas' own string type: its null is NaN in one version and NA in another.
            found[name] = pd.Series(frame.column(name).to_pylist(), dtype=object)
    return found


def corpus_frame(aggregates: Mapping[str, float]) -> pd.DataFrame:
    """One row of aggregates, a column for each rule. None of them may be null: a null passes."""
    import pandas as pd

    unknown = [
        name for name, value in aggregates.items() if value is None or not math.isfinite(value)
    ]
    if unknown:
        raise ValueError(f"aggregates without a value: {', '.join(unknown)}")
    return pd.DataFrame([{"position": 0, **aggregates}])


def _exception(info: Any) -> str | None:
    """The message of an expectation that could not be evaluated; GX nests it one level deeper for
    metrics.
    """
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Great Expectations' own deprecation warnings are nothing that a user can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
