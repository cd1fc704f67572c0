"""The JSON Schema of a workflow file, from the tables that the parser reads by.

Editors complete and check with it while a file is written. It accepts whatever `validate` accepts;
what needs more than one look at a value (names, templates, cycles) only `validate` finds. Draft 7:
what the YAML extensions of editors know best. A null counts as an absent key, as in the parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from engine import VERSION
from engine.agents.limits import AT_LIMIT, MOST_TURNS
from engine.spec import access, actions, connections, meanings, schedulers, slurm, tasks, triggers
from engine.spec.fields import (
    ACTION_FIELDS,
    ALIASES,
    HOOK_LISTS,
    LIBRARY_FIELDS,
    OUTPUT_TYPES,
    PRIMITIVES,
    STEP_FIELDS,
    TYPES,
    FieldRow,
)
from engine.spec.model import OnConflict
from engine.spec.schema_pieces import (
    ANYTHING,
    DURATION,
    FLAG,
    LOOSE,
    NUMBER,
    SCALARS,
    TEXT,
    TEXT_MAPPING,
    TEXTS,
    UMASK,
    VALUES,
    Schema,
    by_name,
    choice,
    closed,
    described,
    if_type,
    list_of,
    needing,
    optional,
    ref,
    whole,
)
from engine.spec.workspace_settings import KEPT
from engine.webhooks import VERIFICATIONS

_KINDS: Mapping[str, Schema] = {
    "text": TEXT,
    "texts": TEXTS,
    "text mapping": TEXT_MAPPING,
    "flag": FLAG,
    "whole": whole(),
    "number": NUMBER,
    "duration": DURATION,
}
_PEOPLE = {"users": TEXTS, "groups": TEXTS}
_INPUTS = by_name(ref("field"))
_OUTPUTS = by_name(
    closed(
        {
            "type": {"enum": list(OUTPUT_TYPES)},
            "description": TEXT,
            "required": FLAG,
            "default": ANYTHING,
            "options": list_of(ANYTHING),
        },
        needed=("type",),
    )
)
_OWN: Mapping[str, Schema] = {
    "type": TEXT,
    "input": _INPUTS,
    "output": _OUTPUTS,
    "script": TEXT,
    "runner": choice(actions.RUNNERS),
    "language": choice(actions.LANGUAGES),
    "umask": UMASK,
    "manifest": {"type": ["object", "null"]},
    "resources": optional(
        closed(
            {
                "cpu": LOOSE,
                "memory": LOOSE,
                "num_cpus": whole(1, 100_000),
                "num_gpus": whole(0, 10_000),
                "num_nodes": whole(1, 100_000),
                "runtime": LOOSE,
            }
        )
    ),
    "shm_size": LOOSE,
    "user": LOOSE,
    "platform": LOOSE,
    "volumes": TEXT_MAPPING,
    "retry": optional(ref("retry")),
    "tools": list_of(
        closed(
            {
                "task": TEXT,
                "mcp": TEXT,
                "approval": {
                    "anyOf": [choice(("never", "always")), closed({"when": LOOSE}, ("when",))]
                },
                "idempotent": FLAG,
                "only": TEXTS,
            }
        )
    ),
    "limits": optional(
        closed(
            {
                "turns": whole(1, MOST_TURNS),
                "tokens": whole(1),
                "cost": NUMBER,
                "tool_calls": whole(0),
                "time": DURATION,
                "at_limit": choice(AT_LIMIT),
            }
        )
    ),
    "approvers": optional(closed(_PEOPLE)),
    "reminders": list_of({**DURATION, "type": ["integer", "string"]}),
    "escalation": optional(closed({"after": DURATION, **_PEOPLE}, needed=("after",))),
}


def _shape(row: FieldRow) -> Schema:
    if row.kind == "own":
        return _OWN[row.name]
    return choice(row.choices) if row.kind == "choice" else _KINDS[row.kind]


def _fields_of(action_type: str) -> dict[str, Schema]:
    rows = [row for row in ACTION_FIELDS.values() if action_type in row.types]
    return described(meanings.ACTION, {row.name: _shape(row) for row in rows})


def _with_type(beside: Mapping[str, Schema]) -> Schema:
    """An action, by its type; `beside` are keys that any type has besides."""
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"description": meanings.ACTION["type"], "enum": list(TYPES)}},
        "allOf": [
            if_type(
                action_type,
                {
                    "properties": {**_fields_of(action_type), **beside},
                    "additionalProperties": False,
                },
            )
            for action_type in TYPES
        ],
    }


_STEP: Mapping[str, Schema] = {
    "action": TEXT,
    "name": TEXT,
    "description": TEXT,
    "depends_on": TEXTS,
    "input": VALUES,
    "when": LOOSE,
    "for_each": {"type": ["string", "array", "null"], "maxItems": tasks.MOST_ITEMS},
    "sequential": FLAG,
    "max_parallel": whole(1, tasks.MOST_ITEMS),
    "continue_on_failure": FLAG,
    "timeout": DURATION,
    "retry": optional(ref("retry")),
    "tags": TEXTS,
    "on_worker_lost": choice(("fail", "retry")),
    "scheduler": TEXT,
    "priority": whole(-tasks.MOST_PRIORITY, tasks.MOST_PRIORITY),
    "umask": UMASK,
    "artifacts": optional(
        closed(
            described(
                meanings.ARTIFACTS,
                {"paths": TEXTS, "retain": DURATION, "on_failure": FLAG, "from": TEXTS},
            )
        )
    ),
}


def _describe_step() -> Schema:
    """`action`, or `type` with the keys of an action; there `input` declares fields and holds
    values."""
    known = described(meanings.STEP, {key: _STEP[key] for key in STEP_FIELDS})
    beside = {key: shape for key, shape in known.items() if key != "action"}
    return {
        "type": "object",
        "if": {"properties": {"type": {"not": {"type": "null"}}}, "required": ["type"]},
        "then": _with_type(beside),
        "else": {
            "properties": {**known, "type": {"type": "null"}},
            "additionalProperties": False,
            **needing(("action",)),
        },
    }


def _kept(rights: Iterable[str]) -> Schema:
    return closed({right: closed(_PEOPLE) for right in rights})


_HOOKS: Mapping[str, Schema] = dict.fromkeys(HOOK_LISTS, list_of(ref("hook")))
_SHARED_LIMITS = closed(
    {
        "turns": whole(1),
        "tokens": whole(1),
        "cost": NUMBER,
        "tool_calls": whole(0),
        "daily": optional(closed({"tokens": whole(1), "cost": NUMBER})),
    }
)
_KEEPING = closed({"retain": DURATION, "workspace_mb": whole(1)})
_TASK: Mapping[str, Schema] = {
    "name": TEXT,
    "description": TEXT,
    "folder": TEXT,
    "mode": choice(("distributed", "local")),
    "input": _INPUTS,
    "flow": {"type": "object", "minProperties": 1, "additionalProperties": ref("step")},
    "timeout": DURATION,
    "retry": optional(ref("retry")),
    **_HOOKS,
    "priority": whole(-tasks.MOST_PRIORITY, tasks.MOST_PRIORITY),
    "max_concurrent_jobs": whole(1, 100_000),
    "limits": optional(_SHARED_LIMITS),
    "manual": FLAG,
    "workflow_actions": list_of(ref("workflow_action")),
    "slurm_schedulers": by_name(ref("scheduler")),
    "mcp": FLAG,
    "state": optional(closed({"on_conflict": choice(get_args(OnConflict))})),
    "access": optional(_kept(access.OF_TASKS)),
}
_FIELD = closed(
    {
        # a type of connection is a type too: what is none of these is looked up
        "type": {"anyOf": [{"enum": [*PRIMITIVES, *ALIASES]}, {"type": "string"}]},
        "name": TEXT,
        "description": TEXT,
        "required": FLAG,
        "secret": FLAG,
        "default": ANYTHING,
        "options": TEXTS,
        "allow_custom": FLAG,
        "multiple": FLAG,
        "order": whole(),
    },
    needed=("type",),
)
_RETRY = closed(
    {
        "max_attempts": whole(1, 10),
        "delay": DURATION,
        "backoff": choice(("fixed", "exponential")),
        "jitter": FLAG,
    }
)
_RUN: Mapping[str, Schema] = {"commands": {"type": ["array", "null"], "items": {"type": "string"}}}
_NODES: Mapping[str, Schema] = {
    "scheduler": TEXT,
    "scheduler_type": choice(("slurm",)),
    "num_allocations": whole(1, 10_000),
    "start_one_worker_per_node": FLAG,
    "max_parallel_jobs": whole(1, 10_000),
}
_DOING: Mapping[str, Schema] = {"action_type": choice(slurm.ACTION_TYPES), **_RUN, **_NODES}
_WORKFLOW_ACTION = closed(
    {
        "name": TEXT,
        "trigger_type": {"enum": list(slurm.TRIGGERS)},
        "jobs": TEXTS,
        "job_name_regexes": TEXTS,
        "persistent": FLAG,
        "do": {"type": ["array", "null"], "minItems": 1, "items": closed(_DOING, ("action_type",))},
        "barrier": FLAG,
        "needs": TEXTS,
        "when": LOOSE,
        "retry": optional(ref("retry")),
        "timeout": DURATION,
        "rerun": choice(("always", "affected", "never")),
        "on_failure": choice(("ignore", "fail_job")),
        "where": choice(slurm.PLACES),
        **_DOING,
    },
    needed=("trigger_type",),
)
_SCHEDULER = closed(
    {
        **dict.fromkeys(schedulers.TEXTS, LOOSE),
        "nodes": whole(1, 100_000),
        "ntasks_per_node": whole(1, 100_000),
        "setup": {"type": ["string", "array", "null"], "items": {"type": SCALARS}},
        "pass_env": {"type": ["string", "array", "null"], "items": {"type": SCALARS}},
    },
    needed=("account",),
)
_PROPERTY = closed(
    {
        "type": {"enum": [*PRIMITIVES, *ALIASES]},
        "required": FLAG,
        "default": ANYTHING,
        "secret": FLAG,
        "description": TEXT,
        "options": TEXTS,
    },
    needed=("type",),
)
_SERVER = closed(
    {
        "transport": {"enum": list(connections.TRANSPORTS)},
        "command": TEXT,
        "args": TEXTS,
        "image": TEXT,
        "env": TEXT_MAPPING,
        "url": TEXT,
        "auth_token": TEXT,
        "headers": TEXT_MAPPING,
        "timeout_secs": whole(1, 3600),
    },
    needed=("transport",),
)
_TRIGGER_KEYS: Mapping[str, Schema] = {
    "type": TEXT,
    "enabled": FLAG,
    "input": VALUES,
    "task": TEXT,
    "idempotency_key": TEXT,
    "idempotency_window": DURATION,
    "concurrency": choice(triggers.CONCURRENCY),
    "debounce": DURATION,
    "force_refresh": FLAG,
    "cron": TEXT,
    "timezone": TEXT,
    "catch_up": choice(triggers.CATCH_UP),
    "catch_up_window": DURATION,
    "jitter": DURATION,
    "name": TEXT,
    "secret": TEXT,
    "verify": choice(VERIFICATIONS),
    "secret_in_query": FLAG,
    "allow_get": FLAG,
    "filter": LOOSE,
    "mode": choice(("sync", "async")),
    "timeout_secs": whole(1, 300),
    "target_task": TEXT,
    "env": TEXT_MAPPING,
    "restart_policy": choice(("always", "on_failure", "never")),
    "backoff_secs": whole(1),
    "max_in_flight": whole(1),
    "on_job": closed(
        {
            "workspace": TEXT,
            "task": TEXT,
            "status": {
                "anyOf": [
                    choice(triggers.ENDS),
                    {"type": "array", "items": {"enum": list(triggers.ENDS)}},
                ]
            },
        },
        needed=("task",),
    ),
}
_TRIGGER: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": list(triggers.TYPES)}},
    "allOf": [
        if_type(
            trigger_type,
            {
                "properties": described(
                    meanings.TRIGGER, {key: _TRIGGER_KEYS[key] for key in keys}
                ),
                "additionalProperties": False,
                **needing(triggers.REQUIRED[trigger_type]),
            },
        )
        for trigger_type, keys in triggers.FIELDS.items()
    ],
}
_ACCESS: Schema = {
    "type": ["object", "null"],
    "properties": {"*": _kept(access.ALL)},
    "additionalProperties": _kept(access.OF_TASKS),
}
_JOB_ENDS = closed({"to": TEXTS, "output": FLAG}, needed=("to",))
_EXPORTED_ACTION = closed({"to": TEXTS, "secrets": FLAG}, needed=("to",))
_SECTIONS: Mapping[str, Schema] = {
    "secrets": by_name(ANYTHING),
    "connection_types": by_name(
        {
            "type": "object",
            "properties": {connections.CHECK: {"anyOf": [TEXT, _PROPERTY]}},
            "additionalProperties": _PROPERTY,
        }
    ),
    "connections": by_name({"type": "object"}),
    "actions": by_name(ref("action")),
    "tasks": by_name(ref("task")),
    "triggers": by_name(_TRIGGER),
    "mcp_servers": by_name(_SERVER),
    "slurm_schedulers": by_name(ref("scheduler")),
    "access": _ACCESS,
    "exports": optional(
        closed({"actions": by_name(_EXPORTED_ACTION), "job_ends": by_name(_JOB_ENDS)})
    ),
    "libraries": by_name(closed(dict.fromkeys(LIBRARY_FIELDS, TEXT))),
    "settings": optional(
        closed(
            {
                "unsafe_templates": {"enum": ["warn", "refuse"]},
                "limits": _SHARED_LIMITS,
                **dict.fromkeys(KEPT, optional(_KEEPING)),
            }
        )
    ),
}


def build() -> Schema:
    """The schema as JSON data; its id carries the version of Stroem."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:stroem:{VERSION}:workflow",
        "title": f"Stroem workflow file, version {VERSION}",
        "type": ["object", "null"],
        "properties": described(meanings.TOP, {**_SECTIONS, **_HOOKS}),
        "additionalProperties": False,
        "definitions": {
            "action": _with_type({}),
            "step": _describe_step(),
            "task": closed(described(meanings.TASK, _TASK), needed=("flow",)),
            "field": _FIELD,
            "retry": _RETRY,
            "hook": closed({"action": TEXT, "input": VALUES}, needed=("action",)),
            "workflow_action": _WORKFLOW_ACTION,
            "scheduler": _SCHEDULER,
        },
    }
