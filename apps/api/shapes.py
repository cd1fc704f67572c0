"""Rows and definitions as the JSON that callers get. Source: spec 6.4 and 6.5."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from apps.accounts.models import Role, User
from apps.jobs.models import Attempt, Job, Step
from apps.jobs.plans import Node, Plan
from apps.workspaces.models import Revision, Workspace
from engine.masking import MASK
from engine.spec.freeze import to_json
from engine.spec.model import Duration, InputField, Retry, Task, Trigger
from engine.spec.model import Step as FlowStep
from engine.spec.model import Workspace as Definition

JSON = dict[str, Any]
JOB_COLUMNS = (
    "id",
    "workspace__name",
    "task_name",
    "mode",
    "status",
    "source_type",
    "source_id",
    "revision__label",
    "revision__digest",
    "created_at",
    "started_at",
    "completed_at",
    "retry_of_id",
    "retry_job_id",
    "retry_attempt",
    "max_attempts",
)


def me(user: User) -> JSON:
    return {
        "user_id": user.pk,
        "name": user.get_full_name() or user.email,
        "email": user.email,
        "is_admin": user.is_superuser,
        "groups": sorted(user.groups.values_list("name", flat=True)),
        "created_at": user.date_joined,
    }


def workspace(row: Workspace, definition: Definition | None) -> JSON:
    errors = [problem["text"] for problem in row.problems if problem["severity"] == "error"]
    warnings = [problem["text"] for problem in row.problems if problem["severity"] == "warning"]
    shape: JSON = {
        "name": row.name,
        "tasks_count": len(definition.tasks) if definition else 0,
        "actions_count": sum(not name.startswith("_inline:") for name in definition.actions)
        if definition
        else 0,
        "triggers_count": len(definition.triggers) if definition else 0,
        "connections_count": len(definition.connections) if definition else 0,
        "revision": revision(row.current),
        "problems": row.problems,
    }
    if errors:
        shape["error"] = "\n".join(errors)
    if warnings:
        shape["warnings"] = warnings
    return shape


def revision(row: Revision | None) -> str | None:
    return None if row is None else row.label or row.digest


def task(
    name: str, of: Task, workspace_name: str, definition: Definition, held: Role | None
) -> JSON:
    started = {
        trigger.options.get(key)
        for trigger in definition.triggers.values()
        for key in ("task", "target_task")
    }
    return {
        **_title(name, of),
        "workspace": workspace_name,
        "has_triggers": name in started,
        "can_execute": held in (Role.OPERATOR, Role.ADMIN),
    }


def task_detail(name: str, of: Task, definition: Definition, held: Role | None) -> JSON:
    shape = {
        **_title(name, of),
        "input": {field: input_field(described) for field, described in of.input.items()},
        "flow": {step: flow_step(described) for step, described in of.flow.items()},
        "triggers": [
            trigger(key, found)
            for key, found in definition.triggers.items()
            if _starts(found, name)
        ],
        "can_execute": held in (Role.OPERATOR, Role.ADMIN),
    }
    wanted = {described.type for described in of.input.values()} & set(definition.connection_types)
    if wanted:
        shape["connections"] = {
            kind: sorted(
                key
                for key, values in definition.connections.items()
                if values.get("type") in (kind, None)
            )
            for kind in sorted(wanted)
        }
    return shape


def _title(name: str, of: Task) -> JSON:
    return {
        "id": name,
        **_given({"name": of.title, "description": of.description}),
        "mode": of.mode,
    } | _given({"folder": of.folder})


def _starts(found: Trigger, task_name: str) -> bool:
    return task_name in (found.options.get("task"), found.options.get("target_task"))


def trigger(name: str, found: Trigger) -> JSON:
    options = {key: found.options.get(key) for key in ("cron", "timezone", "task", "target_task")}
    return {
        "name": name,
        "type": found.type,
        **_given(options),
        "enabled": found.enabled,
        "input": to_json(found.input),
    }


def input_field(described: InputField) -> JSON:
    shape = {
        "type": described.type,
        **_given({"name": described.name, "description": described.description}),
        "required": described.required,
        "secret": described.secret,
    }
    if described.has_default:
        shape["default"] = (
            MASK
            if described.secret and described.default is not None
            else to_json(described.default)
        )
    if described.options is not None:
        shape |= {"options": list(described.options), "allow_custom": described.allow_custom}
    return shape | {"multiple": described.multiple, **_given({"order": described.order})}


def flow_step(described: FlowStep) -> JSON:
    """The step as its author wrote it: keys that were not given are left out."""
    shape: JSON = {"action": described.action}
    for field in dataclasses.fields(described):
        value = getattr(described, field.name)
        if field.name in ("action", "place", "title") or value in (
            None,
            False,
            (),
            {},
            0,
            field.default,
        ):
            continue
        shape[field.name] = _plain(value)
    return shape | _given({"name": described.title})


def _plain(value: Any) -> Any:
    match value:
        case Duration():
            return value.seconds
        case Retry():
            return {
                "max_attempts": value.max_attempts,
                "delay": value.delay_s,
                "backoff": value.backoff,
                "jitter": value.jitter,
            }
    return to_json(value)


def _given(values: Mapping[str, Any]) -> JSON:
    return {key: value for key, value in values.items() if value is not None}


def job(values: Mapping[str, Any]) -> JSON:
    """One item of a list, out of a row of JOB_COLUMNS."""
    return {
        "job_id": values["id"],
        "workspace": values["workspace__name"],
        "task_name": values["task_name"],
        "mode": values["mode"] or "distributed",
        "status": values["status"],
        "source_type": values["source_type"],
        "source_id": values["source_id"] or None,
        "revision": values["revision__label"] or values["revision__digest"],
        "created_at": values["created_at"],
        "started_at": values["started_at"],
        "completed_at": values["completed_at"],
        "retry_of_job_id": values["retry_of_id"],
        "retry_job_id": values["retry_job_id"],
        "retry_attempt": values["retry_attempt"],
        "max_retries": max(0, int(values["max_attempts"] or 1) - 1),
    }


def job_detail(
    values: Mapping[str, Any], row: Job, steps: Iterator[list[JSON]], workflow_actions: list[JSON]
) -> JSON:
    return {
        **job(values),
        "input": row.input,
        "raw_input": row.input,
        "output": row.output,
        "error": row.error or None,
        "source_job_id": row.rerun_of_id,
        "restart_from_step": None,
        "worker_id": None,
        "parent_job_id": row.parent_job_id,
        "steps": steps,
        "workflow_actions": workflow_actions,
    }


def step(row: Step, plan: Plan, failures: list[Attempt]) -> JSON:
    node = plan.nodes.get(row.base)
    shape = {
        "step_name": row.name,
        "action_type": row.kind,
        "runner": row.runner,
        "input": row.input,
        "output": row.output,
        "status": row.status,
        "worker_id": row.worker_id,
        "started_at": row.started_at,
        "completed_at": row.completed_at,
        "suspended_at": row.suspended_at,
        "error_message": row.error or None,
        "loop_source": row.base if row.loop_index is not None else None,
        "loop_index": row.loop_index,
        "loop_total": row.loop_total,
        "retry_attempt": max(0, row.attempts - 1),
        "retry_history": [_failure(number, attempt) for number, attempt in enumerate(failures)],
        "retry_at": row.retry_at,
    }
    return shape | (_of_flow(row, node) if node else _of_nothing())


def _of_flow(row: Step, node: Node) -> JSON:
    """What the frozen flow says about the step. Before it is claimed, its input is what the author
    wrote."""
    is_loop = node.step.for_each is not None
    shape = {
        "action_name": node.step.action,
        "action_image": node.action.image,
        "when_condition": node.step.when,
        "for_each_expr": to_json(node.step.for_each)
        if is_loop and row.loop_index is None
        else None,
        "depends_on": list(node.step.depends_on),
        "max_retries": max(0, (node.retry.max_attempts if node.retry else 1) - 1),
    }
    if row.input is None:
        shape["input"] = to_json(node.step.input)
    if row.kind == "approval":
        shape["approval_fields"] = {
            name: input_field(field) for name, field in node.action.input.items()
        }
        if isinstance(row.output, dict) and "approval_message" in row.output:
            shape["approval_message"] = row.output["approval_message"]
    return shape


def _of_nothing() -> JSON:
    names = ("action_image", "when_condition", "for_each_expr")
    return {"action_name": "", **dict.fromkeys(names), "depends_on": [], "max_retries": 0}


def _failure(number: int, attempt: Attempt) -> JSON:
    return {
        "attempt": number,
        "error": attempt.error,
        "started_at": attempt.started_at or attempt.claimed_at,
        "failed_at": attempt.ended_at,
    }
