"""Where templates stand: every text that is rendered, with its place and what it can read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine import templating
from engine.plain import shorten
from engine.spec.draft import Draft, step_subject, task_subject
from engine.spec.fields import HOOK_LISTS
from engine.spec.model import Hook, InputField, Place


@dataclass(frozen=True, slots=True)
class Site:
    """One text to be rendered. `what` is its key; `reader` says which values it can read."""

    subject: str
    what: str
    text: str
    place: Place
    reader: str  # action, step, default, hook, tool, workspace, secret, or the type of a trigger
    task: str = ""
    step: str = ""
    action: str = ""
    event: str = ""  # of a hook

    @property
    def has_template(self) -> bool:
        return "{{" in self.text or "{%" in self.text or "{#" in self.text

    @property
    def price(self) -> int:
        """The cost of parsing it: the length of its tags, plus a constant per tag."""
        return templating.price(self.text)


def find_sites(draft: Draft) -> Iterator[Site]:
    """All texts with a template, and every `when` and `filter`; found once."""
    if not draft.sites:
        draft.sites.extend(
            site
            for site in _all_sites(draft)
            if site.has_template or site.what in ("when", "filter")
        )
    yield from draft.sites


def _all_sites(draft: Draft) -> Iterator[Site]:
    yield from _in_actions(draft)
    yield from _in_tasks(draft)
    yield from _in_hooks(draft, draft.workspace.hooks, "Workspace")
    for section, kind in (("secrets", "Secret"), ("connections", "Connection")):
        for name in draft.sections[section]:
            value = getattr(draft.workspace, section).get(name)
            reader = "secret" if section == "secrets" else "workspace"
            for text in texts_in(value):
                yield Site(
                    f"{kind} '{shorten(name)}'", "value", text, draft.at(section, name), reader
                )
    for name, server in draft.workspace.mcp_servers.items():
        subject = f"MCP server '{shorten(name)}'"
        for key in ("env", "headers", "auth_token"):
            for text in texts_in(server.get(key)):
                yield Site(subject, key, text, draft.at("mcp_servers", name, key), "workspace")
    for name in draft.workspace.triggers:
        yield from _in_trigger(draft, name)


def _in_actions(draft: Draft) -> Iterator[Site]:
    for name, subject, action in draft.actions():
        home = draft.inline.get(name, ("", ""))
        for key in ("script", "source", "cmd", "image", "message", "prompt", "system_prompt"):
            text = getattr(action, key)
            if text is not None:
                yield Site(subject, key, text, draft.in_action(name, key), "action", *home, name)
        for index, text in enumerate(action.args):
            yield Site(
                subject, "args", text, draft.in_action(name, "args", index), "action", *home, name
            )
        for variable, text in action.env.items():
            place = draft.in_action(name, "env", variable)
            yield Site(subject, f"env '{shorten(variable)}'", text, place, "action", *home, name)
        for text in texts_in(action.manifest):
            yield Site(
                subject, "manifest", text, draft.in_action(name, "manifest"), "action", *home, name
            )
        for field, declared in action.output.items() if action.type == "agent" else ():
            for text in texts_in([declared.description, *(declared.options or ())]):
                place = draft.in_action(name, "output", field)
                yield Site(
                    subject, f"output '{shorten(field)}'", text, place, "action", *home, name
                )
        for index, tool in enumerate(action.tools):
            for text in texts_in(tool.get("approval")):
                place = draft.in_action(name, "tools", index, "approval")
                yield Site(subject, "tool approval", text, place, "tool")
        yield from _in_defaults(subject, action.input, partial(draft.in_action, name, "input"))


def _in_tasks(draft: Draft) -> Iterator[Site]:
    for name, task in draft.workspace.tasks.items():
        subject = task_subject(name)
        yield from _in_defaults(subject, task.input, partial(draft.at, "tasks", name, "input"))
        for step_name in task.flow:
            yield from _in_step(draft, name, step_name)
        yield from _in_hooks(draft, task.hooks, subject)
        for action in task.workflow_actions:
            if action.when is not None:
                yield Site(
                    f"{subject} workflow action",
                    "when",
                    action.when,
                    action.place,
                    "workflow action",
                )


def _in_defaults(
    subject: str, fields: Mapping[str, InputField], at: Callable[..., Place]
) -> Iterator[Site]:
    for key, field in fields.items():
        if isinstance(field.default, str):
            what = f"input '{shorten(key)}' default"
            yield Site(subject, what, field.default, at(key, "default"), "default")


def _in_step(draft: Draft, task: str, name: str) -> Iterator[Site]:
    step = draft.workspace.tasks[task].flow[name]
    subject = step_subject(task, name)
    for key in ("when", "for_each"):
        for text in texts_in(getattr(step, key)):
            yield Site(subject, key, text, draft.in_step(task, name, key), "step", task, name)
    for key, value in step.input.items():
        for text in texts_in(value):
            place = draft.in_step(task, name, "input", key)
            yield Site(subject, f"input '{shorten(key)}'", text, place, "step", task, name)


def _in_hooks(draft: Draft, hooks: Any, owner: str) -> Iterator[Site]:
    for event in HOOK_LISTS:
        found: tuple[Hook, ...] = getattr(hooks, event)
        for index, hook in enumerate(found):
            for key, value in hook.input.items():
                for text in texts_in(value):
                    what = f"input '{shorten(key)}'"
                    yield Site(
                        f"{owner} {event}[{index}]", what, text, hook.place, "hook", event=event
                    )


def _in_trigger(draft: Draft, name: str) -> Iterator[Site]:
    trigger, subject = draft.workspace.triggers[name], f"Trigger '{shorten(name)}'"
    at = partial(draft.at, "triggers", name)
    for variable, text in trigger.options.get("env", {}).items():
        what = f"env '{shorten(variable)}'"
        yield Site(subject, what, text, at("env", variable), "workspace")
    secret = trigger.options.get("secret")
    if secret is not None:
        yield Site(subject, "secret", secret, at("secret"), "workspace")
    key = trigger.options.get("idempotency_key")
    if key is not None:
        yield Site(subject, "idempotency_key", key, at("idempotency_key"), trigger.type)
    condition = trigger.options.get("filter")
    if condition is not None:
        yield Site(subject, "filter", condition, at("filter"), trigger.type)
    for field, value in trigger.input.items():
        for text in texts_in(value):
            what = f"input '{shorten(field)}'"
            yield Site(subject, what, text, at("input", field), trigger.type)


def texts_in(value: Any) -> Iterator[str]:
    """The texts in a JSON value, without keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)
