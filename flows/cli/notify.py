"""`noisefold notify` in the terminal: who is told when a night breaks."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from data_contracts.errors import NoisefoldError
from flows.cli.deploy import lasting_server
from flows.cli.terminal import safe
from tasks.settings import Settings


@dataclass(frozen=True)
class Told:
    """Who is to be told, and of what; nothing of it leaves what is set up as it is."""

    webhook: str | None
    to: tuple[str, ...]
    smtp: str | None
    sender: str | None
    promotions: bool


def notify_in_terminal(told: Told, *, test: bool, remove: bool) -> None:
    """Set up what is given, or take all of it away, then send a test where one is asked for.

    Raises:
        NoisefoldError: options that do not fit together, or no server.
    """
    if bool(told.to) != bool(told.smtp):
        missing, given = ("--smtp", "--email") if told.to else ("--email", "--smtp")
        raise NoisefoldError(
            f"{given} needs {missing} too.",
            "For example --email you@example.com --smtp smtp://mail.example.com:25.",
        )
    console = Console(highlight=False)
    with lasting_server(Settings()) as client:
        from tasks.operate import notify

        said: list[str] = []
        if remove:
            said += notify.remove(client)
        elif told.webhook is not None or told.smtp is not None:
            mail = notify.Mail(told.to, told.smtp, told.sender) if told.smtp is not None else None
            said += notify.set_up(client, told.webhook, mail, promotions=told.promotions)
        elif not test:
            found = notify.there(client)
            said.append(
                f"There are: {', '.join(found)}."
                if found
                else "Nobody is told: noisefold notify --webhook URL, or --email with --smtp."
            )
        for line in said:
            console.print(safe(line), soft_wrap=True)
        if test and not remove:
            for line in notify.test(client):
                console.print(safe(line), soft_wrap=True)
