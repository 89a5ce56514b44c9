"""Limits of a drafted contract: with headroom over what its own rows come to."""

from __future__ import annotations

import math
from collections import Counter

from data_contracts.contract import headroom
from data_contracts.contract.counts import per_split
from data_contracts.contract.judge import Corpus, Foretold, corpus_of, judge, limits
from data_contracts.contract.rows import Rows
from data_contracts.contract.sections import ConflictPolicy, RowPolicy, SplitShares, TextLimits
from data_contracts.errors import SourceError
from data_contracts.kinds.classify_contract import ClassifyColumns, ClassifyContract, Labels

MAX_LABELS = 100  # up to here the label values are written out


def fitted(
    contract: ClassifyContract, corpus: Corpus, rows: Rows
) -> tuple[ClassifyContract, Foretold]:
    """The contract with limits that these rows keep."""
    refusal: SourceError | None = None
    for share in headroom.SHARES:
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
    return contract.model_copy(
        update={
            "text": TextLimits(
                min_characters=1,  # a short text is no fault: only blank ones are refused
                max_characters=headroom.most_characters(texts),
                allow_replacement_character=headroom.often_replaced(texts),
            ),
            "labels": Labels(
                values=tuple(sorted(counts)) if len(counts) <= MAX_LABELS else None,
                max_count=max(2, headroom.round_up(headroom.HEADROOM * len(counts))),
            ),
        }
    )


def _tight(contract: ClassifyContract, verdicts: Foretold) -> ClassifyContract:
    """Limits with headroom over what the verdicts count."""
    train, rows = per_split(verdicts.counts, "label")["train"], max(1, verdicts.rows)
    total = max(1, train.total())
    counts = [train[label] for label in contract.labels.values or train]
    rarest, commonest = min(counts, default=0) / total, max(counts, default=0) / total
    return contract.model_copy(
        update={
            "labels": contract.labels.model_copy(
                update={
                    "min_share": math.floor(rarest / headroom.HEADROOM * 1000) / 1000,
                    "max_share": _above(commonest),
                }
            ),
            "splits": contract.splits.model_copy(
                update={"min_rows": headroom.fewest_rows(verdicts)}
            ),
            "conflicts": ConflictPolicy(
                max_share=headroom.headroom(verdicts.found["relabelled"] / rows)
            ),
            "duplicates": RowPolicy(
                max_share=headroom.headroom(verdicts.found["duplicate"] / rows)
            ),
            "leakage": RowPolicy(max_share=headroom.headroom(verdicts.found["leaked"] / rows)),
            "max_quarantine_share": headroom.quarantine_share(contract, verdicts),
        }
    )


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
    return headroom.without_rows(verdicts, rows, columns.split) or (
        "Mend the export, or name other columns with --text and --label."
    )


def striking(contract: ClassifyContract, verdicts: Foretold) -> list[str]:
    """Limits that had to be drafted far above the defaults say something of the rows."""
    faults = (
        (
            "relabelled",
            "have a text that stands with another label as well",
            contract.conflicts.max_share,
        ),
        (
            "duplicate",
            "repeat a text that stood before in their split",
            contract.duplicates.max_share,
        ),
        ("leaked", "have a text that also stands in a later split", contract.leakage.max_share),
    )
    asked = f"Is {contract.columns.text} the text, and are the rows what you meant?"
    return headroom.striking(contract, verdicts, faults, asked)
