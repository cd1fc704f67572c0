"""Passes, with which a pod fetches the files of one revision while one attempt is alive.

A pass is signed, not stored: workers issue passes without a round trip, with keys shared with the
server. The server checks in the database, each time, whether the attempt is still alive.
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


def issue(attempt_id: int, fence: int, digest: str) -> str:
    """The pass of this attempt for the revision with this digest. A secret until the attempt
    ends."""
    signature = _sign(settings.STROEM_KEYS[0], attempt_id, fence, digest)
    return f"strp_{attempt_id}.{fence}.{digest}.{signature}"


def read(text: str) -> Pass | None:
    """What `text` grants; None unless it was signed with one of our keys."""
    found = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        return None
    attempt_id, fence, digest = int(found[1]), int(found[2]), found[3]
    given = found[4].encode()
    # Always try every key, so that timing reveals nothing.
    fits = [
        hmac.compare_digest(given, _sign(key, attempt_id, fence, digest).encode())
        for key in settings.STROEM_KEYS
    ]
    return Pass(attempt_id, fence, digest) if any(fits) else None


def _sign(key: str, attempt_id: int, fence: int, digest: str) -> str:
    own = hashlib.sha256(b"stroem pass" + key.encode()).digest()
    mark = hmac.digest(own, f"{attempt_id}.{fence}.{digest}".encode(), "sha256")
    return base64.urlsafe_b64encode(mark).rstrip(b"=").decode()
