"""A task and everything it uses, frozen: what a job follows from first step to last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from django.db import transaction

from apps.jobs.models import Blueprint
from apps.jobs.plans import SERVER_KINDS, Abroad, Node, Plan
from apps.workspaces.errors import NotExported
from apps.workspaces.exports import Shared, find
from apps.workspaces.models import Revision
from apps.workspaces.revisions import definition_of
from engine.dag import topological_order
from engine.errors import NotFound
from engine.spec import freeze
from engine.spec.model import Action, Hooks, Step, Task, Workspace

# Actions of other workspaces, by full name: as they are lent, or why they are not
Borrowed = Mapping[str, Shared | str]
NONE: Borrowed = MappingProxyType({})
UNKNOWN = Action("task")  # stands for one that is not lent: its steps fail before they do anything
HOOK_EVENTS = ("on_success", "on_error", "on_cancel", "on_suspended")


def compose(workspace: Workspace, task_name: str, borrowed: Borrowed = NONE) -> dict[str, Any]:
    """The blueprint of a task as JSON: the task, its actions, and the hooks that apply to it.
    `borrowed`: what other workspaces say to the actions of theirs that it uses."""
    task = workspace.tasks.get(task_name)
    if task is None:
        raise NotFound(f"Task '{task_name}' not found")
    own = {event: getattr(task.hooks, event) for event in HOOK_EVENTS}
    chosen = {event: hooks or getattr(workspace.hooks, event) for event, hooks in own.items()}
    fallback = [event for event in HOOK_EVENTS if chosen[event] and not own[event]]
    content = {**body(task, workspace, Hooks(**chosen), borrowed), "fallback_events": fallback}
    if watching := _watching(workspace, task_name):
        content["watched_by"] = watching
    lent = [one for one in borrowed.values() if isinstance(one, Shared)]
    if workspace.mentions_state or any(one.mentions_state for one in lent):
        content["mentions_state"] = True
    if workspace.mentions_artifacts or any(one.mentions_artifacts for one in lent):
        content["mentions_artifacts"] = True
    if workspace.mentions_helper:
        content["mentions_helper"] = True
    exported = workspace.exports.job_ends.get(task_name)
    if exported is not None:
        content["exported"] = {"to": list(exported.to), "output": exported.output}
    return content


def compose_consumer(
    workspace: Workspace, trigger_name: str, borrowed: Borrowed = NONE
) -> dict[str, Any]:
    """The same for the consumer of an event source. The source decides when it starts again, and
    a lost worker never ends it."""
    trigger = workspace.triggers.get(trigger_name)
    if trigger is None or trigger.type != "event_source":
        raise NotFound(f"Event source '{trigger_name}' not found")
    content = compose(workspace, str(trigger.options["task"]), borrowed)
    task = {**content["task"], "retry": None}
    task["flow"] = {
        name: {**step, "on_worker_lost": "retry"} for name, step in task["flow"].items()
    }
    flow_actions = {step["action"] for step in task["flow"].values()}
    actions = {
        name: {**action, "env": {**(action.get("env") or {}), **trigger.options["env"]}}
        if name in flow_actions
        else action
        for name, action in content["actions"].items()
    }
    return {**content, "task": task, "actions": actions, "emits": True}


def _watching(workspace: Workspace, task_name: str) -> list[str]:
    """The triggers that fire when a job of this task ends."""
    return sorted(
        name for name, trigger in workspace.triggers.items() if trigger.watches == ("", task_name)
    )


def body(
    task: Task, workspace: Workspace, hooks: Hooks, borrowed: Borrowed = NONE
) -> dict[str, Any]:
    names = {step.action for step in task.flow.values()} - borrowed.keys()
    names |= {hook.action for event in HOOK_EVENTS for hook in getattr(hooks, event)}
    own = {name: action_of(workspace, name) for name in sorted(names)}
    content = {
        "task": freeze.to_json(task),
        "actions": {name: freeze.to_json(action) for name, action in own.items()},
        "hooks": freeze.to_json(hooks),
    }
    if borrowed:
        abroad = {name: _abroad(one) for name, one in sorted(borrowed.items())}
        lent = {n: one.action for n, one in borrowed.items() if isinstance(one, Shared)}
        content["actions"] |= {name: freeze.to_json(lent.get(name, UNKNOWN)) for name in abroad}
        content["abroad"] = abroad
    return content


def _abroad(one: Shared | str) -> dict[str, Any]:
    if isinstance(one, str):
        return asdict(Abroad(refusal=one))
    return asdict(Abroad(one.owner, one.revision_id, one.digest, one.with_secrets))


def _borrowed(revision_id: int, task_name: str) -> Borrowed:
    """What other workspaces say now to the actions of theirs that the task uses."""
    workspace = definition_of(revision_id)
    task = workspace.tasks.get(task_name)
    names = {step.action for step in task.flow.values()} if task is not None else set[str]()
    found: dict[str, Shared | str] = {}
    for name in sorted(names):
        if "." in name and name not in workspace.actions:
            caller = Revision.objects.values_list("workspace__name", flat=True).get(pk=revision_id)
            try:
                found[name] = find(caller, name)
            except NotExported as refusal:
                found[name] = str(refusal)
    return found


def action_of(workspace: Workspace, name: str) -> Action:
    """The action with the name used by a step or hook. Raises NotFound."""
    found = workspace.actions.get(name)
    if found is not None:
        return found
    if "." in name:
        raise NotFound(
            f"Action '{name}' belongs to another workspace, and hooks use only actions of their"
            " own; let the hook call one of type task whose step uses it"
        )
    raise NotFound(f"Action '{name}' not found")


_stored: dict[str, int] = {}
_of_tasks: dict[tuple[int, str], int] = {}


def forget() -> None:
    """Empty the caches, for tests that start over with an empty database."""
    _stored.clear()
    _of_tasks.clear()
    load.cache_clear()


def of_task(revision_id: int, task_name: str) -> int:
    """Id of the blueprint of a task at a revision. Raises NotFound."""
    key = (revision_id, task_name)
    if key in _of_tasks:
        return _of_tasks[key]
    borrowed = _borrowed(revision_id, task_name)
    found = store(compose(definition_of(revision_id), task_name, borrowed))
    if not borrowed:  # others may change what they lend
        transaction.on_commit(partial(_of_tasks.__setitem__, key, found))
    return found


def of_consumer(revision_id: int, trigger_name: str) -> int:
    """Id of the blueprint of an event source's consumer at a revision. Raises NotFound."""
    workspace = definition_of(revision_id)
    trigger = workspace.triggers.get(trigger_name)
    task_name = str(trigger.options.get("task")) if trigger is not None else ""
    borrowed = _borrowed(revision_id, task_name)
    return store(compose_consumer(workspace, trigger_name, borrowed))


