"""Limits of a drafted contract, with headroom over what its own rows come to, whatever its kind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from data_contracts.contract.contract import DataContract
from data_contracts.contract.judge import Foretold
from data_contracts.contract.rows import Rows
from data_contracts.tables.batch import MAX_CELL_CHARACTERS

HEADROOM = 2.0  # limits stand this factor above what was seen
# Share of rows that repeat or leak above which the draft says so: the default limit.
NOTICEABLE = 0.05
# Of valid and of test, tried in turn until few rows leave none of them empty.
SHARES = (0.1, 0.2, 0.3)


def headroom(share: float) -> float:
    """Twice what was seen, at least one per cent, in steps of a tenth of a per cent."""
    return min(1.0, max(0.01, math.ceil(share * HEADROOM * 1000) / 1000))


def round_up(number: float) -> int:
    """To two significant digits."""
    step = 10 ** max(0, math.floor(math.log10(max(1.0, number))) - 1)
    return max(1, math.ceil(number / step) * step)


def most_characters(texts: Iterable[str | None]) -> int:
    """A limit on the characters of such texts."""
    longest = max((len(text) for text in texts if text and text.strip()), default=1)
    return min(round_up(HEADROOM * longest), MAX_CELL_CHARACTERS)


def often_replaced(texts: Sequence[str | None]) -> bool:
    """Whether U+FFFD is how these texts are: in a tenth of them. A few are accidents, and go to
    quarantine.
    """
    return sum("\ufffd" in (text or "") for text in texts) > 0.1 * len(texts)


def by_others(contract: DataContract) -> tuple[str, ...]:
    """Reasons that a row has for the sake of another row, with a limit of their own."""
    return contract.conflict[0], "duplicate", "leaked"


def quarantine_share(contract: DataContract, verdicts: Foretold) -> float:
    """A limit on refused rows, which holds for each reason of a row's own too."""
    apart = by_others(contract)
    own = (count for reason, count in verdicts.found.items() if reason not in apart)
    rows = max(1, verdicts.rows)
    return headroom(max(count / rows for count in (verdicts.first.total(), *own)))


def fewest_rows(verdicts: Foretold) -> int:
    """A limit on the rows of each split."""
    return max(1, min(20, min(verdicts.kept.values()) // 2))


def without_rows(verdicts: Foretold, rows: Rows, split_column: str | None) -> str | None:
    """What to do about splits without a row; None where each has some."""
    missing = [split for split, kept in verdicts.kept.items() if not kept]
    if missing and not rows.split_by_url and split_column is None:
        return (
            f"So few rows leave the {' and '.join(missing)} split empty: add rows, or give "
            "--train, --valid and --test."
        )
    if missing:
        return f"Give rows for {' and '.join(missing)}, or leave the split out to have it drawn."
    return None


def striking(
    contract: DataContract, verdicts: Foretold, faults: Sequence[tuple[str, str, float]], asked: str
) -> list[str]:
    """Limits that had to be drafted far above the defaults say something of the rows.

    Args:
        faults: a reason, what rows do that have it, and the share of them that the draft allows.
        asked: the question to whoever reads it.
    """
    rows, said = max(1, verdicts.rows), []
    for reason, words, allowed in faults:
        share = verdicts.found[reason] / rows
        if share > NOTICEABLE:
            said.append(
                f"{share:.1%} of the rows {words} and go to quarantine; the draft allows "
                f"{allowed:.1%}, where {NOTICEABLE:.0%} is usual. {asked}"
            )
    apart = by_others(contract)
    others = Counter({r: n for r, n in verdicts.first.items() if r not in apart})
    if others.total() / rows > NOTICEABLE:
        shown = ", ".join(f"{reason} {count:,}" for reason, count in others.most_common())
        said.append(
            f"{others.total() / rows:.1%} of the rows go to quarantine for faults of their own "
            f"({shown}); the draft allows {contract.max_quarantine_share:.1%}, where "
            f"{NOTICEABLE:.0%} is usual."
        )
    return said
