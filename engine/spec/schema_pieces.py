"""The pieces that the JSON Schema of workflow files is made of. A null counts as an absent key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.spec.fields import PRIMITIVES
from engine.spec.model import InputField

Schema = dict[str, Any]
SCALARS = ["string", "number", "boolean"]
ANYTHING: Schema = {}
TEXT: Schema = {"type": ["string", "null"]}
LOOSE: Schema = {"type": [*SCALARS, "null"]}
FLAG: Schema = {"type": ["boolean", "null"]}
NUMBER: Schema = {"type": ["number", "null"]}
TEXTS: Schema = {"type": ["array", "null"], "items": {"type": SCALARS}}
TEXT_MAPPING: Schema = {"type": ["object", "null"], "additionalProperties": {"type": SCALARS}}
VALUES: Schema = {"type": ["object", "null"]}
DURATION: Schema = {
    "type": ["integer", "string", "null"],
    "exclusiveMinimum": 0,
    "pattern": r"^\s*([0-9]+|([0-9]+[dhms])+)\s*$",
}
UMASK: Schema = {"type": ["string", "integer", "null"], "pattern": "^(0o)?[0-7]{1,4}$"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def whole(low: int | None = None, high: int | None = None) -> Schema:
    limits = {"minimum": low, "maximum": high}
    given = {key: limit for key, limit in limits.items() if limit is not None}
    return {"type": ["integer", "null"], **given}


def choice(words: Iterable[str]) -> Schema:
    return {"enum": [*words, None]}


def list_of(item: Schema) -> Schema:
    return {"type": ["array", "null"], "items": item}


def by_name(item: Schema) -> Schema:
    return {"type": ["object", "null"], "additionalProperties": item}


def closed(properties: Mapping[str, Schema], needed: Iterable[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        **needing(needed),
        "additionalProperties": False,
    }


def needing(keys: Iterable[str]) -> Schema:
    """Required keys; one that is null is missing."""
    keys = list(keys)
    if not keys:
        return {}
    return {
        "required": keys,
        "allOf": [{"properties": {key: {"not": {"type": "null"}}}} for key in keys],
    }


def if_type(name: str, shape: Schema) -> Schema:
    return {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": shape}


def optional(shape: Schema) -> Schema:
    return {"anyOf": [shape, {"type": "null"}]}


def described(words: Mapping[str, str], properties: Mapping[str, Schema]) -> dict[str, Schema]:
    return {key: {"description": words[key], **shape} for key, shape in properties.items()}


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
