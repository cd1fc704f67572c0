"""Spans of time as authors write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import durations
from engine.errors import AuthorError


@pytest.mark.parametrize(
    ("value", "seconds", "text"),
    [
        (90, 90, "90s"),
        ("90", 90, "90s"),
        ("90s", 90, "90s"),
        ("15m", 900, "15m"),
        ("1h30m", 5400, "1h30m"),
        ("1h1m1s", 3661, "1h1m1s"),
        (" 24h ", 86_400, "24h"),
        ("2d", 172_800, "2d"),
        ("1d12h", 129_600, "1d12h"),
        ("1s1h", 3601, "1s1h"),
    ],
)
def test_seconds_and_the_words_used_are_kept(value, seconds, text):
    found = durations.parse(value)
    assert (found.seconds, found.text) == (seconds, text)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "duration string is empty"),
        ("  ", "duration string is empty"),
        ("h", "unexpected character 'h' without preceding number"),
        ("soon", "unexpected character 's' without preceding number"),
        ("1h m", "write it without spaces"),
        ("5 minutes", "write it without spaces"),
        ("5w", "unknown duration unit 'w' (expected d, h, m, or s)"),
        ("1H", "unknown duration unit 'H' (expected d, h, m, or s)"),
        ("1.5h", "unknown duration unit '.' (expected d, h, m, or s)"),
        ("1h30", "trailing number '30' without unit (expected d, h, m, or s)"),
        (0, "duration must be greater than 0"),
        ("0", "duration must be greater than 0"),
        ("0h0m", "duration must be greater than 0"),
        (-5, "duration must be greater than 0"),
        ("-5", "duration must be greater than 0"),
        pytest.param(10**5000, "duration is too long", id="huge number"),
        pytest.param("9" * 5000 + "s", "duration is too long", id="many digits"),
        ("\u0663s", "unexpected character '\u0663' without preceding number"),
        (True, "a duration is whole seconds or a text such as 90s, 15m, 1h30m or 2d"),
        (1.5, "a duration is whole seconds or a text such as 90s, 15m, 1h30m or 2d"),
        (None, "a duration is whole seconds or a text such as 90s, 15m, 1h30m or 2d"),
        ([], "a duration is whole seconds or a text such as 90s, 15m, 1h30m or 2d"),
    ],
)
def test_what_is_no_duration_is_refused_in_these_words(value, sentence):
    with pytest.raises(AuthorError) as refused:
        durations.parse(value)
    assert str(refused.value) == sentence


@given(st.integers(1, 10**9))
def test_a_described_span_reads_back_as_itself(seconds):
    assert durations.parse(durations.describe(seconds)).seconds == seconds


@given(st.text() | st.integers() | st.floats() | st.none())
def test_any_other_value_is_refused_with_an_author_error_and_nothing_else(value):
    with suppress(AuthorError):
        assert durations.parse(value).seconds > 0
