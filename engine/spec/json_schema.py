"""The JSON Schema of a workflow file, from the tables that the parser reads by.

Editors complete and check with it while a file is written. It accepts whatever `validate` accepts;
what needs more than one look at a value (names, templates, cycles) only `validate` finds. Draft 7:
what the YAML extensions of editors know best. A null counts as an absent key, as in the parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine import VERSION
from engine.spec import actions, connections, meanings, schedulers, slurm, tasks
from engine.spec.fields import (
    ACTION_FIELDS,
    ALIASES,
    HOOK_LISTS,
    OUTPUT_TYPES,
    PRIMITIVES,
    STEP_FIELDS,
    TYPES,
    FieldRow,
)
from engine.spec.model import InputField

Schema = dict[str, Any]
_SCALARS = ["string", "number", "boolean"]
_ANYTHING: Schema = {}
_TEXT: Schema = {"type": ["string", "null"]}
_LOOSE: Schema = {"type": [*_SCALARS, "null"]}
_FLAG: Schema = {"type": ["boolean", "null"]}
_NUMBER: Schema = {"type": ["number", "null"]}
_TEXTS: Schema = {"type": ["array", "null"], "items": {"type": _SCALARS}}
_TEXT_MAPPING: Schema = {"type": ["object", "null"], "additionalProperties": {"type": _SCALARS}}
_VALUES: Schema = {"type": ["object", "null"]}
_DURATION: Schema = {
    "type": ["integer", "string", "null"],
    "exclusiveMinimum": 0,
    "pattern": r"^\s*([0-9]+|([0-9]+[dhms])+)\s*$",
}
_UMASK: Schema = {"type": ["string", "integer", "null"], "pattern": "^(0o)?[0-7]{1,4}$"}


# -- pieces


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _whole(low: int | None = None, high: int | None = None) -> Schema:
    limits = {"minimum": low, "maximum": high}
    given = {key: limit for key, limit in limits.items() if limit is not None}
    return {"type": ["integer", "null"], **given}


def _choice(words: Iterable[str]) -> Schema:
    return {"enum": [*words, None]}


def _list(item: Schema) -> Schema:
    return {"type": ["array", "null"], "items": item}


def _by_name(item: Schema) -> Schema:
    return {"type": ["object", "null"], "additionalProperties": item}


def _closed(properties: Mapping[str, Schema], needed: Iterable[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        **_needing(needed),
        "additionalProperties": False,
    }


def _needing(keys: Iterable[str]) -> Schema:
    """Required keys; one that is null is missing."""
    keys = list(keys)
    if not keys:
        return {}
    return {
        "required": keys,
        "allOf": [{"properties": {key: {"not": {"type": "null"}}}} for key in keys],
    }


def _if_type(name: str, shape: Schema) -> Schema:
    return {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": shape}


def _optional(shape: Schema) -> Schema:
    return {"anyOf": [shape, {"type": "null"}]}


def _described(words: Mapping[str, str], properties: Mapping[str, Schema]) -> dict[str, Schema]:
    return {key: {"description": words[key], **shape} for key, shape in properties.items()}


# -- shapes of each key

_KINDS: Mapping[str, Schema] = {
    "text": _TEXT,
    "texts": _TEXTS,
    "text mapping": _TEXT_MAPPING,
    "flag": _FLAG,
    "whole": _whole(),
    "number": _NUMBER,
    "duration": _DURATION,
}
_PEOPLE = {"users": _TEXTS, "groups": _TEXTS}
_INPUTS = _by_name(_ref("field"))
_OUTPUTS = _by_name(
    _closed(
        {
            "type": {"enum": list(OUTPUT_TYPES)},
            "description": _TEXT,
            "required": _FLAG,
            "default": _ANYTHING,
            "options": _list(_ANYTHING),
        },
        needed=("type",),
    )
)
_OWN: Mapping[str, Schema] = {
    "type": _TEXT,
    "input": _INPUTS,
    "output": _OUTPUTS,
    "script": _TEXT,
    "runner": _choice(actions.RUNNERS),
    "language": _choice(actions.LANGUAGES),
    "umask": _UMASK,
    "manifest": {"type": ["object", "null"]},
    "resources": _optional(
        _closed(
            {
                "cpu": _LOOSE,
                "memory": _LOOSE,
                "num_cpus": _whole(1, 100_000),
                "num_gpus": _whole(0, 10_000),
                "num_nodes": _whole(1, 100_000),
                "runtime": _LOOSE,
            }
        )
    ),
    "shm_size": _LOOSE,
    "user": _LOOSE,
    "platform": _LOOSE,
    "volumes": _TEXT_MAPPING,
    "retry": _optional(_ref("retry")),
    "tools": _list({"type": "object"}),
    "approvers": _optional(_closed(_PEOPLE)),
    "reminders": _list({**_DURATION, "type": ["integer", "string"]}),
    "escalation": _optional(_closed({"after": _DURATION, **_PEOPLE}, needed=("after",))),
}


def _shape(row: FieldRow) -> Schema:
    if row.kind == "own":
        return _OWN[row.name]
    return _choice(row.choices) if row.kind == "choice" else _KINDS[row.kind]


def _fields_of(action_type: str) -> dict[str, Schema]:
    rows = [row for row in ACTION_FIELDS.values() if action_type in row.types]
    return _described(meanings.ACTION, {row.name: _shape(row) for row in rows})


def _with_type(beside: Mapping[str, Schema]) -> Schema:
    """An action, by its type; `beside` are keys that any type has besides."""
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"description": meanings.ACTION["type"], "enum": list(TYPES)}},
        "allOf": [
            _if_type(
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
    "action": _TEXT,
    "name": _TEXT,
    "description": _TEXT,
    "depends_on": _TEXTS,
    "input": _VALUES,
    "when": _LOOSE,
    "for_each": {"type": ["string", "array", "null"], "maxItems": tasks.MOST_ITEMS},
    "sequential": _FLAG,
    "max_parallel": _whole(1, tasks.MOST_ITEMS),
    "continue_on_failure": _FLAG,
    "timeout": _DURATION,
    "retry": _optional(_ref("retry")),
    "tags": _TEXTS,
    "on_worker_lost": _choice(("fail", "retry")),
    "scheduler": _TEXT,
    "priority": _whole(-tasks.MOST_PRIORITY, tasks.MOST_PRIORITY),
    "umask": _UMASK,
}


def _describe_step() -> Schema:
    """`action`, or `type` with the keys of an action; there `input` declares fields and holds
    values."""
    known = _described(meanings.STEP, {key: _STEP[key] for key in STEP_FIELDS})
    beside = {key: shape for key, shape in known.items() if key != "action"}
    return {
        "type": "object",
        "if": {"properties": {"type": {"not": {"type": "null"}}}, "required": ["type"]},
        "then": _with_type(beside),
        "else": {
            "properties": {**known, "type": {"type": "null"}},
            "additionalProperties": False,
            **_needing(("action",)),
        },
    }


_HOOKS: Mapping[str, Schema] = dict.fromkeys(HOOK_LISTS, _list(_ref("hook")))
_TASK: Mapping[str, Schema] = {
    "name": _TEXT,
    "description": _TEXT,
    "folder": _TEXT,
    "mode": _choice(("distributed", "local")),
    "input": _INPUTS,
    "flow": {"type": "object", "minProperties": 1, "additionalProperties": _ref("step")},
    "timeout": _DURATION,
    "retry": _optional(_ref("retry")),
    **_HOOKS,
    "priority": _whole(-tasks.MOST_PRIORITY, tasks.MOST_PRIORITY),
    "max_concurrent_jobs": _whole(1, 100_000),
    "workflow_actions": _list(_ref("workflow_action")),
    "slurm_schedulers": _by_name(_ref("scheduler")),
    "mcp": _FLAG,
}
_FIELD = _closed(
    {
        # a type of connection is a type too: what is none of these is looked up
        "type": {"anyOf": [{"enum": [*PRIMITIVES, *ALIASES]}, {"type": "string"}]},
        "name": _TEXT,
        "description": _TEXT,
        "required": _FLAG,
        "secret": _FLAG,
        "default": _ANYTHING,
        "options": _TEXTS,
        "allow_custom": _FLAG,
        "multiple": _FLAG,
        "order": _whole(),
    },
    needed=("type",),
)
_RETRY = _closed(
    {
        "max_attempts": _whole(1, 10),
        "delay": _DURATION,
        "backoff": _choice(("fixed", "exponential")),
        "jitter": _FLAG,
    }
)
_RUN: Mapping[str, Schema] = {"commands": {"type": ["array", "null"], "items": {"type": "string"}}}
_NODES: Mapping[str, Schema] = {
    "scheduler": _TEXT,
    "scheduler_type": _choice(("slurm",)),
    "num_allocations": _whole(1, 10_000),
    "start_one_worker_per_node": _FLAG,
    "max_parallel_jobs": _whole(1, 10_000),
}
_DOING: Mapping[str, Schema] = {"action_type": _choice(slurm.ACTION_TYPES), **_RUN, **_NODES}
_WORKFLOW_ACTION = _closed(
    {
        "name": _TEXT,
        "trigger_type": {"enum": list(slurm.TRIGGERS)},
        "jobs": _TEXTS,
        "job_name_regexes": _TEXTS,
        "persistent": _FLAG,
        "do": {
            "type": ["array", "null"],
            "minItems": 1,
            "items": _closed(_DOING, ("action_type",)),
        },
        "barrier": _FLAG,
        "needs": _TEXTS,
        "when": _LOOSE,
        "retry": _optional(_ref("retry")),
        "timeout": _DURATION,
        "rerun": _choice(("always", "affected", "never")),
        "on_failure": _choice(("ignore", "fail_job")),
        "where": _choice(slurm.PLACES),
        **_DOING,
    },
    needed=("trigger_type",),
)
_SCHEDULER = _closed(
    {
        **dict.fromkeys(schedulers.TEXTS, _LOOSE),
        "nodes": _whole(1, 100_000),
        "ntasks_per_node": _whole(1, 100_000),
        "setup": {"type": ["string", "array", "null"], "items": {"type": _SCALARS}},
        "pass_env": {"type": ["string", "array", "null"], "items": {"type": _SCALARS}},
    },
    needed=("account",),
)
_PROPERTY = _closed(
    {
        "type": {"enum": [*PRIMITIVES, *ALIASES]},
        "required": _FLAG,
        "default": _ANYTHING,
        "secret": _FLAG,
        "description": _TEXT,
    },
    needed=("type",),
)
_SERVER = _closed(
    {
        "transport": {"enum": list(connections.TRANSPORTS)},
        "command": _TEXT,
        "args": _TEXTS,
        "env": _TEXT_MAPPING,
        "url": _TEXT,
        "auth_token": _TEXT,
        "timeout_secs": _whole(1, 3600),
    },
    needed=("transport",),
)
_TRIGGER_KEYS: Mapping[str, Schema] = {
    "type": _TEXT,
    "enabled": _FLAG,
    "input": _VALUES,
    "cron": _TEXT,
    "task": _TEXT,
    "timezone": _TEXT,
    "concurrency": _choice(("allow", "skip", "cancel_previous")),
    "force_refresh": _FLAG,
    "name": _TEXT,
    "secret": _TEXT,
    "mode": _choice(("sync", "async")),
    "timeout_secs": _whole(1, 300),
    "target_task": _TEXT,
    "env": _TEXT_MAPPING,
    "restart_policy": _choice(("always", "on_failure", "never")),
    "backoff_secs": _whole(1),
    "max_in_flight": _whole(1),
}
_TRIGGER: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": list(connections.TRIGGER_TYPES)}},
    "allOf": [
        _if_type(
            trigger_type,
            {
                "properties": {key: _TRIGGER_KEYS[key] for key in keys},
                "additionalProperties": False,
                **_needing(connections.REQUIRED_OF_TRIGGERS[trigger_type]),
            },
        )
        for trigger_type, keys in connections.TRIGGER_FIELDS.items()
    ],
}
_SECTIONS: Mapping[str, Schema] = {
    "secrets": _by_name(_ANYTHING),
    "connection_types": _by_name({"type": "object", "additionalProperties": _PROPERTY}),
    "connections": _by_name({"type": "object"}),
    "actions": _by_name(_ref("action")),
    "tasks": _by_name(_ref("task")),
    "triggers": _by_name(_TRIGGER),
    "mcp_servers": _by_name(_SERVER),
    "slurm_schedulers": _by_name(_ref("scheduler")),
    "settings": _optional(_closed({"unsafe_templates": {"enum": ["warn", "refuse"]}})),
}


_TYPES: Mapping[str, Schema] = {
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}


def describe_fields(fields: Mapping[str, InputField]) -> Schema:
    """The schema of an object with these input fields, for callers that know no YAML."""
    return {
        "type": "object",
        "properties": {name: _describe_field(field) for name, field in fields.items()},
        "required": [
            name for name, field in fields.items() if field.required and not field.has_default
        ],
        "additionalProperties": False,
    }


def _describe_field(field: InputField) -> Schema:
    shape: Schema = dict(_TYPES.get(field.type, {"type": "string"}))
    if field.type not in PRIMITIVES:
        shape["description"] = f"Name of a connection of type {field.type}"
    if field.options and not field.allow_custom and shape == {"type": "string"}:
        shape["enum"] = list(field.options)
    if field.multiple:
        shape = {"type": "array", "items": shape}
    if text := field.description or field.name:
        shape["description"] = text
    if field.has_default and not field.secret and not _is_rendered(field.default):
        shape["default"] = field.default
    return shape


def _is_rendered(default: Any) -> bool:
    return isinstance(default, str) and "{" in default


def build() -> Schema:
    """The schema as JSON data; its id carries the version of Stroem."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:stroem:{VERSION}:workflow",
        "title": f"Stroem workflow file, version {VERSION}",
        "type": ["object", "null"],
        "properties": _described(meanings.TOP, {**_SECTIONS, **_HOOKS}),
        "additionalProperties": False,
        "definitions": {
            "action": _with_type({}),
            "step": _describe_step(),
            "task": _closed(_described(meanings.TASK, _TASK), needed=("flow",)),
            "field": _FIELD,
            "retry": _RETRY,
            "hook": _closed({"action": _TEXT, "input": _VALUES}, needed=("action",)),
            "workflow_action": _WORKFLOW_ACTION,
            "scheduler": _SCHEDULER,
        },
    }
