"""Events of a consumer: each `OUTPUT:` line of its script is one, a JSON object.

The key `_event` is not part of the event. It says what the script knows about it:
`{"id": "17-0", "reply": true}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.output import is_clean, parse

ABOUT = "_event"
MOST_BYTES = 256 * 1024
LONGEST_ID = 180
_KNOWN = frozenset({"id", "reply"})


class EventSink(Protocol):
    def __call__(self, text: str, *, is_cut: bool) -> str | None:
        """Take the text after `OUTPUT:`; returns once it is safe, or the script must end. The line
        for the script's standard input, if it asks for one."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """`problem`: why no job can be made of it; its text is kept instead."""

    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)
    id: str = ""
    wants_reply: bool = False
    problem: str = ""
    text: str = field(default="", repr=False)

    def reply(self, refused: str = "") -> str:
        """`ok ID`, or `refused ID: why`, on one line."""
        if not refused:
            return f"ok {self.id}".rstrip()
        return f"refused {self.id}".rstrip() + ": " + " ".join(refused.split())


def read(text: str, *, is_cut: bool = False) -> Event:
    """The event in this text. Never raises: what cannot be read has a problem."""
    size = len(text.encode("utf-8", "replace"))
    if is_cut or size > MOST_BYTES:
        problem = f"the event is larger than {MOST_BYTES // 1024} KiB; pass on where its data are"
        return Event(problem=problem, text=text[:1000])
    try:
        value = parse(text)
    except ValueError as wrong:
        return Event(problem=f"the event cannot be read, because {wrong}", text=text)
    if not isinstance(value, dict):
        return Event(problem="the event is no JSON object", text=text)
    if not is_clean(value):
        problem = "the event holds NUL or half of a surrogate pair, which cannot be stored"
        return Event(problem=problem, text=text)
    about = value.pop(ABOUT, {})
    wrong_about = _wrong_about(about)
    if wrong_about:
        wants_reply = isinstance(about, dict) and about.get("reply") is True
        problem = f"the event's '{ABOUT}' {wrong_about}"
        return Event(problem=problem, text=text, wants_reply=wants_reply)
    name = about.get("id")
    return Event(value, "" if name is None else str(name), about.get("reply") is True)


def _wrong_about(about: Any) -> str:
    if not isinstance(about, dict):
        return "must be an object"
    unknown = sorted(set(about) - _KNOWN)
    if unknown:
        return f"has the unknown key '{unknown[0][:40]}' (known: id, reply)"
    if not isinstance(about.get("reply", False), bool):
        return "has a 'reply' that is neither true nor false"
    name = about.get("id")
    if name is None:
        return ""
    if not isinstance(name, str | int) or isinstance(name, bool):
        return "has an 'id' that is no text"
    if not (1 <= len(str(name)) <= LONGEST_ID and str(name).isprintable()):
        return f"has an 'id' that is not 1 to {LONGEST_ID} printable characters"
    return ""
