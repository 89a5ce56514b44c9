"""The bundled samples by name: what their rows follow from, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.sample import generator, phrases, stories

if TYPE_CHECKING:
    from data_contracts.recipe.source import SampleSource


def made_of(source: SampleSource) -> tuple[Any, ...]:
    """All that the rows follow from: the code and grammars of the sample, and its options."""
    if source.data == "stories":
        return stories.made_by(), source.rows, source.seed
    if source.data == "phrases":
        return phrases.made_by(), source.rows, source.seed
    return generator.made_by(), source.rows, source.seed, source.classes


def write(source: SampleSource, path: Path) -> int:
    """Write the sample as Parquet and return its number of rows."""
    if source.data == "stories":
        return stories.write_stories(path, source.rows, source.seed)
    if source.data == "phrases":
        return phrases.write_phrases(path, source.rows, source.seed)
    return generator.write_sample(path, source.rows, source.seed, source.classes)
