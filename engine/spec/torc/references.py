"""Resolves what jobs refer to: files, user data, `${files.input.N}` in commands, dependencies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from engine import dag
from engine.errors import AuthorError
from engine.plain import shorten
from engine.spec.draft import Problems
from engine.spec.problems import did_you_mean
from engine.spec.slurm import match_names
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
MOST_TRIALS = 400_000  # of a pattern on a name: half a second
MOST_TEXT = 16_000_000
_WHOLE_NAME = re.compile(r"\^([\w-]+)\$")


@dataclass(frozen=True, slots=True)
class Resolved:
    """Jobs with all names resolved, and the jobs that each waits for, in the order of the file."""

    jobs: tuple[Job, ...]
    depends_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    required_files: tuple[str, ...] = ()  # paths that a job reads and none writes


def resolve(spec: Specification, problems: Problems) -> Resolved:
    known = {
        "files": {file.name: file.path for file in spec.files},
        "user_data": {data.name: _text_of(data.data) for data in spec.user_data if data.has_data},
    }
    names = {
        "files": tuple(known["files"]),
        "user_data": tuple(data.name for data in spec.user_data),
    }
    find = _Search()
    jobs, letters = [], 0
    for job in spec.jobs:
        resolved = _resolve_job(job, known, names, find, problems, MOST_TEXT - letters)
        letters += len(resolved.command)
        jobs.append(resolved)
    needs = _dependencies(jobs, find, problems)
    if find.is_spent:
        message = (
            f"its patterns would have to be tried more than {MOST_TRIALS:,} times; name things, or"
            " use fewer"
        )
        problems.error(spec.place, "too-many", f"Specification '{shorten(spec.name)}': {message}")
    if needs is None or find.is_spent:
        return Resolved(tuple(jobs))
    cycle = dag.find_cycle(needs)
    if cycle:
        by_name = {job.name: job for job in jobs}
        shown = " -> ".join(shorten(name) for name in cycle[:10])
        place = by_name[cycle[0]].place
        problems.error(place, "cycle", f"Circular dependency detected involving jobs: {shown}")
    made = {name for job in jobs for name in job.output_files}
    read = dict.fromkeys(name for job in jobs for name in job.input_files if name not in made)
    return Resolved(
        tuple(jobs), needs, tuple(known["files"][name] for name in read if name in known["files"])
    )


def _text_of(data: object) -> str:
    """User data for commands: JSON without blanks, so that simple values are one shell word."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


class _Search:
    """Matches names by pattern, within a time limit; beyond it, everything matches."""

    def __init__(self) -> None:
        self._left = MOST_TRIALS
        self._known: dict[tuple[str, int], tuple[str, ...]] = {}
        self._sets: dict[int, frozenset[str]] = {}

    @property
    def is_spent(self) -> bool:
        return self._left < 0

    def __call__(self, pattern: str, among: tuple[str, ...]) -> tuple[str, ...]:
        """The names in `among` that the pattern matches. Raises AuthorError."""
        whole = _WHOLE_NAME.fullmatch(pattern)
        if whole is not None and whole[1].isascii():
            return (whole[1],) if whole[1] in self.set_of(among) else ()
        key = (pattern, id(among))
        if key not in self._known:
            self._left -= len(among) + 1
            if self.is_spent:
                return among[:1]
            self._known[key] = match_names(pattern, among, "search")
        return self._known[key]

    def set_of(self, among: tuple[str, ...]) -> frozenset[str]:
        """`among` as a cached set."""
        if id(among) not in self._sets:
            self._sets[id(among)] = frozenset(among)
        return self._sets[id(among)]


