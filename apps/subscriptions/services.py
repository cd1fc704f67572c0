"""What may be done to subscriptions. Each service opens its own transaction."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from apps.audit.services import CHANGED, Changes, added, changes_of, note
from apps.subscriptions import secrets, transitions
from apps.subscriptions.models import Delivery, Subscription
from apps.subscriptions.values import EVENTS, PING, content
from apps.workspaces import services as workspaces
from apps.workspaces.models import Workspace
from engine.addresses import may_call
from engine.errors import Conflict, InputError, NotFound
from engine.lifecycle import DeliveryStatus

log = logging.getLogger("stroem.subscriptions")
MOST = 50  # subscriptions of a workspace
OVERLAP = timedelta(hours=24)
FAILING = 3  # failures in a row that are worth a word
_BAD_NAME = "name must be lower-case letters, digits, hyphens and underscores, at most 100"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,98}[a-z0-9])?")
_URL = re.compile(r"[!-~]{1,1000}")
_ADDRESS = re.compile(r"[0-9.]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody subscribes to."""

    url: str
    events: Sequence[str]
    with_output: bool = False


def create(workspace: Workspace, name: str, wanted: Wanted, *, by: str) -> tuple[Subscription, str]:
    """A new subscription and its secret, which nobody can read again. Raises InputError,
    Conflict."""
    check(name, wanted)
    clear, sealed = secrets.make()
    try:
        with transaction.atomic():
            _lock(workspace.pk)
            check_room(workspace)
            row = Subscription.objects.create(
                workspace=workspace,
                name=name,
                url=wanted.url,
                events=_sorted(wanted.events),
                with_output=wanted.with_output,
                sealed_secret=sealed,
                created_by=by,
            )
            _announce(workspace.pk)
            _note("add", row, by, _without_paths(added(**_told(row))))
    except IntegrityError:
        raise Conflict(
            f"Workspace '{workspace.name}' has a subscription '{name}' already"
        ) from None
    log.info("%s created subscription %s", by, row)
    return row, clear


def check_room(workspace: Workspace) -> None:
    """Raises Conflict."""
    if Subscription.objects.filter(workspace=workspace).count() >= MOST:
        raise Conflict(f"A workspace has {MOST} subscriptions at most; delete one first")


def change(row: Subscription, wanted: Wanted, *, is_paused: bool, by: str) -> Subscription:
    """Raises InputError. Messages that wait go to the new address."""
    check(row.name, wanted)
    with transaction.atomic():
        _lock(row.workspace_id)
        before = _told(Subscription.objects.get(pk=row.pk))
        row.url, row.events = wanted.url, _sorted(wanted.events)
        row.with_output = wanted.with_output
        if is_paused != (row.paused_at is not None):
            row.paused_at = timezone.now() if is_paused else None
            row.paused_because = ""
        if not is_paused:
            row.failures, row.last_error, row.rest_until = 0, "", None
        row.save(
            update_fields=[
                "url", "events", "with_output", "paused_at", "paused_because", "failures",
                "last_error", "rest_until",
            ]
        )  # fmt: skip
        _announce(row.workspace_id)
        _note("change", row, by, _without_paths(changes_of(before, _told(row))))
    log.info("%s changed subscription %s", by, row)
    return row


def pause(row: Subscription, *, by: str) -> Subscription:
    return change(row, _as_is(row), is_paused=True, by=by)


def resume(row: Subscription, *, by: str) -> Subscription:
    return change(row, _as_is(row), is_paused=False, by=by)


def _as_is(row: Subscription) -> Wanted:
    return Wanted(row.url, row.events, row.with_output)


def stop(row: Subscription, because: str) -> None:
    """Pause it for a reason that people are told. Called in a transaction."""
    _lock(row.workspace_id)
    Subscription.objects.filter(pk=row.pk, paused_at=None).update(
        paused_at=Now(), paused_because=because
    )
    _announce(row.workspace_id)


def remove(row: Subscription, *, by: str) -> None:
    """With its messages, those that wait too."""
    with transaction.atomic():
        _lock(row.workspace_id)
        name = str(row)
        _note("remove", row, by)
        row.delete()
        _announce(row.workspace_id)
    log.info("%s deleted subscription %s", by, name)


def rotate(row: Subscription, *, by: str) -> str:
    """A new secret, shown once. For 24 hours, messages are signed with the old one as well."""
    clear, sealed = secrets.make()
    with transaction.atomic():
        held = Subscription.objects.select_for_update(no_key=True).get(pk=row.pk)
        held.sealed_previous, held.sealed_secret = held.sealed_secret, sealed
        held.previous_until = timezone.now() + OVERLAP
        held.save(update_fields=["sealed_secret", "sealed_previous", "previous_until"])
        _note("rotate", row, by, {"secret": CHANGED})
    row.previous_until = held.previous_until
    log.info("%s rotated the secret of subscription %s", by, row)
    return clear


