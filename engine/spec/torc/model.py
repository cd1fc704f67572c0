"""A specification, before and after the expansion of parameters, and its consistency checks, in
Torc's own words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine import dag
from engine.errors import AuthorError
from engine.plain import shorten
from engine.spec.checks_workflow_actions import listed, missing_scheduler
from engine.spec.draft import Node
from engine.spec.model import Place, Problem, WorkflowAction
from engine.spec.problems import did_you_mean, error, warning
from engine.spec.slurm import (
    JOB_TRIGGERS,
    NODES_FOR_NOTHING,
    TOO_MANY_TRIALS,
    asks_in_vain,
    is_endless,
    match_names,
    misplaced,
)


@dataclass(frozen=True, slots=True)
class Axes:
    """The parameters of a repetition: parameter -> the text of its values."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    mode: str = "product"
    shared: tuple[str, ...] = ()  # `use_parameters`: names of parameters of the specification


@dataclass(frozen=True, slots=True)
class Job:
    """One job; the lists hold names, the `_regexes` patterns for names."""

    name: str
    command: str
    place: Place
    invocation_script: str | None = None
    cancel_on_blocking_job_failure: bool = True
    resource_requirements: str | None = None
    failure_handler: str | None = None
    scheduler: str | None = None
    depends_on: tuple[str, ...] = ()
    depends_on_regexes: tuple[str, ...] = ()
    input_files: tuple[str, ...] = ()
    input_file_regexes: tuple[str, ...] = ()
    output_files: tuple[str, ...] = ()
    output_file_regexes: tuple[str, ...] = ()
    input_user_data: tuple[str, ...] = ()
    input_user_data_regexes: tuple[str, ...] = ()
    output_user_data: tuple[str, ...] = ()
    output_user_data_regexes: tuple[str, ...] = ()
    axes: Axes = Axes()
    at: Mapping[str, Place] = field(default_factory=dict)  # key -> its place


@dataclass(frozen=True, slots=True)
class File:
    name: str
    path: str
    place: Place
    axes: Axes = Axes()


@dataclass(frozen=True, slots=True)
class UserData:
    name: str
    place: Place
    data: Any = None
    has_data: bool = False


@dataclass(frozen=True, slots=True)
class Requirements:
    name: str
    place: Place
    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    memory: int = 1024**2  # bytes
    runtime: str = "PT1H"


@dataclass(frozen=True, slots=True)
class Rule:
    """`max_retries` counts attempts, including the first, as in Torc."""

    exit_codes: tuple[int, ...]
    match_all: bool
    recovery_script: str | None
    max_retries: int


