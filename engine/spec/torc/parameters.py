"""Values of parameters, their combinations, and putting them into texts. Source: torc.md 8.3.

Every placeholder of a text is filled in, whatever its format, and combinations come in the order in
which the file names the parameters: one file always gives the same steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import product

from engine.errors import AuthorError

Value = int | float | str
Combination = Mapping[str, Value]
MOST_VALUES = 100_000
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\Z")
_ITEM = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]*?)\s*(?:,|\Z)""")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}")
_PADDED = re.compile(r"0([0-9]{1,3})d\Z")
_ROUNDED = re.compile(r"\.([0-9]{1,2})f\Z")
_TOLERANCE = 1e-10


def values_of(text: str) -> tuple[Value, ...]:
    """The values that `1:10`, `0:1:0.25`, `[a,b]` or a single word mean. Raises AuthorError."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}") and ":" in text:
        text = text[1:-1].strip()
    if text.startswith("[") and text.endswith("]"):
        return tuple(_scalar(item) for item in _items(text[1:-1]))
    if ":" in text:
        return _range(text)
    return (_scalar(text),)


def _items(text: str) -> list[str]:
    if not text.strip():
        raise AuthorError("Invalid range format: the list is empty")
    found: list[str] = []
    at = 0
    while at < len(text) or (found and text.endswith(",") and at == len(text)):
        part = _ITEM.match(text, at)
        if part is None:
            raise AuthorError(f"Invalid range format: the quotes in '{text[:40]}' do not fit")
        if part.end() == at:
            break
        found.append(part[1])
        at = part.end()
    return found


def _scalar(text: str) -> Value:
    text = text.strip()
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _range(text: str) -> tuple[Value, ...]:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) not in (2, 3):
        raise AuthorError(
            f"Invalid range format: '{text[:40]}' (write start:end or start:end:step)"
        )
    if all(_INTEGER.match(part) for part in parts):
        start, end, step = int(parts[0]), int(parts[1]), int(parts[2]) if len(parts) == 3 else 1
        if step == 0:
            raise AuthorError("Step cannot be zero")
        return tuple(_bounded(range(start, end + (1 if step > 0 else -1), step)))
    if all(_FLOAT.match(part) for part in parts):
        return _float_range(*(float(part) for part in parts))
    raise AuthorError(
        f"Invalid range values: '{text[:40]}' (its parts are not all numbers; put text into a list)"
    )


def _bounded(values: range) -> Sequence[int]:
    if len(values) > MOST_VALUES:
        raise AuthorError(f"the range has more than {MOST_VALUES:,} values")
    return values


def _float_range(start: float, end: float, step: float = 1.0) -> tuple[Value, ...]:
    if step == 0:
        raise AuthorError("Step cannot be zero")
    count = (end - start) / step
    if not -1 < count < MOST_VALUES:
        if count <= -1:
            return ()
        raise AuthorError(f"the range has more than {MOST_VALUES:,} values")
    return tuple(
        start + index * step
        for index in range(int(count + 1.5))
        if (start + index * step - end) * (1 if step > 0 else -1) <= _TOLERANCE
    )


def combine(axes: Mapping[str, Sequence[Value]], mode: str) -> list[dict[str, Value]]:
    """Every combination (`product`), or the first of each, the second of each and so on (`zip`)."""
    if mode != "zip":
        total = 1
        for values in axes.values():
            total *= len(values)
        if total > MOST_VALUES:
            raise AuthorError(
                f"the parameters have {total:,} combinations (at most {MOST_VALUES:,} are possible)"
            )
        return [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]
    lengths = {name: len(values) for name, values in axes.items()}
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise AuthorError(
                "All parameters must have the same number of values when using 'zip' mode."
                f" Parameter '{first}' has {lengths[first]} values, but '{name}' has {length}"
                " values."
            )
    return [dict(zip(axes, chosen, strict=True)) for chosen in zip(*axes.values(), strict=True)]


def fill(text: str, values: Combination) -> str:
    """`text` with `{name}`, `{name:03d}` and `{name:.2f}` filled in; other braces stay."""
    if "{" not in text:
        return text

    def one(found: re.Match[str]) -> str:
        return _format(values[found[1]], found[2] or "") if found[1] in values else found[0]

    return _PLACEHOLDER.sub(one, text)


def _format(value: Value, spec: str) -> str:
    padded, rounded = _PADDED.match(spec), _ROUNDED.match(spec)
    if padded and isinstance(value, int):
        return f"{value:0{int(padded[1])}d}"
    if rounded and isinstance(value, float):
        return f"{value:.{int(rounded[1])}f}"
    if isinstance(value, float):
        return _plain(value)
    return str(value)


def _plain(value: float) -> str:
    """Without exponent and without zeros that say nothing: 1e-05 is 0.00001, 1.0 is 1."""
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