def store(content: Mapping[str, Any]) -> int:
    """Id of the blueprint with this content; written if it is new."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if digest in _stored:
        return _stored[digest]
    Blueprint.objects.bulk_create([Blueprint(digest=digest, body=content)], ignore_conflicts=True)
    found = Blueprint.objects.values_list("id", flat=True).get(digest=digest)
    # Only after the commit: a failed transaction takes its rows along.
    transaction.on_commit(partial(_stored.__setitem__, digest, found))
    return found


def _is_plain(step: Step, action: Action) -> bool:
    return step.when is None and step.for_each is None and action.type not in SERVER_KINDS


def _are_plain(task: Task, actions: Mapping[str, Action], names: list[str]) -> bool:
    steps = [task.flow[name] for name in names]
    return (
        bool(steps)
        and not task.workflow_actions
        and all(step.join != "all" and _is_plain(step, actions[step.action]) for step in steps)
    )


@lru_cache(maxsize=256)
def load(blueprint_id: int) -> Plan:
    """The plan of a blueprint; cached, because blueprints never change."""
    content = Blueprint.objects.values_list("body", flat=True).get(id=blueprint_id)
    task = freeze.task_from_json(content["task"])
    abroad = {name: Abroad(**one) for name, one in content.get("abroad", {}).items()}
    actions = {name: freeze.action_from_json(item) for name, item in content["actions"].items()}
    dependents: dict[str, list[str]] = {name: [] for name in task.flow}
    for name, step in task.flow.items():
        for dependency in step.depends_on:
            dependents[dependency].append(name)
    order = topological_order({name: step.depends_on for name, step in task.flow.items()})
    nodes = {
        name: Node(
            name,
            task.flow[name],
            actions[task.flow[name].action],
            position,
            tuple(dependents[name]),
            _are_plain(task, actions, dependents[name]),
            abroad.get(task.flow[name].action),
            _is_plain(task.flow[name], actions[task.flow[name].action]),
        )
        for position, name in enumerate(order)
    }
    return Plan(
        blueprint_id,
        task,
        nodes,
        freeze.hooks_from_json(content["hooks"]),
        actions,
        frozenset(content.get("fallback_events", ())),
        tuple(content.get("watched_by", ())),
        content.get("emits", False),
        content.get("mentions_state", False),
        freeze.job_ends_from_json(content["exported"]) if "exported" in content else None,
        content.get("mentions_artifacts", False),
        content.get("mentions_helper", False),
    )
