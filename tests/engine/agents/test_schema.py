"""Declared outputs and inputs as JSON Schema, and answers that fit or do not."""

from __future__ import annotations

from typing import Any

import pytest

from engine.agents.schema import completed, misfits, schema_of, schema_of_inputs
from engine.spec.model import InputField, OutputField

OUTPUTS = {
    "queue": OutputField("string", "Where to", True, options=("a", "b")),
    "score": OutputField("number", default=0.5),
    "n": OutputField("integer"),
    "ok": OutputField("boolean"),
    "list": OutputField("array"),
    "more": OutputField("object"),
}


def test_an_output_map_is_the_schema_of_one_object() -> None:
    assert schema_of(OUTPUTS) == {
        "type": "object",
        "properties": {
            "queue": {"type": "string", "description": "Where to", "enum": ["a", "b"]},
            "score": {"type": "number"},
            "n": {"type": "integer"},
            "ok": {"type": "boolean"},
            "list": {"type": "array", "items": {}},
            "more": {"type": "object"},
        },
        "required": ["queue"],
    }


def test_the_inputs_of_a_task_are_arguments_without_secrets() -> None:
    inputs = {
        "name": InputField("string", required=True, description="Who"),
        "day": InputField("date"),
        "sizes": InputField("string", multiple=True, options=("s", "m")),
        "n": InputField("integer", required=True, default=1, has_default=True),
        "key": InputField("string", required=True, secret=True),
    }
    assert schema_of_inputs(inputs) == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Who"},
            "day": {"type": "string", "format": "date"},
            "sizes": {"type": "array", "items": {"type": "string", "enum": ["s", "m"]}},
            "n": {"type": "integer"},
        },
        "required": ["name"],
    }


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([], "must be a JSON object, not an array"),
        ({}, "'queue' is missing"),
        ({"queue": None}, "'queue' is missing"),
        ({"queue": "c"}, '\'queue\' must be one of "a", "b", not "c"'),
        ({"queue": "a", "n": "1"}, "'n' must be of type integer, not the text \"1\""),
        ({"queue": "a", "n": True}, "'n' must be of type integer, not the boolean true"),
        ({"queue": "a", "n": 1.5}, "'n' must be of type integer, not the number 1.5"),
        ({"queue": "a", "ok": 1}, "'ok' must be of type boolean, not the number 1"),
        ({"queue": "a", "score": False}, "'score' must be of type number"),
        ({"queue": "a", "list": {}}, "'list' must be of type array, not an object"),
        ({"queue": "a", "other": 1}, "'other' is not a declared field"),
    ],
)
def test_a_misfit_is_named(answer: Any, told: str) -> None:
    (wrong,) = misfits(answer, OUTPUTS)
    assert told in wrong


def test_a_fitting_answer_is_completed_with_defaults() -> None:
    answer = {"queue": "a", "n": 2.0}
    assert misfits(answer, OUTPUTS) == []
    assert completed(answer, OUTPUTS) == {
        "queue": "a", "score": 0.5, "n": 2, "ok": None, "list": None, "more": None,
    }  # fmt: skip
    assert isinstance(completed(answer, OUTPUTS)["n"], int)
