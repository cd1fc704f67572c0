"""One trigger out of its YAML, defaults filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from engine.spec.entry import Entry
from engine.spec.inputs import read_values
from engine.spec.model import Place, Trigger
from engine.spec.problems import did_you_mean, shorten

TYPES = ("scheduler", "webhook", "event_source")
_COMMON = ("type", "enabled", "input")
FIELDS: Mapping[str, tuple[str, ...]] = {
    "scheduler": (*_COMMON, "cron", "task", "timezone", "concurrency", "force_refresh"),
    "webhook": (*_COMMON, "name", "task", "secret", "mode", "timeout_secs", "force_refresh"),
    "event_source": (
        *_COMMON,
        "task",
        "target_task",
        "env",
        "restart_policy",
        "backoff_secs",
        "max_in_flight",
    ),
}
_REQUIRED = {
    "scheduler": ("cron", "task"),
    "webhook": ("name", "task"),
    "event_source": ("task", "target_task"),
}


def read_trigger(entry: Entry, place: Place) -> Trigger | None:
    declared = entry.text("type")
    if declared not in TYPES:
        if isinstance(entry.node.value, dict) and entry.get("type") is None:
            message = f"{entry.subject} is missing 'type' (expected: {', '.join(TYPES)})"
            entry.problems.error(place, "missing-field", message)
        elif declared is not None:
            message = (
                f"{entry.subject} has invalid type '{shorten(declared)}' (expected:"
                f" {', '.join(TYPES)})"
            )
            entry.problems.error(
                entry.at("type"), "trigger-type", message + did_you_mean(declared, TYPES)
            )
        return None
    entry.refuse_unknown(FIELDS[declared])
    for key in _REQUIRED[declared]:
        if entry.get(key) is None:
            message = f"{entry.subject} is type '{declared}' but missing '{key}' field"
            entry.problems.error(place, "missing-field", message)
    return Trigger(
        type=cast(Literal["scheduler", "webhook", "event_source"], declared),
        options=_READERS[declared](entry),
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


_READERS: Mapping[str, Callable[[Entry], dict[str, Any]]] = {
    "scheduler": _read_scheduler,
    "webhook": _read_webhook,
    "event_source": _read_event_source,
}
