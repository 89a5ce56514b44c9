"""Tell somebody when a night breaks: Prefect's own notification blocks, and automations that use
them.

The server sends, so that a message comes also where the run, its worker or its machine is gone.
Addresses and passwords stand in blocks, as secrets; nothing here prints or logs them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.types import SecretDict
from pydantic import SecretStr

from data_contracts.errors import NoisefoldError
from tasks.liveness.dead_runs import FLOWS
from tasks.operate.schedules import LATE_MINUTES
from tasks.promote import PROMOTED

FAILED = "noisefold.failed"  # an event of Prefect's, which a run sends itself
WEBHOOK, EMAIL = "noisefold-webhook", "noisefold-email"
DRIFTED = "noisefold.drifted"  # of a model: new rows are no longer like those it was measured on
TROUBLE, LATE, PROMOTIONS = "noisefold-trouble", "noisefold-late", "noisefold-promotions"
DRIFT = "noisefold-drift"
PASSWORD = "NOISEFOLD_SMTP_PASSWORD"
# How Apprise, which Prefect's blocks send by, calls each kind of mail server, and its usual port.
_SECURITY = {
    "smtp": ("mailto", "insecure", 25),
    "starttls": ("mailtos", "starttls", 587),
    "smtps": ("mailtos", "ssl", 465),
}
# By the block's name. Prefect has no block for a mail server of one's own, and its block for Slack
# hands any address of Apprise's on.
_KINDS: dict[str, Any] = {WEBHOOK: CustomWebhookNotificationBlock, EMAIL: SlackWebhook}
_RECIPE = (
    "{{ flow_run.parameters.recipe.name or flow_run.parameters.recipe_file or deployment.name or "
    "flow_run.name or 'a retrain' }}"
)
_OURS = {"prefect.resource.role": "flow", "prefect.resource.name": FLOWS}
_TO_SLACK = {"text": "{{subject}}\n{{body}}"}  # and Mattermost, Google Chat, Rocket.Chat


@dataclass(frozen=True)
class Mail:
    """Where e-mail goes.

    Args:
        server: smtp://HOST, starttls://USER@HOST or smtps://USER@HOST, with a port where it is not
            the usual one.
        sender: otherwise the first of those who get it.
    """

    to: tuple[str, ...]
    server: str
    sender: str | None = None


def set_up(
    client: SyncPrefectClient,
    webhook: str | None,
    mail: Mail | None,
    *,
    promotions: bool,
    late_minutes: float = LATE_MINUTES,
) -> list[str]:
    """Make the blocks that are given and the automations that use all that there are, or bring
    them up to date. Safe to repeat.

    Returns:
        What there is now, a sentence each.
    Raises:
        NoisefoldError: an address that cannot be one.
    """
    if webhook is not None:
        _webhook(webhook).save(WEBHOOK, overwrite=True)
    if mail is not None:
        SlackWebhook(url=SecretStr(_mail_url(mail))).save(EMAIL, overwrite=True)
    ways = [way for way in _KINDS if _document(client, way) is not None]
    ids = [str(_document(client, way)) for way in ways]
    wanted = [_trouble(ids), _late(ids, late_minutes), _drift(ids)]
    wanted += [_promotions(ids)] if promotions else []
    for automation in wanted:
        put(client, automation)
    if not promotions:
        _drop(client, PROMOTIONS)
    by = " and ".join(way.removeprefix("noisefold-") for way in ways)
    what = ["runs that fail or crash", f"runs that are {late_minutes:g} minutes late"]
    what += ["rows that have drifted (noisefold monitor)"]
    what += ["new champions"] if promotions else []
    return [f"By {by} the Prefect server tells of {one}." for one in what]


def remove(client: SyncPrefectClient) -> list[str]:
    """Automations first, then blocks. Safe to repeat."""
    told = [f"Removed the automation {one}." for one in _ALL if _drop(client, one)]
    for way in _KINDS:
        if (document := _document(client, way)) is not None:
            client.request("DELETE", f"/block_documents/{document}").raise_for_status()  # type: ignore[arg-type]
            told.append(f"Removed the block {way}.")
    return told or ["Nothing to remove."]


def there(client: SyncPrefectClient) -> list[str]:
    """Names of the blocks and automations that there are."""
    blocks = [way for way in _KINDS if _document(client, way) is not None]
    return [*blocks, *(one for one in _ALL if client.read_automations_by_name(one))]


def test(client: SyncPrefectClient) -> Iterator[str]:
    """Send a message by each block, from this process.

    Raises:
        NoisefoldError: none is set up, or one is not taken; without its address.
    """
    ways = [way for way in _KINDS if _document(client, way) is not None]
    if not ways:
        raise NoisefoldError(
            "No notification is set up on this server.", "noisefold notify --webhook URL"
        )
    for way in ways:
        block = _KINDS[way].load(way)
        try:
            with block.raise_on_failure():
                block.notify(
                    subject="noisefold: a test",
                    body="Notifications of noisefold arrive here (noisefold notify --test).",
                )
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            how = f"HTTP {status}" if status else type(error).__name__
            name = way.removeprefix("noisefold-")
            raise NoisefoldError(
                f"The test message by {name} was not taken ({how}).",
                f"Look at the address and its server, and give it anew: noisefold notify --{name}.",
            ) from None
        yield f"Sent a test message by {way.removeprefix('noisefold-')}."


# --- blocks ---------------------------------------------------------------------------------------


def _webhook(url: str) -> CustomWebhookNotificationBlock:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoisefoldError(
            "--webhook is no web address.", "It begins with https://, as the service shows it."
        )
    # The whole address is a secret: of Slack's and others' it is all that protects the channel.
    return CustomWebhookNotificationBlock(
        name="noisefold",
        url="{{address}}",
        headers=None,
        cookies={},
        json_data=_TO_SLACK,
        secrets=SecretDict({"address": url}),
    )


def _mail_url(mail: Mail) -> str:
    """The address by which Apprise sends, password included."""
    parts = urlsplit(mail.server if "://" in mail.server else f"smtp://{mail.server}")
    known = _SECURITY.get(parts.scheme)
    if known is None or not parts.hostname:
        raise NoisefoldError(
            f"--smtp {parts.scheme}://…: expected a mail server.",
            "smtp://HOST:25, or starttls://USER@HOST:587, or smtps://USER@HOST:465.",
        )
    if parts.password is not None:
        raise NoisefoldError(
            "--smtp holds a password, which any list of processes shows.",
            f"Put it into the variable {PASSWORD}, and USER@ alone into --smtp.",
        )
    addresses = (*mail.to, mail.sender or mail.to[0])
    if wrong := [one for one in addresses if one.count("@") != 1 or not one.isascii()]:
        raise NoisefoldError(
            f"{wrong[0]!r} is no e-mail address that mail servers take.",
            "Give one of ASCII letters: you@example.com.",
        )
    password = os.environ.get(PASSWORD)
    if parts.username and not password:
        raise NoisefoldError(
            f"--smtp names the user {parts.username}, and {PASSWORD} holds no password.",
            f"Set {PASSWORD}; it goes into a secret block of the server and nowhere else.",
        )
    scheme, mode, port = known
    login = f"{quote(parts.username, '')}:{quote(password or '', '')}@" if parts.username else ""
    asked = {
        "smtp": parts.hostname,
        "from": mail.sender or mail.to[0],
        "to": ",".join(mail.to),
        "mode": mode,
        "format": "text",
    }
    return f"{scheme}://{login}{parts.hostname}:{parts.port or port}?{urlencode(asked)}"


def _document(client: SyncPrefectClient, way: str) -> Any:
    try:
        slug = _KINDS[way].get_block_type_slug()
        return client.read_block_document_by_name(way, slug, include_secrets=False).id
    except ObjectNotFound:
        return None


# --- automations ----------------------------------------------------------------------------------


def _of_our_runs(**own: Any) -> dict[str, Any]:
    """A trigger of events of our flows' runs, each run by itself."""
    return {
        "type": "event",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": _OURS,
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        **own,
    }


