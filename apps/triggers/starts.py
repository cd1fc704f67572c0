"""Starts that a caller may repeat: the same key brings the same job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one, retried
from engine.errors import Conflict, InputError

LONGEST_KEY = 255
KEPT_H = 24
FORGET = """
DELETE FROM triggers_startkey WHERE owner = %(owner)s AND key = %(key)s
    AND created_at < clock_timestamp() - make_interval(hours => %(hours)s)
"""
TAKE = """
INSERT INTO triggers_startkey (owner, key, content, created_at)
VALUES (%(owner)s, %(key)s, %(content)s, clock_timestamp()) ON CONFLICT DO NOTHING RETURNING id
"""
KNOWN = "SELECT content, job_id FROM triggers_startkey WHERE owner = %(owner)s AND key = %(key)s"


@retried
def start_once(
    owner: str, key: str, asked: Mapping[str, Any], start: Callable[[], UUID]
) -> tuple[UUID, bool]:
    """The job of this key, and whether it existed before. `owner`: whose key it is. A repeat that
    comes at the same time waits for the first. Raises InputError for an impossible key, Conflict if
    the key was used for something else within 24 hours."""
    if not key.isascii() or not key.isprintable() or not 1 <= len(key) <= LONGEST_KEY:
        text = f"Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters"
        raise InputError({"Idempotency-Key": text})
    params = {
        "owner": _digest(owner),
        "key": _digest(key),
        "content": _digest(json.dumps(asked, sort_keys=True, default=str)),
        "hours": KEPT_H,
    }
    fetch(FORGET, params)
    row = fetch_one(TAKE, params)
    if row is None:
        return _known(params), True
    job_id = start()
    fetch("UPDATE triggers_startkey SET job_id = %s WHERE id = %s", (job_id, row[0]))
    return job_id, False


def _known(params: Mapping[str, Any]) -> UUID:
    found = fetch_one(KNOWN, dict(params))
    if found is None or found[1] is None:
        raise Conflict("the start with this Idempotency-Key was taken back; send it again")
    content, job_id = found
    if content != params["content"]:
        raise Conflict("this Idempotency-Key was used for a start with another body")
    known: UUID = job_id
    return known


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
