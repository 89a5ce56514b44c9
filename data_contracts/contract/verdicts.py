"""Every row by itself, then against the others: which are refused, and why.

The rows come part by part. Of each, 27 bytes are held (hashes of identity, answer and id, the
split, the reasons), and eight more where another text may stand in one split alone, from which
repeats, conflicts and leaks follow when all of them are there; only these grow with the data. The
rules of the rows themselves are evaluated by whoever calls: Great Expectations in `validate`,
`broken_rows` here for drafts and checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract.contract import SPLITS, DataContract
from data_contracts.contract.counts import Counts
from data_contracts.contract.frames import joined, row_frame
from data_contracts.contract.rules import RowRule
from data_contracts.contract.text import hash64, text_hash

MAX_TRACED = 100_000  # rows at odds of which it is said which row counts instead
_NUMBERS = {split: number for number, split in enumerate(SPLITS)}
Array = npt.NDArray[Any]
Positions = npt.NDArray[np.int64]


@dataclass
class Verdicts:
    """What the contract says of each row. A row may have several reasons."""

    contract: DataContract
    reasons: Array  # (N,) one of `bits` for each reason; 0: kept
    # Rows that break each row rule, and rows per reason, kept ones too.
    broken: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    # Position of a row at odds → of the row that counts instead.
    instead: dict[int, int] = field(default_factory=dict)

    @property
    def bits(self) -> dict[str, int]:
        return {reason: 1 << at for at, reason in enumerate(self.contract.reasons)}

    @property
    def first(self) -> Counter[str]:
        """Refused rows, each under its first reason."""
        found: Counter[str] = Counter()
        for mask, rows in zip(*np.unique(self.reasons, return_counts=True), strict=True):
            if names := self.named(int(mask)):
                found[names[0]] += int(rows)
        return found

    def named(self, mask: int) -> list[str]:
        """The reasons of a row."""
        return [reason for reason, bit in self.bits.items() if mask & bit]

    def refused_for(self, reason: str) -> Positions:
        """Rows whose first reason it is."""
        bit = self.bits[reason]
        below = bit - 1
        return np.flatnonzero(((self.reasons & bit) != 0) & ((self.reasons & below) == 0))


class RowJudge:
    """Gathers the verdicts on `rows` rows that come part by part."""

    def __init__(self, contract: DataContract, rows: int) -> None:
        self.contract = contract
        kind = np.min_scalar_type((1 << len(contract.reasons)) - 1)
        self.verdicts = Verdicts(contract, np.zeros(rows, kind))
        self.verdicts.broken.update(dict.fromkeys((one.name for one in contract.all_row_rules), 0))
        self._identity = np.zeros(rows, np.uint64)
        # What may stand in one split alone is the identity itself, or hashed beside it.
        self._by_identity = contract.kept_apart == contract.identified_by
        self._apart = self._identity if self._by_identity else np.zeros(rows, np.uint64)
        self._answer = np.zeros(rows, np.uint64)
        self._id = np.zeros(rows, np.uint64)
        self._split = np.zeros(rows, np.int8)
        self._rules = contract.all_row_rules
        self._hides = [
            (one.name, hidden) for one in contract.reasons.values() for hidden in one.hides
        ]
        self._start = 0

    def add(self, rows: pa.Table, broken: Mapping[str, Iterable[int]]) -> None:
        """
        Args:
            rows: the next ones, of the raw schema.
            broken: positions within them of those that break a rule, by the rule's name.
        """
        start, stop = self._start, self._start + rows.num_rows
        reasons, bits = self.verdicts.reasons[start:stop], self.verdicts.bits
        for rule in self._rules:
            positions = np.fromiter(broken[rule.name], np.int64)
            self.verdicts.broken[rule.name] += len(positions)
            reasons[positions] |= reasons.dtype.type(bits[rule.reason])
        for better, hidden in self._hides:
            told = (reasons & bits[better]) != 0
            reasons[told] &= ~reasons.dtype.type(bits[hidden])
        # Nothing is asked of the identity of a row that has a fault.
        good = (reasons == 0).tolist()
        self._identity[start:stop] = _hashed(joined(self.contract.identified_by, rows), good)
        if not self._by_identity:
            self._apart[start:stop] = _hashed(joined(self.contract.kept_apart, rows), good)
        self._id[start:stop] = [hash64(one) for one in rows["id"].to_pylist()]
        answers = joined(self.contract.answer, rows)
        hashes = {one: hash64(one) for one in dict.fromkeys(answers)}
        self._answer[start:stop] = [hashes[one] for one in answers]
        self._split[start:stop] = [_NUMBERS.get(split, 0) for split in rows["split"].to_pylist()]
        self._start = stop

    def finish(self) -> Verdicts:
        """The verdicts, the rows held against one another too."""
        found, bits = self.verdicts.found, self.verdicts.bits
        for reason in self.contract.own_reasons:
            found[reason] = int(np.count_nonzero(self.verdicts.reasons & bits[reason]))
        self._refuse("duplicate_id", _later_of_equals(self._id, self._good()))
        good = self._good()
        at_odds = self._at_odds(good)
        if self.contract.conflicts.keep == "none":
            # Such a text stands nowhere any more, so it leaks nothing.
            good = np.setdiff1d(good, at_odds)
        leaked = self._leaked(good)
        if self.contract.answer:
            keeps_all = self.contract.conflicts.keep == "all"
            self._refuse(self.contract.conflict[0], at_odds, keep=keeps_all)
            good = good if keeps_all else np.setdiff1d(good, at_odds)
        repeated = self._repeated(good)
        self._refuse("duplicate", repeated, keep=self.contract.duplicates.action == "keep")
        self._refuse("leaked", leaked, keep=self.contract.leakage.action == "keep")
        return self.verdicts

    def _good(self) -> Positions:
        return np.flatnonzero(self.verdicts.reasons == 0)

    def _refuse(self, reason: str, positions: Positions, *, keep: bool = False) -> None:
        """Counted in any case."""
        self.verdicts.found[reason] = len(positions)
        if not keep:
            reasons = self.verdicts.reasons
            reasons[positions] |= reasons.dtype.type(self.verdicts.bits[reason])

    def _leaked(self, good: Positions) -> Positions:
        """Rows of which the text that may stand in one split alone also stands in a later one."""
        # By text, then split, then position: np.lexsort is stable and takes its last key first.
        order = good[np.lexsort((self._split[good], self._apart[good]))]
        if not len(order):
            return order
        same = self._apart[order][1:] == self._apart[order][:-1]
        # The last row of each run of equals stands in the latest split that has them.
        ends = np.append(np.flatnonzero(~same), len(order) - 1)
        latest = np.repeat(self._split[order][ends], np.diff(ends, prepend=-1))
        return order[self._split[order] < latest]

    def _repeated(self, good: Positions) -> Positions:
        """Rows that stood before in their split with their answer."""
        keys = (self._answer[good], self._split[good], self._identity[good])
        order = good[np.lexsort(keys)]
        same = np.ones(max(0, len(order) - 1), bool)
        for values in (self._identity, self._split, self._answer):
            same &= values[order][1:] == values[order][:-1]
        return order[1:][same]

    def _at_odds(self, good: Positions) -> Positions:
        """Rows beside which another answer counts in their split, by the section `conflicts`."""
        keep = self.contract.conflicts.keep
        if not len(good):
            return good
        order = good[np.lexsort((self._split[good], self._identity[good]))]
        identity, split, answer = self._identity[order], self._split[order], self._answer[order]
        new = np.append(True, (identity[1:] != identity[:-1]) | (split[1:] != split[:-1]))
        group, starts = np.cumsum(new) - 1, np.flatnonzero(new)
        ends = np.append(starts[1:], len(order)) - 1
        disputed = np.logical_or.reduceat(answer != answer[starts][group], starts)[group]
        if keep == "none":
            return order[disputed]
        winning = answer == answer[starts if keep == "earliest" else ends][group]
        lost = disputed & ~winning
        if keep != "all":
            # The first row of the answer that counts: later ones are repeats of it.
            nowhere = len(self._identity)
            first = np.minimum.reduceat(np.where(winning, order, nowhere), starts)[group]
            rows, counting = order[lost][:MAX_TRACED], first[lost][:MAX_TRACED]
            self.verdicts.instead = dict(zip(rows.tolist(), counting.tolist(), strict=True))
        return order[lost]


def _hashed(texts: Sequence[str], good: Sequence[bool]) -> list[int]:
    """Repeats of one text in a row, as of a context with several questions, are hashed once."""
    held = lru_cache(1)(text_hash)
    return [held(text) if is_good else 0 for text, is_good in zip(texts, good, strict=True)]


def _later_of_equals(values: Array, positions: Positions) -> Positions:
    order = positions[np.argsort(values[positions], kind="stable")]
    return order[1:][values[order][1:] == values[order][:-1]]


def broken_rows(contract: DataContract, rows: pa.Table) -> dict[str, Positions]:
    """The positions of rows that break each row rule: what Great Expectations finds of them."""
    frame = row_frame(contract, rows)
    return {rule.name: _broken(rule, frame.column(rule.column)) for rule in contract.all_row_rules}


def _broken(rule: RowRule, cells: pa.ChunkedArray) -> Positions:
    bad = pc.is_null(cells) if rule.given else pa.array([False] * len(cells))
    tests = []
    if rule.low is not None:
        tests.append(pc.less(cells, rule.low))
    if rule.high is not None:
        tests.append(pc.greater(cells, rule.high))
    if rule.values is not None:
        known = pc.is_in(cells, value_set=pa.array(rule.values, pa.string()))
        tests.append(pc.and_(pc.is_valid(cells), pc.invert(known)))
    for test in tests:
        bad = pc.or_(bad, pc.fill_null(test, False))
    return np.flatnonzero(np.asarray(bad))


def aggregates(
    contract: DataContract, verdicts: Verdicts, kept: Mapping[str, int], counts: Counts
) -> dict[str, float]:
    """The value of each corpus rule.

    Args:
        kept: rows per split.
        counts: of the kept rows, as the contract counts them.
    """
    rows = max(1, len(verdicts.reasons))
    found = {f"{reason}_share": verdicts.found[reason] / rows for reason in contract.reasons}
    for split in SPLITS:
        found |= {f"{split}_not_empty": kept[split], f"{split}_rows": kept[split]}
    found["rows_kept"] = sum(kept.values())
    found["quarantine_share"] = int(np.count_nonzero(verdicts.reasons)) / rows
    return found | contract.aggregates(counts)
