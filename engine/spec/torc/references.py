"""What jobs refer to, resolved: names of files and user data, `${files.input.N}` in commands, who waits for whom."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from engine import dag
from engine.errors import AuthorError
from engine.spec.problems import Problems, did_you_mean, shorten
from engine.spec.selection import match_names
from engine.spec.torc.model import Job, Specification

_VARIABLE = re.compile(r"\$\{(files|user_data)\.(input|output)\.([^{}]+)\}")
_FIELDS = {
    ("files", "input"): "input_files",
    ("files", "output"): "output_files",
    ("user_data", "input"): "input_user_data",
    ("user_data", "output"): "output_user_data",
}
_PATTERNS = {
    "input_files": "input_file_regexes",
    "output_files": "output_file_regexes",
    "input_user_data": "input_user_data_regexes",
    "output_user_data": "output_user_data_regexes",
}
MOST_EDGES = 1_000_000


@dataclass(frozen=True, slots=True)
class Resolved:
    """Jobs with every name looked up, and for each the jobs that it waits for, in the order of the file."""

    jobs: tuple[Job, ...]
    depends_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    required_files: tuple[str, ...] = ()  # paths that no job makes, and some job reads


def resolve(spec: Specification, problems: Problems) -> Resolved:
    known = {
        "files": {file.name: file.path for file in spec.files},
        "user_data": {data.name: json.dumps(data.data) for data in spec.user_data if data.has_data},
    }
    names = {"files": tuple(known["files"]), "user_data": tuple(data.name for data in spec.user_data)}
    find = lru_cache(maxsize=4096)(lambda pattern, among: match_names(pattern, among, "search"))
    jobs = tuple(_resolve_job(job, known, names, find, problems) for job in spec.jobs)
    needs = _dependencies(jobs, find, problems)
    if needs is None:
        return Resolved(jobs)
    cycle = dag.find_cycle(needs)
    if cycle:
        by_name = {job.name: job for job in jobs}
        shown = " -> ".join(shorten(name) for name in cycle[:10])
        place = by_name[cycle[0]].place
        problems.error(place, "cycle", f"Circular dependency detected involving jobs: {shown}")
    made = {name for job in jobs for name in job.output_files}
    read = dict.fromkeys(name for job in jobs for name in job.input_files if name not in made)
    return Resolved(jobs, needs, tuple(known["files"][name] for name in read if name in known["files"]))


Find = Callable[[str, tuple[str, ...]], tuple[str, ...]]


def _resolve_job(
    job: Job,
    known: Mapping[str, Mapping[str, str]],
    names: Mapping[str, tuple[str, ...]],
    find: Find,
    problems: Problems,
) -> Job:
    lists = {key: _names_of(job, key, names[_kind(key)], find, problems) for key in _PATTERNS}

    def put(found: re.Match[str]) -> str:
        kind, way, name = found.groups()
        if name not in names[kind]:
            word = "file" if kind == "files" else "user_data"
            hint = did_you_mean(name, names[kind])
            message = f"Job '{shorten(job.name)}' refers to non-existent {word} '{shorten(name)}'{hint}"
            problems.error(job.at.get("command", job.place), "missing-name", f"Variable substitution failed: {message}")
            return found[0]
        lists[_FIELDS[kind, way]].setdefault(name)
        return known[kind].get(name, found[0])

    command = _VARIABLE.sub(put, job.command)
    script = None if job.invocation_script is None else _VARIABLE.sub(put, job.invocation_script)
    values = {key: tuple(found) for key, found in lists.items()}
    return replace(job, command=command, invocation_script=script, **values)  # type: ignore[arg-type]


def _kind(key: str) -> str:
    return "files" if key.endswith("files") else "user_data"


def _names_of(job: Job, key: str, among: tuple[str, ...], find: Find, problems: Problems) -> dict[str, None]:
    """The names in the list `key` and those that its patterns find."""
    found: dict[str, None] = {}
    word = "file" if key.endswith("files") else "user_data"
    known = frozenset(among)
    for name in getattr(job, key):
        if name in known:
            found[name] = None
        else:
            hint = did_you_mean(name, among)
            message = f"Job '{shorten(job.name)}' {key} references non-existent {word} '{shorten(name)}'{hint}"
            problems.error(job.at.get(key, job.place), "missing-name", message)
    pattern_key = _PATTERNS[key]
    for pattern in getattr(job, pattern_key):
        found.update(dict.fromkeys(_search(job, pattern_key, pattern, among, find, problems)))
    return found


def _search(job: Job, key: str, pattern: str, among: tuple[str, ...], find: Find, problems: Problems) -> Sequence[str]:
    place = job.at.get(key, job.place)
    try:
        matched = find(pattern, among)
    except AuthorError as wrong:
        message = f"Job '{shorten(job.name)}' has invalid {key} '{shorten(pattern)}': {wrong}"
        problems.error(place, "regex", message)
        return ()
    if not matched:
        what = "jobs" if key == "depends_on_regexes" else "names"
        message = f"Job '{shorten(job.name)}' {key} '{shorten(pattern)}' did not match any {what}"
        problems.error(place, "regex", message)
    return matched


def _dependencies(jobs: Sequence[Job], find: Find, problems: Problems) -> dict[str, tuple[str, ...]] | None:
    """Job -> the jobs it waits for: those it names, and those that make what it reads. None when there are too many."""
    names = tuple(job.name for job in jobs)
    order = {name: index for index, name in enumerate(names)}
    makers = _makers(jobs)
    needs: dict[str, tuple[str, ...]] = {}
    edges = 0
    for job in jobs:
        found = dict.fromkeys(_named(job, names, order, find, problems))
        for key in (*(f"f:{name}" for name in job.input_files), *(f"u:{name}" for name in job.input_user_data)):
            found.update(dict.fromkeys(maker for maker in makers.get(key, ()) if maker != job.name))
        edges += len(found)
        if edges > MOST_EDGES:
            message = f"the jobs have more than {MOST_EDGES:,} dependencies; let a job in between wait for all of them"
            problems.error(job.place, "too-many", message)
            return None
        needs[job.name] = tuple(sorted(found, key=order.__getitem__))
    return needs


def _makers(jobs: Iterable[Job]) -> dict[str, list[str]]:
    makers: dict[str, list[str]] = {}
    for job in jobs:
        for key in (*(f"f:{name}" for name in job.output_files), *(f"u:{name}" for name in job.output_user_data)):
            makers.setdefault(key, []).append(job.name)
    return makers


def _named(job: Job, names: tuple[str, ...], order: Mapping[str, int], find: Find, problems: Problems) -> Iterable[str]:
    for name in job.depends_on:
        if name in order:
            yield name
        else:
            hint = did_you_mean(name, names)
            message = f"Job '{shorten(job.name)}' depends_on non-existent job '{shorten(name)}'{hint}"
            problems.error(job.at.get("depends_on", job.place), "missing-step", message)
    for pattern in job.depends_on_regexes:
        found = _search(job, "depends_on_regexes", pattern, names, find, problems)
        yield from (name for name in found if name != job.name)
