"""Who sent a request, and what of it may be kept: signatures, delivery ids, credentials. Pure.

Source: the signature pages of GitHub, GitLab and Stripe, and the Standard Webhooks specification.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, get_args

from engine.errors import StroemError

Verification = Literal["bearer", "github", "gitlab", "stripe", "standard", "none"]
VERIFICATIONS: tuple[Verification, ...] = get_args(Verification)
TOLERANCE_S = 300.0  # of a signed time: older requests may be replays
_IDS = ("webhook-id", "x-github-delivery", "x-gitlab-event-uuid", "idempotency-key")
_LONGEST_ID = 200
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
_MOST_SIGNATURES = 20
CREDENTIALS = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "x-api-key", "x-gitlab-token",
        "x-hub-signature", "x-hub-signature-256", "stripe-signature", "webhook-signature",
    }
)  # fmt: skip


class NotVerified(StroemError):
    """The request does not prove that its sender knows the secret."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request; names of headers in lower case."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def verify(
    kind: Verification, secret: str | None, got: Received, now: float, *, in_query: bool = False
) -> None:
    """Raises NotVerified with what is wrong. Every comparison takes the same time."""
    if kind == "none":
        return
    if not secret:
        raise NotVerified("The webhook has no secret")
    match kind:
        case "bearer":
            _check_bearer(secret, got, in_query)
        case "github":
            given = _needed(got, "x-hub-signature-256").removeprefix("sha256=")
            _compare([given], _hex(secret, got.body))
        case "gitlab":
            _compare([_needed(got, "x-gitlab-token")], secret)
        case "stripe":
            _check_stripe(secret, got, now)
        case "standard":
            _check_standard(secret, got, now)


def _check_bearer(secret: str, got: Received, in_query: bool) -> None:
    scheme, _, token = got.headers.get("authorization", "").partition(" ")
    given = [token.strip()] if scheme.lower() == "bearer" else []
    if in_query and "secret" in got.query:
        given.append(got.query["secret"])
    if not given:
        raise NotVerified("Invalid or missing secret")
    _compare(given, secret)


def _check_stripe(secret: str, got: Received, now: float) -> None:
    """`t=TIME,v1=SIGNATURE,...` over `TIME.BODY`."""
    parts = [part.partition("=") for part in _needed(got, "stripe-signature").split(",")]
    times = [value for key, _, value in parts if key.strip() == "t"]
    _check_time(times[0] if times else "", now)
    wanted = _hex(secret, times[0].encode() + b"." + got.body)
    _compare([value for key, _, value in parts if key.strip() == "v1"], wanted)


def _check_standard(secret: str, got: Received, now: float) -> None:
    """`v1,BASE64 ...` over `ID.TIME.BODY`; the secret is base64 after `whsec_`."""
    sent_id, at = _needed(got, "webhook-id"), _needed(got, "webhook-timestamp")
    _check_time(at, now)
    wanted = _standard(secret, sent_id, at, got.body)
    given = [one.partition(",") for one in _needed(got, "webhook-signature").split()]
    _compare([value for version, _, value in given if version == "v1"], wanted)


def signed(secret: str, sent_id: str, at: int, body: bytes) -> str:
    """The signature of a message that we send, as Standard Webhooks asks for it."""
    return f"v1,{_standard(secret, sent_id, str(at), body)}"


def _standard(secret: str, sent_id: str, at: str, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise NotVerified("The webhook's secret is not base64 after 'whsec_'") from None
    content = f"{sent_id}.{at}.".encode() + body
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def _needed(got: Received, name: str) -> str:
    value = got.headers.get(name)
    if not value:
        raise NotVerified(f"The header {name} is missing")
    return value


def _check_time(text: str, now: float) -> None:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise NotVerified("The signed time is missing or malformed")
    if abs(now - int(text)) > TOLERANCE_S:
        raise NotVerified("The signed time is more than 5 minutes away")


def _hex(secret: str, content: bytes) -> str:
    return hmac.digest(secret.encode(), content, "sha256").hex()


def _compare(given: list[str], wanted: str) -> None:
    # of equal length, whatever was sent
    digest = hashlib.sha256(wanted.encode()).digest()
    found = [
        hmac.compare_digest(hashlib.sha256(one.encode("utf-8", "replace")).digest(), digest)
        for one in given[:_MOST_SIGNATURES]
    ]
    if not any(found):
        raise NotVerified("Invalid or missing secret")


def delivery_id(kind: Verification, got: Received) -> str:
    """What the sender calls this delivery, the same when it sends it again; empty if nothing."""
    for name in _IDS:
        if got.headers.get(name):
            return got.headers[name][:_LONGEST_ID]
    if kind == "stripe":
        content = parse(got)
        found = content.get("id") if isinstance(content, dict) else None
        return found[:_LONGEST_ID] if isinstance(found, str) and is_storable(found) else ""
    return ""


def parse(got: Received) -> Any:
    """The body as JSON if it is JSON, else as text, in which U+FFFD stands for what is none; None
    if it is empty."""
    if not got.body:
        return None
    try:
        return _json(got.body)
    except (ValueError, RecursionError):
        return got.body.decode("utf-8", "replace").replace("\x00", "\ufffd")


def breaks_its_word(got: Received) -> bool:
    """Whether the body is said to be JSON and is none."""
    kind = got.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not got.body or not (kind == "application/json" or kind.endswith("+json")):
        return False
    try:
        _json(got.body)
    except (ValueError, RecursionError):
        return True
    return False


def _json(body: bytes) -> Any:
    return json.loads(body, parse_constant=_refuse, parse_float=_finite)


def is_storable(value: Any) -> bool:
    """False for JSON with NUL or half of a surrogate pair, which no database holds as it is."""
    match value:
        case str():
            return _NOT_STORABLE.search(value) is None
        case list():
            return all(map(is_storable, value))
        case dict():
            return all(map(is_storable, (*value, *value.values())))
    return True


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def without_credentials(got: Received, secret: str | None) -> Received:
    """The request as it may be kept: no header or parameter that carries a credential."""
    headers = {
        name: value
        for name, value in got.headers.items()
        if name not in CREDENTIALS and not (secret and secret in value)
    }
    query = {
        name: value
        for name, value in got.query.items()
        if name != "secret" and not (secret and secret in value)
    }
    return Received(got.method, headers, query, got.body)
