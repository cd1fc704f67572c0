"""Hides secret values in text, in JSON values and in streams of log lines.

A value is found as is and in the forms that tools commonly print: base64 at its three alignments,
hex, URL-, JSON-, HTML- and shell-quoted; a multi-line secret also line by line. A value is found
in spite of what stands in it and is not seen: line ends (base64 wrapped at 76 columns, a long line
cut in two), colours, overstriking, characters without width. Masking limits damage; it is not a
barrier: a step can always transform a secret beyond recognition.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

import re2

from engine.orders import Line

MASK = "••••••"
# shorter values are not masked: masking every "1" would hide the log, not the secret
ANCHOR = 4
PIECE = 128  # longer values are found piece by piece, so that a stream keeps little state
SURELY_SECRET = 8  # an unfinished value of this many characters is hidden
NOT_SECRET = frozenset({"true", "false", "null", "none", "None", "True", "False"})
# Escape sequences; letters struck over by themselves, and underlining (`man` writes so); all other
# control characters but the tab; format characters and variation selectors.
_UNSEEN = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?"
    r"|(.)\x08(?=\1)|_\x08|[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5"
    r"\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff9-\ufffb\U000e0000-\U000e0fff]"
)

Span = tuple[int, int]


def secret_strings(*values: Any) -> tuple[str, ...]:
    """Every distinct text and number within `values` (any JSON) that is long enough to hide."""
    found: dict[str, None] = {}
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            found[value] = None
        elif isinstance(value, bool) or value is None:
            continue
        elif isinstance(value, int | float):
            found[str(value)] = None
        elif isinstance(value, Mapping):
            stack.extend(value.values())
        elif isinstance(value, Sequence):
            stack.extend(value)
    return tuple(
        sorted(text for text in found if len(text.strip()) >= ANCHOR and text not in NOT_SECRET)
    )


@lru_cache(maxsize=64)
def masker(secrets: tuple[str, ...]) -> Masker:
    """The masker of these values, cached because building one is expensive."""
    return Masker(secrets)


class Masker:
    """Finds the given values, and their usual encodings, in text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._by_anchor: dict[str, list[str]] = {}
        self.longest = 0
        forms = {form for secret in secrets for form in _forms(secret)}
        forms |= {_seen(form)[0] for form in forms}
        for pattern in sorted({piece for form in forms for piece in _pieces(form)}):
            self._by_anchor.setdefault(pattern[:ANCHOR], []).append(pattern)
            self.longest = max(self.longest, len(pattern))
        options = re2.Options()
        options.log_errors = False
        anchors = "|".join(re2.escape(anchor) for anchor in self._by_anchor)
        self._anchors = re2.compile(anchors, options) if anchors else None

    @property
    def is_idle(self) -> bool:
        """True when there is nothing to hide."""
        return self._anchors is None

    def text(self, text: str) -> str:
        """`text` with every value hidden, even across line ends."""
        if self._anchors is None or not text:
            return text
        joined, kept = _without_line_ends(text)
        spans, _ = self.scan(joined)
        if not spans:
            return text
        if kept is not None:
            spans = [(kept[start], kept[end - 1] + 1) for start, end in spans]
        return _hide(text, 0, spans)

    def value(self, value: Any) -> Any:
        """A copy of a JSON value with every secret hidden, in keys too."""
        if self._anchors is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            shown = str(value)
            return value if self.text(shown) == shown else MASK
        return value

    def scan(self, text: str) -> tuple[list[Span], int]:
        """The spans of values (merged, in order), and the start of one that the end of `text` may
        cut off.

        `text` has no line ends. The start is `len(text)` when nothing is cut off. Looks at `text`
        as it is too: what one reader takes for an escape sequence, another one sees.
        """
        spans, cut = self._scan(text)
        seen, kept = _seen(text)
        if kept is None:
            return spans, cut
        more, seen_cut = self._scan(seen)
        if seen_cut < len(seen):
            cut = min(cut, kept[seen_cut])
        return _merged(spans, [(kept[start], kept[end - 1] + 1) for start, end in more]), cut

    def _scan(self, text: str) -> tuple[list[Span], int]:
        size = len(text)
        start = self._first_anchor(text)
        spans: list[Span] = []
        cut = size
        for at in range(start, size - ANCHOR + 1):
            for pattern in self._by_anchor.get(text[at : at + ANCHOR], ()):
                if text.startswith(pattern, at):
                    _add(spans, at, at + len(pattern))
                elif size - at < len(pattern) and at < cut and pattern.startswith(text[at:]):
                    cut = at
        return spans, cut

    def _first_anchor(self, text: str) -> int:
        if self._anchors is None:
            return len(text)
        try:
            found = self._anchors.search(text)
        except UnicodeEncodeError:  # a lone surrogate
            return 0
        return int(found.start()) if found else len(text)


@dataclass(slots=True)
class _Entry:
    line: Line
    start: int  # offset of its text in the window's text
    is_done: bool = False


@dataclass(slots=True)
class _Window:
    """The pending part of one stream: its text without line ends, and the entries that wait in
    it."""

    text: str = ""
    # found so far; kept when their start leaves the window
    spans: list[Span] = field(default_factory=list)
    waiting: list[_Entry] = field(default_factory=list)


