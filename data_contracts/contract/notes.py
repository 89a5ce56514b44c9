"""Sentences on the values of a category: look-alikes, slips, rare ones, unknown ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from data_contracts.contract.rules import Role
from data_contracts.contract.shown import shown_cell
from data_contracts.tables.categories import alike_key, look_alikes, nearest

SHOWN_GROUPS = 5  # of values that look alike
RARE_SHARE = 0.0005  # share of rows, and
RARE_ROWS = 10  # rows, below which a value is named as rare


def meant(value: str | None, known: Sequence[str] | None) -> str:
    near = nearest(value, known) if value and known else None
    return f" (did you mean {shown_cell(near)}?)" if near is not None else ""


def of_category(
    role: Role, rows: Counter[str], unknown: Counter[str], known: Sequence[str] | None
) -> list[str]:
    """What to know of a category: values that look alike, and unknown ones that are near a known.

    Args:
        rows: per value, of the kept rows.
        unknown: rows per value, of those that were refused for it.
    """
    told = []
    for group in look_alikes(rows)[:SHOWN_GROUPS]:
        named = ", ".join(f"{shown_cell(value)} ({rows[value]:,} rows)" for value in group[:10])
        told.append(
            f"{role.plural.capitalize()} that differ in writing alone: {named}. If they are one, "
            "mend the source."
        )
    for value, count in sorted(unknown.items(), key=lambda item: (-item[1], item[0])):
        if near := meant(value, known):
            told.append(f"{count:,} rows have the unknown {role.name} {shown_cell(value)}{near}.")
    return told


def spelled_alike(counts: Counter[str], role: Role) -> list[str]:
    """Values that differ in writing alone, and rare ones a letter away from a common one."""
    said = []
    if alike := look_alikes(counts):
        groups = [sorted(group, key=lambda one: (-counts[one], one)) for group in alike[:10]]
        shown = "; ".join(
            " = ".join(f"{one!r} ({counts[one]:,} rows)" for one in group) for group in groups
        )
        said.append(
            f"{role.plural.capitalize()} that differ in case, width, white space or punctuation "
            f"alone are classes of their own: {shown}. If they are one {role.name}, write it one "
            "way in the source."
        )
    slips = [(one, _slip_of(one, counts)) for one in sorted(counts)]
    slips = [(one, other) for one, other in slips if other is not None]
    if slips:
        shown = "; ".join(
            f"{one!r} ({counts[one]:,}) beside {other!r} ({counts[other]:,})"
            for one, other in slips[:10]
        )
        said.append(
            f"Rare {role.plural} a letter away from a common one: {shown}. Slips are mended in the "
            "source."
        )
    return said


def _slip_of(value: str, counts: Counter[str]) -> str | None:
    """A value at least fifty times as common, that one edit of a letter makes of this one."""
    if len(value) < 4 or not any(c.isalpha() for c in value) or len(counts) > 2_000:
        return None
    key = alike_key(value)
    common = sorted(other for other, count in counts.items() if count >= 50 * counts[value])
    for other in common:
        if key != alike_key(other) and _one_edit(key, alike_key(other)):
            return other
    return None


def _one_edit(one: str, other: str) -> bool:
    """Whether one letter added, lost, changed or swapped makes one of the other."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1:
        return False
    pairs = enumerate(zip(short, long, strict=False))
    start = next((at for at, (a, b) in pairs if a != b), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = long[:start] + long[start : start + 2][::-1] + long[start + 2 :]
    return short[start + 1 :] == long[start + 1 :] or short == swapped


def rare(counts: Counter[str], rows: int, role: Role) -> list[str]:
    """Values of few rows, which may lack a row in a split, or be slips: kept, and named."""
    bound = max(RARE_ROWS, RARE_SHARE * rows)
    typical = _of_the_middle_row(counts)
    few = [value for value, count in counts.items() if count < bound and 5 * count <= typical]
    few.sort(key=lambda value: (counts[value], value))
    if not few:
        return []
    shown = ", ".join(f"{one!r} ({counts[one]:,})" for one in few[:20])
    more = " …" if len(few) > 20 else ""
    return [
        f"{len(few)} of {len(counts)} {role.plural} have few rows: {shown}{more}. They are kept as "
        f"classes; one that is a slip goes out of {role.plural}.values, and its rows then to "
        "quarantine."
    ]


def _of_the_middle_row(counts: Counter[str]) -> int:
    """Rows of the value that the middle one of all rows has, by how common their values are."""
    seen = 0
    for count in sorted(counts.values()):
        seen += count
        if 2 * seen >= counts.total():
            return count
    return 0
