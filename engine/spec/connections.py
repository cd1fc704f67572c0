"""Reads connections and MCP servers from YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.plain import shorten
from engine.spec.entry import Entry, as_declared
from engine.spec.fields import ALIASES, PRIMITIVES
from engine.spec.model import Place
from engine.spec.problems import did_you_mean

_PROPERTY_FIELDS = ("type", "required", "default", "secret", "description", "options")
CHECK = "check"  # beside the properties of a type: the action that tests a connection of it
TRANSPORTS = ("stdio", "http", "sse")  # `sse` is Strom's name for streamable HTTP
_OF_PROGRAMS: tuple[str, ...] = ("command", "args", "image", "env")
_OF_ADDRESSES: tuple[str, ...] = ("url", "auth_token", "headers")
MCP_FIELDS = ("transport", *_OF_PROGRAMS, *_OF_ADDRESSES, "timeout_secs")
# These make a program load code of the author's: what the operator allowed would be another one.
_LOADERS = re.compile(
    r"PATH|HOME|IFS|ENV|BASH_ENV|(LD|DYLD)_.*|PYTHON(PATH|HOME|STARTUP|INSPECT)|NODE_(OPTIONS|PATH)"
    r"|PERL5?(LIB|OPT)|RUBY(LIB|OPT)|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS"
    r"|(UV|PIP|NPM_CONFIG|BUN|DENO)_.*",
    re.IGNORECASE,
)

_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
_OUR_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "accept"}
)


def read_connection_type(entry: Entry) -> Mapping[str, Mapping[str, Any]]:
    """property -> {type, required, secret, position, default?, description?, options?}."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in entry.pairs:
        if name == CHECK and not isinstance(entry.pairs[name].value, dict):
            continue
        inner = Entry(
            entry.pairs[name], f"{entry.subject} property '{shorten(name)}'", entry.problems
        )
        if not isinstance(inner.node.value, dict):
            continue
        inner.refuse_unknown(_PROPERTY_FIELDS)
        found[name] = {
            **_read_property(inner, entry.node.keys[name]),
            "position": len(found),  # stored definitions do not keep the order of keys
        }
    return found


def read_check(entry: Entry) -> str | None:
    """The name of the type's action `check`; a mapping of that name is a property."""
    if CHECK not in entry.pairs or isinstance(entry.pairs[CHECK].value, dict):
        return None
    return entry.text(CHECK)


def _read_property(entry: Entry, place: Place) -> Mapping[str, Any]:
    declared = entry.text("type")
    if entry.get("type") is None:
        entry.problems.error(place, "missing-field", f"{entry.subject} is missing 'type'")
    elif declared is not None and declared not in (*PRIMITIVES, *ALIASES):
        message = (
            f"{entry.subject} has invalid type '{shorten(declared)}' (expected:"
            f" {', '.join(PRIMITIVES)})"
        )
        entry.problems.error(
            entry.at("type"), "property-type", message + did_you_mean(declared, PRIMITIVES)
        )
    found: dict[str, Any] = {
        "type": ALIASES.get(declared or "", declared or "string"),
        "required": entry.flag("required"),
        "secret": entry.flag("secret"),
    }
    default, description = entry.get("default"), entry.text("description")
    if entry.get("options") is not None:
        found["options"] = list(entry.texts("options"))
    if default is not None:
        found["default"] = as_declared(default, found["type"])
    if description is not None:
        found["description"] = description
    return found


def read_connection(
    entry: Entry, types: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Its fields, with its type's defaults for missing ones."""
    if not isinstance(entry.node.value, dict):
        return {}
    values: dict[str, Any] = entry.node.plain()
    for key, described in types.get(entry.text("type") or "", {}).items():
        if "default" in described:
            values.setdefault(key, described["default"])
        if key in entry.pairs:
            values[key] = as_declared(entry.pairs[key], described["type"])
    return values


def read_mcp_server(entry: Entry, place: Place) -> Mapping[str, Any]:
    """{transport, command, args, image, env} or {transport, url, auth_token, headers}, and
    timeout_secs."""
    if not isinstance(entry.node.value, dict):
        return {}
    entry.refuse_unknown(MCP_FIELDS)
    transport = entry.text("transport")
    if entry.get("transport") is None:
        message = f"{entry.subject} is missing 'transport' (expected: {', '.join(TRANSPORTS)})"
        entry.problems.error(place, "missing-field", message)
    elif transport is not None and transport not in TRANSPORTS:
        message = (
            f"{entry.subject} has unknown transport '{shorten(transport)}' (expected:"
            f" {', '.join(TRANSPORTS)})"
        )
        entry.problems.error(entry.at("transport"), "transport", message)
    _check_transport(entry, transport, place)
    return {
        "transport": transport,
        "command": entry.text("command"),
        "args": list(entry.texts("args")),
        "image": entry.text("image"),
        "env": entry.text_mapping("env"),
        "url": entry.text("url"),
        "auth_token": entry.text("auth_token"),
        "headers": entry.text_mapping("headers"),
        "timeout_secs": entry.whole("timeout_secs", 1, 3600) or 30,
    }


def _check_transport(entry: Entry, transport: str | None, place: Place) -> None:
    if transport == "stdio":
        _check_program(entry, place)
        foreign = _OF_ADDRESSES
    elif transport in TRANSPORTS:
        _check_address(entry, transport, place)
        foreign = _OF_PROGRAMS
    else:
        return
    for key in foreign:
        if entry.get(key) is not None:
            message = (
                f"{entry.subject} has transport '{transport}', where '{key}' has no effect; remove"
                " it"
            )
            entry.problems.error(entry.at(key), "forbidden-field", message)


def _check_program(entry: Entry, place: Place) -> None:
    if entry.get("command") is None and entry.get("image") is None:
        message = f"{entry.subject} has transport 'stdio' but is missing 'command'"
        entry.problems.error(place, "missing-field", message)
    for name in () if entry.get("image") is not None else entry.text_mapping("env"):
        if _LOADERS.fullmatch(name):
            message = (
                f"{entry.subject} env '{shorten(name)}' may not be set: it decides which program"
                " or code is loaded"
            )
            entry.problems.error(entry.at("env"), "env", message)


def _check_address(entry: Entry, transport: str, place: Place) -> None:
    if entry.get("url") is None:
        message = f"{entry.subject} has transport '{transport}' but is missing 'url'"
        entry.problems.error(place, "missing-field", message)
    url = entry.text("url") or ""
    if url and not url.startswith(("http://", "https://")):
        entry.complain("url", f"must begin with http:// or https://, not '{shorten(url)}'", "url")
    if "@" in url.partition("://")[2].partition("/")[0]:
        entry.complain("url", "must hold no user or password; use 'auth_token' or 'headers'", "url")
    for name in entry.text_mapping("headers"):
        if not _HEADER.fullmatch(name) or name.lower() in _OUR_HEADERS:
            message = f"{entry.subject} header '{shorten(name)}' may not be set"
            entry.problems.error(entry.at("headers"), "headers", message)