def _trouble(blocks: list[str]) -> AutomationCore:
    # Who crashed says nothing any more. See flows/running/told.py, Note [an event of our own].
    expected = [FAILED, "prefect.flow-run.Crashed"]
    trigger = _of_our_runs(posture="Reactive", expect=expected, within=0)
    subject = f"noisefold: {_RECIPE} {{{{ flow_run.state.name }}}}"
    return _automation(TROUBLE, "Tells of runs that failed.", trigger, blocks, subject, _BODY)


def _late(blocks: list[str], minutes: float) -> AutomationCore:
    """Prefect calls a run late after seconds; a person is told once nobody has started it since."""
    states = ("Pending", "Running", "Cancelled", "Cancelling", "Completed", "Failed", "Crashed")
    trigger = _of_our_runs(
        posture="Proactive",
        after=["prefect.flow-run.Late"],
        expect=[f"prefect.flow-run.{state}" for state in states],
        within=minutes * 60,
    )
    body = (
        "Due at {{ flow_run.expected_start_time }}, and nobody has started it. Is a worker of its "
        "pool up? `noisefold doctor` says what is missing.\n{{ flow_run | ui_url }}"
    )
    subject = f"noisefold: {_RECIPE} is late"
    return _automation(LATE, "Tells of runs that nobody starts.", trigger, blocks, subject, body)


def _promotions(blocks: list[str]) -> AutomationCore:
    trigger = of_model(PROMOTED, "*")
    subject = "noisefold: {{ event.payload.name }} version {{ event.payload.version }} is champion"
    body = "{{ event.payload.why }}\n{{ event.payload.run }}"
    return _automation(PROMOTIONS, "Tells of every new champion.", trigger, blocks, subject, body)


def _drift(blocks: list[str]) -> AutomationCore:
    subject = "noisefold: rows for {{ event.payload.name }} have drifted"
    body = "{{ event.payload.why }}\n{{ event.payload.run }}"
    trigger = of_model(DRIFTED, "*")
    return _automation(DRIFT, "Tells of rows that have drifted.", trigger, blocks, subject, body)


def of_model(event: str, name: str) -> dict[str, Any]:
    """A trigger of an event of a registered model's."""
    return {
        "type": "event",
        "posture": "Reactive",
        "match": {"prefect.resource.id": f"noisefold.model.{name}"},
        "expect": [event],
        "threshold": 1,
        "within": 0,
    }


_ALL = (TROUBLE, LATE, PROMOTIONS, DRIFT)
_BODY = (
    "{{ flow_run.state.name }} at {{ flow_run.state.timestamp }}, run {{ flow_run.name }}.\n"
    "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}"
)


def _automation(
    name: str, description: str, trigger: dict[str, Any], blocks: list[str], subject: str, body: str
) -> AutomationCore:
    actions = [
        {"type": "send-notification", "block_document_id": block, "subject": subject, "body": body}
        for block in blocks
    ]
    content = {"name": name, "description": description, "trigger": trigger, "actions": actions}
    return AutomationCore.model_validate(content)


def put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    known = client.read_automations_by_name(automation.name)
    if known:
        client.update_automation(known[0].id, automation)
        for twin in known[1:]:
            client.delete_automation(twin.id)
    else:
        client.create_automation(automation)


def _drop(client: SyncPrefectClient, name: str) -> bool:
    known = client.read_automations_by_name(name)
    for automation in known:
        client.delete_automation(automation.id)
    return bool(known)
