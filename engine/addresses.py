"""Which addresses a request may go to that somebody else has asked for. Pure: names are looked up
elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_NAT64 = bytes.fromhex("0064ff9b0000000000000000")


def may_call(address: str, private_networks: Iterable[Network]) -> bool:
    """True for addresses of the public internet and of the networks that the operator names.
    Addresses within others (IPv4 in IPv6) count as what they lead to."""
    try:
        found: Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = _inner(found)
    if any(inner in network for network in private_networks):
        return True
    return inner.is_global and not inner.is_multicast and not inner.is_reserved


def _inner(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    found = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if found is None and address.packed.startswith(_NAT64):
        found = IPv4Address(address.packed[-4:])
    if found is None and not any(address.packed[:12]) and int(address) > 1:
        found = IPv4Address(address.packed[-4:])
    return found or address
