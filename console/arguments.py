"""Values of options, read and checked by argparse: one sentence for each that is wrong."""

from __future__ import annotations

import os
import socket
from argparse import (
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    _StoreAction,
    _SubParsersAction,
)
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from console.base import CommandError

LARGEST_PORT = 65535
_MAY_BE_EMPTY = frozenset({"reason", "search", "input", "input_file"})  # of options
# Names that no public server can have.
PRIVATE_NAMES = (".local", ".localhost", ".internal", ".lan", ".home.arpa", ".test", ".svc")


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


def weak_addresses(allowed_hosts: Iterable[str], base_url: str | None) -> list[str]:
    """What makes the server's addresses unsafe, a sentence each."""
    found = []
    if "*" in allowed_hosts:
        found.append(
            "allowed_hosts must not contain '*', as anybody could then choose the host in links"
            " that Stroem sends: list the names that people use"
        )
    address = urlsplit(base_url or "")
    if address.scheme == "http" and _is_public(address.hostname or ""):
        found.append(
            f"auth.base_url must begin with https://, as {address.hostname} is a public address:"
            " passwords and cookies would travel in clear"
        )
    return found


def _is_public(host: str) -> bool:
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host and not host.lower().rstrip(".").endswith(PRIVATE_NAMES)


def check_address(host: str, port: int, remedy: str) -> None:
    """Refuse an address that cannot be listened on before anything starts; `{port}` in `remedy` is
    a port to try instead."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise CommandError(
            f"'{host}' is not an address of this machine: give one that it has, such as 127.0.0.1,"
            " or 0.0.0.0 for all.",
            returncode=2,
        ) from None
    except OSError as error:
        other = port + 1 if port < LARGEST_PORT else port - 1
        raise CommandError(
            f"Port {port} on {host} cannot be used ({os.strerror(error.errno or 0)}): choose"
            f" another one, for example {remedy.format(port=other)}."
        ) from error


class _Once(_StoreAction):
    """Of two values, one would be lost without a word."""

    is_given = False

    def __call__(self, parser: ArgumentParser, *rest: Any) -> None:
        if self.is_given:
            raise ArgumentError(self, "is given twice: keep one")
        self.is_given = True
        super().__call__(parser, *rest)


def refuse_repeated(parser: ArgumentParser) -> None:
    """Options that take one value take it once."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                refuse_repeated(inner)
        elif type(action) is _StoreAction and action.option_strings:
            action.__class__ = _Once


def refuse_empty_values(parser: ArgumentParser) -> None:
    """An empty `--task "$TASK"` would mean all tasks, an empty `--artifacts` the current folder."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                refuse_empty_values(inner)
            continue
        is_text = action.nargs != 0 and action.type in (None, str, Path) and action.default != ""
        if action.option_strings and is_text and action.dest not in _MAY_BE_EMPTY:
            action.type = _given(action.type or str)


def _given(convert: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not text.strip():
            raise ArgumentTypeError("is empty: give a value, or leave the option out")
        return convert(text)

    return read
