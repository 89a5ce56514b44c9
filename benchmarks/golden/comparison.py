"""Results beside the committed ones: every bit the same, the same but for rounding, or others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.golden.results import Results

# With AVX2 in the place of AVX512 no figure of three recipes moved by more than 2e-6. One test row
# that gets another label moves the accuracy by 0.0025 or more, so that is never taken for rounding.
TOLERANCE = 0.001
SHOWN = 3  # names in a line; the rest is counted


@dataclass(frozen=True)
class Comparison:
    """same: every bit. rounding: bits differ, every figure is within `TOLERANCE`. differs: else."""

    verdict: Literal["same", "rounding", "differs"]
    lines: tuple[str, ...] = ()


def compare(golden: Results, found: Results) -> Comparison:
    """What of `found` is not as in `golden`, in words."""
    figures = figure_lines(golden["figures"], found["figures"])
    form = fact_lines(golden["facts"], found["facts"])
    form += shape_lines(golden["tensors"], found["tensors"])
    if golden["predictions"]["rows"] != found["predictions"]["rows"]:
        form.append("predictions: of other rows, or in another order")
    bits = bit_lines(golden, found)
    if not (figures or form or bits):
        return Comparison("same")
    near = largest_change(golden["figures"], found["figures"]) <= TOLERANCE
    return Comparison("rounding" if near and not form else "differs", (*figures, *form, *bits))


def figure_lines(golden: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """The figures that changed most and by how much; how many did; those on one side alone."""
    changes = {name: found[name] - golden[name] for name in golden.keys() & found.keys()}
    changed = [name for name in changes if changes[name] != 0]
    changed.sort(key=lambda name: (-abs(changes[name]), name))
    most = [(name, golden[name], found[name], changes[name]) for name in changed[:SHOWN]]
    lines = [f"{name} {old:.6g} → {new:.6g} ({change:+.3g})" for name, old, new, change in most]
    if len(changed) > SHOWN:
        lines.append(f"{len(changed)} of {len(changes)} figures changed, the others by less")
    return lines + one_sided("figure", golden, found)


def fact_lines(golden: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    changed = sorted(n for n in golden.keys() & found.keys() if golden[n] != found[n])
    lines = [f"{name} {short(golden[name])} → {short(found[name])}" for name in changed]
    return lines + one_sided("fact", golden, found)


def shape_lines(golden: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Tensors of another type or shape, or that only one side has."""
    before, after = without_digest(golden), without_digest(found)
    changed = sorted(n for n in before.keys() & after.keys() if before[n] != after[n])
    lines = [f"tensor {name} {before[name]} → {after[name]}" for name in changed]
    return lines + one_sided("tensor", golden, found)


def without_digest(tensors: Mapping[str, str]) -> dict[str, str]:
    return {name: what.rpartition(" ")[0] for name, what in tensors.items()}


def bit_lines(golden: Results, found: Results) -> list[str]:
    """What has other bytes: tensors, predicted labels, probabilities."""
    before, after = golden["tensors"], found["tensors"]
    both = before.keys() & after.keys()
    changed = sorted(name for name in both if before[name] != after[name])
    lines = []
    if changed:
        count = f"{len(changed)} of {len(both)} tensors have other bytes"
        lines.append(f"{count}: {listed(changed)}")
    for what in ("labels", "probabilities"):
        if golden["predictions"][what] != found["predictions"][what]:
            lines.append(f"predictions: other {what}")
    return lines


def largest_change(golden: Mapping[str, float], found: Mapping[str, float]) -> float:
    """Infinite where a figure is on one side alone."""
    if golden.keys() != found.keys():
        return float("inf")
    return max((abs(found[name] - golden[name]) for name in golden), default=0.0)


def one_sided(what: str, golden: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """A line for the names that were lost, and one for those that are new."""
    lost, new = sorted(golden.keys() - found.keys()), sorted(found.keys() - golden.keys())
    sides = (("gone", lost), ("new", new))
    return [f"{what} {how}: {listed(names)}" for how, names in sides if names]


def listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def short(value: object) -> str:
    """A digest is told from another by its beginning."""
    text = str(value)
    return text[:12] if len(text) == 64 else text
