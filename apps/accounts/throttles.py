"""Counts attempts in the database, so that all server processes share one limit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address, ip_network

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
_COUNTED = """
SELECT key, count FROM accounts_throttle
 WHERE key = ANY(%(keys)s) AND since + %(window)s * interval '1 second' > clock_timestamp()
"""

_KEEP = """
INSERT INTO accounts_throttle AS t (key, count, since) VALUES (%(key)s, 1, clock_timestamp())
ON CONFLICT (key) DO UPDATE SET count = t.count + 1, since = excluded.since
"""
KNOWN, KNOWN_DAYS = "login-known", 30


def throttle_key(scope: str, subject: str) -> str:
    """A key that does not reveal its subject."""
    return f"{scope}:{hashlib.sha256(subject.encode('utf-8', 'replace')).hexdigest()}"


def spend(key: str, *, limit: int, window_s: int) -> None:
    """Count one attempt. Raises TooMany after more than `limit` within `window_s` seconds."""
    if (wait_s := count(key, limit=limit, window_s=window_s)) is not None:
        raise TooMany(wait_s)


def count(key: str, *, limit: int, window_s: int) -> int | None:
    """Count one attempt; the seconds until the window ends if it was one more than `limit`."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"key": key, "window": window_s})
        found, left_s = cursor.fetchone()
    return max(1, math.ceil(left_s)) if found > limit else None


def spent(limits: Mapping[str, int], *, window_s: int) -> set[str]:
    """The keys whose next attempt would be more than their limit."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED, {"keys": list(limits), "window": window_s})
        return {key for key, found in cursor.fetchall() if found >= limits[key]}


def remember(subject: str, place: str) -> None:
    """That somebody at this address had the right password of this account."""
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, {"key": throttle_key(KNOWN, f"{subject} {place}")})


def is_known(subject: str, place: str) -> bool:
    """Whether somebody had it within the last 30 days."""
    key = throttle_key(KNOWN, f"{subject} {place}")
    return bool(spent({key: 1}, window_s=KNOWN_DAYS * 86_400))


def address_range(address: str) -> str:
    """What one caller has: an IPv4 address, or the 64 bits of an IPv6 network."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv4Address):
        return str(known)
    return str(known.ipv4_mapped or ip_network((int(known), 64), strict=False))


def forget_old(hours: int = 24) -> int:
    """Remove counters not used for `hours` hours, and addresses not signed in from for 30 days;
    returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM accounts_throttle WHERE since < clock_timestamp() - interval '1 hour'"
            " * CASE WHEN key LIKE %s THEN %s ELSE %s END",
            [f"{KNOWN}:%", KNOWN_DAYS * 24, hours],
        )
        return int(cursor.rowcount)
