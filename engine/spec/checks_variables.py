"""Rules about environment variables that take each other's place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.spec.checks_reads import Reads
from engine.spec.draft import Draft, task_subject
from engine.spec.inputs import variable_of
from engine.spec.model import Problem
from engine.spec.problems import error, shorten, warning

_DIRECTORIES = {
    "ARTIFACTS_DIR": "files there are not stored",
    "ARTIFACTS_IN": "the step does not find files of earlier steps",
    "STATE_DIR": "the step does not find the state",
    "STATE_OUT_DIR": "files there are not kept",
    "GLOBAL_STATE_DIR": "the step does not find the state",
    "GLOBAL_STATE_OUT_DIR": "files there are not kept",
}


def _collisions(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    seen: dict[str, str] = {}
    for name in names:
        variable = variable_of(name)
        if variable in seen and seen[variable] != name:
            yield seen[variable], name, variable
        seen.setdefault(variable, name)


def _message(subject: str, first: str, second: str, variable: str) -> str:
    return (
        f"{subject} inputs '{shorten(first)}' and '{shorten(second)}' both become"
        f" {variable}; rename one, or read the file named by STROEM_INPUTS_FILE"
    )


def check_input_variables(draft: Draft) -> Iterator[Problem]:
    """`a-b` and `a_b` are two inputs, and one variable."""
    for name, task in draft.workspace.tasks.items():
        for first, second, variable in _collisions(task.input):
            place = draft.at("tasks", name, "input", second)
            text = _message(task_subject(name), first, second, variable)
            yield warning(place, "input-variable", text)
    reads = Reads(draft)
    for name, subject, action in draft.actions():
        if action.type not in ("script", "docker", "pod"):
            continue
        told = set[str]()
        given = [(*action.input, *step.input) for _, _, step in reads.callers.get(name, ())]
        if name in draft.inline:
            task = draft.workspace.tasks[draft.inline[name][0]]
            told = {second for _, second, _ in _collisions(task.input)}
            given = [(*names, *task.input) for names in given]
        for names in given or [tuple(action.input)]:
            for first, second, variable in _collisions(names):
                if second not in told:
                    told.add(second)
                    place = draft.in_action(name, "input", second)
                    text = _message(subject, first, second, variable)
                    yield warning(place, "input-variable", text)


def check_env(draft: Draft) -> Iterator[Problem]:
    reads = Reads(draft)
    for name, subject, action in draft.actions():
        given = reads.inputs_of(name) - set(action.input)  # those are looked at with the action
        taken = {variable_of(key): key for key in given} if action.env else {}
        for variable in action.env:
            place = draft.in_action(name, "env", variable)
            if variable in taken:
                message = (
                    f"{subject} env '{variable}' would be replaced by the variable of input"
                    f" '{shorten(taken[variable])}'; rename it"
                )
                yield error(place, "env", message)
            elif variable in _DIRECTORIES:
                message = (
                    f"{subject} env '{variable}' takes the place of the directory that every step"
                    f" gets under this name: {_DIRECTORIES[variable]}"
                )
                yield warning(place, "env", message)


CHECKS = (check_input_variables, check_env)
