"""The verdicts of `validate` on rows in memory, without Great Expectations, which imports for
seconds.

For `contract infer`, which must draft what its own rows pass, and for `recipe check`. The rules and
the judge are those of `validate`; the rules are evaluated by Arrow in place of Great Expectations.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_contracts.contract.contract import SPLITS, DataContract
from data_contracts.contract.counts import Counts
from data_contracts.contract.raw import Cells, raw_table, selected, wanted_columns
from data_contracts.contract.rows import Rows
from data_contracts.contract.rules import CorpusRule
from data_contracts.contract.verdicts import RowJudge, Verdicts, aggregates, broken_rows


@dataclass(frozen=True)
class Corpus:
    """Rows under their roles, as `ingest` writes them."""

    table: pa.Table  # of the raw schema
    places: list[int]  # of each row among the rows it was taken from

    def __len__(self) -> int:
        return self.table.num_rows

    def cells(self, column: str) -> list[str | None]:
        return self.table.column(column).to_pylist()


def corpus_of(rows: Rows, contract: DataContract) -> Corpus:
    """The rows that the contract selects, by the columns that it names."""
    named = wanted_columns(contract, rows.given)
    cells = Cells(
        {name: pa.array(rows.columns[name], pa.string()) for name in named},
        pa.array(rows.numbers, pa.int64()),
        rows.files,
        rows.splits,
        pa.array(rows.faults, pa.string()),
    )
    chosen, _ = selected(cells, contract)
    table = raw_table(cells, contract, rows.given).filter(pa.array(chosen))
    return Corpus(_with_file_in_ids(table), np.flatnonzero(chosen).tolist())


def _with_file_in_ids(table: pa.Table) -> pa.Table:
    """As ingest does with ids that stand in several files."""
    files: dict[str, set[str]] = {}
    ids, names = table.column("id").to_pylist(), table.column("file").to_pylist()
    for one, file in zip(ids, names, strict=True):
        files.setdefault(one, set()).add(file)
    pairs = zip(ids, names, strict=True)
    unique = [f"{file}:{one}" if len(files[one]) > 1 else one for one, file in pairs]
    place = table.schema.get_field_index("id")
    return table.set_column(place, "id", pa.array(unique, pa.string()))


@dataclass(frozen=True)
class Foretold:
    """What validate will find of the rows: verdicts, kept rows by split, and what they count to."""

    verdicts: Verdicts
    first: Counter[str]  # refused rows, each under its first reason
    kept: dict[str, int]
    counts: Counts

    @property
    def rows(self) -> int:
        return len(self.verdicts.reasons)

    @property
    def found(self) -> Counter[str]:
        """Rows per reason, kept ones too; a row may have several."""
        return self.verdicts.found


def judge(corpus: Corpus, contract: DataContract) -> Foretold:
    """Every row by itself, then against the others."""
    gathering = RowJudge(contract, len(corpus))
    gathering.add(corpus.table, broken_rows(contract, corpus.table))
    verdicts = gathering.finish()
    kept = corpus.table.filter(pa.array(verdicts.reasons == 0))
    splits = Counter(kept.column("split").to_pylist())
    by_split = {split: splits[split] for split in SPLITS}
    return Foretold(verdicts, verdicts.first, by_split, contract.count(kept))


@dataclass(frozen=True)
class Limit:
    """One of the contract's rules on the rows together, and what they come to."""

    rule: CorpusRule
    observed: float

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def holds(self) -> bool:
        return self.rule.holds(self.observed)

    def __str__(self) -> str:
        rule = self.rule
        too_few = rule.low is not None and self.observed < rule.low
        bound = (
            f"at least {rule.shown(rule.low)}" if too_few else f"at most {rule.shown(rule.high)}"
        )
        return f"{rule.words}: {rule.shown(self.observed)}, allowed is {bound}"


def limits(contract: DataContract, foretold: Foretold) -> list[Limit]:
    """What the rows come to under each rule of the corpus."""
    found = aggregates(contract, foretold.verdicts, foretold.kept, foretold.counts)
    return [Limit(rule, found[rule.name]) for rule in contract.corpus_rules()]
