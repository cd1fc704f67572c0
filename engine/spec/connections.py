"""Reads connections, MCP servers and triggers from YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from engine.spec.entry import Entry, as_declared, read_values
from engine.spec.fields import ALIASES, PRIMITIVES
from engine.spec.model import Place, Trigger
from engine.spec.problems import did_you_mean, shorten

_PROPERTY_FIELDS = ("type", "required", "default", "secret", "description")
TRANSPORTS = ("stdio", "sse")
_MCP_FIELDS = ("transport", "command", "args", "env", "url", "auth_token", "timeout_secs")
TRIGGER_TYPES = ("scheduler", "webhook", "event_source")
_ANY_TRIGGER = ("type", "enabled", "input")
TRIGGER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "scheduler": (*_ANY_TRIGGER, "cron", "task", "timezone", "concurrency", "force_refresh"),
    "webhook": (*_ANY_TRIGGER, "name", "task", "secret", "mode", "timeout_secs", "force_refresh"),
    "event_source": (
        *_ANY_TRIGGER,
        "task",
        "target_task",
        "env",
        "restart_policy",
        "backoff_secs",
        "max_in_flight",
    ),
}
REQUIRED_OF_TRIGGERS = {
    "scheduler": ("cron", "task"),
    "webhook": ("name", "task"),
    "event_source": ("task", "target_task"),
}


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


def read_trigger(entry: Entry, place: Place) -> Trigger | None:
    declared = entry.type_of(TRIGGER_TYPES, "trigger-type", place)
    if declared is None:
        return None
    entry.refuse_unknown(TRIGGER_FIELDS[declared])
    for key in REQUIRED_OF_TRIGGERS[declared]:
        if entry.get(key) is None:
            message = f"{entry.subject} is type '{declared}' but missing '{key}' field"
            entry.problems.error(place, "missing-field", message)
    return Trigger(
        type=cast(Literal["scheduler", "webhook", "event_source"], declared),
        options=_TRIGGER_READERS[declared](entry),
        enabled=entry.flag("enabled", default=True),
        input=read_values(entry),
        place=place,
    )


def _read_scheduler(entry: Entry) -> dict[str, Any]:
    return {
        "cron": entry.text("cron"),
        "task": entry.text("task"),
        "timezone": entry.text("timezone") or "UTC",
        "concurrency": entry.choice("concurrency", ("allow", "skip", "cancel_previous"), "allow"),
        "force_refresh": entry.flag("force_refresh"),
    }


def _read_webhook(entry: Entry) -> dict[str, Any]:
    mode = entry.text("mode") or "async"
    if mode not in ("sync", "async"):
        message = f"{entry.subject} has invalid mode '{shorten(mode)}' (must be 'sync' or 'async')"
        entry.problems.error(entry.at("mode"), "mode", message)
    seconds = entry.whole("timeout_secs")
    if seconds is not None and not 1 <= seconds <= 300:
        message = f"{entry.subject} has invalid timeout_secs {seconds} (must be 1..=300)"
        entry.problems.error(entry.at("timeout_secs"), "timeout-secs", message)
    return {
        "name": entry.text("name"),
        "task": entry.text("task"),
        "secret": entry.text("secret"),
        "mode": mode,
        "timeout_secs": 30 if seconds is None else seconds,
        "force_refresh": entry.flag("force_refresh"),
    }


def _read_event_source(entry: Entry) -> dict[str, Any]:
    backoff, flight = entry.whole("backoff_secs"), entry.whole("max_in_flight")
    for key, amount in (("backoff_secs", backoff), ("max_in_flight", flight)):
        if amount is not None and amount < 1:
            message = f"{entry.subject} has {key} < 1 (got {amount})"
            entry.problems.error(entry.at(key), "out-of-range", message)
    return {
        "task": entry.text("task"),
        "target_task": entry.text("target_task"),
        "env": entry.text_mapping("env"),
        "restart_policy": entry.choice(
            "restart_policy", ("always", "on_failure", "never"), "always"
        ),
        "backoff_secs": 5 if backoff is None else backoff,
        "max_in_flight": flight,
    }


_TRIGGER_READERS: Mapping[str, Callable[[Entry], dict[str, Any]]] = {
    "scheduler": _read_scheduler,
    "webhook": _read_webhook,
    "event_source": _read_event_source,
}
