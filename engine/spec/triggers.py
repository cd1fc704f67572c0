"""Reads triggers from YAML: what starts jobs without a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from engine.plain import shorten
from engine.spec.entry import Entry, read_values
from engine.spec.model import Place, Trigger, TriggerType
from engine.spec.problems import did_you_mean
from engine.webhooks import VERIFICATIONS

TYPES: tuple[TriggerType, ...] = ("scheduler", "webhook", "event_source", "job")
CONCURRENCY = ("allow", "skip", "cancel_previous", "queue")
CATCH_UP = ("none", "last", "all")
ENDS = ("completed", "failed", "cancelled")
DAY_S = 86_400.0
_LONGEST_S = 30 * DAY_S
_LONGEST_JITTER_S = 3600.0
_ANY = ("type", "enabled", "input", "task", "idempotency_key", "idempotency_window")
_STARTS = (*_ANY, "concurrency", "debounce", "force_refresh")
FIELDS: Mapping[str, tuple[str, ...]] = {
    "scheduler": (*_STARTS, "cron", "timezone", "catch_up", "catch_up_window", "jitter"),
    "webhook": (
        *_STARTS, "name", "secret", "verify", "secret_in_query", "allow_get", "filter", "mode",
        "timeout_secs",
    ),
    "event_source": (
        *_ANY, "target_task", "env", "restart_policy", "backoff_secs", "max_in_flight",
    ),
    "job": (*_STARTS, "on_job"),
}  # fmt: skip
_NEVER_EMPTY = ("task", "target_task", "timezone", "mode", "idempotency_key", "filter")
_ON_JOB = ("workspace", "task", "status")
REQUIRED = {
    "scheduler": ("cron", "task"),
    "webhook": ("name", "task"),
    "event_source": ("task", "target_task"),
    "job": ("on_job", "task"),
}


def read_trigger(entry: Entry, place: Place) -> Trigger | None:
    declared = entry.type_of(TYPES, "trigger-type", place)
    if declared is None:
        return None
    entry.refuse_unknown(FIELDS[declared])
    for key in REQUIRED[declared]:
        if entry.get(key) is None:
            message = f"{entry.subject} is type '{declared}' but missing '{key}' field"
            entry.problems.error(place, "missing-field", message)
    entry.refuse_empty(_NEVER_EMPTY)
    options = {"task": entry.text("task"), **_READERS[declared](entry), **_read_key(entry)}
    if declared != "event_source":
        options |= _read_start(entry)
    return Trigger(
        type=cast(TriggerType, declared),
        options=options,
        enabled=entry.flag("enabled", default=True),
        input=read_values(entry),
        place=place,
    )


def _read_start(entry: Entry) -> dict[str, Any]:
    """What happens when the trigger fires while jobs of an earlier time are open."""
    return {
        "concurrency": entry.choice("concurrency", CONCURRENCY, "allow"),
        "debounce": _seconds(entry, "debounce", DAY_S),
        "force_refresh": entry.flag("force_refresh"),
    }


def _read_key(entry: Entry) -> dict[str, Any]:
    key, window = entry.text("idempotency_key"), _seconds(entry, "idempotency_window", _LONGEST_S)
    if window is not None and key is None:
        entry.complain("idempotency_window", "has no effect without 'idempotency_key'", "no-effect")
    return {"idempotency_key": key, "idempotency_window": DAY_S if window is None else window}


def _seconds(entry: Entry, key: str, most: float) -> float | None:
    found = entry.duration(key)
    if found is None:
        return None
    if found.seconds > most:
        entry.complain(key, f"must be at most {most / 3600:g}h, not {found.text}", "out-of-range")
        return None
    return found.seconds


def _read_scheduler(entry: Entry) -> dict[str, Any]:
    catch_up = entry.choice("catch_up", CATCH_UP, "last")
    window = _seconds(entry, "catch_up_window", _LONGEST_S)
    if catch_up == "none" and window is not None:
        entry.complain("catch_up_window", "has no effect with 'catch_up: none'", "no-effect")
    return {
        "cron": entry.text("cron"),
        "timezone": entry.text("timezone") or "UTC",
        "catch_up": catch_up,
        "catch_up_window": DAY_S if window is None else window,
        "jitter": _seconds(entry, "jitter", _LONGEST_JITTER_S) or 0.0,
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
    elif seconds is not None and mode == "async":
        message = f"{entry.subject} 'timeout_secs' has no effect without 'mode: sync'"
        entry.problems.warning(entry.at("timeout_secs"), "no-effect", message)
    return {
        "name": entry.text("name"),
        "secret": entry.text("secret"),
        "verify": _read_verification(entry),
        "secret_in_query": entry.flag("secret_in_query"),
        "allow_get": entry.flag("allow_get"),
        "filter": entry.loose_text("filter"),
        "mode": mode,
        "timeout_secs": 30 if seconds is None else seconds,
    }


def _read_verification(entry: Entry) -> str:
    """How the sender proves itself. Nobody is let in without a word about it."""
    kind = entry.choice("verify", VERIFICATIONS, "bearer")
    secret = entry.get("secret")
    has_secret = secret is not None and bool(secret.text.strip())
    if kind == "none" and has_secret:
        entry.complain("secret", "has no effect with 'verify: none'; remove one", "no-effect")
    elif kind != "none" and not has_secret:
        message = (
            f"{entry.subject} has no 'secret', by which senders prove themselves: every request is"
            " refused; give one, or write 'verify: none' to let everybody start its task"
        )
        entry.problems.warning(entry.node.place, "no-effect", message)
    if kind != "bearer" and entry.flag("secret_in_query"):
        entry.complain("secret_in_query", "has an effect with 'verify: bearer' only", "no-effect")
    return kind


def _read_event_source(entry: Entry) -> dict[str, Any]:
    backoff, flight = entry.whole("backoff_secs"), entry.whole("max_in_flight")
    for key, amount in (("backoff_secs", backoff), ("max_in_flight", flight)):
        if amount is not None and amount < 1:
            message = f"{entry.subject} has {key} < 1 (got {amount})"
            entry.problems.error(entry.at(key), "out-of-range", message)
    policy = entry.choice("restart_policy", ("always", "on_failure", "never"), "always")
    if policy == "never" and backoff is not None:
        entry.complain("backoff_secs", "has no effect with 'restart_policy: never'", "no-effect")
    return {
        "target_task": entry.text("target_task"),
        "env": entry.text_mapping("env"),
        "restart_policy": policy,
        "backoff_secs": 5 if backoff is None else backoff,
        "max_in_flight": flight,
    }


def _read_job(entry: Entry) -> dict[str, Any]:
    node = entry.mapping("on_job")
    if node is None:
        return {"on_job": {"workspace": None, "task": None, "status": ["completed"]}}
    inner = Entry(node, f"{entry.subject} on_job", entry.problems)
    inner.refuse_unknown(_ON_JOB)
    inner.require("task", entry.at("on_job"))
    inner.refuse_empty(("workspace", "task"))
    return {
        "on_job": {
            "workspace": inner.text("workspace"),
            "task": inner.text("task"),
            "status": _read_ends(inner),
        }
    }


def _read_ends(entry: Entry) -> list[str]:
    node = entry.get("status")
    if node is None:
        return ["completed"]
    ends = list(entry.texts("status")) if isinstance(node.value, tuple) else [node.text]
    if not ends:
        entry.complain("status", "is empty: name an end, or remove the key", "empty-field")
    for end in ends:
        if end not in ENDS:
            rest = f"must be {', '.join(ENDS)} or a list of them, not '{shorten(end)}'"
            entry.complain("status", rest + did_you_mean(end, ENDS), "bad-type")
    return [end for end in ENDS if end in ends]


_READERS: Mapping[str, Callable[[Entry], dict[str, Any]]] = {
    "scheduler": _read_scheduler,
    "webhook": _read_webhook,
    "event_source": _read_event_source,
    "job": _read_job,
}
