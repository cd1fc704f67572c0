"""Expands parameterised jobs and files: values of parameters, their combinations, and filling them
into texts.

Every placeholder is filled in, in any format, and combinations follow the order of the parameters
in the file: a file always gives the same steps. Jobs of one name become one job: a job whose name
has no placeholder collects the lists of all its combinations, as an aggregation needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from decimal import Decimal
from itertools import product
from typing import Any

from engine.errors import AuthorError
from engine.plain import shorten
from engine.spec.draft import Problems
from engine.spec.model import Place
from engine.spec.torc.model import Axes, File, Job, Specification

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
_TEXTS = ("name", "command", "invocation_script", "resource_requirements", "scheduler")
_LISTS = tuple(field.name for field in fields(Job) if str(field.type).startswith("tuple"))
MOST_JOBS = 20_000
MOST_FILES = 50_000
MOST_TEXT = 16_000_000  # total letters of all expanded texts
_PLACEHOLDER_COSTS = 20  # cost of a copy, in letters


def values_of(text: str) -> tuple[Value, ...]:
    """The values of `1:10`, `0:1:0.25`, `[a,b]` or a single word. Raises AuthorError."""
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
    """Without exponent and trailing zeros: 1e-05 is 0.00001, 1.0 is 1."""
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class _TooMuch(Exception):
    """The expansion would take too long."""


class _Budget:
    """The limits of an expansion."""

    def __init__(self) -> None:
        self._left = MOST_TEXT

    def fill(self, text: str, values: Combination) -> str:
        filled = fill(text, values)
        self._left -= max(len(text), len(filled)) + _PLACEHOLDER_COSTS * text.count("{")
        if self._left < 0:
            raise _TooMuch(
                f"the specification expands to more than {MOST_TEXT:,} letters; move text into a"
                " script"
            )
        return filled


def expand(spec: Specification, problems: Problems) -> Specification:
    """The specification with all parameters filled in; what cannot be expanded is reported and
    omitted."""
    budget = _Budget()
    at = spec.place
    jobs: list[Job] = []
    files: list[File] = []
    try:
        for job in spec.jobs:
            at = job.place
            for values in _combinations(
                f"Job '{shorten(job.name)}'", at, job.axes, spec.parameters, problems
            ):
                jobs.append(_fill_job(job, values, budget) if values else job)
                _refuse_more(len(jobs), MOST_JOBS, "jobs")
        for file in spec.files:
            at = file.place
            for values in _combinations(
                f"File '{shorten(file.name)}'", at, file.axes, spec.parameters, problems
            ):
                name, path = budget.fill(file.name, values), budget.fill(file.path, values)
                files.append(replace(file, name=name, path=path) if values else file)
                _refuse_more(len(files), MOST_FILES, "files")
    except _TooMuch as trouble:
        problems.error(at, "too-many", str(trouble))
        return replace(spec, jobs=(), files=())
    return replace(spec, jobs=_gathered(jobs, problems), files=_distinct(files, problems))


def _refuse_more(count: int, most: int, what: str) -> None:
    if count > most:
        raise _TooMuch(f"the specification has more than {most:,} {what}")


def _combinations(
    subject: str, place: Place, axes: Axes, shared: Mapping[str, str], problems: Problems
) -> list[dict[str, Any]]:
    """The values for each copy; one empty combination if nothing is repeated."""
    chosen = axes.parameters or {name: shared[name] for name in axes.shared if name in shared}
    if not chosen:
        return [{}]
    try:
        found = {}
        for name, text in chosen.items():
            try:
                found[name] = values_of(text)
            except AuthorError as wrong:
                raise AuthorError(f"parameter '{shorten(name)}': {wrong}") from None
        return combine(found, axes.mode)
    except AuthorError as wrong:
        problems.error(place, "parameters", f"{subject}: Parameter expansion failed: {wrong}")
        return []


def _fill_job(job: Job, values: Combination, budget: _Budget) -> Job:
    filled: dict[str, Any] = {}
    for key in _TEXTS:
        text = getattr(job, key)
        if text is not None:
            filled[key] = budget.fill(text, values)
    for key in _LISTS:
        texts = getattr(job, key)
        if texts:
            filled[key] = tuple(budget.fill(text, values) for text in texts)
    return replace(job, **filled)


def _gathered(jobs: list[Job], problems: Problems) -> tuple[Job, ...]:
    by_name: dict[str, list[Job]] = {}
    for job in jobs:
        same = by_name.setdefault(job.name, [])
        known = same[0] if same else job
        if known.place == job.place and known.command == job.command:
            same.append(job)
        else:
            message = f"Duplicate job name: '{shorten(job.name)}'"
            hint = (
                f"first at {known.place}"
                if known.place != job.place
                else "put a parameter into the name"
            )
            problems.error(job.place, "defined-twice", f"{message} ({hint})")
    return tuple(same[0] if len(same) == 1 else _joined(same) for same in by_name.values())


def _joined(same: list[Job]) -> Job:
    """One job that waits for, reads and writes everything that each of these does."""
    lists: dict[str, Any] = {
        key: tuple(dict.fromkeys(item for job in same for item in getattr(job, key)))
        for key in _LISTS
    }
    return replace(same[0], **lists)


def _distinct(files: list[File], problems: Problems) -> tuple[File, ...]:
    by_name: dict[str, File] = {}
    for file in files:
        known = by_name.setdefault(file.name, file)
        if known is not file and known != file:
            hint = (
                f"first at {known.place}"
                if known.place != file.place
                else "put a parameter into the name"
            )
            problems.error(
                file.place, "defined-twice", f"Duplicate file name: '{shorten(file.name)}' ({hint})"
            )
    return tuple(by_name.values())
