"""What a consumer prints, as events."""

from __future__ import annotations

import pytest

from engine.events import MOST_BYTES, Event, read


def test_an_event_is_an_object_and_what_its_script_says_about_it_is_no_part_of_it() -> None:
    found = read('{"file": "a.csv", "_event": {"id": "17-0", "reply": true}}')
    assert found == Event({"file": "a.csv"}, "17-0", wants_reply=True)
    assert read('{"_event": {"id": 7}}') == Event({}, "7")
    assert read('{"_event": {"id": 0}}') == Event({}, "0")
    assert read("{}") == Event({})


def test_a_reply_is_one_line_that_names_the_event() -> None:
    assert Event(id="17-0").reply() == "ok 17-0"
    assert Event().reply() == "ok"
    assert Event(id="7").reply("no\njob") == "refused 7: no job"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "",
            "the event cannot be read, because it is not valid JSON (Expecting value at column 1)",
        ),
        ("[1]", "the event is no JSON object"),
        ("5", "the event is no JSON object"),
        ('{"a": NaN}', "the event cannot be read, because NaN is not a JSON value"),
        ('{"a": "\\u0000"}', "the event holds NUL or half of a surrogate pair"),
        ('{"a": "' + "x" * MOST_BYTES + '"}', "the event is larger than 256 KiB"),
        ('{"_event": 1}', "the event's '_event' must be an object"),
        ('{"_event": {"ID": "x"}}', "the event's '_event' has the unknown key 'ID'"),
        ('{"_event": {"reply": "yes"}}', "the event's '_event' has a 'reply' that is neither"),
        ('{"_event": {"id": true}}', "the event's '_event' has an 'id' that is no text"),
        ('{"_event": {"id": "a\\nb"}}', "the event's '_event' has an 'id' that is not 1 to 180"),
        ('{"_event": {"id": ""}}', "the event's '_event' has an 'id' that is not 1 to 180"),
    ],
)
def test_what_cannot_be_an_event_says_why(text: str, problem: str) -> None:
    assert read(text).problem.startswith(problem)
    assert read(text).payload == {}


def test_a_line_that_was_cut_is_no_event_even_if_its_beginning_is_one() -> None:
    assert read("{}", is_cut=True).problem.startswith("the event is larger")
