"""Rules about names: what they may hold, which are taken, which look alike to templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.spec.draft import Draft, step_subject, task_subject
from engine.spec.model import Problem
from engine.spec.problems import error, shorten, warning

_LONGEST = 200
_CONTEXT = ("input", "secret", "secrets", "each", "hook", "state", "global_state")
_SECTIONS = {
    "actions": "Action",
    "tasks": "Task",
    "triggers": "Trigger",
    "connections": "Connection",
    "connection_types": "Connection type",
    "mcp_servers": "MCP server",
    "slurm_schedulers": "Slurm scheduler",
}


def check_spelling(draft: Draft) -> Iterator[Problem]:
    """Names stand in addresses, logs and file names: no control characters, no '/', not endless."""
    for section, kind in _SECTIONS.items():
        for name, named in draft.sections[section].items():
            wrong = _misspelling(name)
            if wrong:
                yield error(named.place, "name", f"{kind} name '{shorten(name)}' {wrong}")
    for task, step in _steps(draft):
        wrong = _misspelling(step)
        if wrong:
            yield error(
                draft.in_step(task, step), "name", f"{step_subject(task, step)} name {wrong}"
            )


def _misspelling(name: str) -> str | None:
    if not name or name != name.strip():
        return "must not be empty, nor begin or end with a space"
    if len(name) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    if not name.isprintable():
        return "must not hold control characters"
    if "/" in name or name in (".", ".."):
        return "must not hold '/': it becomes part of addresses"
    return None


def _steps(draft: Draft) -> Iterator[tuple[str, str]]:
    for task_name, task in draft.workspace.tasks.items():
        for step in (*task.flow, *draft.broken_steps.get(task_name, ())):
            yield task_name, step


def check_reserved_names(draft: Draft) -> Iterator[Problem]:
    for task, step in _steps(draft):
        if (
            step != "_server"
            and not set("[]") & set(step)
            and step.replace("-", "_") not in _CONTEXT
        ):
            continue
        subject, place = step_subject(task, step), draft.in_step(task, step)
        if "[" in step or "]" in step:
            yield error(
                place,
                "reserved-name",
                f"{subject} name must not contain '[' or ']' (reserved for for_each instances)",
            )
        if step == "_server":
            yield error(
                place, "reserved-name", f"{subject} name is reserved for the server's own log lines"
            )
        if step.replace("-", "_") in _CONTEXT:
            message = (
                f"{subject} hides behind '{step}' in templates: its output cannot be read there;"
                " rename it"
            )
            yield warning(place, "reserved-name", message)
    for section, prefix in (("actions", "_inline:"), ("tasks", "_hook:")):
        for name, named in draft.sections[section].items():
            if name.startswith(prefix):
                message = (
                    f"{_SECTIONS[section]} name '{shorten(name)}' begins with '{prefix}', which is"
                    " reserved"
                )
                yield error(named.place, "reserved-name", message)


def check_collisions(draft: Draft) -> Iterator[Problem]:
    """'-' becomes '_' in templates and tool names: two names may become one."""
    for first, second, same in _collisions(draft.sections["tasks"]):
        message = (
            f"Tasks '{first}' and '{second}' have the same normalized name '{same}' — "
            "agent tool names would collide. Rename one to avoid ambiguity."
        )
        yield error(draft.at("tasks", second), "name-collision", message)
    for first, second, same in _collisions(draft.sections["mcp_servers"]):
        message = (
            f"MCP servers '{first}' and '{second}' have the same normalized name '{same}' — "
            "tool name prefixes would collide. Rename one to avoid ambiguity."
        )
        yield error(draft.at("mcp_servers", second), "name-collision", message)
    for task_name, task in draft.workspace.tasks.items():
        for first, second, same in _collisions(task.flow):
            message = (
                f"{task_subject(task_name)} steps '{first}' and '{second}' have the same normalized"
                f" name '{same}' — templates could not tell their outputs apart. Rename one."
            )
            yield error(draft.in_step(task_name, second), "name-collision", message)


def _collisions(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    seen: dict[str, str] = {}
    for name in names:
        same = name.replace("-", "_")
        if same in seen:
            yield shorten(seen[same]), name, shorten(same)
        else:
            seen[same] = name


def check_webhook_addresses(draft: Draft) -> Iterator[Problem]:
    """Two webhooks of one workspace cannot answer at one address."""
    seen: dict[str, str] = {}
    for name, trigger in draft.workspace.triggers.items():
        address = trigger.options.get("name") if trigger.type == "webhook" else None
        if not address:
            continue
        if address in seen:
            message = (
                f"Triggers '{seen[address]}' and '{name}' have the same webhook name"
                f" '{shorten(address)}'"
            )
            yield error(draft.at("triggers", name, "name"), "name-collision", message)
        else:
            seen[address] = name


CHECKS = (check_spelling, check_reserved_names, check_collisions, check_webhook_addresses)
