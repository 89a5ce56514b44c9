"""What the rules of a pair look at, measured of each row; null where a side is blank."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract.scripts import COMMON, script_of, written_with
from data_contracts.contract.text import normalise


def scripts(texts: pa.ChunkedArray) -> pa.Array:
    """The script of each text."""
    found = [None if text is None else script_of(text) for text in texts.to_pylist()]
    return pa.array(found, pa.string())


def swapped(
    sources: pa.Array | pa.ChunkedArray,
    targets: pa.Array | pa.ChunkedArray,
    wanted: tuple[str, str],
) -> pa.Array:
    """1 where each side is in the script of the other, by the scripts that `scripts` found.

    Args:
        wanted: the script of the sources, and that of the targets.
    """
    of_source, of_target = (set(written_with(script)) for script in wanted)
    found = []
    for one, other in zip(sources.to_pylist(), targets.to_pylist(), strict=True):
        right = one in of_source and other in of_target
        crossed = one in of_target - {COMMON} and other in of_source - {COMMON}
        found.append(int(crossed and not right))
    return pa.array(found, pa.int8())


def identical(sources: pa.ChunkedArray, targets: pa.ChunkedArray) -> pa.Array:
    """1 where the target is the source but for how it is written."""
    found: list[int | None] = []
    for one, other in zip(sources.to_pylist(), targets.to_pylist(), strict=True):
        source = normalise(one or "")
        found.append(int(source == normalise(other or "")) if source else None)
    return pa.array(found, pa.int8())


def length_ratio(sources: pa.ChunkedArray, targets: pa.ChunkedArray, short: int) -> pa.Array:
    """Characters of the longer side over those of the shorter one.

    Args:
        short: null where the longer side has at most so many.
    """
    lengths = [_visible(side) for side in (sources, targets)]
    longer = pc.max_element_wise(*lengths, skip_nulls=False)
    shorter = pc.min_element_wise(*lengths, skip_nulls=False)
    ratio = pc.divide(longer.cast(pa.float64()), shorter.cast(pa.float64()))
    return pc.if_else(pc.greater(longer, short), ratio, None)


def _visible(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Characters without the white space around; null for a blank text."""
    lengths = pc.utf8_length(pc.utf8_trim_whitespace(texts))
    return pc.if_else(pc.equal(lengths, 0), None, lengths)
