"""Where a request comes from, when a reverse proxy brings it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from stroem_project.bodies import App, Receive, Send
from stroem_project.config import Network

Address = IPv4Address | IPv6Address
HEADER = b"x-forwarded-for"
MOST_HOPS = 20


class Proxies:
    """Puts the caller's address in the place of a trusted proxy's, so that limits, the record of
    decisions and logs name the caller.

    Each proxy appends whom it heard. From the end of the header, the first address that is no
    trusted proxy is the caller; what stands before it is the caller's own word, and counts for
    nothing.
    """

    def __init__(self, app: App, trusted: Collection[Network]) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._trusted and scope.get("client"):
            host = scope["client"][0]
            caller = self._caller_of(host, scope["headers"])
            if caller != host:
                scope = {**scope, "client": (caller, 0)}
        await self._app(scope, receive, send)

    def _caller_of(self, host: str, headers: Any) -> str:
        address = read_address(host)
        for hop in _hops(headers):
            if address is None or not self._trusts(address):
                break
            heard = read_address(hop)
            if heard is None:  # this proxy passes on what it was told
                break
            address = heard
        return host if address is None else str(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _hops(headers: Any) -> Iterator[str]:
    values = [value.decode("latin-1") for name, value in headers if name == HEADER]
    yield from reversed(",".join(values).rsplit(",", MOST_HOPS)[-MOST_HOPS:])


def read_address(text: str) -> Address | None:
    """From `10.0.0.1`, `10.0.0.1:50000`, `2001:db8::1` or `[2001:db8::1]:50000`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
