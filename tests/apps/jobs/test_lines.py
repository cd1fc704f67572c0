"""Statements of the hot path: several in one transaction and one round trip."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection

from apps.jobs.database.sql import (
    end_lingering,
    fetch_alone,
    fetch_together,
    let_linger,
    put_line,
    take_line,
)
from tests.standalone.processes import eventually

pytestmark = pytest.mark.django_db(transaction=True)
ADD = "INSERT INTO few (number, word) VALUES (%(number)s, %(word)s) RETURNING number AS added"
COUNT = "SELECT count(*) AS total, coalesce(sum(length(word)), 0) AS length FROM few"


@pytest.fixture(autouse=True)
def few() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE few (number int PRIMARY KEY, word text)")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE few")


def add(number: int, word: str | None = "a") -> tuple[str, dict[str, Any]]:
    return ADD, {"number": number, "word": word}


def total() -> int:
    return int(fetch_alone(COUNT, {}).total)


def test_statements_run_in_order_and_the_last_has_names() -> None:
    calls: list[int] = []
    first, second, (row,) = fetch_together(
        [add(1), add(2, None), (COUNT, {})], lambda: calls.append(1)
    )
    assert (first, second) == ([(1,)], [(2,)])
    assert (row.total, row.length) == (2, 1)
    assert calls == [1]


def test_an_error_takes_back_what_was_before_it_and_harms_no_later_statement() -> None:
    assert fetch_alone(*add(1)).added == 1
    with pytest.raises(IntegrityError, match="few_pkey"):
        fetch_together([add(2), add(1), add(3)])
    assert total() == 1
    assert fetch_alone(*add(2)).added == 2


@pytest.mark.parametrize(
    "change", ["DEALLOCATE ALL", "ALTER TABLE few ALTER COLUMN number TYPE bigint"]
)
def test_statements_that_are_stale_are_prepared_again_and_run_once(change: str) -> None:
    """After a rollback elsewhere, and after a migration."""
    line, calls = take_line(), []
    try:
        line.ask([add(1), (COUNT, {})], lambda: None)
        line.raw.execute(change)
        _, (row,) = line.ask([add(2), (COUNT, {})], lambda: calls.append(1))
    finally:
        put_line(line)
    assert row.total == 2
    assert calls == [1]


def end_session(pid: int) -> None:
    def has_ended() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
            return cursor.fetchone() is None

    eventually(has_ended, 10)


@pytest.mark.parametrize("is_known", [False, True], ids=["new statements", "prepared before"])
def test_a_lost_connection_is_an_outage_and_is_replaced(is_known: bool) -> None:
    let_linger()  # as in a worker, whose threads keep their connections
    try:
        line = take_line()
        if is_known:
            line.ask([add(1)], lambda: None)
        put_line(line)
        end_session(line.raw.info.backend_pid)
        with pytest.raises(OperationalError):
            fetch_together([add(2), (COUNT, {})])
        assert line.raw.closed
        assert total() == int(is_known)
    finally:
        end_lingering()


def test_more_than_a_socket_takes_at_once_goes_through() -> None:
    word = "word " * 4_000_000
    (row,) = fetch_together([add(1, word), add(2, word), (COUNT, {})])[-1]
    assert row.length == 2 * len(word)


def test_a_connection_with_unread_answers_is_closed() -> None:
    def fail() -> None:
        raise RuntimeError("of the caller's own")

    line = take_line()
    with pytest.raises(RuntimeError, match="own"):
        line.ask([add(1)], fail)
    assert line.raw.closed
    put_line(line)
    assert total() in (0, 1)


def test_a_connection_keeps_its_statements_and_takes_them_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        logging.getLogger("psycopg.pool"), "disabled", True
    )  # its records would keep it
    line = take_line()
    put_line(line)
    again = None
    while again is None or again.raw is not line.raw:  # the pool hands out all in turn
        again = take_line()
        put_line(again)
    assert again is line
    again = take_line()
    gone = weakref.ref(again)
    again.raw.close()
    put_line(again)
    del line, again
    eventually(lambda: gc.collect() >= 0 and gone() is None, 10)


def test_a_commit_that_fails_is_no_success() -> None:
    """What is deferred is judged at the end, after every statement has answered."""
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE few ADD parent int REFERENCES few DEFERRABLE INITIALLY DEFERRED"
        )
    orphan = ("INSERT INTO few (number, parent) VALUES (%(number)s, 99)", {"number": 7})
    with pytest.raises(IntegrityError, match="few_parent_fkey"):
        fetch_together([add(1), orphan])
    assert total() == 0


def test_a_connection_that_is_lost_in_the_commit_is_an_outage() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON few DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION end_it()"
        )
    try:
        with pytest.raises(OperationalError):
            fetch_together([add(1), add(2)])
        assert total() == 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER ends ON few; DROP FUNCTION end_it")
