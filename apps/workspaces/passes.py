"""Passes, with which a pod fetches the files of one revision while one attempt is alive.

A pass is signed, not stored: workers issue passes without a round trip, with keys shared with the
server, and with the `worker_token` if there is one. The server checks in the database, each time,
whether the attempt is still alive.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

from django.conf import settings

_FORM = re.compile(r"strp_(\d{1,19})\.(\d{1,10})\.([0-9a-f]{16,64})\.([A-Za-z0-9_-]{43})", re.ASCII)
LONGEST = 200


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass grants."""

    attempt_id: int
    fence: int
    digest: str


def issue(attempt_id: int, fence: int, digest: str, token: str | None = None) -> str:
    """The pass of this attempt for the revision with this digest. A secret until the attempt
    ends. `token`: the worker's own `worker_token`, if it differs from the settings'."""
    key = _key(settings.STROEM_KEYS[0], token or settings.STROEM.worker_token)
    signature = _sign(key, attempt_id, fence, digest)
    return f"strp_{attempt_id}.{fence}.{digest}.{signature}"


def read(text: str) -> Pass | None:
    """What `text` grants; None unless it was signed with one of our keys and our `worker_token`."""
    found = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        return None
    attempt_id, fence, digest = int(found[1]), int(found[2]), found[3]
    given, token = found[4].encode(), settings.STROEM.worker_token
    # Always try every key, so that timing reveals nothing.
    fits = [
        hmac.compare_digest(given, _sign(_key(key, token), attempt_id, fence, digest).encode())
        for key in settings.STROEM_KEYS
    ]
    return Pass(attempt_id, fence, digest) if any(fits) else None


def _key(key: str, token: str | None) -> bytes:
    master = key if token is None else f"{key}\n{token}"
    return hashlib.sha256(b"stroem pass" + master.encode()).digest()


def _sign(key: bytes, attempt_id: int, fence: int, digest: str) -> str:
    mark = hmac.digest(key, f"{attempt_id}.{fence}.{digest}".encode(), "sha256")
    return base64.urlsafe_b64encode(mark).rstrip(b"=").decode()
