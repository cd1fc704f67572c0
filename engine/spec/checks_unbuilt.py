"""What is written and not carried out: what the language has and this version has not, texts that
look like templates where none is rendered, directories and words that no step can start with."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Container, Iterable, Iterator
from functools import cached_property

from engine import templating
from engine.orders import HELPER
from engine.plain import shorten
from engine.spec.checks_exports import is_foreign
from engine.spec.draft import Draft, step_subject, task_subject
from engine.spec.fields import HOOK_LISTS
from engine.spec.model import Action, Place, Problem
from engine.spec.problems import did_you_mean, error, warning

UNBUILT = "not-built"
_MOST_NAMES = 5

_ROOTS = frozenset({"input", "secret", "secrets", "each", "state", "global_state", "hook"})
_SECRETS = frozenset({"secret", "secrets"})
_OF_IMAGES = "the program gets it as it is written; use 'cmd', or pass the value through 'env'"
_OF_COMMANDS = "the shell gets it as it is written; commands see variables, not inputs"

_Found = tuple[str, str, Place]  # what, name, where


def check_unbuilt(draft: Draft) -> Iterator[Problem]:
    """One warning for the workspace, at the first place."""
    names: dict[str, list[str]] = {}
    places: list[Place] = []
    for what, name, place in _find(draft):
        named = names.setdefault(what, [])
        places.append(place)
        if name not in named:
            named.append(name)
    if names:
        listed = "; ".join(f"{what} {_shown(named)}" for what, named in names.items())
        message = f"this version does not carry out {listed}"
        first = min(places, key=lambda place: (place.file, place.line, place.column))
        yield warning(first, UNBUILT, message)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(shorten(name, 40) for name in names[:_MOST_NAMES]) + more


def _find(draft: Draft) -> Iterator[_Found]:
    """Hooks with actions of other workspaces."""
    what = "hooks with actions of other workspaces, with which no job starts:"
    for hooks in (draft.workspace.hooks, *(t.hooks for t in draft.workspace.tasks.values())):
        for event in HOOK_LISTS:
            for hook in getattr(hooks, event):
                if is_foreign(draft, hook.action):
                    yield what, hook.action, hook.place


def check_helper(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type in ("docker", "pod") and HELPER in (action.cmd or ""):
            message = (
                f"{subject} calls '{HELPER}', which images do not have; print STATE: and OUTPUT:"
                " lines, and write files to ARTIFACTS_DIR"
            )
            yield warning(draft.in_action(name, "cmd"), "helper", message)


def _reads(text: str, more: Iterable[str] = ()) -> bool:
    """Whether the text is a template that reads what templates can read."""
    return not _ROOTS.union(more).isdisjoint(templating.references(text).names)


def _doubt(subject: str, key: str, text: str, place: Place, advice: str) -> Problem:
    message = f"{subject} {key} '{shorten(text)}' is not rendered as a template: {advice}"
    return warning(place, "not-rendered", message)


def check_action_texts(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        for key in ("entrypoint", "command"):
            for at, text in enumerate(getattr(action, key) or ()):
                if _reads(text) and not templating.references(text).names <= _SECRETS:  # told
                    place = draft.in_action(name, key, at)
                    yield _doubt(subject, key, text, place, _OF_IMAGES)
        for key in ("provider", "model"):
            text = getattr(action, key)
            if text is not None and _reads(text):
                yield _doubt(subject, key, text, draft.in_action(name, key), "write the name")


def check_task_texts(draft: Draft) -> Iterator[Problem]:
    for task_name, task in draft.workspace.tasks.items():
        steps = [templating.context_name(step) for step in task.flow]
        for name, step in task.flow.items():
            for at, text in enumerate(step.artifacts.paths if step.artifacts else ()):
                if _reads(text, steps):
                    place = draft.in_step(task_name, name, "artifacts", "paths", at)
                    subject = step_subject(task_name, name)
                    yield _doubt(subject, "artifacts path", text, place, "use a glob, such as '*'")
        for action in task.workflow_actions:
            for command in (one for item in action.do for one in item.get("commands", ())):
                if _reads(command, steps):
                    subject = f"{task_subject(task_name)} workflow action"
                    yield _doubt(subject, "command", command, action.place, _OF_COMMANDS)


def check_workdirs(draft: Draft) -> Iterator[Problem]:
    folders = _Folders(draft.paths)
    for name, subject, action in draft.actions():
        is_borrowed = name.partition(".")[0] in draft.fetched
        wrong = _objection(action, action.workdir or "")
        if not wrong and _is_local(action) and not is_borrowed:
            wrong = folders.objection(posixpath.normpath(action.workdir or "."))
        if wrong:
            message = f"{subject} workdir '{shorten(action.workdir or '')}' {wrong}"
            yield error(draft.in_action(name, "workdir"), "workdir", message)


def _is_local(action: Action) -> bool:
    return action.type == "script" and action.runner == "local"


def _objection(action: Action, workdir: str) -> str | None:
    if "{{" in workdir or "{%" in workdir:
        return "is not rendered as a template: write the path, or use `cd` in the script"
    path = posixpath.normpath(workdir)
    if _is_local(action) and (path.startswith(("/", "../")) or path == ".."):
        return "lies outside the workspace, where a step on the worker's host cannot start"
    return None


class _Folders:
    """The folders of a workspace, if its files are known; found once."""

    def __init__(self, paths: Container[str] | None) -> None:
        self._paths = paths

    @cached_property
    def _known(self) -> frozenset[str]:
        found = {"."}
        paths: Iterable[str] = self._paths if isinstance(self._paths, Iterable) else ()
        for path in paths:
            folder = posixpath.dirname(path)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return frozenset(found)

    def objection(self, path: str) -> str | None:
        if path == "." or not isinstance(self._paths, Iterable) or path in self._known:
            return None
        parts = path.split("/")  # a link may lead to a folder
        if any("/".join(parts[:end]) in self._paths for end in range(1, len(parts) + 1)):
            return None
        return f"is no folder of the workspace{did_you_mean(path, self._known)}"


def check_words(draft: Draft) -> Iterator[Problem]:
    """Beside an `entrypoint`, `cmd` is its arguments; what templates make of it, a job shows."""
    for name, subject, action in draft.actions():
        if not action.cmd or not action.entrypoint or action.command or "{" in action.cmd:
            continue
        try:
            shlex.split(action.cmd)
        except ValueError as problem:
            wrong = f"cannot be split into arguments for 'entrypoint': {problem}"
            message = f"{subject} cmd '{shorten(action.cmd)}' {wrong}"
            yield error(draft.in_action(name, "cmd"), "cmd", message)


CHECKS = (
    check_unbuilt,
    check_helper,
    check_action_texts,
    check_task_texts,
    check_workdirs,
    check_words,
)
