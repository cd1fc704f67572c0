"""Parameterised jobs and files -> the jobs and files that there are.

Jobs of one name become one job: a job whose name holds no placeholder gathers what its combinations
list, as an aggregation over all of them wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from engine.errors import AuthorError
from engine.spec.model import Place
from engine.spec.problems import Problems, shorten
from engine.spec.torc.model import Axes, File, Job, Specification
from engine.spec.torc.parameters import Combination, combine, fill, values_of

_TEXTS = ("name", "command", "invocation_script", "resource_requirements", "scheduler")
_LISTS = tuple(field.name for field in fields(Job) if str(field.type).startswith("tuple"))
MOST_JOBS = 20_000
MOST_FILES = 50_000
MOST_TEXT = 16_000_000  # letters of all expanded texts together
_PLACEHOLDER_COSTS = 20  # as many letters as take as long


class _TooMuch(Exception):
    """The expansion would not end in reasonable time."""


class _Budget:
    """How much of an expansion there may be."""

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
    """The specification with every parameter filled in; what cannot be is complained about and left
    out."""
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
    """The values for each copy; one empty combination for what is not repeated."""
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
    """One job that waits for, reads and makes what each of these does."""
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
