"""Tera's filters on text."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from text_unidecode import unidecode  # type: ignore[import-untyped]  # it has no annotations and no stubs

from engine.errors import TemplateError
from engine.templating.calls import Call, Filter
from engine.templating.operations import I64_MAX, I64_MIN
from engine.templating.values import WHITESPACE, is_number, kind

_WORD = re.compile(r"\b([\w'])([\w']*)\b")
_BETWEEN_TAGS = re.compile(r">\s+<")
_LINE_END = re.compile(r"\r?\n")
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DIGITS = re.compile(r"[+-]?[0-9a-zA-Z]+")
_HTML = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;", "/": "&#x2F;"}
)
_XML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})


def _sized(call: Call, text: str) -> str:
    call.budget.allow_text(len(text))
    return text


def _pattern(call: Call) -> str:
    """The argument `pat`, in which `\\n` and `\\t` stand for the characters: Tera's strings know no
    escapes."""
    return call.text_argument("pat").replace("\\n", "\n").replace("\\t", "\t")


def upper(call: Call, value: Any) -> str:
    return _sized(call, call.text(value).upper())


def lower(call: Call, value: Any) -> str:
    return _sized(call, call.text(value).lower())


def trim(call: Call, value: Any) -> str:
    return call.text(value).strip(WHITESPACE)


def trim_start(call: Call, value: Any) -> str:
    return call.text(value).lstrip(WHITESPACE)


def trim_end(call: Call, value: Any) -> str:
    return call.text(value).rstrip(WHITESPACE)


def trim_start_matches(call: Call, value: Any) -> str:
    text, pattern, start = call.text(value), _pattern(call), 0
    while pattern and text.startswith(pattern, start):
        start += len(pattern)
    return text[start:]


def trim_end_matches(call: Call, value: Any) -> str:
    text, pattern = call.text(value), _pattern(call)
    end = len(text)
    while pattern and text.endswith(pattern, 0, end):
        end -= len(pattern)
    return text[:end]


def truncate(call: Call, value: Any) -> str:
    text = call.text(value)
    length = call.whole_argument("length", 255, low=0)
    end = call.text_argument("end", "…")
    return text if length >= len(text) else _sized(call, text[:length] + end)


def wordcount(call: Call, value: Any) -> int:
    return len(call.text(value).split())


def replace(call: Call, value: Any) -> str:
    text, old, new = call.text(value), call.text_argument("from"), call.text_argument("to")
    call.budget.allow_text(len(text) + text.count(old) * max(0, len(new) - len(old)))
    return text.replace(old, new)


def capitalize(call: Call, value: Any) -> str:
    text = call.text(value)
    return _sized(call, text[:1].upper() + text[1:].lower())


def title(call: Call, value: Any) -> str:
    return _sized(call, _WORD.sub(lambda word: word[1].upper() + word[2].lower(), call.text(value)))


def linebreaksbr(call: Call, value: Any) -> str:
    return _sized(call, _LINE_END.sub("<br>", call.text(value)))


def indent(call: Call, value: Any) -> str:
    text, prefix = call.text(value), call.text_argument("prefix", "    ")
    first, blank = call.flag_argument("first"), call.flag_argument("blank")
    lines = _LINE_END.split(text)
    if lines[-1] == "":
        lines.pop()
    call.budget.allow_text(len(text) + len(lines) * len(prefix))
    return "\n".join(
        (prefix if (first if not number else blank or line.strip(WHITESPACE)) else "") + line
        for number, line in enumerate(lines)
    )


def striptags(call: Call, value: Any) -> str:
    """Hand-written, because a regular expression takes quadratic time on text full of `<`."""
    text = call.text(value)
    kept, position, comments = [], 0, True
    while (start := text.find("<", position)) >= 0:
        end = -1
        if comments and text.startswith("<!--", start):
            end = text.find("-->", start + 4)
            comments = end >= 0
            end = end + 3 if comments else -1
        if end < 0:
            end = text.find(">", start) + 1
            if not end:
                break
        kept.append(text[position:start])
        position = end
    return "".join(kept) + text[position:]


def spaceless(call: Call, value: Any) -> str:
    return _BETWEEN_TAGS.sub("><", call.text(value))


def urlencode(call: Call, value: Any) -> str:
    return _sized(call, quote(_encodable(call, value), safe="/"))


def urlencode_strict(call: Call, value: Any) -> str:
    """Everything but ASCII letters and digits; `quote` would spare `_.-~`."""
    text = _encodable(call, value)
    call.budget.allow_text(3 * len(text.encode()))
    kept = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    return "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in text.encode())


def _encodable(call: Call, value: Any) -> str:
    text = call.text(value)
    call.budget.spend(len(text) >> 2)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TemplateError(
            f"{call.what}: the text holds half a character and has no UTF-8 form"
        ) from None
    return text


def escape(call: Call, value: Any) -> str:
    return _sized(call, call.text(value).translate(_HTML))


def escape_xml(call: Call, value: Any) -> str:
    return _sized(call, call.text(value).translate(_XML))


def addslashes(call: Call, value: Any) -> str:
    return _sized(
        call, call.text(value).replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'")
    )


def slugify(call: Call, value: Any) -> str:
    text = call.text(value)
    call.budget.spend(len(text) >> 2)
    kept = "".join(
        char if char.isascii() and char.isalnum() else "-" for char in unidecode(text).lower()
    )
    return _sized(call, "-".join(part for part in kept.split("-") if part))


def split(call: Call, value: Any) -> list[str]:
    text, pattern = call.text(value), _pattern(call)
    parts = text.split(pattern) if pattern else ["", *text, ""]
    call.budget.spend(len(parts))
    return parts


def to_int(call: Call, value: Any) -> int:
    default = call.whole_argument("default", 0)
    base = call.whole_argument("base", 10, low=2, high=36)
    if isinstance(value, str):
        return _whole(call.text(value).strip(WHITESPACE), base, default)
    if not is_number(value):
        raise TemplateError(f"{call.what} works on a string or a number, not on {kind(value)}")
    return _clamped(value)


def _whole(text: str, base: int, default: int) -> int:
    prefix = {2: "0b", 8: "0o", 16: "0x"}.get(base, "")
    digits = text.removeprefix(prefix)
    if (
        len(digits) < 100
        and _DIGITS.fullmatch(digits)
        and all(int(char, 36) < base for char in digits.lstrip("+-"))
    ):
        number = int(digits, base)
        if I64_MIN <= number <= I64_MAX:
            return number
    if "." in digits and len(digits) < 400 and _DECIMAL.fullmatch(digits):
        return _clamped(float(digits))
    return default


def _clamped(number: float) -> int:
    if isinstance(number, float) and abs(number) > 1e19:
        return I64_MAX if number > 0 else I64_MIN
    return max(I64_MIN, min(I64_MAX, int(number)))


def to_float(call: Call, value: Any) -> float:
    default = float(call.number_argument("default", 0.0))
    if isinstance(value, str):
        text = call.text(value).strip(WHITESPACE)
        number = float(text) if len(text) < 400 and _DECIMAL.fullmatch(text) else default
        return default if number in (float("inf"), float("-inf")) else number
    if not is_number(value):
        raise TemplateError(f"{call.what} works on a string or a number, not on {kind(value)}")
    return float(value)


TEXT_FILTERS: dict[str, Filter] = {
    "upper": upper,
    "lower": lower,
    "trim": trim,
    "trim_start": trim_start,
    "trim_end": trim_end,
    "trim_start_matches": trim_start_matches,
    "trim_end_matches": trim_end_matches,
    "truncate": truncate,
    "wordcount": wordcount,
    "replace": replace,
    "capitalize": capitalize,
    "title": title,
    "linebreaksbr": linebreaksbr,
    "indent": indent,
    "striptags": striptags,
    "spaceless": spaceless,
    "urlencode": urlencode,
    "urlencode_strict": urlencode_strict,
    "escape": escape,
    "escape_xml": escape_xml,
    "addslashes": addslashes,
    "slugify": slugify,
    "split": split,
    "int": to_int,
    "float": to_float,
}
