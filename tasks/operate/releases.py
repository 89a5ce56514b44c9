"""What a person does to the aliases: put a version in as champion, go back to the one before, look
at all moves.

Both moves are checked as a retrain's are (`tasks.serving.check`), leave lines in the ledger, and
may be repeated: a second rollback in the same fright does not bring back what the first one took
out.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_contracts.errors import NoisefoldError
from tasks.serving.check import Unservable, check_served, predictions_of
from tasks.settings import Settings
from tasks.tracking.aliases import CHAMPION, PREVIOUS, Aliases, By, Move
from tasks.tracking.registry_page import show
from tasks.tracking.runs import connect
from tasks.tracking.versions import GONE, find_version, model_names, no_such_model

if TYPE_CHECKING:
    from mlflow import MlflowClient

_HISTORY = "`noisefold history --model {name}` shows the versions that were champion."


@dataclass(frozen=True)
class Released:
    """Who is champion now, who was, and what was done."""

    champion: str
    before: str | None
    moved: bool
    note: str


@dataclass(frozen=True)
class History:
    """Version by alias, and every move, the oldest first."""

    aliases: dict[str, str]
    moves: list[Move]


def history(settings: Settings, name: str) -> History:
    """Raises NoisefoldError where the registry has no such model."""
    aliases = open_aliases(settings, name)
    return History(aliases.current(), aliases.history())


def promote_version(
    settings: Settings, name: str, version: str, why: str, *, checked: bool = True
) -> Released:
    """Make a version champion because a person says so; a version that was rolled back is
    reinstated.

    Args:
        version: a number, or an alias such as challenger.
        checked: False lets a version pass that does not serve as it was measured, or cannot be
            checked.
    Raises:
        NoisefoldError: no such model or version, or it does not serve.
    """
    aliases = open_aliases(settings, name, "promote")
    with aliases.alone():
        found = find_version(aliases.client, name, version)
        champion = aliases.current().get(CHAMPION)
        if champion is not None and champion == str(found.version):
            aliases.reinstate(champion)
            return Released(
                champion, champion, False, f"Version {champion} is the champion already."
            )
        note = must_serve(aliases.client, found, checked)
        aliases.run_id = found.run_id or None
        aliases.reinstate(str(found.version))
        moved = aliases.crown(str(found.version), champion, f"{why} ({note})")
        show(aliases, [str(found.version), champion])
        return Released(str(found.version), champion, moved, note)


def rollback(settings: Settings, name: str, why: str, *, checked: bool = True) -> Released:
    """Make the previous champion champion again; no retrain brings back the one that goes, until a
    person does.

    Order: the version that goes is marked, then the alias `champion` moves in one call, then
    `previous` is taken away. After a crash in between the same command ends what was begun.
    Raises:
        NoisefoldError: there is no such model or nothing to go back to, or the previous champion
            does not serve.
    """
    aliases = open_aliases(settings, name, "rollback")
    with aliases.alone():
        now = aliases.current()
        champion, previous = now.get(CHAMPION), now.get(PREVIOUS)
        # An attempt that died before its last move.
        if champion is not None and previous == champion:
            aliases.move(PREVIOUS, None, f"Version {champion} is champion again.")
            return Released(champion, champion, False, "The rollback that was begun is done.")
        if previous is None:
            moves = [move for move in aliases.history() if move.alias == CHAMPION]
            if champion is not None and moves and moves[-1].by == "rollback":
                last = moves[-1]
                text = (
                    f"Version {champion} is champion since the rollback from {last.before} at "
                    f"{last.when}."
                )
                return Released(champion, champion, False, text)
            raise NoisefoldError(
                f"{name} has no previous champion to go back to.",
                "`noisefold promote VERSION --why …` makes any version champion. "
                + _HISTORY.format(name=name),
            )
        note = must_serve(aliases.client, find_version(aliases.client, name, previous), checked)
        if champion is not None:
            aliases.withdraw(champion, why)
        aliases.move(CHAMPION, previous, f"{why} ({note})")
        aliases.move(PREVIOUS, None, f"Version {previous} is champion again.")
        show(aliases, [previous, champion])
        return Released(previous, champion, True, note)


def open_aliases(settings: Settings, name: str, by: By = "retrain") -> Aliases:
    from mlflow.exceptions import MlflowException

    client, _ = connect(settings)
    aliases = Aliases(client, name, settings.ledger, by)
    try:
        aliases.current()
    except MlflowException as error:
        if error.error_code not in GONE:
            raise
        raise no_such_model(name, model_names(client)) from error
    return aliases


def must_serve(client: MlflowClient, found: Any, checked: bool) -> str:
    """What the check says, for the ledger.

    Raises:
        NoisefoldError: it fails, and nobody asked for it to be passed over.
    """
    if not checked:
        return "unchecked"
    name, version = found.name, str(found.version)
    try:
        with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
            rows = check_served(client, name, version, predictions_of(client, found, scratch)).rows
    except Unservable as error:
        raise NoisefoldError(
            f"{name} version {version} does not serve: {error}.",
            "No alias was moved. --unchecked moves it all the same. " + _HISTORY.format(name=name),
        ) from error
    return f"a fresh process gives {rows:,} rows the probabilities of its evaluation"
