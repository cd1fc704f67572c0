"""Counts attempts in the database, so that all server processes share one limit."""

from __future__ import annotations

import hashlib
import math

from django.db import connection

from apps.accounts.errors import TooMany

# One statement creates the row of a key, counts it up, or restarts it after its window.
_COUNT = """
INSERT INTO accounts_throttle AS t (key, count, since) VALUES (%(key)s, 1, clock_timestamp())
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN t.since + %(window)s * interval '1 second' <= clock_timestamp() THEN 1
        ELSE t.count + 1 END,
    since = CASE WHEN t.since + %(window)s * interval '1 second' <= clock_timestamp()
                 THEN clock_timestamp() ELSE t.since END
RETURNING count, extract(epoch FROM since + %(window)s * interval '1 second' - clock_timestamp())
"""


def throttle_key(scope: str, subject: str) -> str:
    """A key that does not reveal its subject."""
    return f"{scope}:{hashlib.sha256(subject.encode('utf-8', 'replace')).hexdigest()}"


def spend(key: str, *, limit: int, window_s: int) -> None:
    """Count one attempt. Raises TooMany after more than `limit` within `window_s` seconds."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"key": key, "window": window_s})
        count, left_s = cursor.fetchone()
    if count > limit:
        raise TooMany(max(1, math.ceil(left_s)))


def give_back(key: str) -> None:
    """Take one attempt back, because it was no guess."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_throttle SET count = greatest(count - 1, 0) WHERE key = %s", [key]
        )


def forget_old(hours: int = 24) -> int:
    """Remove counters not used for `hours` hours; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM accounts_throttle WHERE since < clock_timestamp() - %s * interval '1"
            " hour'",
            [hours],
        )
        return int(cursor.rowcount)
