"""Parameterised jobs and files -> the jobs and files that there are.

Jobs of one name become one job: a job whose name holds no placeholder gathers what its combinations list, as an
aggregation over all of them wants.
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
MOST_JOBS = 100_000


def expand(spec: Specification, problems: Problems) -> Specification:
    """The specification with every parameter filled in; what cannot be is complained about and left out."""
    jobs: list[Job] = []
    for job in spec.jobs:
        for values in _combinations(f"Job '{shorten(job.name)}'", job.place, job.axes, spec.parameters, problems):
            jobs.append(_fill_job(job, values) if values else job)
            if len(jobs) > MOST_JOBS:
                problems.error(job.place, "too-many", f"the specification has more than {MOST_JOBS:,} jobs")
                return replace(spec, jobs=())
    files: list[File] = []
    for file in spec.files:
        subject = f"File '{shorten(file.name)}'"
        for values in _combinations(subject, file.place, file.axes, spec.parameters, problems):
            files.append(replace(file, name=fill(file.name, values), path=fill(file.path, values)))
    return replace(spec, jobs=_gathered(jobs, problems), files=_distinct(files, problems))


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


def _fill_job(job: Job, values: Combination) -> Job:
    filled: dict[str, Any] = {}
    for key in _TEXTS:
        text = getattr(job, key)
        filled[key] = text if text is None else fill(text, values)
    for key in _LISTS:
        filled[key] = tuple(fill(text, values) for text in getattr(job, key))
    return replace(job, **filled)


def _gathered(jobs: list[Job], problems: Problems) -> tuple[Job, ...]:
    by_name: dict[str, Job] = {}
    for job in jobs:
        known = by_name.get(job.name)
        if known is None:
            by_name[job.name] = job
        elif known.place == job.place and known.command == job.command:
            lists: dict[str, Any] = {
                key: tuple(dict.fromkeys((*getattr(known, key), *getattr(job, key)))) for key in _LISTS
            }
            by_name[job.name] = replace(known, **lists)
        else:
            message = f"Duplicate job name: '{shorten(job.name)}'"
            hint = f"first at {known.place}" if known.place != job.place else "put a parameter into the name"
            problems.error(job.place, "defined-twice", f"{message} ({hint})")
    return tuple(by_name.values())


def _distinct(files: list[File], problems: Problems) -> tuple[File, ...]:
    by_name: dict[str, File] = {}
    for file in files:
        known = by_name.setdefault(file.name, file)
        if known is not file and known != file:
            hint = f"first at {known.place}" if known.place != file.place else "put a parameter into the name"
            problems.error(file.place, "defined-twice", f"Duplicate file name: '{shorten(file.name)}' ({hint})")
    return tuple(by_name.values())
