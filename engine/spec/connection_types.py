"""Connections and their types: which values fit, and who uses which connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.spec import inputs
from engine.spec.fields import HOOK_LISTS, PRIMITIVES
from engine.spec.model import Action, InputField, Workspace

Properties = Mapping[str, Mapping[str, Any]]


def field_of(described: Mapping[str, Any]) -> InputField:
    """A property of a type as a field, so that forms and checks are those of inputs. A default
    that is kept elsewhere (see `sealed_default`) counts as one."""
    default, options = described.get("default"), described.get("options")
    has_default = default is not None or bool(described.get("sealed_default"))
    return InputField(
        type=str(described["type"]),
        description=described.get("description"),
        required=bool(described.get("required")) and not has_default,
        secret=bool(described.get("secret")),
        default=default,
        has_default=has_default,
        options=tuple(options) if options else None,
        position=int(described.get("position", 0)),
    )


def fields_of(properties: Properties) -> dict[str, InputField]:
    """The fields of a type, in the order of the file."""
    found = {key: field_of(described) for key, described in properties.items()}
    return dict(sorted(found.items(), key=lambda item: (item[1].position, item[0])))


def fit(properties: Properties, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values as the type wants them, without its defaults. Raises InputError with a
    sentence for each wrong field."""
    fields = fields_of(properties)
    found = inputs.resolve(fields, given, {}, path="field")
    return {key: value for key, value in found.items() if given.get(key) not in (None, "")}


def taking(action: Action, kind: str) -> str | None:
    """The first input of an action that takes a connection of this type."""
    fitting = [name for name, field in action.input.items() if field.type == kind]
    return min(fitting, key=lambda name: action.input[name].position, default=None)


@dataclass(frozen=True, slots=True)
class Use:
    """Something of the workspace that names a connection: a task, an action, a trigger or a hook
    of all tasks. `step` and `input` say where; a task's hook has its event for a step."""

    kind: str
    owner: str
    input: str
    step: str = ""
    wanted: str = ""  # the type that the input declares

    def __str__(self) -> str:
        where = f", step '{self.step}'" if self.step else ""
        return f"{self.kind} '{self.owner}'{where}: input '{self.input}'"


def uses_of(workspace: Workspace) -> dict[str, list[Use]]:
    """Who names which connection in the files. A name that is computed, or chosen when a job
    starts, is not among them: see `askers_of`."""
    found: dict[str, list[Use]] = {}
    for name, use in _named(workspace):
        if isinstance(name, str) and name and "{" not in name:
            found.setdefault(name, []).append(use)
    return found


def names_in(workspace: Workspace, action: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Input -> name of a connection, of the values that are given to an action."""
    fields = fields_behind(workspace, action)
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, str) and key in fields and fields[key].type not in PRIMITIVES
    }


def askers_of(workspace: Workspace, kind: str) -> list[str]:
    """Tasks that let whoever starts them choose a connection of this type."""
    return sorted(
        name
        for name, task in workspace.tasks.items()
        if any(field.type == kind for field in task.input.values())
    )


def _named(workspace: Workspace) -> Iterator[tuple[Any, Use]]:
    for fields, given, kind, owner, step in _calls(workspace):
        for key, value in given.items():
            field = fields.get(key)
            if field is not None and field.type in workspace.connection_types:
                yield value, Use(kind, owner, key, step, field.type)


Fields = Mapping[str, InputField]


def _calls(workspace: Workspace) -> Iterator[tuple[Fields, Mapping[str, Any], str, str, str]]:
    """Whatever gets input: its fields, the input, and what it is a part of."""
    actions = workspace.actions
    for name, action in actions.items():
        if not name.startswith("_inline:"):
            yield action.input, _defaults(action.input), "action", name, ""
    for name, task in workspace.tasks.items():
        yield task.input, _defaults(task.input), "task", name, ""
        for step_name, step in task.flow.items():
            if step.action.startswith("_inline:") and step.action in actions:
                inline = actions[step.action].input
                yield inline, _defaults(inline), "task", name, step_name
            yield fields_behind(workspace, step.action), step.input, "task", name, step_name
        for event in HOOK_LISTS:
            for hook in getattr(task.hooks, event):
                yield fields_behind(workspace, hook.action), hook.input, "task", name, event
    for name, trigger in workspace.triggers.items():
        started = workspace.tasks.get(trigger.starts)
        yield started.input if started else {}, trigger.input, "trigger", name, ""
    for event in HOOK_LISTS:
        for hook in getattr(workspace.hooks, event):
            yield fields_behind(workspace, hook.action), hook.input, "hook", event, ""


def _defaults(fields: Fields) -> dict[str, Any]:
    return {key: field.default for key, field in fields.items() if field.has_default}


def fields_behind(workspace: Workspace, name: str) -> Fields:
    """What the action of this name takes; one that starts a task, what that task does."""
    action = workspace.actions.get(name)
    if action is None:
        return {}
    task = workspace.tasks.get(action.task or "")
    return action.input if task is None else task.input
