"""What templates and scripts read: inputs, secrets, parts of outputs. A name that nobody gives is
said before it fails, or is silently empty, in a job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from engine import templating
from engine.plain import shorten
from engine.spec.checks_flow import collisions
from engine.spec.draft import Draft, step_subject, task_subject
from engine.spec.fields import HOOK_LISTS
from engine.spec.inputs import variable_of
from engine.spec.model import Action, Hook, Problem, Step
from engine.spec.problems import did_you_mean, error, warning
from engine.spec.sites import Site

_VARIABLE = re.compile(r"STROEM_INPUT_(?!FILE\b)[A-Z0-9_]+(?P<after>:?[-+=?]|=)?")
_END_OF_JOB = frozenset(
    """workspace task_name job_id source_type source_id status is_success error_message started_at
    completed_at duration_secs failed_steps url artifacts""".split()
)
_SUSPENDED = frozenset(
    """workspace task_name job_id source_type source_id step_name message status started_at
    url""".split()
)
_PARTS: Mapping[str, frozenset[str]] = {"each": frozenset({"item", "index", "total"})}
_OF_TRIGGERS = {
    "trigger": frozenset({"name", "type", "workspace"}),
    "job": (_END_OF_JOB | {"input", "output"}) - {"failed_steps", "url", "artifacts"},
}
_OF_STEPS = frozenset({"output", "error", "artifacts"})

_DIRECTORIES = {
    "ARTIFACTS_DIR": "files there are not stored",
    "ARTIFACTS_IN": "the step does not find files of earlier steps",
    "STATE_DIR": "the step does not find the state",
    "STATE_OUT_DIR": "files there are not kept",
    "GLOBAL_STATE_DIR": "the step does not find the state",
    "GLOBAL_STATE_OUT_DIR": "files there are not kept",
}


class Reads:
    """The names that each action, step and hook can read in a workspace."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._said: set[tuple[str, str]] = set()
        self._steps: dict[str, frozenset[str]] = {}

    @cached_property
    def callers(self) -> dict[str, list[tuple[str, str, Step]]]:
        """Named action -> the steps that call it."""
        found: dict[str, list[tuple[str, str, Step]]] = {}
        for task, definition in self.draft.workspace.tasks.items():
            for name, step in definition.flow.items():
                found.setdefault(step.action, []).append((task, name, step))
        return found

    @cached_property
    def hooked(self) -> dict[str, list[Hook]]:
        """Named action -> the hooks that call it."""
        found: dict[str, list[Hook]] = {}
        tasks = (task.hooks for task in self.draft.workspace.tasks.values())
        for hooks in (self.draft.workspace.hooks, *tasks):
            for event in HOOK_LISTS:
                for hook in getattr(hooks, event):
                    found.setdefault(hook.action, []).append(hook)
        return found

    @cached_property
    def open_tasks(self) -> frozenset[str]:
        """Tasks whose callers bring fields of their own: webhooks and event sources."""
        triggers = self.draft.workspace.triggers.values()
        return frozenset(
            str(trigger.options.get(key))
            for trigger in triggers
            if trigger.type in ("webhook", "event_source")
            for key in ("task", "target_task")
        )

    def inputs_of(self, name: str) -> frozenset[str]:
        """The inputs that an action can certainly read: for an inline one, with those of its step
        and its task."""
        action = self.draft.workspace.actions[name]
        if name not in self.draft.inline:
            return frozenset(action.input)
        task_name, step = self.draft.inline[name]
        task = self.draft.workspace.tasks[task_name]
        return frozenset({*action.input, *task.flow[step].input, *task.input})

    def check(self, site: Site) -> Iterator[Problem]:
        """The names below `input`, `secret`, `each`, `hook` and steps that do not exist."""
        reads = f"{site.subject} {site.what} reads"
        references = templating.references(site.text)
        for path in sorted(references.paths):
            root, part = path[0], path[1] if len(path) > 1 else None
            if root == "secrets":
                message = f"{reads} 'secrets', which does not exist (did you mean 'secret'?)"
                yield warning(site.place, "unknown-name", message)
            if part is None:
                continue
            if root == "input":
                yield from self._check_input(site, part)
                if path in references.needed:
                    yield from self._check_optional(site, part)
            elif root in ("secret", "secrets"):
                yield from self._check_secret(site, part)
            else:
                yield from self._check_part(site, root, part)

    def _check_input(self, site: Site, name: str) -> Iterator[Problem]:
        if site.reader == "step" and site.task not in self.open_tasks:
            known = self.draft.workspace.tasks[site.task].input
            if name not in known:
                yield _unknown_input(
                    site, f"input '{shorten(name)}', which the task does not declare", name, known
                )
        elif site.reader == "action":
            yield from self._missing(site, name, shorten(name))

    def _check_optional(self, site: Site, name: str) -> Iterator[Problem]:
        """An input of the task that nobody must give: without it, the template fails."""
        task = self.draft.workspace.tasks.get(site.task)
        if task is None or (site.task, name) in self._said:
            return
        given: set[str] = set()
        if site.action:
            action = self.draft.workspace.actions[site.action]
            given = {*action.input, *task.flow[site.step].input}
        field = task.input.get(name)
        if field is None or field.required or field.has_default or name in given:
            return
        self._said.add((site.task, name))
        shown = shorten(name)
        message = (
            f"{site.subject} {site.what} reads input '{shown}', which may be left out, and fails"
            " then: give it a default, or use the filter default(value=…)"
        )
        yield warning(site.place, "optional-input", message)

    def _missing(self, site: Site, name: str, shown: str) -> Iterator[Problem]:
        """An input that the code of an action reads, and that nobody gives it."""
        known = self.inputs_of(site.action)
        if name in known or (site.action, name) in self._said:
            return
        self._said.add((site.action, name))
        if site.action in self.draft.inline:
            if self.draft.inline[site.action][0] not in self.open_tasks:
                what = f"input '{shown}', which neither the step gives nor the task declares"
                yield _unknown_input(site, what, name, known)
            return
        steps = self.callers.get(site.action, [])
        lacking = [call for call in steps if not self._gives(call, site.action, name)]
        hooks = self.hooked.get(site.action, [])
        if len(lacking) < len(steps) or any(name in hook.input for hook in hooks):
            for task, step, _ in lacking:
                yield self._not_given(site, shown, task, step)
        elif known or steps or hooks:
            what = f"input '{shown}', which it does not declare and no step gives"
            yield _unknown_input(site, what, name, known)

    def _gives(self, call: tuple[str, str, Step], action: str, name: str) -> bool:
        """Whether a step gives the input; the message of an approval sees the job's input too."""
        task, _, step = call
        workspace = self.draft.workspace
        is_seen = (
            workspace.actions[action].type == "approval" and name in workspace.tasks[task].input
        )
        return name in step.input or is_seen

    def _not_given(self, site: Site, shown: str, task: str, step: str) -> Problem:
        message = (
            f"{step_subject(task, step)} does not pass input '{shown}', which the {site.what} of"
            f" action '{shorten(site.action)}' reads"
        )
        place = self.draft.in_step(task, step, "input")
        return warning(place, "missing-input", message)

    def _check_secret(self, site: Site, name: str) -> Iterator[Problem]:
        known = self.draft.workspace.secrets
        is_known = name in known or name in self.draft.stored_secrets
        if is_known or not self.draft.is_complete or site.subject.startswith("Secret "):
            return
        message = (
            f"{site.subject} {site.what} references secret '{shorten(name)}' which is not defined"
            f" in secrets{did_you_mean(name, known)}"
        )
        yield warning(site.place, "missing-secret", message)

    def _check_part(self, site: Site, root: str, part: str) -> Iterator[Problem]:
        known = _PARTS.get(root)
        if site.reader == "hook" and root == "hook":
            known = _SUSPENDED if site.event == "on_suspended" else _END_OF_JOB
        elif site.subject.startswith("Trigger "):
            known = _OF_TRIGGERS.get(root)
        elif known is None and site.task:
            known = _OF_STEPS if root in self._steps_of(site.task) else None
        if known is not None and part not in known:
            listed = ", ".join(sorted(known))
            hint = did_you_mean(part, known) or f" (there are {listed})"
            message = (
                f"{site.subject} {site.what} reads '{shorten(root)}.{shorten(part)}', which does"
                f" not exist{hint}"
            )
            yield warning(site.place, "unknown-name", message)

    def _steps_of(self, task: str) -> frozenset[str]:
        if task not in self._steps:
            flow = self.draft.workspace.tasks[task].flow
            self._steps[task] = frozenset(map(templating.context_name, flow))
        return self._steps[task]

    def check_variables(self, name: str, subject: str, action: Action) -> Iterator[Problem]:
        """`$STROEM_INPUT_…` in code: an unknown one is empty, and nobody says so."""
        known = {variable_of(key): key for key in self.inputs_of(name)}
        for key, text in (("script", action.script), ("cmd", action.cmd)):
            for found in _VARIABLE.finditer(text or ""):
                variable = found[0].removesuffix(found["after"] or "")
                if variable in known or variable in action.env or found["after"]:
                    continue
                site = Site(
                    subject, key, "", self.draft.in_action(name, key), "action", "", "", name
                )
                lower = variable.removeprefix("STROEM_INPUT_").lower()
                given = self._given_as(name, variable)
                yield from self._missing(site, given or lower, given or lower)

    def _given_as(self, action: str, variable: str) -> str | None:
        """The name under which some caller gives the input of this variable."""
        names: Iterable[str] = (
            *(key for _, _, step in self.callers.get(action, ()) for key in step.input),
            *(key for hook in self.hooked.get(action, ()) for key in hook.input),
        )
        return next((name for name in names if variable_of(name) == variable), None)


