"""The declared output of an agent as JSON Schema, and whether an answer fits it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.spec.model import InputField, OutputField

_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_OF_INPUT = {"integer": "integer", "number": "number", "boolean": "boolean"}
_FORMATS = {"date": "date", "datetime": "date-time"}
_MOST_SHOWN = 80


def schema_of(outputs: Mapping[str, OutputField]) -> dict[str, Any]:
    """The fields as a JSON Schema of one object."""
    properties: dict[str, Any] = {}
    for name, field in outputs.items():
        described: dict[str, Any] = {"type": field.type}
        if field.description:
            described["description"] = field.description
        if field.options is not None:
            described["enum"] = list(field.options)
        if field.type == "array":
            described["items"] = {}
        properties[name] = described
    required = [name for name, field in outputs.items() if field.required]
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | {"required": required} if required else schema


def schema_of_inputs(inputs: Mapping[str, InputField]) -> dict[str, Any]:
    """The inputs of a task as the arguments of a tool. Secret ones are left out: a model must not
    choose or see them."""
    shown = {name: field for name, field in inputs.items() if not field.secret}
    properties = {name: _argument(field) for name, field in shown.items()}
    required = [name for name, field in shown.items() if field.required and not field.has_default]
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | {"required": required} if required else schema


def _argument(field: InputField) -> dict[str, Any]:
    kind = _OF_INPUT.get(field.type, "string")
    one: dict[str, Any] = {"type": kind}
    if field.type in _FORMATS:
        one["format"] = _FORMATS[field.type]
    if field.options is not None and not field.allow_custom:
        one["enum"] = list(field.options)
    described = {"type": "array", "items": one} if field.multiple else one
    if field.description:
        described["description"] = field.description
    return described


def misfits(answer: Any, outputs: Mapping[str, OutputField]) -> list[str]:
    """What is wrong with an answer, one sentence each; empty if it fits."""
    if not isinstance(answer, dict):
        return [f"the answer must be a JSON object, not {_kind(answer)}"]
    wrong = [
        f"'{name}' is missing"
        for name, field in outputs.items()
        if field.required and answer.get(name) is None
    ]
    for name, value in answer.items():
        declared = outputs.get(name)
        if declared is None:
            wrong.append(f"'{name[:_MOST_SHOWN]}' is not a declared field")
        elif value is not None:
            wrong += _misfit(name, value, declared)
    return wrong


def _misfit(name: str, value: Any, field: OutputField) -> list[str]:
    is_truth = isinstance(value, bool)
    fits = isinstance(value, _KINDS[field.type]) and (is_truth == (field.type == "boolean"))
    if field.type == "integer" and isinstance(value, float) and value.is_integer():
        fits = True
    if not fits:
        return [f"'{name}' must be of type {field.type}, not {_kind(value)}"]
    if field.options is not None and value not in field.options:
        allowed = ", ".join(json.dumps(option, ensure_ascii=False) for option in field.options)
        return [f"'{name}' must be one of {allowed}, not {_shown(value)}"]
    return []


def completed(answer: Mapping[str, Any], outputs: Mapping[str, OutputField]) -> dict[str, Any]:
    """A fitting answer with every declared field: missing ones have their default."""
    values = {
        name: field.default if answer.get(name) is None else answer[name]
        for name, field in outputs.items()
    }
    return {
        name: int(value) if outputs[name].type == "integer" and isinstance(value, float) else value
        for name, value in values.items()
    }


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {_shown(value)}"
        case str():
            return f"the text {_shown(value)}"
        case list():
            return "an array"
    return "an object"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