@dataclass(frozen=True, slots=True)
class Handler:
    name: str
    place: Place
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Specification:
    """One file. `options` holds settings of Torc's own runners."""

    name: str
    place: Place
    jobs: tuple[Job, ...]
    description: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    user_data: tuple[UserData, ...] = ()
    requirements: Mapping[str, Requirements] = field(default_factory=dict)
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    schedulers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    actions: tuple[WorkflowAction, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def check(spec: Specification, root: Node) -> Iterator[Problem]:
    """All problems of an expanded specification; `root` is its tree."""
    yield from _check_jobs(spec)
    yield from _check_node_counts(spec)
    names = tuple(job.name for job in spec.jobs)
    if is_endless(spec.actions, len(names)):
        yield error(spec.actions[0].place, "too-many", TOO_MANY_TRIALS)
        return
    seen = [_Seen(action, *_find(action, root)) for action in spec.actions]
    for one in seen:
        yield from _check_selection(one, names)
        yield from _check_schedulers(one, spec)
        wrong = misplaced(one.action, spec.actions)
        if wrong:
            yield warning(one.at("where"), "no-effect", f"{one.subject}: {wrong}")
        if asks_in_vain(one.action):
            yield warning(one.at("trigger_type"), "nodes", f"{one.subject}: {NODES_FOR_NOTHING}")
    yield from _check_needs(seen)


def _check_jobs(spec: Specification) -> Iterator[Problem]:
    tables = (
        (
            "resource_requirements",
            "Job '{}' references non-existent resource_requirements '{}'",
            spec.requirements,
        ),
        ("scheduler", "Job '{}' references non-existent scheduler '{}'", spec.schedulers),
        ("failure_handler", "Failure handler '{1}' not found for job '{0}'", spec.handlers),
    )
    for job in spec.jobs:
        for key, sentence, known in tables:
            named = getattr(job, key)
            if named is not None and named not in known:
                message = sentence.format(shorten(job.name), shorten(named)) + did_you_mean(
                    named, known
                )
                yield error(job.at.get(key, job.place), "missing-name", message)


def _check_node_counts(spec: Specification) -> Iterator[Problem]:
    """A single worker for several nodes needs a job that uses all of them."""
    for action in spec.actions:
        for doing in action.do:
            scheduler = spec.schedulers.get(doing.get("scheduler") or "")
            if scheduler is None or doing.get("start_one_worker_per_node"):
                continue
            nodes = scheduler.get("nodes", 1)
            users = [job for job in spec.jobs if job.scheduler == doing["scheduler"]]
            if nodes > 1 and users and not any(_nodes_of(job, spec) == nodes for job in users):
                listed = ", ".join(shorten(job.name) for job in users[:10]) + (
                    ", …" if len(users) > 10 else ""
                )
                message = (
                    f"Scheduler node validation failed: Scheduler '{shorten(doing['scheduler'])}'"
                    f" allocates {nodes} nodes but none of the jobs using it ({listed}) have"
                    f" num_nodes={nodes}; set it in their resource_requirements, or set"
                    " start_one_worker_per_node: true on the action"
                )
                yield error(action.place, "nodes", message)


def _nodes_of(job: Job, spec: Specification) -> int:
    found = spec.requirements.get(job.resource_requirements or "")
    return found.num_nodes if found else 1


@dataclass(frozen=True, slots=True)
class _Seen:
    """An action, its number in the list, and its node."""

    action: WorkflowAction
    index: int
    node: Node

    @property
    def subject(self) -> str:
        return f"Action #{self.index + 1}"

    def at(self, key: str) -> Place:
        return self.node.keys.get(key, self.action.place)

    def item(self, key: str, index: int) -> Place:
        found = self.node.value.get(key) if isinstance(self.node.value, dict) else None
        items = found.value if found else None
        return (
            items[index].place if isinstance(items, tuple) and index < len(items) else self.at(key)
        )


def _find(action: WorkflowAction, root: Node) -> tuple[int, Node]:
    actions = root.value["actions"].value if isinstance(root.value, dict) else ()
    assert isinstance(actions, tuple)
    return next((index, node) for index, node in enumerate(actions) if node.place == action.place)


def _check_selection(seen: _Seen, names: tuple[str, ...]) -> Iterator[Problem]:
    action, subject = seen.action, seen.subject
    is_selecting = bool(action.jobs or action.job_name_regexes)
    if action.trigger_type not in JOB_TRIGGERS:
        if is_selecting:
            key = "jobs" if action.jobs else "job_name_regexes"
            message = f"{subject}: '{key}' has no effect on {action.trigger_type}"
            yield warning(seen.at(key), "selection", message)
        return
    if not is_selecting:
        message = (
            f"{subject}: {action.trigger_type} selects no jobs: name them in 'jobs', or by pattern"
            " in 'job_name_regexes'"
        )
        yield error(action.place, "selection", message)
        return
    yield from _check_names(seen, names)


def _check_names(seen: _Seen, names: tuple[str, ...]) -> Iterator[Problem]:
    action, subject, known = seen.action, seen.subject, frozenset(names)
    is_whole = True
    for index, job in enumerate(action.jobs):
        if job not in known:
            is_whole = False
            message = f"{subject}: Action references job '{shorten(job)}' which does not exist"
            yield error(
                seen.item("jobs", index), "missing-step", message + did_you_mean(job, names)
            )
    found = set(action.jobs) & known
    for index, pattern in enumerate(action.job_name_regexes):
        place = seen.item("job_name_regexes", index)
        try:
            matched = match_names(pattern, names, action.match)
            whole = match_names(pattern, matched, "full")
        except AuthorError as wrong:
            is_whole = False
            yield error(place, "regex", f"{subject}: Invalid regex '{shorten(pattern)}': {wrong}")
            continue
        found.update(matched)
        if len(whole) < len(matched):
            yield warning(place, "selection", f"{subject}: {_doubt(pattern, matched, whole)}")
    if is_whole and not found:
        message = f"{subject}: Action did not match any jobs: it will never be set off"
        yield warning(action.place, "selection", message)


def _doubt(pattern: str, matched: tuple[str, ...], whole: tuple[str, ...]) -> str:
    """Warn about names that a pattern matches only partly."""
    only = f"as a whole it matches only {listed(whole)}" if whole else "as a whole it matches none"
    return (
        f"regex '{shorten(pattern)}' is searched for within names, and selects {listed(matched)};"
        f" {only}"
    )


def _check_schedulers(seen: _Seen, spec: Specification) -> Iterator[Problem]:
    for doing in seen.action.do:
        scheduler = doing.get("scheduler")
        if scheduler is None or scheduler in spec.schedulers:
            continue
        yield missing_scheduler(seen.subject, seen.at("scheduler"), scheduler, spec.schedulers)


def _check_needs(actions: list[_Seen]) -> Iterator[Problem]:
    named: dict[str, _Seen] = {}
    for seen in actions:
        if seen.action.name is not None:
            if seen.action.name in named:
                message = (
                    f"{seen.subject}: another action is named '{shorten(seen.action.name)}';"
                    " rename one"
                )
                yield error(seen.at("name"), "name-collision", message)
            named.setdefault(seen.action.name, seen)
    for seen in actions:
        for needed in seen.action.needs:
            if needed not in named:
                hint = did_you_mean(needed, named)
                message = f"{seen.subject} needs non-existent action '{shorten(needed)}'{hint}"
                yield error(seen.at("needs"), "missing-action", message)
    cycle = dag.find_cycle({name: seen.action.needs for name, seen in named.items()})
    if cycle:
        shown = " -> ".join(shorten(name) for name in cycle)
        yield error(named[cycle[0]].at("needs"), "cycle", f"actions wait for each other: {shown}")
