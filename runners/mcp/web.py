"""A server at an address: requests go where the operator lets them, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache

import httpx2

from engine.agents.servers import McpRules, Server, host_of, may_call
from runners.mcp.errors import ServerError

LARGEST_ANSWER = 10_000_000  # bytes


@lru_cache(maxsize=4)
def _trusted(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Read once: it takes as long as the rest of a connection."""
    return httpx2.create_ssl_context()


class Guarded(httpx2.AsyncBaseTransport):
    """Looks the host up once, checks every address, and connects to a checked one: neither a name
    that changes its address nor a redirect leads anywhere else."""

    def __init__(self, server: Server, rules: McpRules) -> None:
        self.complaint = ""  # how the last message was refused
        self._rules, self._host = rules, host_of(server.url)
        trusted = _trusted(*(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")))
        self._inner = httpx2.AsyncHTTPTransport(verify=trusted)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host.rstrip(".").lower()
        if host != self._host:
            raise ServerError(f"it sends us to another host, '{host[:200]}'")
        address = await checked_address(host, request.url.port, request.url.scheme, self._rules)
        pinned = httpx2.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,  # with the name of the host
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        response = await self._inner.handle_async_request(pinned)
        if request.method == "POST":  # a server may lack the other methods
            is_refused = response.status_code >= 400
            self.complaint = f"HTTP {response.status_code}" if is_refused else ""
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Measured(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class Measured(httpx2.AsyncByteStream):
    """An answer that may not be endless."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for piece in self._inner:
            length += len(piece)
            if length > LARGEST_ANSWER:
                raise ServerError(f"its answer has more than {LARGEST_ANSWER:,} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


async def checked_address(host: str, port: int | None, scheme: str, rules: McpRules) -> str:
    """One address of the host. Raises ServerError if it has none, or one that may not be called."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host, port or (443 if scheme == "https" else 80), type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        raise ServerError(f"the host '{host[:200]}' is not known here") from None
    addresses = [str(one[4][0]) for one in found]
    for address in addresses:
        if not may_call(address, rules):
            raise ServerError(
                f"the host '{host[:200]}' has the address {address}, which is not of the public"
                " internet; `agents.mcp.private_networks` in the server's settings does not name it"
            )
    return addresses[0]


def client(server: Server, guarded: Guarded) -> httpx2.AsyncClient:
    """For this server's host only, with its credentials and without our proxies."""
    return httpx2.AsyncClient(
        transport=guarded, headers=dict(server.headers), timeout=server.timeout_s, trust_env=False
    )
