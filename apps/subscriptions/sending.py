"""Sends one message. It goes to checked addresses only, follows no redirect, reads no more of the
answer than its head, and never takes longer than its time-out."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

from apps.subscriptions.transitions import Try
from engine.addresses import Network, may_call
from engine.errors import StroemError

TIMEOUT_S = 10.0
LARGEST_HEAD = 65_536
GONE = 410
PORTS = {"https": 443, "http": 80}
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")


class Unsent(StroemError):
    """The message did not get an answer."""


def post(url: str, headers: Mapping[str, str], body: bytes, networks: tuple[Network, ...]) -> Try:
    """Send it once."""
    began = time.monotonic()
    deadline = began + TIMEOUT_S
    try:
        status, more = _exchange(urlsplit(url), headers, body, networks, deadline)
    except (Unsent, OSError, ValueError) as error:
        return Try(_words(error), took_ms=_since(began))
    complaint = "" if 200 <= status < 300 else _complaint(status)
    asked_s = _retry_after(more) if complaint else None
    return Try(complaint, status, asked_s, _since(began))


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _words(error: Exception) -> str:
    match error:
        case Unsent():
            return str(error)
        case TimeoutError():
            return f"no answer within {TIMEOUT_S:g} s"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not valid: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'the connection was closed'}"
        case OSError():
            return f"the connection failed: {error.strerror or type(error).__name__}"
    return "the address cannot be used"


def _complaint(status: int) -> str:
    if 300 <= status < 400:
        return f"the receiver answered {status}, a redirect, which is not followed"
    return f"the receiver answered {status}"


def _exchange(
    parts: SplitResult,
    headers: Mapping[str, str],
    body: bytes,
    networks: tuple[Network, ...],
    deadline: float,
) -> tuple[int, bytes]:
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    addresses = checked_addresses(host, port, networks)
    with _connect(addresses, deadline) as plain:
        plain.settimeout(_left(deadline))
        line = plain
        if parts.scheme == "https":
            line = trust().wrap_socket(plain, server_hostname=host)
        with line:
            line.settimeout(_left(deadline))
            line.sendall(_request(parts, headers, len(body)) + body)
            return _head_of(line, deadline)


@lru_cache(maxsize=1)
def trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def checked_addresses(
    host: str, port: int, networks: tuple[Network, ...]
) -> list[tuple[int, tuple[Any, ...]]]:
    """All addresses of the host, as families and socket addresses. Raises Unsent if there is none,
    or one that may not be called."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unsent(f"the host '{host[:200]}' is not known here") from None
    for _, _, _, _, address in found:
        if not may_call(str(address[0]), networks):
            raise Unsent(
                f"the host '{host[:200]}' has the address {address[0]}, which is not of the public"
                " internet; `subscriptions.private_networks` in the server's settings does not name"
                " it"
            )
    return [(int(family), address) for family, _, _, _, address in found]


def _connect(addresses: list[tuple[int, tuple[Any, ...]]], deadline: float) -> socket.socket:
    """Connected to the first that answers: to an address that was checked, not to a name."""
    failed: OSError | None = None
    for number, (family, address) in enumerate(addresses):
        line = socket.socket(family, socket.SOCK_STREAM)
        try:
            line.settimeout(_left(deadline) / (len(addresses) - number))
            line.connect(address)
        except OSError as error:
            line.close()
            failed = error
        else:
            return line
    raise failed or Unsent("the host has no address")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _request(parts: SplitResult, headers: Mapping[str, str], length: int) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        "Connection: close",
        "User-Agent: Stroem",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _head_of(line: socket.socket, deadline: float) -> tuple[int, bytes]:
    """Status and headers of the answer. What follows is not read."""
    got = b""
    while True:
        for head in _heads(got):
            found = _STATUS.match(head)
            if found is None:
                raise Unsent("the answer is not HTTP")
            if (status := int(found[1])) >= 200:
                return status, head[found.end() :]
        if len(got) > LARGEST_HEAD:
            raise Unsent(f"the head of the answer has more than {LARGEST_HEAD:,} bytes")
        line.settimeout(_left(deadline))
        piece = line.recv(16_384)
        if not piece:
            raise Unsent("the connection was closed without an answer")
        got += piece


def _heads(got: bytes) -> Iterator[bytes]:
    """Complete heads: interim answers (1xx) come before the one that counts."""
    *heads, _ = re.split(rb"\r?\n\r?\n", got)
    return (head + b"\r\n" for head in heads[:10])


def _retry_after(head: bytes) -> float | None:
    """Seconds, however the receiver says so."""
    found = re.search(rb"(?im)^retry-after:[ \t]*([^\r\n]{1,60})", head)
    text = found[1].decode("latin-1").strip() if found else ""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())
