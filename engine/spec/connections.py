"""Reads connections and MCP servers from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.spec.entry import Entry, as_declared
from engine.spec.fields import ALIASES, PRIMITIVES
from engine.spec.model import Place
from engine.spec.problems import did_you_mean, shorten

_PROPERTY_FIELDS = ("type", "required", "default", "secret", "description")
TRANSPORTS = ("stdio", "sse")
_MCP_FIELDS = ("transport", "command", "args", "env", "url", "auth_token", "timeout_secs")


def read_connection_type(entry: Entry) -> Mapping[str, Mapping[str, Any]]:
    """property -> {type, required, secret, default?, description?}."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in entry.pairs:
        inner = Entry(
            entry.pairs[name], f"{entry.subject} property '{shorten(name)}'", entry.problems
        )
        if not isinstance(inner.node.value, dict):
            continue
        inner.refuse_unknown(_PROPERTY_FIELDS)
        found[name] = _read_property(inner, entry.node.keys[name])
    return found


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
    """{transport, command, args, env} or {transport, url, auth_token}, and timeout_secs."""
    if not isinstance(entry.node.value, dict):
        return {}
    entry.refuse_unknown(_MCP_FIELDS)
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
        "env": entry.text_mapping("env"),
        "url": entry.text("url"),
        "auth_token": entry.text("auth_token"),
        "timeout_secs": entry.whole("timeout_secs", 1, 3600) or 30,
    }


def _check_transport(entry: Entry, transport: str | None, place: Place) -> None:
    needed, foreign = {
        "stdio": ("command", ("url", "auth_token")),
        "sse": ("url", ("command", "args", "env")),
    }.get(transport or "", (None, ()))
    if needed and entry.get(needed) is None:
        message = f"{entry.subject} has transport '{transport}' but is missing '{needed}'"
        entry.problems.error(place, "missing-field", message)
    for key in foreign:
        if entry.get(key) is not None:
            message = (
                f"{entry.subject} has transport '{transport}', where '{key}' has no effect; remove"
                " it"
            )
            entry.problems.error(entry.at(key), "forbidden-field", message)
    url = entry.text("url") or ""
    if transport == "sse" and url and not url.startswith(("http://", "https://", "{{")):
        entry.complain("url", f"must begin with http:// or https://, not '{shorten(url)}'", "url")
