"""What an operator does between the nights, in a terminal: put in order what died, and see whether all is well."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from data_contracts.errors import printable_json
from flows.environment import embed
from flows.terminal import check_prefect, quiet, safe, writable_home
from tasks.settings import Settings


@contextmanager
def prefect_at_hand(settings: Settings) -> Iterator[bool]:
    """Prefect's server of this state: the given one, the UI's, or a temporary one; False where none has ever run.

    Raises:
        ServiceUnavailable: PREFECT_API_URL is set and does not answer.
    """
    mode = embed(settings)
    check_prefect(mode)
    if mode == "temporary":
        if not has_database(settings):
            yield False
            return
        from flows import temporary_server

        temporary_server.start()
    yield True


def has_database(settings: Settings) -> bool:
    """Whether a temporary Prefect server of this state has something to tell."""
    home = Path(os.environ.get("PREFECT_HOME", settings.root / "prefect"))
    return "PREFECT_API_DATABASE_CONNECTION_URL" in os.environ or (home / "prefect.db").exists()


def reconcile_in_terminal(*, dry_run: bool, as_json: bool) -> None:
    """Close what died and say so, a line each."""
    settings, console = Settings(), Console(highlight=False)
    with writable_home(settings), quiet(False), prefect_at_hand(settings) as prefect:
        from tasks.reconcile import reconcile

        found = reconcile(settings, prefect=prefect, dry_run=dry_run)
    if as_json:
        print(printable_json(json.dumps(asdict(found), ensure_ascii=False)))
        return
    for line in found.lines:
        console.print(safe(line), soft_wrap=True)
