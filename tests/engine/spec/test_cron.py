from __future__ import annotations

from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from engine.errors import AuthorError
from engine.spec import cron

NEW_YEAR = datetime(2026, 1, 1)


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
    assert next(cron.times(text, NEW_YEAR)) > NEW_YEAR


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("@fortnightly", "is not one of @yearly, @annually"),
        ("60 * * * *", "minute 60 is not within 0-59"),
        ("* 24 * * *", "hour 24"),
        ("* * 0 * *", "day of the month 0"),
        ("* * * 13 *", "month 13"),
        ("* * * * 8", "day of the week 8"),
        ("* * * * 1#6", "week of the month 6"),
        ("5-1 * * * *", "backwards"),
        ("*/0 * * * *", "not a valid step"),
        ("*/x * * * *", "not a valid step"),
        ("a * * * *", "'a' is not a valid minute"),
        ("1,,2 * * * *", "'' is not a valid minute"),
        ("-1 * * * *", "'' is not a valid minute"),
        ("? * * * *", "'?' is not a valid minute"),
        ("L * * * *", "'L' is not a valid minute"),
        ("99999999999 * * * *", "is not a valid minute"),
        ("\u0663 * * * *", "is not a valid minute"),
        ("0 0 32W * *", "day of the month 32"),
        ("1 " * 400, "longer than 500"),
    ],
)
def test_bad_expressions_say_which_part_is_wrong(text, words):
    with pytest.raises(AuthorError, match=words.replace("?", r"\?")):
        cron.times(text, NEW_YEAR)


def fires(text: str, count: int, after: datetime = NEW_YEAR) -> list[str]:
    return [f"{time:%m-%d %H:%M:%S}" for time in islice(cron.times(text, after), count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-30/10,45 2 * * *", "01-01 02:00:00, 01-01 02:10:00, 01-01 02:20:00, 01-01 02:30:00, 01-01 02:45:00"),
        ("50/5 0 * * *", "01-01 00:50:00, 01-01 00:55:00, 01-02 00:50:00"),
        ("5-5/2 * * * *", "01-01 00:05:00, 01-01 01:05:00"),
        ("15 0 0 * * *", "01-01 00:00:15, 01-02 00:00:15"),
        ("*/30 59 23 * * *", "01-01 23:59:00, 01-01 23:59:30, 01-02 23:59:00"),
        ("0 0 * jan,DEC *", "01-02 00:00:00, 01-03 00:00:00"),
        # 2026 begins on a Thursday
        ("0 0 * * fri-sun", "01-02 00:00:00, 01-03 00:00:00, 01-04 00:00:00, 01-09 00:00:00"),
        ("0 0 * * 7", "01-04 00:00:00, 01-11 00:00:00"),
        ("0 0 * * L", "01-03 00:00:00, 01-10 00:00:00"),
        ("0 0 * * friL", "01-30 00:00:00, 02-27 00:00:00"),
        ("0 0 ? * 5#2", "01-09 00:00:00, 02-13 00:00:00"),
        ("0 0 L * ?", "01-31 00:00:00, 02-28 00:00:00, 03-31 00:00:00"),
        ("0 0 L-3 * *", "01-28 00:00:00, 02-25 00:00:00, 03-28 00:00:00"),
        ("0 0 l-30,30 * *", "01-30 00:00:00, 03-01 00:00:00, 03-30 00:00:00"),
        ("0 0 4w * *", "01-05 00:00:00, 02-04 00:00:00"),
        ("0 0 1W 8,11 *", "08-03 00:00:00, 11-02 00:00:00"),
        ("0 0 31W 1,2,5 *", "01-30 00:00:00, 05-29 00:00:00"),
        # either of two day fields, also when one begins with a star
        ("0 0 13 * fri", "01-02 00:00:00, 01-09 00:00:00, 01-13 00:00:00, 01-16 00:00:00"),
        ("0 0 */15 * sun", "01-04 00:00:00, 01-11 00:00:00, 01-16 00:00:00, 01-18 00:00:00"),
    ],
)  # fmt: skip
def test_an_expression_fires_when_it_says(text, expected):
    assert fires(text, expected.count(",") + 1) == expected.split(", ")


def test_times_are_those_of_the_zone_and_an_hour_that_is_skipped_is_made_up_for():
    zone = ZoneInfo("Europe/Copenhagen")
    before = datetime(2026, 3, 28, 12, tzinfo=zone)
    times = list(islice(cron.times("30 2 * * *", before), 2))
    assert [str(time) for time in times] == [
        "2026-03-29 03:00:00+02:00",
        "2026-03-30 02:30:00+02:00",
    ]


@pytest.mark.parametrize("text", ["0 0 31 2 *", "0 0 31 4,6 *", "0 0 30W 2 *", "0 0 L-30 4 ?"])
def test_a_day_that_no_month_has_never_fires(text):
    with pytest.raises(cron.NeverFires, match="no month has the day"):
        cron.times(text, NEW_YEAR)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 29 2 *", "02-29 00:00:00"),
        ("0 0 31 * *", "01-31 00:00:00"),
        ("0 0 31 2 1", "02-02 00:00:00"),
        ("0 0 31,15W 2 *", "02-16 00:00:00"),
    ],
)
def test_a_day_that_some_month_has_fires(text, expected):
    assert fires(text, 1) == [expected]
