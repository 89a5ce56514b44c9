"""A registry that goes away in the middle of a move."""

from __future__ import annotations

from typing import Any

import pytest


def gone_after(patch: pytest.MonkeyPatch, client: Any, moves: int) -> None:
    """The registry answers `moves` moves of an alias, by this client (or class of clients), and
    none after them.
    """
    done: list[tuple[Any, ...]] = []

    def counted(real: Any) -> Any:
        def call(*arguments: Any) -> None:
            if len(done) == moves:
                raise ConnectionError("gone")
            done.append(arguments)
            real(*arguments)

        return call

    for name in ("set_registered_model_alias", "delete_registered_model_alias"):
        patch.setattr(client, name, counted(getattr(client, name)))