def _resolve_job(
    job: Job,
    known: Mapping[str, Mapping[str, str]],
    names: Mapping[str, tuple[str, ...]],
    find: _Search,
    problems: Problems,
    room: int,
) -> Job:
    """`room`: how many letters may be added."""
    if not _refers(job):
        return job
    lists = {key: _names_of(job, key, names[_kind(key)], find, problems) for key in _PATTERNS}

    def put(found: re.Match[str]) -> str:
        nonlocal room
        kind, way, name = found.groups()
        if name not in names[kind]:
            word = "file" if kind == "files" else "user_data"
            hint = did_you_mean(name, names[kind])
            message = (
                f"Job '{shorten(job.name)}' refers to non-existent {word} '{shorten(name)}'{hint}"
            )
            problems.error(
                job.at.get("command", job.place),
                "missing-name",
                f"Variable substitution failed: {message}",
            )
            return found[0]
        lists[_FIELDS[kind, way]].setdefault(name)
        value = known[kind].get(name, found[0])
        room -= len(value)
        return value if room > 0 else ""

    command = _VARIABLE.sub(put, job.command)
    script = None if job.invocation_script is None else _VARIABLE.sub(put, job.invocation_script)
    if room <= 0:
        message = (
            f"the commands grow to more than {MOST_TEXT:,} letters; let scripts read large data"
            " from files"
        )
        problems.error(job.at.get("command", job.place), "too-big", message)
    values = {key: tuple(found) for key, found in lists.items()}
    return replace(job, command=command, invocation_script=script, **values)  # type: ignore[arg-type]


def _refers(job: Job) -> bool:
    """Whether the job uses files or user data at all."""
    if "${" in job.command or (job.invocation_script and "${" in job.invocation_script):
        return True
    return any(
        getattr(job, key) or getattr(job, pattern_key) for key, pattern_key in _PATTERNS.items()
    )


def _kind(key: str) -> str:
    return "files" if key.endswith("files") else "user_data"


def _names_of(
    job: Job, key: str, among: tuple[str, ...], find: _Search, problems: Problems
) -> dict[str, None]:
    """The names in the list `key` and those that its patterns match."""
    found: dict[str, None] = {}
    word = "file" if key.endswith("files") else "user_data"
    known = find.set_of(among)
    for name in getattr(job, key):
        if name in known:
            found[name] = None
        else:
            hint = did_you_mean(name, among)
            message = (
                f"Job '{shorten(job.name)}' {key} references non-existent {word}"
                f" '{shorten(name)}'{hint}"
            )
            problems.error(job.at.get(key, job.place), "missing-name", message)
    pattern_key = _PATTERNS[key]
    for pattern in getattr(job, pattern_key):
        found.update(dict.fromkeys(_search(job, pattern_key, pattern, among, find, problems)))
    return found


def _search(
    job: Job, key: str, pattern: str, among: tuple[str, ...], find: _Search, problems: Problems
) -> Sequence[str]:
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
        problems.warning(place, "regex", message)
    return matched


def _dependencies(
    jobs: Sequence[Job], find: _Search, problems: Problems
) -> dict[str, tuple[str, ...]] | None:
    """Job -> the jobs it waits for: those it names, and those that write what it reads. None when
    there are too many."""
    names = tuple(job.name for job in jobs)
    order = {name: index for index, name in enumerate(names)}
    makers = _makers(jobs)
    needs: dict[str, tuple[str, ...]] = {}
    edges = 0
    for job in jobs:
        found = dict.fromkeys(_named(job, names, order, find, problems))
        for key in (
            *(f"f:{name}" for name in job.input_files),
            *(f"u:{name}" for name in job.input_user_data),
        ):
            found.update(dict.fromkeys(maker for maker in makers.get(key, ()) if maker != job.name))
        edges += len(found)
        if edges > MOST_EDGES:
            message = (
                f"the jobs have more than {MOST_EDGES:,} dependencies; let a job in between wait"
                " for all of them"
            )
            problems.error(job.place, "too-many", message)
            return None
        needs[job.name] = tuple(sorted(found, key=order.__getitem__))
    return needs


def _makers(jobs: Iterable[Job]) -> dict[str, list[str]]:
    makers: dict[str, list[str]] = {}
    for job in jobs:
        for key in (
            *(f"f:{name}" for name in job.output_files),
            *(f"u:{name}" for name in job.output_user_data),
        ):
            makers.setdefault(key, []).append(job.name)
    return makers


def _named(
    job: Job, names: tuple[str, ...], order: Mapping[str, int], find: _Search, problems: Problems
) -> Iterable[str]:
    for name in job.depends_on:
        if name in order:
            yield name
        else:
            hint = did_you_mean(name, names)
            message = (
                f"Job '{shorten(job.name)}' depends_on non-existent job '{shorten(name)}'{hint}"
            )
            problems.error(job.at.get("depends_on", job.place), "missing-step", message)
    for pattern in job.depends_on_regexes:
        found = _search(job, "depends_on_regexes", pattern, names, find, problems)
        yield from (name for name in found if name != job.name)
