"""Limits of a drafted contract: with headroom over what its own rows come to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from data_contracts.contract.counts import per_split
from data_contracts.contract.judge import Corpus, Foretold, corpus_of, judge, limits
from data_contracts.contract.rows import Rows
from data_contracts.contract.sections import ConflictPolicy, RowPolicy, SplitShares, TextLimits
from data_contracts.errors import SourceError
from data_contracts.kinds.classify_contract import ClassifyColumns, ClassifyContract, Labels
from data_contracts.tables.batch import MAX_CELL_CHARACTERS

MAX_LABELS = 100  # up to here the label values are written out
HEADROOM = 2.0  # limits stand this factor above what was seen
# Share of rows that repeat or leak above which the draft says so: the default limit.
NOTICEABLE = 0.05
_BY_OTHERS = ("relabelled", "duplicate", "leaked")  # reasons with a limit of their own
# Of valid and of test, tried in turn until few rows leave none of them empty.
SHARES = (0.1, 0.2, 0.3)


def fitted(
    contract: ClassifyContract, corpus: Corpus, rows: Rows
) -> tuple[ClassifyContract, Foretold]:
    """The contract with limits that these rows keep."""
    refusal: SourceError | None = None
    for share in SHARES:
        shares = SplitShares(valid=share, test=share, min_rows=1)
        if (contract.splits.valid, contract.splits.test) != (share, share):
            corpus = corpus_of(rows, contract.model_copy(update={"splits": shares}))
        contract = contract.model_copy(update={"splits": shares})
        verdicts = judge(corpus, contract)
        fitting = _tight(contract, verdicts)
        broken = [str(limit) for limit in limits(fitting, verdicts) if not limit.holds]
        if not broken:
            return ClassifyContract.model_validate(fitting.model_dump()), verdicts
        refusal = SourceError(
            f"No contract can be drafted that these {len(rows):,} rows would pass: "
            f"{'; '.join(broken)}.",
            _way_out(contract.columns, rows, verdicts),
        )
    assert refusal is not None
    raise refusal


def loosened(contract: ClassifyContract, corpus: Corpus, counts: Counter[str]) -> ClassifyContract:
    """What a row must be by itself, with limits on the whole that all rows keep."""
    texts = corpus.cells("text")
    replaced = sum("\ufffd" in (text or "") for text in texts)
    longest = max((len(text) for text in texts if text and text.strip()), default=1)
    return contract.model_copy(
        update={
            "text": TextLimits(
                min_characters=1,  # a short text is no fault: only blank ones are refused
                max_characters=min(_round_up(HEADROOM * longest), MAX_CELL_CHARACTERS),
                # A tenth of the rows with U+FFFD is how these data are; a few are accidents, and go
                # to quarantine.
                allow_replacement_character=replaced > 0.1 * len(corpus),
            ),
            "labels": Labels(
                values=tuple(sorted(counts)) if len(counts) <= MAX_LABELS else None,
                max_count=max(2, _round_up(HEADROOM * len(counts))),
            ),
        }
    )


def _tight(contract: ClassifyContract, verdicts: Foretold) -> ClassifyContract:
    """Limits with headroom over what the verdicts count."""
    train, rows = per_split(verdicts.counts, "label")["train"], max(1, verdicts.rows)
    total = max(1, train.total())
    counts = [train[label] for label in contract.labels.values or train]
    rarest, commonest = min(counts, default=0) / total, max(counts, default=0) / total
    worst = max(count / rows for count in (verdicts.first.total(), *_row_faults(verdicts)))
    few = min(verdicts.kept.values())
    return contract.model_copy(
        update={
            "labels": contract.labels.model_copy(
                update={
                    "min_share": math.floor(rarest / HEADROOM * 1000) / 1000,
                    "max_share": _above(commonest),
                }
            ),
            "splits": contract.splits.model_copy(update={"min_rows": max(1, min(20, few // 2))}),
            "conflicts": ConflictPolicy(max_share=_headroom(verdicts.found["relabelled"] / rows)),
            "duplicates": RowPolicy(max_share=_headroom(verdicts.found["duplicate"] / rows)),
            "leakage": RowPolicy(max_share=_headroom(verdicts.found["leaked"] / rows)),
            "max_quarantine_share": _headroom(worst),
        }
    )


def _row_faults(verdicts: Foretold) -> Iterable[int]:
    return (count for reason, count in verdicts.found.items() if reason not in _BY_OTHERS)


def _above(share: float) -> float:
    """Half of the way from a share to all rows: 0.9 → 0.95, 0.9975 → 0.999; never all rows, unless
    they come close.
    """
    digits = 2
    while digits < 6 and math.ceil((share + 1) / 2 * 10**digits) >= 10**digits:
        digits += 1
    return min(1.0, math.ceil((share + 1) / 2 * 10**digits) / 10**digits)


def _way_out(columns: ClassifyColumns, rows: Rows, verdicts: Foretold) -> str:
    if len(per_split(verdicts.counts, "label")["train"]) < 2:
        return (
            f"Train rows of two labels or more are needed (column {columns.label}): add rows, or "
            "give another --label."
        )
    missing = [split for split, kept in verdicts.kept.items() if not kept]
    if missing and not rows.split_by_url and columns.split is None:
        return (
            f"So few rows leave the {' and '.join(missing)} split empty: add rows, or give "
            "--train, --valid and --test."
        )
    if missing:
        return f"Give rows for {' and '.join(missing)}, or leave the split out to have it drawn."
    return "Mend the export, or name other columns with --text and --label."


def striking(contract: ClassifyContract, verdicts: Foretold) -> list[str]:
    """Limits that had to be drafted far above the defaults say something of the rows."""
    rows, said = max(1, verdicts.rows), []
    for reason, words, policy in (
        ("relabelled", "have a text that stands with another label as well", contract.conflicts),
        ("duplicate", "repeat a text that stood before in their split", contract.duplicates),
        ("leaked", "have a text that also stands in a later split", contract.leakage),
    ):
        share = verdicts.found[reason] / rows
        if share > NOTICEABLE:
            said.append(
                f"{share:.1%} of the rows {words} and go to quarantine; the draft allows "
                f"{policy.max_share:.1%}, where "
                f"{NOTICEABLE:.0%} is usual. Is {contract.columns.text} the text, and are the rows "
                f"what you meant?"
            )
    others = Counter({r: n for r, n in verdicts.first.items() if r not in _BY_OTHERS})
    if others.total() / rows > NOTICEABLE:
        shown = ", ".join(f"{reason} {count:,}" for reason, count in others.most_common())
        said.append(
            f"{others.total() / rows:.1%} of the rows go to quarantine for faults of their own "
            f"({shown}); the draft "
            f"allows {contract.max_quarantine_share:.1%}, where {NOTICEABLE:.0%} is usual."
        )
    return said


def _headroom(share: float) -> float:
    """Twice what was seen, at least one per cent, in steps of a tenth of a per cent."""
    return min(1.0, max(0.01, math.ceil(share * HEADROOM * 1000) / 1000))


def _round_up(number: float) -> int:
    """To two significant digits."""
    step = 10 ** max(0, math.floor(math.log10(max(1.0, number))) - 1)
    return max(1, math.ceil(number / step) * step)
