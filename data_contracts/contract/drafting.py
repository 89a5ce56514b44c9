"""What the drafts of several kinds share: the first line, what was read, and limits that
the rows keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from data_contracts.contract import headroom
from data_contracts.contract.contract import DataContract
from data_contracts.contract.headers import header_faults
from data_contracts.contract.judge import Corpus, Foretold, corpus_of, judge, limits
from data_contracts.contract.rows import Found, Rows
from data_contracts.contract.sections import RowPolicy, SplitShares
from data_contracts.errors import SourceError

C = TypeVar("C", bound=DataContract)


def refuse_first_row(rows: Rows, chosen: Sequence[str], names: str, options: str) -> None:
    """Refuse a first line that is a row and no header.

    Args:
        chosen: columns that were found for a role, by their names.
        names: what a header may be, in words.
        options: by which a person says that it is one.
    """
    for file, header in rows.header.items():
        here = [at for at, one in enumerate(rows.files) if one == file]
        cells = {name: [rows.columns[name][at] for at in here] for name in header}
        for fault in header_faults(header, cells):
            if fault.name in chosen:
                raise SourceError(
                    f"The first line of {file} looks like a row, not like names: "
                    f"{fault.name[:60]!r} {fault.what}.",
                    f"Put a line with the columns' names first, such as {names}. If this is the "
                    f"name, say so with {options}.",
                )


def told_of(rows: Rows, found: Found) -> list[str]:
    """How the rows were read, and whether there are more of them."""
    told = [*found.told, *(f"{what[:1].upper()}{what[1:]}." for what in rows.told)]
    if not rows.complete:
        told.append(f"The first {len(rows):,} rows were looked at, and there are more.")
    return told


def told_of_hidden(rows: Rows) -> list[str]:
    """Columns that no contract can name."""
    if not rows.hidden:
        return []
    return [
        "Columns that hold objects, lists or numbers in rows are left out: "
        f"{', '.join(rows.hidden)}."
    ]


def fitted(
    contract: C,
    corpus: Corpus,
    rows: Rows,
    tight: Callable[[C, Foretold], C],
    way_out: Callable[[C, Rows, Foretold], str],
) -> tuple[C, Foretold]:
    """The contract with limits that these rows keep.

    Args:
        tight: gives it limits with headroom over what the verdicts count.
        way_out: what a person may do where there are none.
    Raises:
        SourceError: where no contract can be one that they pass.
    """
    refusal: SourceError | None = None
    for share in headroom.SHARES:
        shares = SplitShares(valid=share, test=share, min_rows=1)
        contract = contract.model_copy(update={"splits": shares})
        corpus = corpus_of(rows, contract)
        verdicts = judge(corpus, contract)
        fitting = tight(contract, verdicts)
        broken = [str(limit) for limit in limits(fitting, verdicts) if not limit.holds]
        if not broken:
            said = fitting.model_dump(exclude=set(contract.idle))
            return type(contract).model_validate(said), verdicts
        refusal = SourceError(
            f"No contract can be drafted that these {len(rows):,} rows would pass: "
            f"{'; '.join(broken)}.",
            way_out(contract, rows, verdicts),
        )
    assert refusal is not None
    raise refusal


def fitting_limits(contract: DataContract, verdicts: Foretold) -> dict[str, Any]:
    """Of splits, repeats, leaks and refused rows: with headroom over what the verdicts count."""
    rows = max(1, verdicts.rows)
    few = {"min_rows": headroom.fewest_rows(verdicts)}
    repeated = headroom.headroom(verdicts.found["duplicate"] / rows)
    leaked = headroom.headroom(verdicts.found["leaked"] / rows)
    return {
        "splits": contract.splits.model_copy(update=few),
        "duplicates": RowPolicy(max_share=repeated),
        "leakage": RowPolicy(max_share=leaked),
        "max_quarantine_share": headroom.quarantine_share(contract, verdicts),
    }


def not_possible(error: ValidationError) -> SourceError:
    """A column with a NUL in its name, or one column for two roles."""
    what = error.errors()[0]["msg"].removeprefix("Value error, ")
    return SourceError(
        f"No contract can be drafted from these rows: {what}.",
        "Mend the export, or name other columns.",
    )
