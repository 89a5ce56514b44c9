"""Draft a contract of texts and labels: roles of the columns, limits with headroom over what is
there.

Pure over rows that are read already. The draft is held against the rules that `validate` will apply
to the same rows (`data_contracts.contract.judge`), so that a contract comes out which they pass, or
a refusal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from data_contracts.contract.drafting import not_possible
from data_contracts.contract.headers import HeaderFault, header_faults
from data_contracts.contract.infer import Draft, UndescribedRows
from data_contracts.contract.judge import Corpus, corpus_of
from data_contracts.contract.notes import rare, spelled_alike
from data_contracts.contract.rows import Found, Rows
from data_contracts.errors import SourceError
from data_contracts.kinds.classify_columns import choose
from data_contracts.kinds.classify_contract import ClassifyColumns, ClassifyContract
from data_contracts.kinds.classify_limits import fitted, loosened, striking

_, LABEL = ClassifyContract.roles


@dataclass(frozen=True)
class Roles:
    """Which columns the contract names, and what a person should know of the choice."""

    columns: ClassifyColumns
    select: dict[str, tuple[str, ...]]
    told: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        columns = self.columns
        named = [columns.id, columns.text, columns.label, columns.split, *self.select]
        return [name for name in named if name is not None]


def draft(undescribed: UndescribedRows) -> Draft:
    """A contract that rows which nobody has described pass.

    Raises:
        SourceError: where no column is text or label, or no contract can be one that they pass.
    """
    roles = find_roles(undescribed.rows, undescribed.given)
    columns = roles.columns
    rows = undescribed.closer(roles.names, [columns.text], [columns.label])
    return draft_contract(rows, roles, undescribed.name, undescribed.found)


def find_roles(rows: Rows, given: Mapping[str, str] | None = None) -> Roles:
    """Text, label, id and split among all columns of some rows.

    Args:
        given: columns that a person named for a role.
    Raises:
        SourceError: where no column is text or label, or the first line is a row and no header.
    """
    given = given or {}
    if not rows:
        raise SourceError(
            "There are no rows, a header at most.", "Check the export that writes them."
        )
    faults = [
        fault for file, header in rows.header.items() for fault in _headerless(file, header, rows)
    ]
    try:
        chosen = choose(rows, given)
        columns = ClassifyColumns(
            id=chosen.id.name if chosen.id else None,
            text=chosen.text.name,
            label=chosen.label.name,
            split=chosen.split.name if chosen.split else None,
        )
    except SourceError:
        if faults:
            raise _no_header(faults) from None
        raise
    except ValidationError as error:
        raise not_possible(error) from None
    roles = {columns.text, columns.label}
    if (
        any(fault.name in roles and fault.sure for fault in faults)
        and not {"text", "label"} <= given.keys()
    ):
        raise _no_header(faults)
    warned = [*chosen.warned]
    if any(fault.name in roles for fault in faults):
        warned.append(
            f"{_looks_like_a_row(faults)}. If it is one, put a line with the columns' names before "
            f"it."
        )
    select, told = {}, [*chosen.told]
    if chosen.form is not None and chosen.form.name == "Prodigy" and "answer" in rows.columns:
        select = {"answer": ("accept",)}
        answers = Counter(cell or "none" for cell in rows.columns["answer"])
        shown = ", ".join(f"{answer} {count:,}" for answer, count in sorted(answers.items()))
        told.append(f"Of its answers ({shown}) the draft selects those that are accept.")
    if rows.hidden:
        told.append(
            f"Columns that hold objects, lists or numbers in rows are left out: "
            f"{', '.join(rows.hidden)}."
        )
    return Roles(columns, select, tuple(told), tuple(warned))


def draft_contract(rows: Rows, roles: Roles, name: str, found: Found = Found()) -> Draft:  # noqa: B008 - frozen
    """Draft a contract from rows.

    Args:
        rows: with text and label read under their roles.
        name: of the data set.
        found: what had to be found out to read the rows.
    Raises:
        SourceError: where no contract can be one that these rows pass.
    """
    try:
        loose = ClassifyContract(
            name=name, description=f"Drafted from {len(rows):,} rows; check it before use.",
            columns=roles.columns, select=roles.select,
        )  # fmt: skip
        corpus = corpus_of(rows, loose)
        repeated = _repeated_headers(corpus, roles.columns)
        faults = corpus.cells("fault")
        counts = Counter(
            label
            for at, label in enumerate(corpus.cells("label"))
            if label is not None and faults[at] is None and at not in repeated
        )
        if len(counts) < 2:
            raise _one_label(counts, roles.columns.label, len(corpus))
        contract, verdicts = fitted(loosened(loose, corpus, counts), corpus, rows)
    except ValidationError as error:
        raise not_possible(error) from None
    told, warned = (
        [*roles.told, *found.told, *(f"{what[:1].upper()}{what[1:]}." for what in rows.told)],
        [*roles.warned],
    )
    if not rows.complete:
        told.append(
            f"The first {len(rows):,} rows were looked at, and there are more: a label that stands "
            f"further on alone is "
            "not in the draft."
        )
    if repeated:
        where = ", ".join(
            f"{rows.files[corpus.places[at]]}, row {rows.numbers[corpus.places[at]]:,}"
            for at in sorted(repeated)[:3]
        )
        warned.append(
            f"The header stands among the rows as well ({where}), as where files were joined: it "
            f"goes to quarantine."
        )
    warned += [
        *spelled_alike(counts, LABEL),
        *rare(counts, len(corpus), LABEL),
        *striking(contract, verdicts),
    ]
    return Draft(contract, len(corpus), {"label": counts}, found, tuple(told), tuple(warned), rows)


def _one_label(counts: Counter[str], column: str, rows: int) -> SourceError:
    found = f"all have the label {next(iter(counts))!r}" if counts else "none has a label"
    return SourceError(
        f"Of {rows:,} rows {found} (column {column}): one label is no classification.",
        "Add rows of another label, or name another column with --label.",
    )


# --- the first line -------------------------------------------------------------------------------


def _headerless(file: str, header: list[str], rows: Rows) -> list[HeaderFault]:
    here = [at for at, one in enumerate(rows.files) if one == file]
    faults = header_faults(
        header, {name: [rows.columns[name][at] for at in here] for name in header}
    )
    return [HeaderFault(fault.name, f"{fault.what} ({file})", fault.sure) for fault in faults]


def _looks_like_a_row(faults: Sequence[HeaderFault]) -> str:
    return "The first line looks like a row, not like names: " + "; ".join(
        f"{fault.name[:60]!r} {fault.what}" for fault in faults[:4]
    )


def _no_header(faults: Sequence[HeaderFault]) -> SourceError:
    return SourceError(
        f"{_looks_like_a_row(faults)}.",
        "Put a line with the columns' names first, such as label,text. If these are the names, say "
        "so with --text and "
        "--label.",
    )


def _repeated_headers(corpus: Corpus, columns: ClassifyColumns) -> set[int]:
    """Rows whose cells are the names of their columns."""
    pairs = enumerate(zip(corpus.cells("text"), corpus.cells("label"), strict=True))
    return {at for at, pair in pairs if pair == (columns.text, columns.label)}
