"""Where text is wanted, the text as typed counts, whatever YAML or JSON reads in it."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from engine import spec
from engine.errors import InputError
from engine.output import load_stored
from engine.spec import freeze, inputs
from engine.spec.model import InputField
from engine.spec.written import Written, is_exact
from tests.engine.spec.builders import load, sentences, workspace

# versions, commits, times, octal modes, dates, yes and no, digits that no number holds
TYPED = [
    "3.10", "1.0", "12e45", "12e4567", "1e5", "22:30", "0755", "0o755", "0x1F", "2026-01-31", "no",
    "yes", "on", "True", "true", "+49", "-0", "1_000", "99999999999999999999", ".5", "3.14159265358979323846",
]  # fmt: skip
SHOW = "actions: {show: {type: script, script: echo, input: {version: {type: string}}}}\n"


@pytest.mark.parametrize("typed", TYPED)
def test_a_text_field_of_an_action_gets_what_the_author_typed(typed: str):
    found = workspace(
        SHOW + f"tasks: {{t: {{flow: {{s: {{action: show, input: {{version: {typed}}}}}}}}}}}"
    )
    assert found.tasks["t"].flow["s"].input == {"version": typed}


@pytest.mark.parametrize("typed", TYPED)
def test_a_default_and_its_options_are_what_the_author_typed(typed: str):
    field = f"{{type: string, options: [{typed}, other], default: {typed}}}"
    loaded = load(SHOW + f"tasks: {{t: {{input: {{v: {field}}}, flow: {{s: {{action: show}}}}}}}}")
    assert loaded.workspace is not None and loaded.problems == ()
    declared = loaded.workspace.tasks["t"].input
    assert inputs.resolve(declared, {}, {}) == {"v": typed}


def test_a_list_of_choices_is_what_the_author_typed():
    field = "{type: string, multiple: true, options: [3.9, 3.10], default: [3.10, 3.9]}"
    declared = workspace(
        SHOW + f"tasks: {{t: {{input: {{v: {field}}}, flow: {{s: {{action: show}}}}}}}}"
    )
    assert inputs.resolve(declared.tasks["t"].input, {}, {}) == {"v": ["3.10", "3.9"]}


def test_a_called_task_a_hook_and_a_trigger_get_what_the_author_typed():
    found = workspace("""
        actions: { call: { type: task, task: child } }
        tasks:
          child: { input: { v: { type: text } }, flow: { s: { type: script, script: echo } } }
          parent:
            flow: { s: { action: call, input: { v: 3.10 } } }
            on_success: [ { action: call, input: { v: 1.20 } } ]
        triggers: { nightly: { type: scheduler, cron: "0 3 * * *", task: child, input: { v: 0.50 } } }
        on_error: [ { action: call }, { action: call, input: { v: 2.30 } } ]
        """)
    assert found.tasks["parent"].flow["s"].input == {"v": "3.10"}
    assert found.tasks["parent"].hooks.on_success[0].input == {"v": "1.20"}
    assert found.triggers["nightly"].input == {"v": "0.50"}
    assert found.hooks.on_error[1].input == {"v": "2.30"}


def test_a_connection_keeps_the_text_of_its_text_fields():
    found = workspace("""
        connection_types: { db: { version: { type: string, default: 9.10 }, port: { type: integer } } }
        connections: { a: { type: db, version: 3.10, port: 5 }, b: { type: db, port: 5 } }
        """)
    assert found.connections["a"] == {"type": "db", "version": "3.10", "port": 5}
    assert found.connections["b"]["version"] == "9.10"


LOOP = "tasks: {{t: {{flow: {{s: {{action: show, for_each: [3.9, 3.10], input: {{version: {value}}}}}}}}}}}"


def test_a_loop_over_versions_hands_on_what_the_author_typed():
    loaded = load(SHOW + LOOP.format(value='"{{ each.item }}"'))
    assert loaded.workspace is not None and loaded.problems == ()
    assert loaded.workspace.tasks["t"].flow["s"].for_each == ("3.9", "3.10")


@pytest.mark.parametrize("value", ['"{{ each.item * 2 }}"', '"v{{ each.item }}"'])
def test_a_loop_that_may_calculate_keeps_numbers_and_says_so(value: str):
    loaded = load(SHOW + LOOP.format(value=value))
    assert loaded.workspace is not None
    assert loaded.workspace.tasks["t"].flow["s"].for_each == (3.9, 3.1)
    assert [problem.message for problem in loaded.problems] == [
        "Task 't' step 's' for_each reads '3.10' as the number 3.1; put it in quotes if it is text"
    ]


@pytest.mark.parametrize("typed", ["3.10", "12e45", "+4.5", "0.12345678901234567891"])
def test_where_nothing_says_what_is_wanted_a_doubtful_number_is_told(typed: str):
    step = f"{{type: script, script: echo, input: {{v: {{deep: [{typed}]}}}}}}"
    (sentence,) = sentences(f"tasks: {{t: {{flow: {{s: {step}}}}}}}", "warning")
    assert typed in sentence and "quotes" in sentence


@pytest.mark.parametrize("typed", ["3.5", "1.0", "-0.25", "1e-4", "42", "0.0"])
def test_an_ordinary_number_is_not_doubted(typed: str):
    step = f"{{type: script, script: echo, input: {{v: {typed}}}}}"
    assert load(f"tasks: {{t: {{flow: {{s: {step}}}}}}}").problems == ()


def test_a_manifest_holds_no_number_that_may_be_a_version():
    pod = "type: pod, image: a, manifest: {metadata: {labels: {version: 3.10}}}"
    for text in (f"actions: {{a: {{{pod}}}}}", f"tasks: {{t: {{flow: {{s: {{{pod}}}}}}}}}"):
        (sentence,) = sentences(text, "warning")
        assert "manifest reads '3.10' as the number 3.1" in sentence


def test_the_number_of_a_secret_is_not_shown():
    (sentence,) = sentences("secrets: {pin: 12e45}", "warning")
    assert "12" not in sentence and "quotes" in sentence


def test_numbers_of_number_fields_stay_numbers_and_survive_freezing():
    found = workspace(
        "tasks: {t: {input: {n: {type: number, default: 0.10, options: [0.10, 0.5]}},"
        " flow: {s: {type: script, script: echo}}}}"
    )
    stored = json.loads(json.dumps(freeze.to_json(found)))
    declared = freeze.workspace_from_json(stored).tasks["t"].input
    assert inputs.resolve(declared, {}, {}) == {"n": 0.1}
    assert spec.report(load("secrets: {a: b}")).startswith("Valid")


def test_a_number_that_no_double_holds_is_refused_at_once():
    field = {"n": InputField(type="number")}
    for typed in ("3.14159265358979323846", "0.1234567890123456789", "1e-400"):
        with pytest.raises(InputError, match="more digits"):
            inputs.resolve(field, {"n": typed}, {})
        with pytest.raises(InputError, match="more digits"):
            inputs.resolve(field, {"n": Written(typed)}, {})
    assert inputs.resolve(field, {"n": "0.5000000000000000000000"}, {}) == {"n": 0.5}
    with pytest.raises(InputError, match="at most 9223372036854775807"):
        inputs.resolve({"n": InputField(type="integer")}, {"n": "9223372036854775808"}, {})


def test_a_written_number_becomes_the_text_that_was_written():
    field = {"v": InputField(type="string")}
    assert inputs.resolve(field, {"v": Written("3.10")}, {}) == {"v": "3.10"}
    assert inputs.resolve(field, {"v": 3.5}, {}) == {"v": "3.5"}


@pytest.mark.parametrize(
    "text", ["0.1", "0.10000000000000001", "1e22", "-5.50", "0.0", "123456789.25"]
)
def test_what_a_double_holds_is_exact(text: str):
    assert is_exact(text)


@pytest.mark.parametrize("number", [1e19, 1e22, 1.7976931348623157e308, -1e300])
def test_a_large_float_stays_one_in_a_database_that_writes_all_its_zeros(number: float):
    stored = str(int(Decimal(repr(number))))
    assert load_stored(f"[{stored}, 7]") == [number, 7]
    assert isinstance(load_stored(stored), float)
    assert inputs.resolve({"n": InputField(type="number")}, {"n": int(stored)}, {}) == {"n": number}