def ping(row: Subscription, *, by: str) -> Delivery:
    """Send a message that tells nothing. Raises Conflict if it is paused."""
    at = timezone.now().isoformat().replace("+00:00", "Z")
    data = {"workspace": row.workspace.name, "subscription": row.name, "by": by}
    body = transitions.text_of(content(PING, at, data))
    _refuse_paused(row)
    with transaction.atomic():
        _note("ping", row, by)
        return _send_soon(row, lambda: transitions.write_one(row.pk, PING, body, job=None))


def send_again(row: Subscription, delivery_id: str, *, by: str = "") -> Delivery:
    """The same message once more, as a line of its own. Raises NotFound; Conflict while it waits,
    or is paused."""
    is_number = delivery_id.isascii() and delivery_id.isdigit() and len(delivery_id) < 19
    old = row.deliveries.filter(pk=int(delivery_id)).first() if is_number else None
    if old is None:
        raise NotFound("This delivery is not kept any more")
    if old.status == DeliveryStatus.WAITING:
        raise Conflict("This message is still tried; it need not be sent again")
    _refuse_paused(row)
    with transaction.atomic():
        _note("send-again", row, by, detail=f"message {old.message}")
        return _send_soon(
            row,
            lambda: transitions.write_one(
                row.pk, old.event, old.body, job=old.job_id, message=old.message
            ),
        )


def _refuse_paused(row: Subscription) -> None:
    if row.paused_at is not None:
        raise Conflict("The subscription is paused; resume it first")


def _send_soon(row: Subscription, write: Callable[[], int]) -> Delivery:
    with transaction.atomic():
        delivery_id = write()
        Subscription.objects.filter(pk=row.pk).update(rest_until=None)
    return Delivery.objects.get(pk=delivery_id)


def _told(row: Subscription) -> dict[str, Any]:
    """What the audit log says of it."""
    is_paused = row.paused_at is not None
    return {"url": row.url, "events": row.events, "output": row.with_output, "paused": is_paused}


def _without_paths(changes: Changes) -> Changes:
    """Many receivers know their senders by a secret in the path, and the log keeps all for good."""
    if "url" not in changes:
        return changes
    hosts = {side: url and _host_of(url) for side, url in changes["url"].items()}
    return {**changes, "url": CHANGED if hosts["before"] == hosts["after"] else hosts}


def _host_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…"


def _note(
    verb: str, row: Subscription, by: str, changes: Changes | None = None, detail: str = ""
) -> None:
    where = row.workspace.name
    note(f"subscription.{verb}", row.name, by=by, workspace=where, changes=changes, detail=detail)


def state_of(row: Subscription) -> str:
    if row.paused_at is not None:
        return "paused"
    return "failing" if row.failures else "live"


def troubled() -> QuerySet[Subscription]:
    """Those that fail again and again, or that their receiver has ended."""
    rows = Subscription.objects.select_related("workspace").order_by("workspace__name", "name")
    return rows.filter(Q(failures__gte=FAILING, paused_at=None) | ~Q(paused_because=""))


def trouble_of(row: Subscription) -> str:
    if row.paused_because:
        return f"paused: {row.paused_because}"
    return f"{row.failures} tries failed in a row: {row.last_error}"


def troubles() -> Iterator[tuple[str, str]]:
    """(workspace/name, sentence), for `doctor`."""
    for row in troubled():
        yield str(row), trouble_of(row)


def _lock(workspace_id: int) -> None:
    """Changes to the subscriptions of a workspace come one after the other."""
    Workspace.objects.select_for_update(no_key=True).only("pk").get(pk=workspace_id)


def _announce(workspace_id: int) -> None:
    rows = Subscription.objects.filter(workspace_id=workspace_id, paused_at=None)
    events = {event for found in rows.values_list("events", flat=True) for event in found}
    workspaces.announce(workspace_id, events)


def _sorted(events: Iterable[str]) -> list[str]:
    return sorted(set(events), key=EVENTS.index)


def check(name: str, wanted: Wanted) -> None:
    """Raises InputError with every problem."""
    problems = {} if _NAME.fullmatch(name) else {"name": _BAD_NAME}
    unknown = [event for event in wanted.events if event not in EVENTS]
    if unknown or not wanted.events:
        begins = f"'{unknown[0][:60]}' is no event" if unknown else "events must name at least one"
        problems["events"] = f"{begins}: known are {', '.join(EVENTS)}"
    objection = objection_to(wanted.url)
    if objection:
        problems["url"] = f"url {objection}"
    if problems:
        raise InputError(problems)


def objection_to(url: str) -> str | None:
    """Why nothing may be sent to this address. Names are looked up at each sending only."""
    rules = settings.STROEM.subscriptions
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is not an address"
    if not _URL.fullmatch(url) or not host:
        return "must be an address such as https://example.org/hook, in plain ASCII"
    if parts.scheme != "https" and not (parts.scheme == "http" and rules.allow_http):
        return "must begin with https://; `subscriptions.allow_http` in the settings allows http://"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or a password; messages are signed instead"
    if parts.fragment or port == 0:
        return "must not have a fragment (#...), or the port 0"
    if _ADDRESS.fullmatch(host) and not may_call(host, rules.private_networks):
        return (
            f"names the address {host}, which is not of the public internet;"
            " `subscriptions.private_networks` in the settings does not name it"
        )
    return None
