"""What of a source was read otherwise than it is written, or not at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from data_contracts.artifacts import Spelling
from data_contracts.tables.batch import MAX_SPELLINGS, Batch


@dataclass
class Tally:
    """What was read otherwise than it is written, or not at all."""

    told: Counter[str] = field(default_factory=Counter)
    spelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, batch: Batch) -> None:
        self.told += batch.told
        for spelling, rows in batch.spelled.items():
            if spelling in self.spelled or len(self.spelled) < MAX_SPELLINGS:
                self.spelled[spelling] += rows

    def leave_out(self, column: str, cells: list[str | None]) -> None:
        for cell in cells:
            what = f"{column} {(cell or '')[:60]!r}" if cell else f"no {column}"
            self.left_out[
                what if what in self.left_out or len(self.left_out) < 20 else f"another {column}"
            ] += 1

    def facts(self) -> dict[str, Any]:
        return {
            "told": tuple(
                f"{what} ({rows:,} row{'s'[: rows != 1]})"
                for what, rows in sorted(self.told.items())
            ),
            "spelled": tuple(
                Spelling(written=written, read=read, rows=rows)
                for (written, read), rows in sorted(
                    self.spelled.items(), key=lambda item: (-item[1], item[0])
                )
            ),
            "left_out": dict(sorted(self.left_out.items())),
        }
