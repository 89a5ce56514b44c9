"""The registry's aliases `champion`, `previous`, `challenger`, and the ledger of their moves.

The ledger stands twice. In the registry each move is a tag of its own on the registered model, so
that every machine sees the moves of all and two of them at once lose neither line; `ledger.jsonl`
in the state folder is this machine's part, which outlives the registry's database.

# Note [order of moves]
`previous` first, then `champion` in one call that replaces the old value, then the tidying. A crash
between any two leaves a champion in place, and the next attempt goes through the same moves again.
A ledger line is written before its move is made: a line without its move is followed by the same
line again, a move without a line cannot be.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.artifacts.store import digest_of
from tasks.tracking.runs import user_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
WITHDRAWN = "noisefold.withdrawn"
_LINE = "mlflow.noisefold.ledger."  # MLflow's pages hide it; they show the table of `registry_page`
_WHY_LIMIT = 3000  # a tag's value holds 5,000 characters, and the line has other fields
By = Literal["retrain", "promote", "rollback"]


class Move(BaseModel):
    """A line of the ledger: an alias that went from one version to another."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")
    when: str = Field(description="UTC, ISO 8601, in milliseconds.")
    who: str = Field(description="User name of the process.")
    by: By = Field(description="What moved it: a retrain, or the command promote or rollback.")
    model: str
    alias: str
    before: str | None = Field(validation_alias="from", serialization_alias="from")
    after: str | None = Field(
        validation_alias="to",
        serialization_alias="to",
        description="Null: the alias was taken away.",
    )
    why: str
    run_id: str | None = Field(
        description="MLflow run with the evidence; null where there is none."
    )


class Aliases:
    """The aliases of one registered model, as moved by `by`."""

    def __init__(
        self,
        client: MlflowClient,
        name: str,
        ledger: Path,
        by: By = "retrain",
        run_id: str | None = None,
    ) -> None:
        self.client, self.name, self.ledger = client, name, Path(ledger)
        self.by: By = by
        self.run_id = run_id

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process of this machine decides about these aliases meanwhile: each decision
        sees the one before.
        """
        locks = self.ledger.parent / "work" / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"aliases-{digest_of(self.name)}.lock"):
            yield

    def current(self) -> dict[str, str]:
        """Version by alias, as the registry has it now."""
        aliases = self.client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in aliases.items()}

    def history(self) -> list[Move]:
        """Every move, the oldest first. A tag that is no line of a ledger is passed over."""
        tags = self.client.get_registered_model(self.name).tags
        moves = []
        for key in sorted(key for key in tags if key.startswith(_LINE)):
            try:
                moves.append(Move.model_validate_json(tags[key]))
            except ValidationError:
                continue
        return moves

    def crown(self, version: str, champion: str | None, why: str) -> bool:
        """Make `version` the champion. See Note [order of moves].

        Returns:
            False where another machine has done so meanwhile.
        """
        if champion is not None:
            self.move(PREVIOUS, champion, f"Version {version} takes its place.")
        moved = self.move(CHAMPION, version, why)
        self.settle_champion(version)
        return moved

    def settle_champion(self, version: str) -> None:
        """A champion and versions older than it are no challengers."""
        challenger = self.current().get(CHALLENGER)
        if challenger is not None and int(challenger) <= int(version):
            self.move(CHALLENGER, None, f"Version {version} is champion.")

    def keep_challenger(self, version: str, champion: str | None, why: str) -> None:
        """A version that was not promoted and is newer than the champion stays in view as
        `challenger`.
        """
        if champion is None or int(version) > int(champion):
            self.move(CHALLENGER, version, why)

    def move(self, alias: str, version: str | None, why: str) -> bool:
        """Point the alias at a version, or take it away; nothing happens, and it is False, where it
        is so already.
        """
        before = self.current().get(alias)
        if before == version:
            return False
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        move = Move(
            when=when,
            who=user_name(),
            by=self.by,
            model=self.name,
            alias=alias,
            before=before,
            after=version,
            why=why[:_WHY_LIMIT],
            run_id=self.run_id,
        )
        line = move.model_dump(by_alias=True)
        append_line(self.ledger, line)
        # Keys sort by time; the rest of the key keeps two moves of one instant apart.
        digits = when.replace(":", "").replace(".", "").replace("+", "")
        key = f"{_LINE}{digits}-{uuid.uuid4().hex[:6]}"
        self.client.set_registered_model_tag(self.name, key, json.dumps(line, ensure_ascii=False))
        if version is None:
            self.client.delete_registered_model_alias(self.name, alias)
        else:
            self._point(alias, version)
        return True

    def _point(self, alias: str, version: str) -> None:
        """MLflow looks for an alias and then inserts it: of two machines that make a new one at
        once, one fails at the other's row, and finds it the next time.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.client.set_registered_model_alias(self.name, alias, version)
        except MlflowException:
            self.client.set_registered_model_alias(self.name, alias, version)

    def withdraw(self, version: str, why: str) -> None:
        """No retrain makes this version champion again; a person may (`reinstate`)."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        self.client.set_model_version_tag(
            self.name, version, WITHDRAWN, f"{when} by {user_name()}: {why}"[:_WHY_LIMIT]
        )

    def withdrawn(self, version: str) -> str | None:
        """When, by whom and why the version was rolled back; None where it was not."""
        return self.client.get_model_version(self.name, version).tags.get(WITHDRAWN)

    def reinstate(self, version: str) -> None:
        if self.withdrawn(version) is not None:
            self.client.delete_model_version_tag(self.name, version, WITHDRAWN)


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """One JSON line, in one write, on disk when this returns. What a crash cut short stays a line
    of its own.
    """
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
