"""Rules about actions of every type."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import PurePosixPath

from engine import templating
from engine.plain import shorten
from engine.scripts import languages_of, read_first_line
from engine.spec.actions import RUNNERS
from engine.spec.draft import Draft, step_subject
from engine.spec.fields import ACTION_FIELDS
from engine.spec.inputs import variable_of
from engine.spec.model import Action, Place, Problem, Step
from engine.spec.problems import did_you_mean, error, warning

_MOST_STEP_SECONDS = 86_400
_MOST_APPROVAL_SECONDS = 30 * 86_400  # people take longer than programs
_REQUIRED = {
    "docker": ("image",),
    "pod": ("image",),
    "task": ("task",),
    "approval": ("message",),
    "agent": ("provider", "prompt"),
}
_INTERPRETER = re.compile(r"[A-Za-z0-9._/+-]+")
_SHELL_SIGNS = re.compile(r"[;&|$`(){}\\\n\r'\"]")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/=-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_TAGS = 16
_OF_CONTAINERS = ("workspace", "shm_size", "user", "platform", "pull", "volumes")
OUR_VARIABLES = frozenset(
    """STROEM_JOB_ID STROEM_TASK_NAME STROEM_STEP_NAME STROEM_WORKSPACE STROEM_ATTEMPT_NUMBER
    STROEM_OUTPUT_DIR STROEM_SCHEDULED_AT STROEM_INPUT_FILE STROEM_INPUTS_FILE""".split()
)


def check_required_fields(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        for key in _REQUIRED.get(action.type, ()):
            if not draft.says(name, key):
                message = f"{subject} is type '{action.type}' but missing '{key}' field"
                yield error(action.place, "missing-field", message)
            elif getattr(action, key) is not None and not getattr(action, key).strip():
                yield error(
                    draft.in_action(name, key), "empty-field", f"{subject} has empty '{key}' field"
                )


def check_script_or_source(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type != "script":
            continue
        given = [key for key in ("script", "source") if draft.says(name, key)]
        if not given and not draft.says(name, "cmd"):  # which is refused, with this advice
            message = f"{subject} is type 'script' but missing 'script' or 'source' field"
            yield error(action.place, "missing-field", message)
        if len(given) == 2:
            message = f"{subject} has both inline script and source file — use only one"
            yield error(draft.in_action(name, "source"), "script", message)
        for key in given:
            text = getattr(action, key)
            if text is not None and not text.strip():
                yield error(
                    draft.in_action(name, key), "empty-field", f"{subject} has empty '{key}' field"
                )


def check_sources(draft: Draft) -> Iterator[Problem]:
    """A `source` is inside the workspace and exists."""
    for name, subject, action in draft.actions():
        if not action.source or not action.source.strip():
            continue
        place, shown = draft.in_action(name, "source"), shorten(action.source)
        wrong = _escape(action.source)
        if wrong:
            yield error(place, "source", f"{subject} source '{shown}' {wrong}")
        elif draft.paths is not None and not templating.has_tags(action.source):
            path = str(PurePosixPath(action.source))
            if path not in draft.paths:
                known = draft.paths if isinstance(draft.paths, Iterable) else ()
                hint = did_you_mean(path, known)
                yield error(
                    place,
                    "source",
                    f"{subject} source '{shown}' does not exist in the workspace{hint}",
                )


def _escape(source: str) -> str | None:
    if "\\" in source:
        return "must be written with '/', not with a backslash"
    if not source.isprintable():
        return "must not contain control characters"
    if source.startswith(("/", "~")) or re.match(r"[A-Za-z]:", source):
        return "must be relative to the workspace"
    if ".." in source.split("/"):
        return "must not leave the workspace: '..' is not allowed"
    return None


def check_workdirs(draft: Draft) -> Iterator[Problem]:
    folders = _Folders(draft.paths)
    for name, subject, action in draft.actions():
        is_borrowed = name.partition(".")[0] in draft.fetched
        wrong = _way_out(action, action.workdir or "")
        if not wrong and _is_local(action) and not is_borrowed:
            wrong = folders.objection(posixpath.normpath(action.workdir or "."))
        if wrong:
            message = f"{subject} workdir '{shorten(action.workdir or '')}' {wrong}"
            yield error(draft.in_action(name, "workdir"), "workdir", message)


def _is_local(action: Action) -> bool:
    return action.type == "script" and action.runner == "local"


def _way_out(action: Action, workdir: str) -> str | None:
    if templating.has_tags(workdir):
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


def check_languages(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type != "script":
            continue
        says_language = draft.says(name, "language")
        if action.dependencies and not says_language and not _knows_language(action):
            message = (
                f"{subject} has 'dependencies' but no 'language' set (dependencies require a"
                " non-shell language)"
            )
            yield warning(draft.in_action(name, "dependencies"), "dependencies", message)
        if action.dependencies and says_language and action.language == "shell":
            message = (
                f"{subject} has 'dependencies' but language is 'shell' (dependencies require a"
                " non-shell language)"
            )
            yield error(draft.in_action(name, "dependencies"), "dependencies", message)
        if action.interpreter and not says_language and not _knows_language(action):
            message = f"{subject} has 'interpreter' but no 'language' set"
            yield warning(draft.in_action(name, "interpreter"), "interpreter", message)


def _knows_language(action: Action) -> bool:
    """Whether the source's extension or the script's first line implies a language with
    packages."""
    return action.language != "shell"


def check_first_lines(draft: Draft) -> Iterator[Problem]:
    """`#!` names the program of an inline script, unless `interpreter` or `language` say
    otherwise."""
    for name, subject, action in draft.actions():
        if not action.script or not action.script.startswith("#!"):
            continue
        words = read_first_line(action.script)
        if not words:
            continue
        place, program = draft.in_action(name, "script"), PurePosixPath(words[0]).name
        begins = f"{subject} script begins with '#!' and {shorten(program)}, but"
        known = languages_of(words)
        if action.interpreter:
            if PurePosixPath(action.interpreter).name != program:
                message = f"{begins} 'interpreter' is '{action.interpreter}', which runs it"
                yield warning(place, "first-line", message)
        elif known and action.language not in known:
            runs = f"'{shorten(program)}' runs it" if action.language == "shell" else "which counts"
            message = f"{begins} its language is {action.language}; {runs}: remove one of the two"
            yield warning(place, "first-line", message)


def check_interpreters(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.interpreter is None:
            continue
        place = draft.in_action(name, "interpreter")
        if not action.interpreter.strip():
            yield error(place, "interpreter", f"{subject} has empty 'interpreter' field")
        elif not _INTERPRETER.fullmatch(action.interpreter):
            message = (
                f"{subject} has invalid 'interpreter' value '{shorten(action.interpreter)}': only"
                " alphanumeric characters, dots, dashes, underscores, slashes, and plus signs are"
                " allowed"
            )
            yield error(place, "interpreter", message)


def check_dependencies(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        for index, dependency in enumerate(action.dependencies):
            place = draft.in_action(name, "dependencies", index)
            if not dependency.strip():
                yield error(place, "dependencies", f"{subject} has empty dependency entry")
            elif _SHELL_SIGNS.search(dependency):
                message = (
                    f"{subject} has dependency '{shorten(dependency)}' containing shell"
                    " metacharacters"
                )
                yield error(place, "dependencies", message)
            elif dependency.startswith("-"):
                message = (
                    f"{subject} has dependency '{shorten(dependency)}', which is an option, not a"
                    " package"
                )
                yield error(place, "dependencies", message)


def check_args(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        for index, arg in enumerate(action.args):
            if not arg:
                place = draft.in_action(name, "args", index)
                yield error(place, "args", f"{subject} has empty args entry at index {index}")


def check_runners(draft: Draft) -> Iterator[Problem]:
    """`manifest` needs a pod; `workspace` and the like need a container."""
    for name, subject, action in draft.actions():
        if action.type != "script" or not draft.means(name, "runner", RUNNERS):
            continue
        if draft.says(name, "manifest") and action.runner != "pod":
            message = (
                f"{subject} has 'manifest' field but runner is '{action.runner}' "
                "(manifest is only valid on pod actions)"
            )
            yield error(draft.in_action(name, "manifest"), "forbidden-field", message)
        for key in _OF_CONTAINERS if action.runner == "local" else ():
            if draft.says(name, key):
                message = (
                    f"{subject} has '{key}' field but runner is 'local' "
                    f"({key} is only valid with runner docker or pod)"
                )
                yield error(draft.in_action(name, key), "forbidden-field", message)


def check_tags(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        yield from _check_tag_list(subject, action.tags, partial(draft.in_action, name, "tags"))
    for task_name, task in draft.workspace.tasks.items():
        for name, step in task.flow.items():
            at = partial(draft.in_step, task_name, name, "tags")
            yield from _check_tag_list(step_subject(task_name, name), step.tags, at)


def _check_tag_list(
    subject: str, tags: tuple[str, ...], at: Callable[..., Place]
) -> Iterator[Problem]:
    if len(tags) > _MOST_TAGS:
        yield error(at(), "tags", f"{subject} has more than {_MOST_TAGS} tags")
    for index, tag in enumerate(tags):
        if not _TAG.fullmatch(tag):
            message = (
                f"{subject} has invalid tag '{shorten(tag)}' (letters, digits and _ . : / = - only,"
                " at most 64)"
            )
            yield error(at(index), "tags", message)


def check_variables(draft: Draft) -> Iterator[Problem]:
    """Names in `env` must be valid in a shell."""
    for name, subject, action in draft.actions():
        ours = OUR_VARIABLES.union(map(variable_of, action.input))
        yield from _check_env(subject, action.env, partial(draft.in_action, name, "env"), ours)
    for name, trigger in draft.workspace.triggers.items():
        at = partial(draft.at, "triggers", name, "env")
        yield from _check_env(f"Trigger '{name}'", trigger.options.get("env", {}), at)


def _check_env(
    subject: str,
    env: Iterable[str],
    at: Callable[[str], Place],
    ours: Container[str] = OUR_VARIABLES,
) -> Iterator[Problem]:
    for variable in env:
        if not _VARIABLE.fullmatch(variable):
            message = (
                f"{subject} env '{shorten(variable)}' is not a variable name (letters, digits and"
                " _ only)"
            )
            yield error(at(variable), "env", message)
        elif variable in ours:
            message = (
                f"{subject} env '{shorten(variable)}' would be replaced by the variable of that"
                " name that every step gets; rename it"
            )
            yield error(at(variable), "env", message)


def check_action_limits(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        yield from limits_of(subject, action, action.type, partial(draft.in_action, name))


def limits_of(
    subject: str, thing: Action | Step, action_type: str, at: Callable[[str], Place]
) -> Iterator[Problem]:
    """Problems with the time-out and the retry of an action, or of a step that calls one."""
    most, words = (
        (_MOST_APPROVAL_SECONDS, "30d")
        if action_type == "approval"
        else (_MOST_STEP_SECONDS, "24h")
    )
    if thing.timeout and thing.timeout.seconds > most:
        message = (
            f"{subject} timeout {thing.timeout.seconds:.0f}s exceeds maximum of {most}s ({words})"
        )
        yield error(at("timeout"), "timeout", message)
    if thing.retry and action_type in ACTION_FIELDS["retry"].doubtful:
        message = (
            f"{subject} has retry on action type '{action_type}' — retry is not meaningful for"
            " this type"
        )
        yield warning(at("retry"), "retry", message)


def check_task_references(draft: Draft) -> Iterator[Problem]:
    if not draft.is_complete:
        return
    for name, subject, action in draft.actions():
        if action.task and action.task.strip() and not draft.has("tasks", action.task):
            hint = did_you_mean(action.task, draft.sections["tasks"])
            message = f"{subject} references non-existent task '{shorten(action.task)}'{hint}"
            yield error(draft.in_action(name, "task"), "missing-task", message)


def check_approvals(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type not in ("approval", "agent"):
            continue
        timed = action
        if name in draft.inline:  # whose time-out is that of its step
            task, step = draft.inline[name]
            timed = replace(action, timeout=draft.workspace.tasks[task].flow[step].timeout)
        yield from _too_late(subject, timed, partial(draft.in_action, name))
        place = draft.in_action(name, "min_approvals")
        users, groups = action.approvers.get("users", ()), action.approvers.get("groups", ())
        if not 1 <= action.min_approvals <= 100:
            message = (
                f"{subject} min_approvals must be between 1 and 100, got {action.min_approvals}"
            )
            yield error(place, "approvers", message)
        elif users and not groups and action.min_approvals > len(set(users)):
            message = (
                f"{subject} needs {action.min_approvals} approvals, but only {len(set(users))} may"
                " approve"
            )
            yield error(place, "approvers", message)


def _too_late(subject: str, action: Action, at: Callable[[str], Place]) -> Iterator[Problem]:
    """What an approval would do after its time-out."""
    if action.timeout is None:
        return
    latest = max((reminder.seconds for reminder in action.reminders), default=0)
    after = action.escalation.after.seconds if action.escalation else 0
    for key, seconds in (("reminders", latest), ("escalation", after)):
        if seconds >= action.timeout.seconds:
            message = (
                f"{subject} {key} after {seconds:g}s has no effect: the approval times out after"
                f" {action.timeout.seconds:g}s"
            )
            yield warning(at(key), "approvers", message)


CHECKS = (
    check_required_fields,
    check_script_or_source,
    check_sources,
    check_workdirs,
    check_languages,
    check_first_lines,
    check_interpreters,
    check_dependencies,
    check_args,
    check_runners,
    check_tags,
    check_variables,
    check_action_limits,
    check_task_references,
    check_approvals,
)
