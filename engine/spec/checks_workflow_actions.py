"""Rules about workflow actions: what they watch, request and need."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from engine import dag, templating
from engine.errors import AuthorError
from engine.plain import shorten
from engine.spec.barriers import never_lifted
from engine.spec.checks_templates import is_template, not_rendered
from engine.spec.draft import Draft, task_subject
from engine.spec.model import Place, Problem, Task, WorkflowAction
from engine.spec.problems import did_you_mean, error, warning
from engine.spec.slurm import (
    JOB_TRIGGERS,
    NODES_FOR_NOTHING,
    TOO_MANY_TRIALS,
    asks_in_vain,
    is_affordable,
    is_endless,
    match_names,
    misplaced,
)

_NOTHING_AFTER = ("on_workflow_complete", "on_worker_complete")
_SHOWN = 5
_ADVICE = "the shell gets it as it is written; commands see variables, not inputs"


@dataclass(frozen=True, slots=True)
class _Seen:
    """One workflow action and its place."""

    draft: Draft
    task: str
    index: int
    action: WorkflowAction

    @property
    def subject(self) -> str:
        return f"{task_subject(self.task)} workflow_actions[{self.index}]"

    def at(self, *path: str | int) -> Place:
        return self.draft.at("tasks", self.task, "workflow_actions", self.index, *path)


def _actions(draft: Draft) -> Iterator[_Seen]:
    for task in draft.workspace.tasks:
        yield from _actions_of(draft, task)


def _actions_of(draft: Draft, task: str) -> Iterator[_Seen]:
    """The actions of a task with their index in its list: unreadable ones are not in the model."""
    indexes = draft.indexes("tasks", task, "workflow_actions")
    for action in draft.workspace.tasks[task].workflow_actions:
        yield _Seen(draft, task, indexes[action.place], action)


def check_selections(draft: Draft) -> Iterator[Problem]:
    for seen in _actions(draft):
        subject, action = seen.subject, seen.action
        is_selecting = bool(action.jobs or action.job_name_regexes)
        if action.trigger_type in JOB_TRIGGERS and not is_selecting:
            message = (
                f"{subject}: {action.trigger_type} selects no steps: "
                "name them in 'jobs', or by pattern in 'job_name_regexes'"
            )
            yield error(action.place, "selection", message)
        elif action.trigger_type not in JOB_TRIGGERS and is_selecting:
            key = "jobs" if action.jobs else "job_name_regexes"
            message = f"{subject}: '{key}' has no effect on {action.trigger_type}"
            yield warning(seen.at(key), "selection", message)


def check_selected_names(draft: Draft) -> Iterator[Problem]:
    for seen in _actions(draft):
        task, subject, action = seen.task, seen.subject, seen.action
        flow = draft.workspace.tasks[task].flow
        known = {*flow, *draft.broken_steps.get(task, ())}
        for index, job in enumerate(action.jobs):
            base = job.partition("[")[0]
            if job in known or (
                base in flow and flow[base].for_each is not None and job.endswith("]")
            ):
                continue
            message = (
                f"{subject}: Action references job '{shorten(job)}' which does not"
                f" exist{did_you_mean(job, known)}"
            )
            yield error(seen.at("jobs", index), "missing-step", message)


def check_patterns(draft: Draft) -> Iterator[Problem]:
    for seen in _actions(draft):
        task, subject, action = seen.task, seen.subject, seen.action
        flow = draft.workspace.tasks[task].flow
        names = tuple(flow) if is_affordable(draft.workspace.tasks[task]) else ()
        has_all = not draft.broken_steps.get(task) and not any(
            step.for_each is not None for step in flow.values()
        )
        for index, pattern in enumerate(action.job_name_regexes):
            place = seen.at("job_name_regexes", index)
            try:
                full = match_names(pattern, names, "full")
                found = match_names(pattern, names, "search")
            except AuthorError as wrong:
                yield error(
                    place, "regex", f"{subject}: Invalid regex '{shorten(pattern)}': {wrong}"
                )
                continue
            if action.trigger_type not in JOB_TRIGGERS or not names:
                continue
            yield from _judge_matches(subject, place, pattern, full, found, has_all)


def _judge_matches(
    subject: str,
    place: Place,
    pattern: str,
    full: tuple[str, ...],
    found: tuple[str, ...],
    has_all: bool,
) -> Iterator[Problem]:
    """`has_all`: no loop will add matching steps later."""
    shown = f"'{shorten(pattern)}'"
    if not full and not found and has_all:
        yield warning(place, "selection", f"{subject}: regex {shown} did not match any jobs")
    elif not full and has_all:
        message = (
            f"{subject}: regex {shown} did not match any jobs: it must match the whole name; for"
            f" {listed(found)} write '.*' around it"
        )
        yield warning(place, "selection", message)
    elif set(found) != set(full):
        rest = tuple(name for name in found if name not in full)
        message = (
            f"{subject}: regex {shown} selects {listed(full) or 'nothing yet'}; it must match the"
            f" whole name, so {listed(rest)} {'is' if len(rest) == 1 else 'are'} left out (Torc"
            " searches within names, and would select them)"
        )
        yield warning(place, "selection", message)


def listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"'{shorten(name)}'" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def check_trials(draft: Draft) -> Iterator[Problem]:
    for task in draft.workspace.tasks.values():
        loops = sum(step.for_each is not None for step in task.flow.values())
        if task.workflow_actions and is_endless(task.workflow_actions, len(task.flow), loops):
            yield error(task.workflow_actions[0].place, "too-many", TOO_MANY_TRIALS)


def check_schedulers(draft: Draft) -> Iterator[Problem]:
    for seen in _actions(draft):
        task, subject, action = seen.task, seen.subject, seen.action
        known = {*draft.sections["slurm_schedulers"], *draft.workspace.tasks[task].slurm_schedulers}
        for index, doing in enumerate(action.do):
            scheduler = doing.get("scheduler")
            if scheduler is None or scheduler in known or not draft.is_complete:
                continue
            place = seen.at("scheduler")
            if place == action.place:
                place = seen.at("do", index, "scheduler")
            yield missing_scheduler(subject, place, scheduler, known)


def missing_scheduler(subject: str, place: Place, name: str, known: Collection[str]) -> Problem:
    message = (
        "schedule_nodes action with scheduler_type=slurm requires slurm_schedulers to be defined"
    )
    if known:
        message = (
            f"schedule_nodes action references slurm_scheduler '{shorten(name)}' which does not"
            f" exist{did_you_mean(name, known)}"
        )
    return error(place, "missing-scheduler", f"{subject}: {message}")


def check_action_names(draft: Draft) -> Iterator[Problem]:
    """`needs` names other actions of the task: names are unique, and there are no cycles."""
    for task in draft.workspace.tasks:
        named: dict[str, _Seen] = {}
        for seen in _actions_of(draft, task):
            name = seen.action.name
            if name is None:
                continue
            if name in named:
                message = (
                    f"{task_subject(task)} has two workflow actions named '{shorten(name)}';"
                    " rename one"
                )
                yield error(seen.at("name"), "name-collision", message)
            named.setdefault(name, seen)
        yield from _check_needs(draft, task, named)


def _check_needs(draft: Draft, task: str, named: dict[str, _Seen]) -> Iterator[Problem]:
    for seen in _actions_of(draft, task):
        for needed in seen.action.needs:
            if needed not in named:
                hint = did_you_mean(needed, named)
                message = (
                    f"{seen.subject} needs non-existent workflow action '{shorten(needed)}'{hint}"
                )
                yield error(seen.at("needs"), "missing-action", message)
    cycle = dag.find_cycle({name: seen.action.needs for name, seen in named.items()})
    if cycle:
        shown = " -> ".join(shorten(name) for name in cycle)
        message = f"{task_subject(task)} has workflow actions that wait for each other: {shown}"
        yield error(named[cycle[0]].at("needs"), "cycle", message)


def check_barriers(draft: Draft) -> Iterator[Problem]:
    for seen in _actions(draft):
        subject, action = seen.subject, seen.action
        if action.barrier and action.trigger_type in _NOTHING_AFTER:
            message = (
                f"{subject}: barrier has no effect on {action.trigger_type}: no step comes after it"
            )
            yield warning(seen.at("barrier"), "barrier", message)
        if asks_in_vain(action):
            yield warning(seen.at("trigger_type"), "nodes", f"{subject}: {NODES_FOR_NOTHING}")


def check_needs_of_barriers(draft: Draft) -> Iterator[Problem]:
    for name, task in draft.workspace.tasks.items():
        for index, needed in never_lifted(task):
            yield stuck(f"{task_subject(name)} workflow_actions[{index}]", task, index, needed)


def stuck(subject: str, task: Task, index: int, needed: str) -> Problem:
    message = (
        f"{subject} is a barrier that never lifts: it needs '{shorten(needed)}', which waits for"
        " steps that the barrier holds back"
    )
    return error(task.workflow_actions[index].place, "barrier", message)


def check_failures(draft: Draft) -> Iterator[Problem]:
    """A job's status does not wait for its actions: what can only fail it afterwards does not."""
    for seen in _actions(draft):
        action = seen.action
        if action.on_failure != "fail_job":
            continue
        flow = draft.workspace.tasks[seen.task].flow
        needed = {name for step in flow.values() for name in step.depends_on}
        selected = [name.partition("[")[0] for name in action.jobs]
        is_last = action.trigger_type == "on_jobs_complete" and not action.job_name_regexes
        if action.trigger_type == "on_workflow_complete" or (
            is_last and needed.isdisjoint(selected)
        ):
            message = (
                f"{seen.subject}: 'on_failure: fail_job' may have no effect: no step comes after"
                " it, and the job does not wait for it; do this in a step"
            )
            yield warning(seen.at("on_failure"), "no-effect", message)


def check_places(draft: Draft) -> Iterator[Problem]:
    for seen in _actions(draft):
        wrong = misplaced(seen.action, draft.workspace.tasks[seen.task].workflow_actions)
        if wrong:
            yield warning(seen.at("where"), "no-effect", f"{seen.subject}: {wrong}")


def check_commands(draft: Draft) -> Iterator[Problem]:
    for name, task in draft.workspace.tasks.items():
        steps = [templating.context_name(step) for step in task.flow]
        for action in task.workflow_actions:
            for command in (one for item in action.do for one in item.get("commands", ())):
                if is_template(command, steps):
                    subject = f"{task_subject(name)} workflow action command"
                    yield not_rendered(subject, command, action.place, _ADVICE)


CHECKS = (
    check_selections,
    check_selected_names,
    check_patterns,
    check_trials,
    check_schedulers,
    check_action_names,
    check_barriers,
    check_needs_of_barriers,
    check_failures,
    check_places,
    check_commands,
)
