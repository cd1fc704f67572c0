"""Values of options, read and checked by argparse: one sentence for each that is wrong."""

from __future__ import annotations

import os
import socket
from argparse import ArgumentTypeError
from collections.abc import Callable
from ipaddress import ip_address
from uuid import UUID

from django.core.management.base import CommandError

LARGEST_PORT = 65535


def whole_number(least: int, most: int, what: str = "a whole number") -> Callable[[str], int]:
    def read(text: str) -> int:
        given = text.strip()
        digits = given.removeprefix("-")
        # `int` also takes digits of other scripts and underscores
        if digits.isascii() and digits.isdigit() and len(digits) < 10:
            number = int(given)
            if least <= number <= most:
                return number
        raise ArgumentTypeError(f"must be {what} between {least} and {most}, not '{text[:60]}'")

    return read


port_number = whole_number(1, LARGEST_PORT, "a number")


def full_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a full id, not '{text[:60]}'") from None


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, port: int, remedy: str) -> None:
    """Refuse an address that cannot be listened on before anything starts; `{port}` in `remedy` is
    a port to try instead."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise CommandError(f"'{host}' is not an address of this machine.", returncode=2) from None
    except OSError as error:
        other = port + 1 if port < LARGEST_PORT else port - 1
        raise CommandError(
            f"Port {port} on {host} cannot be used ({os.strerror(error.errno or 0)}): choose"
            f" another one, for example {remedy.format(port=other)}."
        ) from error
