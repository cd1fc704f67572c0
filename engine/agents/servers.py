"""MCP servers as authors describe them, and what the operator lets them start or call."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network
from typing import Any
from urllib.parse import urlsplit

from engine import addresses

STDIO, HTTP = "stdio", "http"
DEFAULT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach one server. Values of `env` and `headers` may be secret."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    image: str = ""
    url: str = ""
    env: Mapping[str, str] = field(repr=False, default_factory=dict)
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    timeout_s: float = DEFAULT_TIMEOUT_S

    @property
    def argv(self) -> tuple[str, ...]:
        return (self.command, *self.args) if self.command else self.args


@dataclass(frozen=True, slots=True)
class McpRules:
    """What the operator allows. Each pattern is a whole command line, image or host name; `*` in it
    stands for anything. `private_networks`: addresses of them may be called, too. `run_as`: the
    system user of programs; None: that of the process for agents."""

    commands: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ("*",)
    private_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    run_as: str | None = None


def server_of(name: str, given: Mapping[str, Any], private: Mapping[str, Any]) -> Server:
    """A server of a workspace, with its rendered credentials."""
    headers = {str(key): str(value) for key, value in (private.get("headers") or {}).items()}
    token = private.get("auth_token")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return Server(
        name,
        given.get("command") or "",
        tuple(given.get("args") or ()),
        given.get("image") or "",
        given.get("url") or "",
        {str(key): str(value) for key, value in (private.get("env") or {}).items()},
        headers,
        float(given.get("timeout_secs") or DEFAULT_TIMEOUT_S),
    )


def refusal(server: Server, rules: McpRules) -> str | None:
    """Why the operator's settings do not allow this server; None if they do."""
    if server.image:
        return _unless(server.image, rules.images, "start the image", "images")
    if server.url:
        host = host_of(server.url)
        if not host:
            return f"names no host in its url '{server.url[:200]}'"
        return _unless(host, rules.hosts, "call the host", "hosts")
    if ".." in server.command.split("/"):
        return f"has a command with '..': '{server.command[:200]}'"
    return _unless(shlex.join(server.argv), rules.commands, "start the command", "commands")


def _unless(value: str, patterns: tuple[str, ...], what: str, key: str) -> str | None:
    if any(fnmatchcase(value, pattern) for pattern in patterns):
        return None
    return (
        f"would {what} '{value[:200]}', which `agents.mcp.{key}` in the server's settings does not"
        " allow"
    )


def host_of(url: str) -> str:
    """In lower case, without brackets; empty if there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def may_call(address: str, rules: McpRules) -> bool:
    """Whether a request may go to this address."""
    return addresses.may_call(address, rules.private_networks)
