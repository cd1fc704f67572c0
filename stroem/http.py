"""One connection to one server: requests and answers in JSON, errors as sentences."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from engine import VERSION
from engine.errors import AuthorError, Conflict, InputError, NotFound
from stroem.errors import NotSignedIn, NotYet, Refused, Unavailable, Unreachable
from stroem.profiles import Profile

TIMEOUT_S = 60.0
PATIENCE_S = 120.0  # for a server that restarts, or a database that is away
LONGEST_PAUSE_S = 15.0
MOST_BYTES = 256 * 1_048_576
PIECE_BYTES = 1 << 18
AWAY = frozenset({502, 503, 504})
Query = Mapping[str, str | int | None]


class Server:
    """Once the server has answered, reads are repeated while it is away; what changes something is
    sent once."""

    def __init__(self, profile: Profile, *, patience_s: float = PATIENCE_S) -> None:
        self.profile = profile
        self.answered_at = ""  # the `Date` of the last answer
        self._has_answered = False
        self._patience_s = patience_s
        self._connection: http.client.HTTPConnection | None = None

    def get(self, *path: object, **query: str | int | None) -> Any:
        """The JSON at this path, whose parts are quoted."""
        given_up = time.monotonic() + (self._patience_s if self._has_answered else 0)
        pause_s, has_told = 0.5, False
        while True:
            try:
                return self._ask("GET", _address(path, query))
            except (Unreachable, Unavailable) as error:
                if time.monotonic() + pause_s > given_up or not _may_pass(error):
                    raise
                if not has_told:
                    print(f"{error}; trying again ...", file=sys.stderr)
                has_told = True
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def pieces(self, *path: object, **query: str | int | None) -> Iterator[bytes]:
        """The bytes at this path; where the connection breaks, they go on from there."""
        address, done, tag = _address(path, query), 0, ""
        given_up = time.monotonic() + self._patience_s
        while True:
            try:
                with closing(connect(self.profile)) as connection:
                    headers = self._headers() | _going_on(done, tag)
                    connection.request("GET", address, headers=headers)
                    answer = connection.getresponse()
                    if answer.status not in (200, 206):
                        raise self._error(answer, _json(answer.read(MOST_BYTES)))
                    if done and answer.status == 200:
                        raise Unreachable(f"{self.profile.url}: the file has changed meanwhile")
                    tag = answer.headers.get("ETag", "")
                    while piece := answer.read(PIECE_BYTES):
                        done += len(piece)
                        yield piece
                        given_up = time.monotonic() + self._patience_s
                    if not answer.length:
                        return
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > given_up or not done or not tag:
                    reason = _reason(error)
                    raise Unreachable(f"{self.profile.url} cannot be reached: {reason}") from error
            except Unavailable:
                if time.monotonic() > given_up or not done:
                    raise
            time.sleep(1.0)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"stroem/{VERSION}"}
        if self.profile.key:
            headers["Authorization"] = f"Bearer {self.profile.key}"
        return headers

    def send(self, method: str, *path: object, body: Any = None) -> Any:
        return self._ask(method, _address(path, {}), body)

    def _ask(self, method: str, address: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers()
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer, content = self._exchange(method, address, data, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self.profile.url} cannot be reached: {_reason(error)}") from error
        self.answered_at = answer.headers.get("Date", "")
        said = self._read(answer, content)
        self._has_answered = True
        return said

    def _exchange(
        self, method: str, address: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        is_kept = self._connection is not None
        try:
            return self._once(method, address, data, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # The server closes a connection that was idle; nothing of the request was answered.
            if not is_kept or method != "GET":
                raise
            self.close()
            return self._once(method, address, data, headers)

    def _once(
        self, method: str, address: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is not None and method != "GET":
            self.close()  # one that may have gone stale must not lose a change
        if self._connection is None:
            self._connection = connect(self.profile)
        self._connection.request(method, address, body=data, headers=headers)
        answer = self._connection.getresponse()
        content = answer.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise http.client.HTTPException("the answer is too large")
        if answer.will_close:
            self.close()
        return answer, content

    def _read(self, answer: http.client.HTTPResponse, content: bytes) -> Any:
        said = _json(content)
        if answer.status < 300 and said is not None:
            return said
        if 300 <= answer.status < 400:
            there = answer.headers.get("Location", "another address")
            raise Unreachable(f"{self.profile.url} sends us to {there[:200]}: sign in to that one")
        raise self._error(answer, said)

    def _error(self, answer: http.client.HTTPResponse, said: Any) -> Exception:
        url, status = self.profile.url, answer.status
        if not isinstance(said, dict) or not isinstance(said.get("error"), str):
            if status in AWAY:
                return Unavailable(f"{url} is not available (HTTP {status})")
            return Unreachable(f"{url} does not answer as Stroem does (HTTP {status})")
        sentence = said["error"]
        match status:
            case 401:
                return NotSignedIn(f"{url}: {sentence}: run `stroem login {url}`")
            case 403:
                return Refused(sentence)
            case 404:
                return NotFound(sentence)
            case 409:
                return Conflict(sentence)
            case 429 | 500 | 502 | 503 | 504:
                return Unavailable(f"{url}: {sentence}")
        if said.get("code") in ("authorization_pending", "slow_down"):
            return NotYet(sentence)
        fields = said.get("fields")
        if isinstance(fields, dict) and "; ".join(map(str, fields.values())) == sentence:
            return InputError({str(name): str(text) for name, text in fields.items()})
        return AuthorError(sentence)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _going_on(done: int, tag: str) -> dict[str, str]:
    return {"Range": f"bytes={done}-", "If-Range": tag} if done else {}


def connect(profile: Profile) -> http.client.HTTPConnection:
    """A connection that is opened with the first request. Certificates are always checked."""
    parts = urlsplit(profile.url)
    host, port = parts.hostname or "", parts.port
    proxy = _proxy_of(parts.scheme, host)
    if parts.scheme == "http":
        if proxy is None:
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        plain = http.client.HTTPConnection(*proxy, timeout=TIMEOUT_S)
        plain.set_tunnel(host, port or 80)
        return plain
    try:
        context = ssl.create_default_context(cafile=profile.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"the certificates in {profile.ca_file}: {_reason(error)}") from None
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    tunnel = http.client.HTTPSConnection(*proxy, timeout=TIMEOUT_S, context=context)
    tunnel.set_tunnel(host, port or 443)
    return tunnel


def _proxy_of(scheme: str, host: str) -> tuple[str, int] | None:
    """As HTTPS_PROXY, HTTP_PROXY and NO_PROXY say."""
    name = f"{scheme}_proxy"
    if not (os.environ.get(name) or (scheme == "https" and os.environ.get(name.upper()))):
        return None
    from urllib.request import getproxies, proxy_bypass

    given = urlsplit(getproxies().get(scheme, ""))
    if not given.hostname or proxy_bypass(host):
        return None
    return given.hostname, given.port or 3128


def _address(path: tuple[object, ...], query: Query) -> str:
    address = "/api/v1/" + "/".join(quote(str(part), safe="") for part in path)
    given = {name: value for name, value in query.items() if value is not None}
    return f"{address}?{urlencode(given)}" if given else address


def _may_pass(error: Exception) -> bool:
    """Whether waiting can help: not with a wrong name, a wrong certificate, or a wrong server."""
    cause = error.__cause__
    if isinstance(error, Unavailable):
        return True
    return isinstance(cause, OSError | http.client.HTTPException) and not (
        isinstance(cause, (socket.gaierror, ssl.SSLCertVerificationError))
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message or str(error)
        return (
            f"its certificate is not trusted ({said}); `--ca-file` or STROEM_CA_FILE names the"
            " certificates of your own authority"
        )
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} seconds"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
