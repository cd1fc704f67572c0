"""Statements of the hot path: prepared on the server, plain tuples back. Everything else uses the
ORM.

Their connections are outside Django's pool: taking one from it and returning it costs more than
some steps do, but a thread must not hold one while a step runs for an hour. So a thread that has
finished a step keeps its connection until `sweep_lines` returns those unused for a while, in case
the next step comes soon. Nothing lingers unless the process calls `let_linger`.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psycopg
import psycopg_pool
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.utils import OperationalError
from psycopg.rows import RowMaker, namedtuple_row
from psycopg.types.json import Jsonb

Params = ParamSpec("Params")
Answer = TypeVar("Answer")
RETRIES = 3
_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
REPAIRED = "\ufffd"


def jsonb(value: Any) -> Jsonb:
    """`value` as a JSON parameter. What the database cannot store is replaced: NUL and lone
    surrogates by U+FFFD, NaN by null."""
    return Jsonb(value, dumps=_dump)


def _dump(value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(repaired(value))
    return json.dumps(repaired(value)) if _UNSTORABLE.search(text) else text


def repaired(value: Any) -> Any:
    """`value` with U+FFFD and null for what no database can hold."""
    match value:
        case str():
            return storable(value)
        case list() | tuple():
            return [repaired(item) for item in value]
        case dict():
            return {storable(key): repaired(item) for key, item in value.items()}
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def storable(text: str) -> str:
    """`text` with U+FFFD for what no database text can hold (NUL, lone surrogates)."""
    if text.isascii():
        return text.replace("\0", REPAIRED) if "\0" in text else text
    return (
        text.replace("\0", REPAIRED).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def fetch(statement: str, params: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of one statement, in the open transaction if there is one."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement, params, prepare=True)
        return cursor.fetchall() if cursor.description else []


def fetch_one(statement: str, params: Sequence[Any] | dict[str, Any]) -> tuple[Any, ...] | None:
    rows = fetch(statement, params)
    return rows[0] if rows else None


def statement(module: str, name: str) -> str:
    """The text of `name`.sql next to the module whose `__file__` is given."""
    return Path(module).with_name(f"{name}.sql").read_text(encoding="utf-8")


def fetch_named(statement: str, params: Sequence[Any] | dict[str, Any]) -> list[Any]:
    """Like `fetch`, with named columns."""
    connection.ensure_connection()
    with (
        connection.wrap_database_errors,
        psycopg.Cursor(connection.connection, row_factory=namedtuple_row) as cursor,
    ):
        cursor.execute(statement, params, prepare=True)
        return cursor.fetchall()


def fetch_alone(statement: str, params: Sequence[Any] | dict[str, Any]) -> Any:
    """The first row, with named columns, of a statement that is its own transaction unless one is
    open."""
    if connection.in_atomic_block:
        rows = fetch_named(statement, params)
        return rows[0] if rows else None
    line = take_line()
    try:
        with connection.wrap_database_errors:
            cursor = line.cursor(statement, 0, is_named=True)
            cursor.execute(statement, params, prepare=True)
            return cursor.fetchone()
    finally:
        put_line(line)


def fetch_together(
    statements: Sequence[tuple[str, dict[str, Any]]], meanwhile: Callable[[], None] = lambda: None
) -> list[list[Any]]:
    """Rows of several statements in one transaction and one round trip; `meanwhile` is called while
    the database works. The last statement's columns are named."""
    here = connections[DEFAULT_DB_ALIAS]  # `connection` looks it up at every use
    if here.in_atomic_block:
        meanwhile()
        return [fetch_named(statement, params) for statement, params in statements]
    line, cursors = take_line(), []
    try:
        with here.wrap_database_errors, line.raw.pipeline():
            for place, (statement, params) in enumerate(statements, 1):
                cursor = line.cursor(statement, place, is_named=place == len(statements))
                cursors.append(cursor.execute(statement, params, prepare=True))
            meanwhile()
        return [cursor.fetchall() for cursor in cursors]
    finally:
        put_line(line)


def retried(function: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """Run `function` in a transaction; deadlocks and serialisation failures are retried, three
    tries in all."""

    @wraps(function)
    def call(*args: Params.args, **kwargs: Params.kwargs) -> Answer:
        for attempt in range(1, RETRIES + 1):
            try:
                with transaction.atomic():
                    return function(*args, **kwargs)
            except OperationalError as error:
                cause = getattr(error.__cause__, "sqlstate", None)
                if attempt == RETRIES or cause not in ("40001", "40P01"):
                    raise
        raise AssertionError("unreachable")

    return call


class Line:
    """A connection and the cursors of its statements: one that runs the same statement again knows
    how to adapt its parameters and columns."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.raw = raw
        self._cursors: dict[tuple[int, str], psycopg.Cursor[Any]] = {}

    def cursor(self, statement: str, place: int, *, is_named: bool) -> psycopg.Cursor[Any]:
        """The cursor of this statement in this place among others, or alone; always ask for names
        or never."""
        found = self._cursors.get((place, statement))
        if found is None:
            found = psycopg.Cursor(self.raw)
            if is_named:
                found.row_factory = _Names()
            self._cursors[place, statement] = found
        return found


class _Names:
    """Rows of one statement with named columns, whose names are read once."""

    def __init__(self) -> None:
        self._make: RowMaker[Any] | None = None

    def __call__(self, cursor: psycopg.Cursor[Any]) -> RowMaker[Any]:
        if self._make is None:
            if cursor.description is None:
                return namedtuple_row(cursor)
            self._make = namedtuple_row(cursor)
        return self._make


_held: dict[int, tuple[Line, float]] = {}
_may_linger = False


def let_linger() -> None:
    """Let connections linger in this process; it must call `sweep_lines` often, and
    `end_lingering`."""
    global _may_linger
    _may_linger = True


def end_lingering() -> None:
    global _may_linger
    _may_linger = False
    sweep_lines(0.0)


def _pool() -> psycopg_pool.ConnectionPool[psycopg.Connection[Any]]:
    return connection.pool  # type: ignore[attr-defined, no-any-return]  # only PostgreSQL has one


def take_line() -> Line:
    """This thread's connection, or one from the pool."""
    held = _held.pop(threading.get_ident(), None)
    if held is not None and not held[0].raw.closed:
        return held[0]
    with connection.wrap_database_errors:
        raw = _pool().getconn()
    if not raw.autocommit:
        raw.autocommit = True
    return Line(raw)


def put_line(line: Line) -> None:
    """Keep the connection for a moment; a broken one goes back to the pool, which replaces it."""
    if _may_linger and not line.raw.closed:
        _held[threading.get_ident()] = (line, time.monotonic())
    else:
        _pool().putconn(line.raw)


def sweep_lines(unused_s: float) -> None:
    """Return connections unused for this many seconds. Any thread may call it."""
    for thread, (_, since) in list(_held.items()):
        if time.monotonic() - since >= unused_s:
            held = _held.pop(thread, None)
            if held is not None:
                _pool().putconn(held[0].raw)
