import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.output import MAX_DEPTH, MAX_WARNINGS, OutputProtocol

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4)
    ),
    max_leaves=15,
)


def read(*lines: str, max_bytes: int = 1000) -> OutputProtocol:
    protocol = OutputProtocol(max_bytes)
    for line in lines:
        protocol.feed(line)
    return protocol


@given(JSON)
def test_any_json_value_comes_through_unchanged(value):
    protocol = read("OUTPUT: " + json.dumps(value), max_bytes=10**6)
    assert protocol.value == value and protocol.has_output


@given(st.text())
def test_no_line_ever_raises(text):
    protocol = OutputProtocol(1000)
    protocol.feed(text)
    warning = protocol.feed("OUTPUT:" + text)
    assert warning is None or text.strip()[:10] in warning


def test_the_last_line_that_parses_wins():
    assert read("OUTPUT: 1", "noise", 'OUTPUT: {"a": 2}', "OUTPUT: {", "OUTPUT:").value == {"a": 2}


def test_a_space_after_the_colon_is_not_needed():
    assert read('OUTPUT:{"a": 1}').value == {"a": 1}


@pytest.mark.parametrize(
    "line", [" OUTPUT: 1", "\tOUTPUT: 1", "output: 1", "OUTPUT 1", "xOUTPUT: 1", "", "OUTPUT"]
)
def test_a_line_that_does_not_begin_with_the_prefix_is_no_output(line):
    protocol = OutputProtocol(100)
    assert protocol.feed(line) is None
    assert not protocol.has_output


def test_null_is_an_output():
    protocol = read("OUTPUT: null")
    assert protocol.has_output
    assert protocol.value is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{broken", "not valid JSON"),
        ("", "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
        ("1 2", "not valid JSON"),
    ],
)
def test_what_does_not_parse_gives_a_warning_and_changes_nothing(text, reason):
    protocol = OutputProtocol(200_000)
    protocol.feed("OUTPUT: 7")
    warning = protocol.feed("OUTPUT: " + text)
    assert reason in warning
    assert "OUTPUT:" in warning
    assert len(warning) < 400
    assert protocol.value == 7
    assert protocol.error is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN is not a JSON value"),
        ('{"a": [Infinity]}', "Infinity is not a JSON value"),
        ("-Infinity", "-Infinity is not a JSON value"),
        ("1e999", "too large"),
        ("[" * 101 + "]" * 101, "nested deeper"),
        ("[" * 400 + "]" * 400, "nested deeper"),
        ("[" * 100_000, "nested deeper"),
        ("9" * 5000, "a whole number above 9223372036854775807"),
        ("[-9223372036854775808]", "a whole number above 9223372036854775807"),
    ],
)
def test_what_cannot_be_passed_on_exactly_fails_the_step(text, reason):
    protocol = read("OUTPUT: 7", "OUTPUT: " + text, "OUTPUT: 8", max_bytes=200_000)
    assert reason in protocol.error
    assert len(protocol.error) < 400
    assert not protocol.has_output


@pytest.mark.parametrize("text", [r'{"a\u0000": 1}', r'["\ud800x"]', r'"\udfff"'])
def test_what_the_database_cannot_hold_is_an_output_with_a_warning(text):
    protocol = OutputProtocol(200)
    assert "the next step gets U+FFFD" in protocol.feed("OUTPUT: " + text)
    assert protocol.has_output and protocol.value == json.loads(text)


def test_lines_of_state_add_up_by_key_and_the_last_value_of_a_key_wins():
    protocol = read(
        'STATE: {"a": 1, "b": 1}', 'GLOBAL_STATE:{"a": 7}', 'STATE: {"b": 2}', "OUTPUT: 5"
    )
    assert protocol.states == {"STATE:": {"a": 1, "b": 2}, "GLOBAL_STATE:": {"a": 7}}
    assert protocol.value == 5 and protocol.state_lines == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("up", "not valid JSON"),
        ("[1]", "no JSON object"),
        ("{", "not valid JSON"),
        ("", "not valid"),
    ],
)
def test_a_line_of_state_that_holds_no_object_is_ignored_with_a_warning(text, why):
    protocol = OutputProtocol(1000)
    warning = protocol.feed(f"STATE: {text}")
    assert warning.startswith("Warning: this STATE: line is ignored") and why in warning
    assert protocol.states == {} and protocol.error is None


def test_a_value_of_state_that_cannot_be_passed_on_exactly_fails_the_step():
    protocol = read('GLOBAL_STATE: {"n": NaN}')
    assert protocol.error.startswith("A GLOBAL_STATE: line cannot be passed on")


def test_a_line_of_state_beyond_the_limit_fails_the_step():
    protocol = read('STATE: {"n": "' + "x" * 1000 + '"}')
    assert "A STATE: line is longer than the 1000 bytes" in protocol.error


def test_many_lines_about_one_key_are_few_values_but_many_keys_are_refused():
    assert read(*(f'STATE: {{"n": {n}}}' for n in range(5000))).states == {"STATE:": {"n": 4999}}
    assert "STATE: line" in read(*(f'STATE: {{"n{n}": 1}}' for n in range(5000))).error


def test_a_protocol_line_on_standard_error_is_told_once_by_its_name():
    protocol = OutputProtocol(1000)
    told = [protocol.misplace(prefix) for prefix in ("STATE:", "STATE:", "OUTPUT:")]
    assert told[0].startswith("Warning: a STATE: line on standard error") and told[1] is None
    assert told[2].startswith("Warning: an OUTPUT: line")


def test_depth_counts_levels_not_brackets():
    assert read("OUTPUT: " + json.dumps([[]] * 300), max_bytes=10**5).value == [[]] * 300
    assert read("OUTPUT: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH).has_output


def test_a_value_at_the_limit_passes_and_one_beyond_fails_the_step():
    assert read("OUTPUT: " + json.dumps("x" * 98), max_bytes=100).value == "x" * 98
    protocol = read("OUTPUT: 1", "OUTPUT: " + json.dumps("x" * 99), "OUTPUT: 2", max_bytes=100)
    assert "100 bytes" in protocol.error
    assert not protocol.has_output
    assert protocol.value is None


def test_the_limit_counts_bytes_not_characters():
    assert (
        read("OUTPUT: " + json.dumps("☃" * 40, ensure_ascii=False), max_bytes=100).error is not None
    )


def test_whole_pairs_and_the_names_of_escapes_pass():
    assert read(r'OUTPUT: ["\ud83d\ude00", "\\u0000"]').value == ["\U0001f600", "\\u0000"]


def test_warnings_are_few_even_when_bad_lines_are_many():
    protocol = OutputProtocol(100)
    warnings = [protocol.feed("OUTPUT: {") for _ in range(1000)]
    told = [warning for warning in warnings if warning]
    assert len(told) == MAX_WARNINGS
    assert "not reported" in told[-1]
