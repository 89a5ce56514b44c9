"""Draft a contract from rows: roles of the columns, limits with headroom over what is there. A person reads it next.

Pure over rows that are read already. The draft is held against the rules that `validate` will apply to the same rows
(`data_contracts.contract.judge`), so that a contract comes out which they pass, or a refusal.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import ValidationError

from data_contracts.contract.columns import HeaderFault, Role, choose, header_faults
from data_contracts.contract.contract import (
    Columns,
    ConflictPolicy,
    DataContract,
    Labels,
    RowPolicy,
    SplitShares,
    TextLimits,
)
from data_contracts.contract.judge import Corpus, Verdicts, corpus_of, judge, limits
from data_contracts.contract.rows import Found, Rows
from data_contracts.errors import SourceError, printable
from data_contracts.tables.batch import MAX_CELL_CHARACTERS
from data_contracts.tables.labels import alike_key, look_alikes

MAX_LABELS = 100  # up to here the label values are written out
RARE_SHARE = 0.0005  # share of rows, and
RARE_ROWS = 10  # rows, below which a label is named as rare
HEADROOM = 2.0  # limits stand this factor above what was seen
NOTICEABLE = (
    0.05  # share of rows that repeat or leak above which the draft says so: the default limit
)
_BY_OTHERS = ("relabelled", "duplicate", "leaked")  # reasons with a limit of their own
SHARES = (
    0.1,
    0.2,
    0.3,
)  # of valid and of test, tried in turn until few rows leave none of them empty


@dataclass(frozen=True)
class Roles:
    """Which columns the contract names, and what a person should know of the choice."""

    columns: Columns
    select: dict[str, tuple[str, ...]]
    told: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        columns = self.columns
        named = [columns.id, columns.text, columns.label, columns.split, *self.select]
        return [name for name in named if name is not None]


@dataclass(frozen=True)
class Draft:
    """A contract that its own rows pass, and what a person should know of it."""

    contract: DataContract
    rows: int
    counts: Counter[str]  # rows per label
    found: Found = field(default_factory=Found)
    told: tuple[str, ...] = ()  # for the draft
    warned: tuple[str, ...] = ()  # for the draft and the terminal


def find_roles(rows: Rows, given: dict[Role, str] | None = None) -> Roles:
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
        columns = Columns(
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
        raise _not_possible(error) from None
    roles = {columns.text, columns.label}
    if (
        any(fault.name in roles and fault.sure for fault in faults)
        and not {"text", "label"} <= given.keys()
    ):
        raise _no_header(faults)
    warned = [*chosen.warned]
    if any(fault.name in roles for fault in faults):
        warned.append(
            f"{_looks_like_a_row(faults)}. If it is one, put a line with the columns' names before it."
        )
    select, told = {}, [*chosen.told]
    if chosen.form is not None and chosen.form.name == "Prodigy" and "answer" in rows.columns:
        select = {"answer": ("accept",)}
        answers = Counter(cell or "none" for cell in rows.columns["answer"])
        shown = ", ".join(f"{answer} {count:,}" for answer, count in sorted(answers.items()))
        told.append(f"Of its answers ({shown}) the draft selects those that are accept.")
    if rows.hidden:
        told.append(
            f"Columns that hold objects, lists or numbers in rows are left out: {', '.join(rows.hidden)}."
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
        loose = DataContract(
            name=name, description=f"Drafted from {len(rows):,} rows; check it before use.",
            columns=roles.columns, select=roles.select,
        )  # fmt: skip
        corpus = corpus_of(rows, loose)
        repeated = _repeated_headers(corpus, roles.columns)
        counts = Counter(
            label
            for at, label in enumerate(corpus.labels)
            if label is not None and corpus.faults[at] is None and at not in repeated
        )
        if len(counts) < 2:
            raise _one_label(counts, roles.columns.label, len(corpus))
        contract, verdicts = _fitted(_loose(loose, corpus, counts), corpus, rows)
    except ValidationError as error:
        raise _not_possible(error) from None
    told, warned = (
        [*roles.told, *found.told, *(f"{what[:1].upper()}{what[1:]}." for what in rows.told)],
        [*roles.warned],
    )
    if not rows.complete:
        told.append(
            f"The first {len(rows):,} rows were looked at, and there are more: a label that stands further on alone is "
            "not in the draft."
        )
    if repeated:
        where = ", ".join(
            f"{rows.files[corpus.places[at]]}, row {rows.numbers[corpus.places[at]]:,}"
            for at in sorted(repeated)[:3]
        )
        warned.append(
            f"The header stands among the rows as well ({where}), as where files were joined: it goes to quarantine."
        )
    warned += [*spelled_alike(counts), *rare(counts, len(corpus)), *_high(contract, verdicts)]
    return Draft(contract, len(corpus), counts, found, tuple(told), tuple(warned))


def _not_possible(error: ValidationError) -> SourceError:
    """A column or a label with a NUL in it, or one column for two roles."""
    what = error.errors()[0]["msg"].removeprefix("Value error, ")
    return SourceError(
        f"No contract can be drafted from these rows: {what}.",
        "Mend the export, or name other columns.",
    )


def _one_label(counts: Counter[str], column: str, rows: int) -> SourceError:
    found = f"all have the label {next(iter(counts))!r}" if counts else "none has a label"
    return SourceError(
        f"Of {rows:,} rows {found} (column {column}): one label is no classification.",
        "Add rows of another label, or name another column with --label.",
    )


# --- the first line ---------------------------------------------------------------------------------------------------


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
        "Put a line with the columns' names first, such as label,text. If these are the names, say so with --text and "
        "--label.",
    )


def _repeated_headers(corpus: Corpus, columns: Columns) -> set[int]:
    """Rows whose cells are the names of their columns."""
    pairs = enumerate(zip(corpus.texts, corpus.labels, strict=True))
    return {at for at, pair in pairs if pair == (columns.text, columns.label)}


# --- labels -----------------------------------------------------------------------------------------------------------


def spelled_alike(counts: Counter[str]) -> list[str]:
    """Labels that differ in case, width, white space or punctuation alone, and rare ones a letter from a common one."""
    said = []
    if alike := look_alikes(counts):
        groups = [sorted(group, key=lambda one: (-counts[one], one)) for group in alike]
        shown = "; ".join(
            " = ".join(f"{one!r} ({counts[one]:,} rows)" for one in group) for group in groups[:10]
        )
        said.append(
            f"Labels that differ in case, width, white space or punctuation alone are classes of their own: {shown}. "
            "If they are one label, write it one way in the source."
        )
    slips = [(one, other) for one in sorted(counts) if (other := _slip_of(one, counts)) is not None]
    if slips:
        shown = "; ".join(
            f"{a!r} ({counts[a]:,}) beside {b!r} ({counts[b]:,})" for a, b in slips[:10]
        )
        said.append(
            f"Rare labels a letter away from a common one: {shown}. Slips are mended in the source."
        )
    return said


def _slip_of(label: str, counts: Counter[str]) -> str | None:
    """A label at least fifty times as common that one letter added, lost, changed or swapped makes of this one."""
    if len(label) < 4 or not any(c.isalpha() for c in label) or len(counts) > 2_000:
        return None
    key = alike_key(label)
    common = sorted(other for other, count in counts.items() if count >= 50 * counts[label])
    return next(
        (other for other in common if key != alike_key(other) and _one_edit(key, alike_key(other))),
        None,
    )


def _one_edit(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1:
        return False
    start = next(
        (at for at, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short)
    )
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = long[:start] + long[start : start + 2][::-1] + long[start + 2 :]
    return short[start + 1 :] == long[start + 1 :] or short == swapped


def rare(counts: Counter[str], rows: int) -> list[str]:
    """Labels of few rows, which may lack a row in one of the splits, or be slips: kept, and named."""
    bound = max(RARE_ROWS, RARE_SHARE * rows)
    typical = _of_the_middle_row(counts)
    few = [label for label, count in counts.items() if count < bound and 5 * count <= typical]
    few.sort(key=lambda label: (counts[label], label))
    if not few:
        return []
    shown = ", ".join(f"{one!r} ({counts[one]:,})" for one in few[:20]) + (
        " …" if len(few) > 20 else ""
    )
    return [
        f"{len(few)} of {len(counts)} labels have few rows: {shown}. They are kept as classes; one that is a slip goes "
        "out of labels.values, and its rows then to quarantine."
    ]


def _of_the_middle_row(counts: Counter[str]) -> int:
    """Rows of the label that a row has in the middle of all, sorted by how common their labels are."""
    seen = 0
    for count in sorted(counts.values()):
        seen += count
        if 2 * seen >= counts.total():
            return count
    return 0


# --- limits -----------------------------------------------------------------------------------------------------------


def _fitted(contract: DataContract, corpus: Corpus, rows: Rows) -> tuple[DataContract, Verdicts]:
    """The contract with limits that these rows keep."""
    broken, verdicts = list[str](), Verdicts(0, [])
    for share in SHARES:
        shares = SplitShares(valid=share, test=share, min_rows=1)
        if (contract.splits.valid, contract.splits.test) != (share, share):
            corpus = corpus_of(rows, contract.model_copy(update={"splits": shares}))
        contract = contract.model_copy(update={"splits": shares})
        verdicts = judge(corpus, contract)
        fitting = _tight(contract, verdicts)
        broken = [str(limit) for limit in limits(fitting, verdicts) if not limit.holds]
        if not broken:
            return DataContract.model_validate(fitting.model_dump()), verdicts
    raise SourceError(
        f"No contract can be drafted that these {len(rows):,} rows would pass: {'; '.join(broken)}.",
        _way_out(contract.columns, rows, verdicts),
    )


def _loose(contract: DataContract, corpus: Corpus, counts: Counter[str]) -> DataContract:
    """What a row must be by itself, with limits on the whole that all rows keep."""
    replaced = sum("\ufffd" in (text or "") for text in corpus.texts)
    longest = max((len(text) for text in corpus.texts if text and text.strip()), default=1)
    return contract.model_copy(
        update={
            "text": TextLimits(
                min_characters=1,  # a short text is no fault: only blank ones are refused
                max_characters=min(_round_up(HEADROOM * longest), MAX_CELL_CHARACTERS),
                # A tenth of the rows with U+FFFD is how these data are; a few are accidents, and go to quarantine.
                allow_replacement_character=replaced > 0.1 * len(corpus),
            ),
            "labels": Labels(
                values=tuple(sorted(counts)) if len(counts) <= MAX_LABELS else None,
                max_count=max(2, _round_up(HEADROOM * len(counts))),
            ),
        }
    )


def _tight(contract: DataContract, verdicts: Verdicts) -> DataContract:
    """Limits with headroom over what the verdicts count."""
    train, rows = verdicts.labels["train"], max(1, verdicts.rows)
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


def _row_faults(verdicts: Verdicts) -> Iterable[int]:
    return (count for reason, count in verdicts.found.items() if reason not in _BY_OTHERS)


def _above(share: float) -> float:
    """Half of the way from a share to all rows: 0.9 → 0.95, 0.9975 → 0.999; never all rows, unless they come close."""
    digits = 2
    while digits < 6 and math.ceil((share + 1) / 2 * 10**digits) >= 10**digits:
        digits += 1
    return min(1.0, math.ceil((share + 1) / 2 * 10**digits) / 10**digits)


def _way_out(columns: Columns, rows: Rows, verdicts: Verdicts) -> str:
    if len(verdicts.labels["train"]) < 2:
        return f"Train rows of two labels or more are needed (column {columns.label}): add rows, or give another --label."
    missing = [split for split, kept in verdicts.kept.items() if not kept]
    if missing and not rows.split_by_url and columns.split is None:
        return f"So few rows leave the {' and '.join(missing)} split empty: add rows, or give --train, --valid and --test."
    if missing:
        return f"Give rows for {' and '.join(missing)}, or leave the split out to have it drawn."
    return "Mend the export, or name other columns with --text and --label."


def _high(contract: DataContract, verdicts: Verdicts) -> list[str]:
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
                f"{share:.1%} of the rows {words} and go to quarantine; the draft allows {policy.max_share:.1%}, where "
                f"{NOTICEABLE:.0%} is usual. Is {contract.columns.text} the text, and are the rows what you meant?"
            )
    others = Counter({r: n for r, n in verdicts.first.items() if r not in _BY_OTHERS})
    if others.total() / rows > NOTICEABLE:
        shown = ", ".join(f"{reason} {count:,}" for reason, count in others.most_common())
        said.append(
            f"{others.total() / rows:.1%} of the rows go to quarantine for faults of their own ({shown}); the draft "
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


# --- YAML -------------------------------------------------------------------------------------------------------------

_COMMENTS = {
    "columns": "Which column plays which role; id null: <file>#<row>, split null: drawn by hash of the text.",
    "text": "In characters (code points). Longer texts go to quarantine.",
    "labels": "Shares are those of the train split. values null: any label, within the counts.",
    "splits": "Shares of the splits that the source does not give; fewest rows that each split must keep.",
    "select": "Columns and the values that count, as {answer: [accept]}; other rows are left out and counted.",
    "conflicts": "A text with several labels in one split: whose counts (latest, earliest, none, all).",
    "duplicates": "A text that stood before in the same split with the same label. keep: count only.",
    "leakage": "A train or valid text that also stands in a later split; the earlier row goes.",
    "window": "For dated files and a window in the recipe: days without a file, days since the newest; null: no limit.",
    "max_quarantine_share": "Above this share of refused rows the run stops.",
}


def to_yaml(draft: Draft) -> str:
    """The contract as a person would write it: what to know first, a comment per section, nothing left to guess."""
    head = [f"Drafted from {draft.rows:,} rows; read it through before use."]
    if draft.found.fields:
        fields = ", ".join(
            f"{name}: {_scalar(value)}" for name, value in draft.found.fields.items()
        )
        head.append(f"The recipe needs, under source: {fields}")
    return comments(draft, head) + contract_yaml(draft, _COMMENTS)


def comments(draft: Draft, head: Sequence[str] = ()) -> str:
    """What to know of a draft, as comments."""
    lines = [*head, *draft.told, *(f"WARNING: {line}" for line in draft.warned)]
    return "".join(map(comment, lines))


def comment(text: str) -> str:
    """A text of any characters as comment lines."""
    return (
        textwrap.fill(
            printable(text),
            110,
            initial_indent="# ",
            subsequent_indent="#   ",
            break_long_words=False,
        )
        + "\n"
    )


def contract_yaml(draft: Draft, sections: dict[str, str], *, only_own: bool = False) -> str:
    """The contract's fields, with the rows of each label beside it.

    Args:
        sections: a comment for each section.
        only_own: leave out what is the default.
    """
    content: dict[str, Any] = draft.contract.model_dump(mode="json", exclude_defaults=only_own)
    lines = []
    for key, value in content.items():
        if key in sections:
            lines.append(f"\n# {sections[key]}")
        if key == "labels" and value.get("values"):
            rest = {name: one for name, one in value.items() if name != "values"}
            lines += ["labels:", "  values:", *_label_lines(value["values"], draft)]
            lines += [f"  {line}" for line in _dump(rest).splitlines()] if rest else []
            continue
        lines.append(_dump({key: value}).rstrip())
    return "\n".join(lines) + "\n"


def _label_lines(values: Sequence[str], draft: Draft) -> list[str]:
    shown = [f"    - {_scalar(value)}" for value in values]
    width = max(map(len, shown))
    return [
        f"{line:<{min(width, 60)}}  # {draft.counts[value]:,} rows, {draft.counts[value] / draft.rows:.1%}"
        for line, value in zip(shown, values, strict=True)
    ]


def _dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=110)


def _scalar(value: str) -> str:
    """One line that YAML reads as this text: `"yes"`, `'010'`, billing."""
    style = None if value.isprintable() and value == value.strip() else '"'
    text = yaml.safe_dump(
        value, allow_unicode=value.isprintable(), width=math.inf, default_style=style
    )
    return text.removesuffix("\n").removesuffix("\n...")
