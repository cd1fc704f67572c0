"""Declared inputs, outputs and retries, out of their YAML."""

from __future__ import annotations

from typing import Any, Literal, cast

from engine.spec.entry import Entry
from engine.spec.fields import ALIASES, OUTPUT_TYPES, PRIMITIVES
from engine.spec.model import InputField, OutputField, Retry
from engine.spec.problems import shorten
from engine.spec.reader import Node

INPUT_FIELDS = (
    "type", "name", "description", "required", "secret", "default", "options", "allow_custom",
    "multiple", "order",
)  # fmt: skip
_OUTPUT_FIELDS = ("type", "description", "required", "default", "options")
_RETRY_FIELDS = ("max_attempts", "delay", "backoff", "jitter")
_LONGEST_DELAY_S = 3600


def looks_like_field(node: Node) -> bool:
    """Whether an inline step's input entry declares a field, rather than being a value that has a
    key `type`."""
    if not isinstance(node.value, dict) or "type" not in node.value:
        return False
    declared = node.value["type"].value
    return declared in (*PRIMITIVES, *ALIASES) or all(key in INPUT_FIELDS for key in node.value)


def read_inputs(owner: Entry, key: str = "input") -> dict[str, InputField]:
    """The fields declared under `key`; those that cannot be read are complained about and left
    out."""
    found: dict[str, InputField] = {}
    for name, place, entry in owner.entries(key, f"{owner.subject} input"):
        entry.refuse_unknown(INPUT_FIELDS)
        declared = entry.text("type")
        if declared is None:
            entry.require("type", place)
            continue
        default = entry.get("default")
        found[name] = InputField(
            type=ALIASES.get(declared, declared),
            name=entry.text("name"),
            description=entry.text("description"),
            required=entry.flag("required"),
            secret=entry.flag("secret"),
            default=default.plain() if default else None,
            has_default=default is not None,
            options=entry.texts("options") if entry.get("options") else None,
            allow_custom=entry.flag("allow_custom"),
            multiple=entry.flag("multiple"),
            order=entry.whole("order"),
        )
    return found


def read_outputs(owner: Entry, key: str = "output") -> dict[str, OutputField]:
    found: dict[str, OutputField] = {}
    for name, place, entry in owner.entries(key, f"{owner.subject} output field"):
        entry.refuse_unknown(_OUTPUT_FIELDS)
        declared = entry.text("type")
        if declared not in OUTPUT_TYPES:
            if declared is None:
                entry.require("type", place)
            else:
                message = (
                    f"{entry.subject} has invalid type '{shorten(declared)}'. Valid types:"
                    f" {', '.join(OUTPUT_TYPES)}"
                )
                owner.problems.error(entry.at("type"), "output-type", message)
            continue
        default, options = entry.get("default"), entry.get("options")
        found[name] = OutputField(
            type=declared,
            description=entry.text("description"),
            required=entry.flag("required"),
            default=default.plain() if default else None,
            options=tuple(node.plain() for node in entry.items("options")) if options else None,
        )
    return found


def read_values(owner: Entry, key: str = "input") -> dict[str, Any]:
    """Input values as plain JSON; templates in them stay as written."""
    return owner.plain_mapping(key)


def read_retry(owner: Entry, key: str = "retry") -> Retry | None:
    node = owner.mapping(key)
    if node is None:
        return None
    entry = Entry(node, f"{owner.subject} retry", owner.problems)
    entry.refuse_unknown(_RETRY_FIELDS)
    attempts = entry.whole("max_attempts")
    if attempts is not None and not 1 <= attempts <= 10:
        message = f"{owner.subject} retry max_attempts {attempts} out of range (1..=10)"
        owner.problems.error(entry.at("max_attempts"), "retry", message)
        attempts = None
    delay = entry.duration("delay")
    if delay is not None and delay.seconds > _LONGEST_DELAY_S:
        message = (
            f"{owner.subject} retry delay {delay.seconds:.0f}s exceeds maximum of"
            f" {_LONGEST_DELAY_S}s (1h)"
        )
        owner.problems.error(entry.at("delay"), "retry", message)
        delay = None
    return Retry(
        max_attempts=3 if attempts is None else attempts,
        delay_s=30.0 if delay is None else delay.seconds,
        backoff=cast(
            Literal["fixed", "exponential"],
            entry.choice("backoff", ("fixed", "exponential"), "fixed"),
        ),
        jitter=entry.flag("jitter"),
    )
