"""The registry's aliases `champion`, `previous`, `challenger`, and the ledger of their moves.

# Note [order of moves]
`previous` first, then `champion` in one call that replaces the old value, then the tidying. A crash between any two
leaves a champion in place, and the next attempt goes through the same moves again. A ledger line is on disk before its
move is made: a line without its move is followed by the same line again, a move without a line cannot be.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.tracking import Tracker, user_name

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"


class Aliases:
    """The aliases of one registered model."""

    def __init__(self, tracker: Tracker, name: str, ledger: Path) -> None:
        self.tracker, self.name, self.ledger = tracker, name, Path(ledger)

    def current(self) -> dict[str, str]:
        """Version by alias, as the registry has it now."""
        aliases = self.tracker.client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in aliases.items()}

    def crown(self, version: str, champion: str | None, why: str) -> None:
        """Make `version` the champion. See Note [order of moves]."""
        if champion is not None:
            self.move(PREVIOUS, champion, f"Version {version} takes its place.")
        self.move(CHAMPION, version, why)
        self.settle_champion(version)

    def settle_champion(self, version: str) -> None:
        """A champion and versions older than it are no challengers."""
        challenger = self.current().get(CHALLENGER)
        if challenger is not None and int(challenger) <= int(version):
            self.move(CHALLENGER, None, f"Version {version} is champion.")

    def keep_challenger(self, version: str, champion: str | None, why: str) -> None:
        """A version that was not promoted and is newer than the champion stays in view as `challenger`."""
        if champion is None or int(version) > int(champion):
            self.move(CHALLENGER, version, why)

    def move(self, alias: str, version: str | None, why: str) -> None:
        """Point the alias at a version, or take it away; nothing happens where it is so already."""
        client, before = self.tracker.client, self.current().get(alias)
        if before == version:
            return
        entry = {"alias": alias, "from": before, "to": version, "why": why, "run_id": self.tracker.run_id}
        append_line(self.ledger, {"when": _now(), "who": user_name(), "model": self.name, **entry})
        if version is None:
            client.delete_registered_model_alias(self.name, alias)
        else:
            client.set_registered_model_alias(self.name, alias, version)


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """One JSON line, in one write, on disk when this returns. What a crash cut short stays a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size:
            stream.seek(size - 1)
        torn = size > 0 and stream.read(1) != b"\n"
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        stream.write((b"\n" if torn else b"") + line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
