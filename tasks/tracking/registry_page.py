"""What MLflow's page of a registered model says: who is champion, every move of it, and of each
version its outcome in the first words.

All of it is drawn from the aliases, the ledger and the versions' own tags, and drawn anew after
each decision: a page that a crash left behind is right again after the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tasks.reports.readable import fit, markdown, markdown_table, shorten
from tasks.tracking.aliases import CHAMPION, WITHDRAWN, Aliases, Move
from tasks.tracking.bookkeeping import OUTCOME, lineage_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LIMIT = 5000  # characters of a description, by the registry's own tables
WHOLE_CARD = "The whole card is the model's artifact model_card."
_OLDER = "Older moves: `noisefold history --limit 0`."
_WHY = 240  # characters of a reason in the table
_MOVES = 30


def show(aliases: Aliases, versions: Iterable[str | None], words: str = "") -> None:
    """Write the descriptions of the model and of these versions anew.

    Args:
        words: what the model is, in a sentence; the one that is there stays where none is given.
    """
    client, name = aliases.client, aliases.name
    moves, now = aliases.history(), aliases.current()
    model = client.get_registered_model(name)
    about = words or (model.description or "").partition("\n\n")[0]
    text = fit_moves(about, now, moves)
    if text != model.description:
        client.update_registered_model(name, text)
    for version in dict.fromkeys(one for one in versions if one is not None):
        found = client.get_model_version(name, version)
        described = described_version(found, now, moves)
        if described != found.description:
            client.update_model_version(name, version, described)


def described_version(found: ModelVersion, now: dict[str, str], moves: list[Move]) -> str:
    """The card under a line that says what became of the version."""
    line = shorten(outcome_of(found, now, moves), 600)
    card = found.description or ""
    start = 0 if card.startswith("# ") else card.find("\n\n# ") + 2
    return fit(f"{line}\n\n{card[start:] if start != 1 else ''}".strip(), LIMIT, WHOLE_CARD)


def outcome_of(found: Any, now: dict[str, str], moves: list[Move]) -> str:
    """Champion since when, not promoted and why, rolled back, or not judged; and how good it is."""
    version, figure = str(found.version), lineage_of(found).get("headline", "")
    crowned = [m for m in moves if m.alias == CHAMPION and m.after == version]
    left = [m for m in moves if m.alias == CHAMPION and m.before == version]
    if now.get(CHAMPION) == version:
        since = f" since {_when(crowned[-1])}" if crowned else ""
        return _line(f"Champion{since}", figure)
    if WITHDRAWN in found.tags:
        return _line(f"Rolled back: {found.tags[WITHDRAWN]}", figure)
    if crowned:
        until = f" until {_when(left[-1])}" if left else ""
        return _line(f"Champion from {_when(crowned[-1])}{until}", figure)
    outcome = found.tags.get(OUTCOME, "")
    return _line(f"{outcome[:1].upper()}{outcome[1:]}" if outcome else "Not judged yet", figure)


def fit_moves(about: str, now: dict[str, str], moves: list[Move]) -> str:
    """The model's page: as many of the newest moves as there is room for."""
    champion = now.get(CHAMPION)
    first = f"**Champion: version {champion}.**" if champion else "**No version is champion.**"
    others = ", ".join(
        f"{alias} is version {v}" for alias, v in sorted(now.items()) if v != champion
    )
    head = [about, f"{first}{f' {others[:1].upper()}{others[1:]}.' if others else ''}"]
    newest = moves[::-1]
    for shown in range(min(len(newest), _MOVES), -1, -1):
        older = [_OLDER] if shown < len(newest) else []
        table = [_table(newest[:shown])] if shown else []
        text = "\n\n".join([*head, *table, *older])
        if len(text) <= LIMIT:
            return text
    return fit("\n\n".join(head), LIMIT)


def _table(moves: list[Move]) -> str:
    header = ["when (UTC)", "alias", "from", "to", "by", "why"]
    return markdown_table(
        header,
        [
            (_when(m), m.alias, m.before or "–", m.after or "–", f"{m.by}, {m.who}",
             shorten(m.why, _WHY))
            for m in moves
        ],
    )  # fmt: skip


def _line(what: str, figure: str) -> str:
    return f"{markdown(what, 500)}. {markdown(figure)}." if figure else f"{markdown(what, 500)}."


def _when(move: Move) -> str:
    return move.when[:16].replace("T", " ")