def _unknown_input(site: Site, what: str, name: str, known: Iterable[str]) -> Problem:
    message = f"{site.subject} {site.what} reads {what}{did_you_mean(name, known)}"
    return warning(site.place, "unknown-name", message)


def check_variables(draft: Draft) -> Iterator[Problem]:
    if not draft.is_complete:
        return
    reads = Reads(draft)
    for name, subject, action in draft.actions():
        if name not in draft.inline or not _is_open(draft, reads, name):
            yield from reads.check_variables(name, subject, action)


def _is_open(draft: Draft, reads: Reads, name: str) -> bool:
    return draft.inline[name][0] in reads.open_tasks


def reads_input(action: Action, name: str) -> bool:
    """Whether the code of an action reads this input, or may: it reads the file of all, or is not
    in the YAML."""
    texts = (action.script, action.cmd, action.message, *action.args, *action.env.values())
    code = "\n".join(text for text in texts if text) + str(action.manifest or "")
    if action.source or (action.image and not action.cmd) or re.search("STROEM_INPUTS?_FILE", code):
        return True
    return variable_of(name) in code or re.search(rf"\b{re.escape(name)}\b", code) is not None


def _message(subject: str, first: str, second: str, variable: str) -> str:
    return (
        f"{subject} inputs '{shorten(first)}' and '{shorten(second)}' both become"
        f" {variable}; rename one, or read the file named by STROEM_INPUTS_FILE"
    )


def check_input_variables(draft: Draft) -> Iterator[Problem]:
    """`a-b` and `a_b` are two inputs, and one variable."""
    for name, task in draft.workspace.tasks.items():
        for first, second, variable in collisions(task.input, variable_of):
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
            told = {second for _, second, _ in collisions(task.input, variable_of)}
            given = [(*names, *task.input) for names in given]
        for names in given or [tuple(action.input)]:
            for first, second, variable in collisions(names, variable_of):
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


CHECKS = (check_variables, check_input_variables, check_env)
