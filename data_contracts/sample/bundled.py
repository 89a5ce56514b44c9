"""The bundled samples by name: what their rows follow from, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.sample import generator, helpdesk, passages, phrases, stories

if TYPE_CHECKING:
    from data_contracts.recipe.source import SampleSource

# By name: what the rows follow from, and how so many of them are written with a seed.
_OTHERS = {
    "stories": (stories.made_by, stories.write_stories),
    "phrases": (phrases.made_by, phrases.write_phrases),
    "passages": (passages.made_by, passages.write_passages),
    "helpdesk": (helpdesk.made_by, helpdesk.write_helpdesk),
}


def made_of(source: SampleSource) -> tuple[Any, ...]:
    """All that the rows follow from: the code and grammars of the sample, and its options."""
    if source.data in _OTHERS:
        made_by, _ = _OTHERS[source.data]
        return made_by(), source.rows, source.seed
    return generator.made_by(), source.rows, source.seed, source.classes


def write(source: SampleSource, path: Path) -> int:
    """Write the sample as Parquet and return its number of rows."""
    if source.data in _OTHERS:
        _, write_rows = _OTHERS[source.data]
        return write_rows(path, source.rows, source.seed)
    return generator.write_sample(path, source.rows, source.seed, source.classes)
