"""Reads typed values from a YAML mapping, with uniform messages. Also reads what several objects
share: inputs, outputs and retries.

A key whose value is null counts as absent, as authors of optional fields expect. Every method
returns None (or the default) after reporting a problem, so that reading continues and finds all
problems of a file at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from engine import durations
from engine.durations import Duration
from engine.errors import AuthorError
from engine.plain import shorten
from engine.spec import inputs
from engine.spec.draft import Node, Problems
from engine.spec.fields import ALIASES, OUTPUT_TYPES, PRIMITIVES
from engine.spec.model import InputField, OutputField, Place, Retry
from engine.spec.problems import did_you_mean

_INPUT_FIELDS = (
    "type", "name", "description", "required", "secret", "default", "options", "allow_custom",
    "multiple", "order",
)  # fmt: skip
_OUTPUT_FIELDS = ("type", "description", "required", "default", "options")
_RETRY_FIELDS = ("max_attempts", "delay", "backoff", "jitter")
_LONGEST_DELAY_S = 3600
_WHOLE_LIMIT = 2**31 - 1
_UMASK = re.compile(r"(?:0o)?[0-7]{1,4}")


class Entry:
    """A mapping, its name in messages (`Action 'deploy'`), and the list of problems."""

    __slots__ = ("node", "pairs", "problems", "subject")

    def __init__(self, node: Node, subject: str, problems: Problems) -> None:
        self.node, self.subject, self.problems = node, subject, problems
        self.pairs: dict[str, Node] = node.value if isinstance(node.value, dict) else {}
        if not isinstance(node.value, dict):
            self.problems.error(
                node.place, "bad-type", f"{subject} must be a mapping, not {node.kind}"
            )

    # -- what is there
    # -------------------------------------------------------------------------------------------

    def get(self, key: str) -> Node | None:
        node = self.pairs.get(key)
        return None if node is None or node.value is None else node

    def at(self, key: str) -> Place:
        """The place of `key`, or of the mapping when it is absent."""
        return self.node.keys.get(key, self.node.place)

    def refuse_unknown(self, known: Iterable[str], likely: Iterable[str] | None = None) -> None:
        """Report keys that are not `known`; `likely` limits the suggestions."""
        known = tuple(known)
        likely = known if likely is None else tuple(likely)
        for key in self.pairs:
            if key not in known:
                message = (
                    f"{self.subject} has unknown key '{shorten(key)}'{did_you_mean(key, likely)}"
                )
                self.problems.error(self.at(key), "unknown-key", message)

    def require(self, key: str, place: Place) -> None:
        """Report a missing `key` at `place`, that of the mapping's own name."""
        if isinstance(self.node.value, dict) and self.get(key) is None:
            self.problems.error(place, "missing-field", f"{self.subject} is missing '{key}'")

    def complain(self, key: str, rest: str, code: str = "bad-type") -> None:
        self.problems.error(self.at(key), code, f"{self.subject} '{key}' {rest}")

    # -- scalars
    # ----------------------------------------------------------------------------------------------

    def text(self, key: str) -> str | None:
        node = self.get(key)
        if node is None:
            return None
        if isinstance(node.value, str):
            return node.value
        if isinstance(node.value, bool | int | float):
            self.complain(key, f"must be text; put {shorten(node.text, 20)} in quotes")
        else:
            self.complain(key, f"must be text, not {node.kind}")
        return None

    def refuse_empty(self, keys: Iterable[str]) -> None:
        """Where an empty text would count as nothing at all."""
        for key in keys:
            node = self.get(key)
            if node is not None and isinstance(node.value, str) and not node.value.strip():
                self.complain(key, "is empty: give a value, or remove the key", "empty-field")

    def loose_text(self, key: str) -> str | None:
        """Text, or a number or true/false as the author wrote it."""
        node = self.get(key)
        if node is not None and isinstance(node.value, bool | int | float):
            return node.text
        return self.text(key)

    def flag(self, key: str, default: bool = False) -> bool:
        node = self.get(key)
        if node is None:
            return default
        if not isinstance(node.value, bool):
            shown = f"'{shorten(node.text, 20)}'" if node.text else node.kind
            self.complain(key, f"must be true or false, not {shown}")
            return default
        return node.value

    def whole(self, key: str, low: int = -_WHOLE_LIMIT, high: int = _WHOLE_LIMIT) -> int | None:
        node = self.get(key)
        if node is None:
            return None
        if isinstance(node.value, bool) or not isinstance(node.value, int):
            shown = f"'{shorten(node.text, 20)}'" if node.text else node.kind
            self.complain(key, f"must be a whole number, not {shown}")
            return None
        if not low <= node.value <= high:
            limits = f"{low} to {high}" if high < _WHOLE_LIMIT else f"{low} or more"
            self.complain(key, f"must be {limits}, not {node.value}", "out-of-range")
            return None
        return node.value

    def number(self, key: str) -> float | None:
        node = self.get(key)
        if node is None:
            return None
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.complain(key, f"must be a number, not {node.kind}")
            return None
        return float(node.value)

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        value = self.text(key)
        if value is None:
            return default
        if value not in choices:
            listed = ", ".join(choices)
            self.complain(
                key,
                f"must be one of {listed}, not '{shorten(value)}'{did_you_mean(value, choices)}",
            )
            return default
        return value

    def word(self, key: str, words: Sequence[str], code: str, wrong: str = "invalid") -> str | None:
        """One of `words`, or None; the message calls any other value `wrong`."""
        value = self.text(key)
        if value is None or value in words:
            return value
        message = f"has {wrong} {key} '{shorten(value)}' (expected: {', '.join(words)})"
        hint = did_you_mean(value, words)
        self.problems.error(self.at(key), code, f"{self.subject} {message}{hint}")
        return None

    def type_of(self, types: Sequence[str], code: str, place: Place) -> str | None:
        """One of `types`, required; `place` is that of the mapping's own name."""
        if isinstance(self.node.value, dict) and self.get("type") is None:
            message = f"{self.subject} is missing 'type' (expected: {', '.join(types)})"
            self.problems.error(place, "missing-field", message)
        return self.word("type", types, code)

    def duration(self, key: str) -> Duration | None:
        node = self.get(key)
        if node is None:
            return None
        value = node.text if isinstance(node.value, float) else node.value
        try:
            return durations.parse(value)
        except AuthorError as wrong:
            self.complain(key, f"is not a duration such as 90s, 15m or 1h30m: {wrong}", "duration")
            return None

    # -- collections
    # ---------------------------------------------------------------------------------------------

    def items(self, key: str) -> tuple[Node, ...]:
        node = self.get(key)
        if node is None:
            return ()
        if not isinstance(node.value, tuple):
            self.complain(key, f"must be a list, not {node.kind}")
            return ()
        return node.value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; numbers and true/false in it are taken as written."""
        found: list[str] = []
        for index, node in enumerate(self.items(key)):
            if isinstance(node.value, str | bool | int | float):
                found.append(node.text)
            else:
                message = f"{self.subject} '{key}' item {index + 1} must be text, not {node.kind}"
                self.problems.error(node.place, "bad-type", message)
        return tuple(found)

    def mapping(self, key: str) -> Node | None:
        node = self.get(key)
        if node is not None and not isinstance(node.value, dict):
            self.complain(key, f"must be a mapping, not {node.kind}")
            return None
        return node

    def text_mapping(self, key: str) -> dict[str, str]:
        """Names to texts; numbers and true/false are taken as written."""
        node = self.mapping(key)
        if node is None:
            return {}
        inner = Entry(node, f"{self.subject} '{key}'", self.problems)
        found = {name: inner.loose_text(name) for name in inner.pairs}
        for name in (name for name, value in inner.pairs.items() if value.value is None):
            inner.complain(name, 'must be text; write "" for an empty one')
        return {name: text for name, text in found.items() if text is not None}

    def plain_mapping(self, key: str) -> dict[str, Any]:
        node = self.mapping(key)
        return node.plain() if node else {}

    def entries(self, key: str, prefix: str) -> Iterable[tuple[str, Place, Entry]]:
        """The named mappings under `key`: name, place of the name, entry (`prefix 'name'` in
        messages)."""
        node = self.mapping(key)
        if node is None or not isinstance(node.value, dict):
            return
        for name, inner in node.value.items():
            yield name, node.keys[name], Entry(inner, f"{prefix} '{shorten(name)}'", self.problems)


def looks_like_field(node: Node) -> bool:
    """Whether an inline step's input entry declares a field, instead of being a value with a key
    `type`."""
    if not isinstance(node.value, dict) or "type" not in node.value:
        return False
    declared = node.value["type"].value
    return declared in (*PRIMITIVES, *ALIASES) or all(key in _INPUT_FIELDS for key in node.value)


def read_inputs(owner: Entry, key: str = "input") -> dict[str, InputField]:
    """The fields declared under `key`; unreadable ones are reported and omitted."""
    found: dict[str, InputField] = {}
    for name, place, entry in owner.entries(key, f"{owner.subject} input"):
        entry.refuse_unknown(_INPUT_FIELDS)
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
            default=as_declared(default, ALIASES.get(declared, declared)) if default else None,
            has_default=default is not None,
            options=entry.texts("options") if entry.get("options") else None,
            allow_custom=entry.flag("allow_custom"),
            multiple=entry.flag("multiple"),
            order=entry.whole("order"),
            position=len(found),
        )
        if default is not None and inputs.is_nothing(found[name]):
            is_required = "is required and " if found[name].required else ""
            message = f"{entry.subject} {is_required}has an empty default, which counts as none"
            owner.problems.warning(entry.at("default"), "default", message)
            found[name] = replace(found[name], default=None, has_default=False)
    return found


def as_declared(node: Node, declared: str) -> Any:
    """A value for a field of this type: text as the author typed it where text is wanted."""
    return node.plain() if declared in ("integer", "number", "boolean") else node.as_text()


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
    """Input values as plain JSON; templates in them stay unrendered."""
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


def read_umask(entry: Entry) -> int | None:
    """Octal digits as they are typed, quoted or not: 0027 means the same as "027"."""
    typed = entry.loose_text("umask")
    if typed is None:
        return None
    number = int(typed.removeprefix("0o"), 8) if _UMASK.fullmatch(typed) else -1
    if not 0 <= number <= 0o777:
        entry.complain("umask", f"must be octal digits such as 0027, not '{shorten(typed)}'")
        return None
    return number
