"""The secrets that messages are signed with: made here, shown once, kept encrypted."""

from __future__ import annotations

import base64
import os
from datetime import datetime

from apps.subscriptions.models import Subscription
from apps.subscriptions.transitions import Due, database_now
from apps.workspaces.sealing import seal, unseal
from engine import webhooks


def make() -> tuple[str, bytes]:
    """A new secret, in clear and encrypted."""
    clear = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    return clear, seal(clear)


def usable(row: Subscription) -> tuple[datetime, list[str]]:
    """The time, and the secrets that are valid then, the newest first. Raises SealError."""
    now = database_now()
    keys = [unseal(row.sealed_secret)]
    if row.sealed_previous is not None and row.previous_until and now < row.previous_until:
        keys.append(unseal(row.sealed_previous))
    return now, keys


def signed(keys: list[str], one: Due, at: int) -> tuple[dict[str, str], bytes]:
    """The headers of a message by Standard Webhooks, and its body."""
    body, message_id = one.body.encode(), f"msg_{one.message.hex}"
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(webhooks.signed(key, message_id, at, body) for key in keys),
    }
    return headers, body
