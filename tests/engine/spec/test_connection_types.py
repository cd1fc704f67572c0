"""Types of connections: their properties, their check, which values fit, who uses which."""

from __future__ import annotations

from dataclasses import replace
from textwrap import indent

import pytest

from engine.errors import InputError
from engine.spec.connection_types import askers_of, fields_of, fit, taking, uses_of
from engine.spec.freeze import to_json, workspace_from_json
from tests.engine.spec.builders import only, sentences, workspace

TYPES = """
connection_types:
  db:
    check: ping
    host: {type: string, required: true, description: Name or address}
    port: {type: integer, default: 5432}
    mode: {type: string, options: [require, disable]}
    password: {type: string, secret: true, required: true}
  other: {check: {type: string}}
actions:
  ping: {type: script, script: "true", input: {to: {type: db, required: true}}}
"""
FLOW = """
tasks:
  load:
    input: {target: {type: db, default: main}}
    flow:
      a: {action: ping, input: {to: spare}}
      b: {action: ping, input: {to: "{{ input.target }}"}}
    on_error: [{action: ping, input: {to: spare}}]
triggers:
  nightly: {type: scheduler, cron: "0 0 * * *", task: load, input: {target: night}}
on_error: [{action: ping, input: {to: main}}]
"""


def test_a_type_has_properties_in_the_order_of_the_file_and_a_check() -> None:
    found = workspace_from_json(to_json(workspace(TYPES)))
    fields = fields_of(found.connection_types["db"])
    assert list(fields) == ["host", "port", "mode", "password"]
    assert fields["mode"].options == ("require", "disable") and fields["password"].secret
    assert found.connection_checks == {"db": "ping"}
    assert list(found.connection_types["other"]) == ["check"], "a mapping is a property"
    assert taking(found.actions["ping"], "db") == "to"


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (
            "connection_types: {db: {check: pong, host: {type: string}}}",
            "Connection type 'db' check names the action 'pong', which is missing (did you mean"
            " 'ping'?)",
        ),
        (
            "connection_types: {db: {check: ask, host: {type: string}}}",
            "Connection type 'db' check names the action 'ask' of type 'approval'; only"
            " script/docker/pod actions can check a connection",
        ),
        (
            "connection_types: {db: {check: plain, host: {type: string}}}",
            "Connection type 'db' check names the action 'plain', which has no input of type 'db'"
            " to take the connection",
        ),
        (
            "connection_types: {db: {check: two, host: {type: string}}}",
            "Connection type 'db' check gives the action 'two' only 'to'; its required input"
            " 'more' needs a default",
        ),
        (
            "connection_types: {db: {check: 5, host: {type: string}}}",
            "Connection type 'db' 'check' must be text; put 5 in quotes",
        ),
    ],
)
def test_a_check_that_could_never_pass_is_told(types: str, said: str) -> None:
    text = f"""
{types}
actions:
  ping: {{type: script, script: "true", input: {{to: {{type: db}}}}}}
  plain: {{type: script, script: "true"}}
  ask: {{type: approval, message: sure}}
  two:
    type: script
    script: "true"
    input: {{to: {{type: db}}, more: {{type: string, required: true}}}}
"""
    assert sentences(text) == [said]


def test_a_default_that_does_not_fit_its_property_is_told_without_a_secret() -> None:
    text = "connection_types:\n  db:\n    {}"
    problem = only(text.format("port: {type: integer, default: many}"))
    assert (problem.severity, problem.place.line) == ("warning", 3)
    assert problem.message == (
        "The default of Connection type 'db' property 'port' must be a whole number, not 'many'"
    )
    hidden = only(text.format("pin: {type: integer, default: hunter2, secret: true}"))
    assert "hunter2" not in hidden.message


def test_values_fit_their_type_or_each_wrong_field_is_told() -> None:
    properties = workspace(TYPES).connection_types["db"]
    fitting = {"host": "h", "port": "5433", "password": "hunter22"}
    assert fit(properties, fitting) == {"host": "h", "port": 5433, "password": "hunter22"}
    with pytest.raises(InputError) as refused:
        fit(properties, {"port": "many", "mode": "perhaps", "hots": "h", "password": ""})
    assert refused.value.problems == {
        "host": "field 'host' is required",
        "port": "field 'port' must be a whole number, not 'many'",
        "mode": "field 'mode' must be one of require, disable, not 'perhaps'",
        "password": "field 'password' is required",
        "hots": "field 'hots' is not declared (did you mean 'host'?)",
    }


def test_it_is_known_who_names_a_connection_and_who_lets_one_be_chosen() -> None:
    found = workspace(TYPES + FLOW)
    uses = {name: [str(use) for use in them] for name, them in uses_of(found).items()}
    assert uses == {
        "main": ["task 'load': input 'target'", "hook 'on_error': input 'to'"],
        "spare": [
            "task 'load', step 'a': input 'to'", "task 'load', step 'on_error': input 'to'",
        ],
        "night": ["trigger 'nightly': input 'target'"],
    }  # fmt: skip
    assert askers_of(found, "db") == ["load"] and askers_of(found, "other") == []
    assert uses_of(replace(found, connection_types={})) == {}


def test_an_inline_step_that_declares_a_connection_uses_it() -> None:
    step = indent('a: {type: script, script: "true", input: {to: {type: db, default: main}}}', "  ")
    found = workspace(f"{TYPES}tasks:\n  t:\n    flow:\n    {step}\n")
    assert [str(use) for use in uses_of(found)["main"]] == ["task 't', step 'a': input 'to'"]
