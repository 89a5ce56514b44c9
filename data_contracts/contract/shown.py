"""Cells, shares and counts as a person reads them."""

from __future__ import annotations

import unicodedata


def shown_cell(value: str | None, length: int = 60) -> str:
    """A cell in quotes, shortened, what a terminal or a reader's eye would swallow as an escape."""
    if value is None:
        return "null"
    plain = "".join(_shown_character(character) for character in value[:length])
    return f"'{plain}'" + (f"… ({len(value):,} characters)" if len(value) > length else "")


def _shown_character(character: str) -> str:
    if character == " " or unicodedata.category(character)[0] not in "CZ":
        return character
    return character.encode("unicode_escape").decode()


def shown_share(share: float | None) -> str:
    return f"{(share or 0) * 100:.3g} %"


def shown_count(count: float | None) -> str:
    return f"{int(count or 0):,}"


def shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