class LineMasker:
    """Hides values in a stream of lines. A line whose end may start a value waits for the next
    line."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._windows: dict[str, _Window] = {}
        self._queue: deque[_Entry] = deque()

    @property
    def oldest(self) -> float | None:
        """Time of the oldest waiting line."""
        return self._queue[0].line.at if self._queue else None

    def feed(self, line: Line) -> Sequence[Line]:
        """Take one line; returns the lines that may be shown now, in order of arrival."""
        if self._masker.is_idle:
            return (line,)
        window = self._windows.setdefault(line.stream, _Window())
        entry = _Entry(line, len(window.text))
        window.text += line.text
        window.waiting.append(entry)
        self._queue.append(entry)
        spans, cut = self._masker.scan(window.text)
        self._settle(window, _merged(window.spans, spans), cut)
        return self._drain()

    def release(self) -> Sequence[Line]:
        """Every waiting line; an unfinished value is hidden when enough of it is present."""
        for window in self._windows.values():
            spans, cut = self._masker.scan(window.text)
            if len(window.text) - cut >= SURELY_SECRET:
                spans.append((cut, len(window.text)))
            self._settle(window, _merged(window.spans, spans), len(window.text))
        return self._drain()

    def _settle(self, window: _Window, spans: list[Span], cut: int) -> None:
        still = []
        for entry in window.waiting:
            end = entry.start + len(entry.line.text)
            if end > cut and entry.line.text:
                still.append(entry)
                continue
            entry.line = replace(entry.line, text=_hide(entry.line.text, entry.start, spans))
            entry.is_done = True
        window.waiting = still
        first = min((entry.start for entry in still), default=len(window.text))
        drop = max(0, min(first, len(window.text) - self._masker.longest + 1))
        window.text = window.text[drop:]
        window.spans = [(max(0, start - drop), end - drop) for start, end in spans if end > drop]
        for entry in still:
            entry.start -= drop

    def _drain(self) -> Sequence[Line]:
        ready = []
        while self._queue and self._queue[0].is_done:
            ready.append(self._queue.popleft().line)
        return ready


def _merged(*groups: Sequence[Span]) -> list[Span]:
    spans: list[Span] = []
    for start, end in sorted(span for group in groups for span in group):
        _add(spans, start, end)
    return spans


def _add(spans: list[Span], start: int, end: int) -> None:
    if spans and start <= spans[-1][1]:
        spans[-1] = (min(start, spans[-1][0]), max(end, spans[-1][1]))
    else:
        spans.append((start, end))


def _hide(text: str, offset: int, spans: Iterable[Span]) -> str:
    """`text`, which starts at `offset`, with the parts in `spans` replaced."""
    out, at, size = [], 0, len(text)
    for start, end in spans:
        start, end = max(start - offset, at), min(end - offset, size)
        if start < end:
            out += [text[at:start], MASK]
            at = end
    return "".join((*out, text[at:])) if out else text


def _without_line_ends(text: str) -> tuple[str, list[int] | None]:
    if "\n" not in text and "\r" not in text:
        return text, None
    kept = [at for at, char in enumerate(text) if char not in "\r\n"]
    return "".join(text[at] for at in kept), kept


def _seen(text: str) -> tuple[str, list[int] | None]:
    """What a reader sees of `text`, and where each letter of it stands there; None: all is seen."""
    if text.isprintable():  # most lines, and quick
        return text, None
    kept: list[int] = []
    at = 0
    for found in _UNSEEN.finditer(text):
        kept += range(at, found.start())
        at = found.end()
    if not at:
        return text, None
    kept += range(at, len(text))
    return "".join(text[place] for place in kept), kept


def _pieces(form: str) -> Iterator[str]:
    if len(form) < ANCHOR:
        return
    if len(form) <= PIECE:
        yield form
        return
    for at in range(0, len(form) - PIECE, PIECE):
        yield form[at : at + PIECE]
    yield form[-PIECE:]


def _forms(secret: str) -> Iterator[str]:
    """The value and its encoded forms, without line ends."""
    lines = secret.splitlines()
    yield "".join(lines)
    if len(lines) > 1 or secret != secret.strip():
        yield from (line.strip() for line in lines)
    whole = {secret, secret.strip()} if len(lines) <= 1 else {secret, secret.rstrip("\r\n")}
    for text in whole:
        for form in _encoded(text):
            yield "".join(form.splitlines())


def _encoded(text: str) -> Iterator[str]:
    raw = text.encode("utf-8", "surrogatepass")
    yield raw.hex()
    yield raw.hex().upper()
    yield from _base64(raw)
    for shown in (
        quote(raw, safe=""),
        quote(raw),
        quote_plus(raw),
        quote(raw, safe="/:?#[]@!$&'()*+,;="),
    ):
        yield shown
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), shown)
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(json.dumps(text)[1:-1])[1:-1]  # JSON within JSON
    yield json.dumps(text)[1:-1].replace("/", "\\/")
    yield html.escape(text)
    yield html.escape(text, quote=False)
    yield html.escape(text).replace("&#x27;", "&#39;")
    yield repr(text)[1:-1]
    quoted = shlex.quote(text)
    yield quoted[1:-1] if quoted[:1] == "'" and quoted != text else quoted
    yield text.replace("'", "'\\''")
    yield re.sub(r"([\\\"$`])", r"\\\1", text)
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", text)  # printf %q


def _base64(raw: bytes) -> Iterator[str]:
    """The characters of the encoded text that depend on `raw` alone, not on its neighbours."""
    for lead in range(3):
        coded = base64.b64encode(b"\0" * lead + raw).decode().rstrip("=")
        head = (lead * 8 + 5) // 6
        tail = len(coded) if (lead + len(raw)) % 3 == 0 else len(coded) - 1
        core = coded[head:tail]
        yield core
        yield core.translate(str.maketrans("+/", "-_"))
