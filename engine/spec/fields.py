"""The field validity matrix, as data: one row per field of an action.

A row says which action types may have the field, how its value is read, and how it is refused
elsewhere. The parser, the tests and the documentation read this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from engine.spec.model import ActionType, PullPolicy

TYPES: tuple[ActionType, ...] = get_args(ActionType)
PULL_POLICIES: tuple[PullPolicy, ...] = get_args(PullPolicy)
Kind = Literal[
    "text", "texts", "text mapping", "flag", "whole", "number", "choice", "duration", "own"
]

_SCRIPT: frozenset[ActionType] = frozenset({"script"})
_IMAGE: frozenset[ActionType] = frozenset({"docker", "pod"})
_POD: frozenset[ActionType] = frozenset({"script", "pod"})
_WORKER: frozenset[ActionType] = frozenset({"script", "docker", "pod"})
_TASK: frozenset[ActionType] = frozenset({"task"})
_AGENT: frozenset[ActionType] = frozenset({"agent"})
_APPROVAL: frozenset[ActionType] = frozenset({"approval"})
_ALL: frozenset[ActionType] = frozenset(TYPES)


@dataclass(frozen=True, slots=True)
class FieldRow:
    """`because`: type -> bracketed words that end the refusal; `instead`: type -> everything after
    the subject."""

    name: str
    types: frozenset[ActionType]
    kind: Kind
    choices: tuple[str, ...] = ()
    because: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    doubtful: frozenset[ActionType] = frozenset()  # accepted there, with a warning

    def refusal(self, subject: str, action_type: ActionType) -> str:
        """The message for an action (`Action 'deploy'`) that may not have this field."""
        if action_type in self.instead:
            return subject + self.instead[action_type]
        words = self.because.get(action_type) or f"only valid for {self.valid_types} actions"
        return f"{subject} is type '{action_type}' but has '{self.name}' field ({words})"

    @property
    def valid_types(self) -> str:
        return "/".join(name for name in TYPES if name in self.types)


_ONLY_REFERENCE = "task actions only reference another task"
_ARGS_ELSEWHERE = "only valid for script actions; use cmd/command/entrypoint for docker"
_NOT_DISPATCHED = "tags choose a worker, and steps of this type never reach one"
_ONLY_CONTAINERS = "only valid for docker/pod"

_ROWS = (
    FieldRow("type", _ALL, "own"),
    FieldRow("name", _ALL, "text"),
    FieldRow("description", _ALL, "text"),
    FieldRow("input", _ALL, "own"),
    FieldRow("output", _ALL, "own"),
    # script
    FieldRow(
        "script", _SCRIPT, "own",
        because={
            "docker": "script is for type:script actions, use cmd for docker",
            "pod": "script is for type:script actions, use cmd for docker",
            "task": _ONLY_REFERENCE,
        },
    ),
    FieldRow(
        "source", _SCRIPT, "text",
        because={
            "docker": "source is for type:script actions",
            "pod": "source is for type:script actions",
            "task": _ONLY_REFERENCE,
        },
    ),
    FieldRow(
        "runner", _SCRIPT, "own",
        because={
            "docker": "runner is only for script actions",
            "pod": "runner is only for script actions",
            "task": _ONLY_REFERENCE,
        },
    ),
    FieldRow("language", _SCRIPT, "own"),
    FieldRow("dependencies", _SCRIPT, "texts"),
    FieldRow("interpreter", _SCRIPT, "text"),
    FieldRow("args", _SCRIPT, "texts", because={"docker": _ARGS_ELSEWHERE, "pod": _ARGS_ELSEWHERE}),
    FieldRow("workspace", _SCRIPT, "choice", choices=("readonly", "copy")),
    FieldRow("umask", _SCRIPT, "own"),
    # docker, pod
    FieldRow(
        "image", _IMAGE, "text",
        because={"task": _ONLY_REFERENCE},
        instead={
            "script": " is type 'script' but has 'image' field. "
            "Use type: docker for container images, "
            "or runner: docker for shell-in-container"
        },
    ),
    FieldRow(
        "cmd", _IMAGE, "text",
        because={"task": _ONLY_REFERENCE},
        instead={
            "script": (
                ": 'cmd' is not valid on type: script — "
                "use 'script' (inline) or 'source' (file path)"
            )
        },
    ),
    FieldRow("entrypoint", _IMAGE, "texts", because={"script": _ONLY_CONTAINERS}),
    FieldRow("command", _IMAGE, "texts", because={"script": _ONLY_CONTAINERS}),
    FieldRow(
        "manifest", _POD, "own",
        because={"docker": "manifest is only valid on pod actions", "task": _ONLY_REFERENCE},
    ),
    # containers: image actions, and scripts with runner docker or pod
    FieldRow("shm_size", _WORKER, "own", because={"task": _ONLY_REFERENCE}),
    FieldRow("user", _WORKER, "own", because={"task": _ONLY_REFERENCE}),
    FieldRow("platform", _WORKER, "own", because={"task": _ONLY_REFERENCE}),
    FieldRow(
        "pull", _WORKER, "choice", choices=PULL_POLICIES, because={"task": _ONLY_REFERENCE}
    ),
    FieldRow("volumes", _WORKER, "own", because={"task": _ONLY_REFERENCE}),
    # whatever reaches a worker
    FieldRow(
        "tags", _WORKER, "texts",
        because={"task": _NOT_DISPATCHED, "agent": _NOT_DISPATCHED, "approval": _NOT_DISPATCHED},
    ),
    FieldRow("env", _WORKER, "text mapping"),
    FieldRow("workdir", _WORKER, "text"),
    FieldRow("resources", _WORKER, "own"),
    FieldRow("on_worker_lost", _WORKER, "choice", choices=("fail", "retry")),
    FieldRow(
        "timeout", _ALL - _TASK, "duration",
        because={"task": "put it on the step that calls the action, or on the task itself"},
    ),
    FieldRow("retry", _ALL, "own", doubtful=frozenset({"task", "approval"})),
    # task
    FieldRow("task", _TASK, "text"),
    # agent
    FieldRow("provider", _AGENT, "text"),
    FieldRow("model", _AGENT, "text"),
    FieldRow("system_prompt", _AGENT, "text"),
    FieldRow("prompt", _AGENT, "text"),
    FieldRow("temperature", _AGENT, "number"),
    FieldRow("max_tokens", _AGENT, "whole"),
    FieldRow("max_turns", _AGENT, "whole"),
    FieldRow("interactive", _AGENT, "flag"),
    FieldRow("tools", _AGENT, "own"),
    FieldRow("limits", _AGENT, "own"),
    # approval
    FieldRow("message", _APPROVAL, "text"),
    # whoever asks people: approvals, and agents for their tools and questions
    FieldRow("approvers", _APPROVAL | _AGENT, "own"),
    FieldRow("min_approvals", _APPROVAL | _AGENT, "whole"),
    FieldRow("separation", _APPROVAL | _AGENT, "flag"),
    FieldRow("reminders", _APPROVAL | _AGENT, "own"),
    FieldRow("escalation", _APPROVAL | _AGENT, "own"),
    FieldRow("ask_timeout", _AGENT, "duration"),
)  # fmt: skip

ACTION_FIELDS: Mapping[str, FieldRow] = {row.name: row for row in _ROWS}

STEP_FIELDS = (
    "action", "name", "description", "depends_on", "input", "when", "for_each", "sequential",
    "max_parallel",
    "continue_on_failure", "timeout", "retry", "tags", "on_worker_lost", "scheduler", "priority",
    "umask", "artifacts",
)  # fmt: skip
ARTIFACT_FIELDS = ("paths", "retain", "on_failure", "from")
TASK_FIELDS = (
    "name", "description", "folder", "mode", "input", "flow", "timeout", "retry", "on_success",
    "on_error",
    "on_suspended", "on_cancel", "priority", "max_concurrent_jobs", "limits", "manual",
    "workflow_actions", "slurm_schedulers", "mcp", "state", "access",
)  # fmt: skip
STATE_FIELDS = ("on_conflict",)
HOOK_LISTS = ("on_success", "on_error", "on_suspended", "on_cancel")
MAPS = (
    "secrets", "connection_types", "connections", "actions", "tasks", "triggers", "mcp_servers",
    "slurm_schedulers",
    "settings", "access", "libraries",
)  # fmt: skip
LIBRARY_FIELDS = ("url", "ref", "path")
# kinds of what `exports` holds by name: the key in the file -> its section in a draft
EXPORTS: Mapping[str, str] = {"actions": "exported_actions", "job_ends": "job_ends"}
# what messages call an entry of a section
SINGULAR: Mapping[str, str] = {
    "secrets": "Secret",
    "connection_types": "Connection type",
    "connections": "Connection",
    "actions": "Action",
    "tasks": "Task",
    "triggers": "Trigger",
    "mcp_servers": "MCP server",
    "slurm_schedulers": "Slurm scheduler",
    "settings": "Setting",
    "access": "Access",
    "job_ends": "Export of the ends of task",
    "exported_actions": "Export of action",
    "libraries": "Library",
}
TOP_FIELDS = (*MAPS, "exports", *HOOK_LISTS)

PRIMITIVES = ("string", "text", "integer", "number", "boolean", "date", "datetime")
OUTPUT_TYPES = ("string", "integer", "number", "boolean", "array", "object")
ALIASES: Mapping[str, str] = {"bool": "boolean"}
