"""Input values against declared fields: coerced, or refused with one sentence a field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.spec.inputs import resolve, secret_fields
from engine.spec.model import InputField


def one(field: InputField, value: Any) -> Any:
    return resolve({"f": field}, {"f": value}, {})["f"]


def refusal(field: InputField, value: Any) -> str:
    with pytest.raises(InputError) as refused:
        resolve({"f": field}, {"f": value}, {})
    assert list(refused.value.problems) == ["f"]
    return refused.value.problems["f"]


@pytest.mark.parametrize(
    ("kind", "given_value", "expected"),
    [
        ("string", "x", "x"),
        ("string", 5, "5"),
        ("string", 2.5, "2.5"),
        ("string", True, "true"),
        ("text", "a\nb", "a\nb"),
        ("string", "", ""),
        ("integer", 3, 3),
        ("integer", "3", 3),
        ("integer", " -3 ", -3),
        ("integer", 3.0, 3),
        ("number", 2.5, 2.5),
        ("number", "2.5", 2.5),
        ("number", "1e3", 1000.0),
        ("number", "7", 7),
        ("number", 7, 7),
        ("boolean", True, True),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("bool", "true", True),
        ("date", "2024-02-29", "2024-02-29"),
        ("datetime", "2026-01-31T09:30:00Z", "2026-01-31T09:30:00Z"),
        ("datetime", "2026-01-31t09:30:00.250z", "2026-01-31T09:30:00.250Z"),
        ("datetime", "2026-01-31 09:30:00+02:00", "2026-01-31T09:30:00+02:00"),
        ("postgres", "prod_db", "prod_db"),
        ("postgres", {"host": "x", "ports": [1]}, {"host": "x", "ports": [1]}),
    ],
)
def test_values_take_the_type_of_their_field(kind, given_value, expected):
    found = one(InputField(kind), given_value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("string", ["x"], "input 'f' must be text, not a list"),
        ("string", {"a": 1}, "input 'f' must be text, not an object"),
        ("string", float("nan"), "input 'f' must be text, not nan"),
        ("integer", "abc", "input 'f' must be a whole number, not 'abc'"),
        ("integer", "3.5", "input 'f' must be a whole number, not '3.5'"),
        ("integer", 3.5, "input 'f' must be a whole number, not 3.5"),
        ("integer", True, "input 'f' must be a whole number, not true"),
        ("integer", 2**63, f"input 'f' must be a whole number of at most {2**63 - 1}, not {2**63}"),
        pytest.param(
            "integer",
            10**5000,
            f"input 'f' must be a whole number of at most {2**63 - 1}",
            id="huge number",
        ),
        pytest.param(
            "integer",
            "9" * 5000,
            "input 'f' must be a whole number, not '" + "9" * 59 + "…'",
            id="many digits",
        ),
        ("integer", "\u0663", "input 'f' must be a whole number, not '\u0663'"),
        ("integer", float("inf"), "input 'f' must be a whole number, not inf"),
        ("number", "1e999", "input 'f' must be a number, not '1e999'"),
        ("number", "nan", "input 'f' must be a number, not 'nan'"),
        ("number", False, "input 'f' must be a number, not false"),
        ("boolean", "yes", "input 'f' must be true or false, not 'yes'"),
        ("boolean", 1, "input 'f' must be true or false, not 1"),
        ("date", "31.12.2026", "input 'f' must be a date such as 2026-01-31, not '31.12.2026'"),
        ("date", "20260131", "input 'f' must be a date such as 2026-01-31, not '20260131'"),
        (
            "date",
            "2026-02-30",
            "input 'f' must be a date such as 2026-01-31 that exists in the calendar, not '2026-02-30'",
        ),
        ("postgres", 5, "input 'f' must be the name of a connection, or an object, not 5"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(kind, value, sentence):
    assert refusal(InputField(kind), value) == sentence


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31",
        "2026-01-31T09:30",
        "2026-01-31T09:30:00",
        "2026-13-31T09:30:00Z",
        "2026-01-31T25:30:00Z",
        "2026-01-31T09:30:00+99:00",
        5,
    ],
)
def test_a_datetime_needs_its_zone_and_a_calendar(value):
    assert "must be a time with its zone" in refusal(InputField("datetime"), value)


def test_required_means_given_or_defaulted():
    needed = InputField("string", required=True)
    for empty in ({}, {"f": None}, {"f": ""}):
        with pytest.raises(InputError, match="input 'f' is required"):
            resolve({"f": needed}, empty, {})
    defaulted = InputField("string", required=True, default="x", has_default=True)
    assert resolve({"f": defaulted}, {}, {}) == {"f": "x"}


def test_an_optional_field_that_was_left_alone_is_absent():
    assert resolve({"f": InputField("integer")}, {"f": ""}, {}) == {}
    assert resolve({"f": InputField("string")}, {"f": None}, {}) == {}


def test_rendered_defaults_win_over_the_template_and_take_the_type():
    field = InputField("integer", default="{{ secret.n }}", has_default=True)
    assert resolve({"f": field}, {}, {"f": "7"}) == {"f": 7}
    assert resolve({"f": field}, {"f": 1}, {"f": "7"}) == {"f": 1}


def test_a_wrong_default_is_refused_like_any_value():
    with pytest.raises(InputError, match="must be a whole number"):
        resolve({"f": InputField("integer", default="x", has_default=True)}, {}, {})


def test_options_bind_unless_custom_values_are_allowed():
    field = InputField("string", options=("a", "b"))
    assert one(field, "a") == "a"
    assert refusal(field, "c") == "input 'f' must be one of a, b, not 'c'"
    assert one(InputField("string", options=("a",), allow_custom=True), "c") == "c"
    assert one(InputField("integer", options=("1", "2")), "2") == 2


def test_a_multiple_field_takes_a_list():
    field = InputField("string", multiple=True, options=("a", "b"))
    assert one(field, ["a", "b"]) == ["a", "b"]
    assert one(field, "a") == ["a"]
    assert refusal(field, ["a", "c"]) == "input 'f' must hold only a, b ('c' is not)"
    assert refusal(field, [["a"]]) == "input 'f' must be a list of texts"
    assert "choose at least one" in refusal(InputField("string", multiple=True, required=True), [])


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("[]", []),
        ("[3.10, 7]", ["3.10", "7"]),
        ("[a, b]", ["[a, b]"]),
        ("[", ["["]),
        ("[" * 100_000, ["[" * 100_000]),
        ('"a"', ['"a"']),
        ("[1]", ["[1]"]),
    ],
)
def test_several_values_can_be_typed_as_json_unless_the_text_is_an_option(typed, found):
    options = ("a", "b", "3.10", "7", "[1]")
    field = InputField("string", multiple=True, options=options, allow_custom=True)
    assert one(field, typed) == found


def test_values_typed_as_json_are_checked_like_others():
    field = InputField("string", multiple=True, options=("a", "b"))
    assert refusal(field, '["a", "c"]') == "input 'f' must hold only a, b ('c' is not)"
    assert refusal(field, '["a", {}]') == "input 'f' must be a list of texts"
    assert "choose at least one" in refusal(replace(field, required=True), "[]")


def test_unknown_fields_are_refused_with_what_was_meant():
    with pytest.raises(InputError) as refused:
        resolve({"name": InputField("string")}, {"nmae": "x", "zzz": 1}, {})
    assert refused.value.problems == {
        "nmae": "input 'nmae' is not declared (did you mean 'name'?)",
        "zzz": "input 'zzz' is not declared (known: 'name')",
    }
    with pytest.raises(InputError, match="none is declared"):
        resolve({}, {"x": 1}, {})


def test_unknown_fields_may_be_let_through_when_they_can_be_stored():
    assert resolve({}, {"body": {"a": [1]}}, {}, allow_unknown=True) == {"body": {"a": [1]}}
    for bad in ("a\0b", "\ud800", float("nan"), {"\0": 1}, [float("inf")], object(), {1: 2}):
        with pytest.raises(InputError, match="cannot be stored"):
            resolve({}, {"body": bad}, {}, allow_unknown=True)


def test_all_wrong_fields_are_named_at_once_under_the_given_path():
    fields = {"a": InputField("integer"), "b": InputField("date", required=True)}
    with pytest.raises(InputError) as refused:
        resolve(fields, {"a": "x"}, {}, path="form field")
    assert refused.value.problems == {
        "a": "form field 'a' must be a whole number, not 'x'",
        "b": "form field 'b' is required",
    }


def test_a_secret_is_never_repeated():
    assert (
        refusal(InputField("integer", secret=True), "hunter2") == "input 'f' must be a whole number"
    )
    assert "hunter2" not in refusal(InputField("string", secret=True, options=("a",)), "hunter2")


def test_text_that_cannot_be_stored_is_refused():
    assert "NUL" in refusal(InputField("string"), "a\0b")
    assert "halves of surrogate pairs" in refusal(InputField("string"), "\ud800")
    assert "NUL" in refusal(InputField("postgres"), {"a": ["\0"]})


def test_secret_fields_are_those_marked_so():
    assert secret_fields({"a": InputField("string", secret=True), "b": InputField("string")}) == {
        "a"
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.builds(
    InputField,
    type=st.sampled_from(
        ["string", "text", "integer", "number", "boolean", "date", "datetime", "pg"]
    ),
    required=st.booleans(),
    options=st.none() | st.lists(st.text(max_size=3), max_size=3).map(tuple),
    allow_custom=st.booleans(),
    multiple=st.booleans(),
)


@given(fields, json_values)
def test_any_value_is_coerced_to_what_json_can_store_or_refused(field, value):
    try:
        found = resolve({"f": field}, {"f": value}, {})
    except InputError:
        return
    json.dumps(found, allow_nan=False).encode()
    assert resolve({"f": field}, found, {}) == found, (
        "what was accepted is accepted again, unchanged"
    )
