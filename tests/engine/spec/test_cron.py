from __future__ import annotations

import pytest

from engine.errors import AuthorError
from engine.spec import cron


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "*/5 * * * *",
        "0 0 1 1 *",
        "0 0 * jan,DEC mon-FRI",
        "30 2 * * 1-5",
        "0 0 ? * 2#1",
        "0 0 L * ?",
        "0 0 L-3 * *",
        "0 0 15W * *",
        "0 0 * * 5L",
        "0 0 * * friL",
        "0 0 * * 7",
        "0 0 * * fri-sun",
        "15 0 0 * * *",
        "5/15 * * * *",
        "0-30/10,45 * * * *",
    ],
)
def test_good_expressions_are_read(text):
    assert cron.parse(text).can_fire


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("@daily", "1 fields"),
        ("60 * * * *", "minute 60 is not within 0-59"),
        ("* 24 * * *", "hour 24"),
        ("* * 0 * *", "day of the month 0"),
        ("* * * 13 *", "month 13"),
        ("* * * * 8", "day of the week 8"),
        ("* * * * 1#6", "week of the month 6"),
        ("5-1 * * * *", "backwards"),
        ("*/0 * * * *", "no step"),
        ("*/x * * * *", "no step"),
        ("a * * * *", "'a' is no minute"),
        ("1,,2 * * * *", "'' is no minute"),
        ("-1 * * * *", "'' is no minute"),
        ("? * * * *", "'?' is no minute"),
        ("L * * * *", "'L' is no minute"),
        ("99999999999 * * * *", "is no minute"),
        ("\u0663 * * * *", "is no minute"),
        ("0 0 32W * *", "day of the month 32"),
        ("1 " * 400, "longer than 500"),
    ],
)
def test_bad_expressions_say_which_part_is_wrong(text, words):
    with pytest.raises(AuthorError, match=words.replace("?", r"\?")):
        cron.parse(text)


def test_fields_become_numbers():
    found = cron.parse("0-30/10,45 2 1,L * 7,5#2")
    assert found.minutes == {0, 10, 20, 30, 45} and found.seconds == {0} and found.hours == {2}
    assert found.days == {1} and found.days_before_last == {0} and not found.any_day
    assert found.weekdays == {0} and found.nth_weekdays == {(5, 2)}
    assert cron.parse("0 0 * * fri-sun").weekdays == {5, 6, 0}


@pytest.mark.parametrize(
    ("text", "can_fire"),
    [
        ("0 0 31 2 *", False),
        ("0 0 31 4,6 *", False),
        ("0 0 29 2 *", True),
        ("0 0 31 * *", True),
        ("0 0 31 2 1", True),
    ],
)
def test_a_day_that_no_month_has_never_fires(text, can_fire):
    assert cron.parse(text).can_fire is can_fire
