"""Connections of the hot path, outside Django's pool: each thread keeps its own for a moment, in
case the next step comes soon.

Taking one from the pool and returning it costs more than some steps do, but a thread must not hold
one while a step runs for an hour. So a thread that has finished a step keeps its connection until
`sweep` returns those unused for a while. Nothing lingers unless the process calls `begin`.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import psycopg_pool
from django.db import connection
from psycopg.rows import RowMaker, namedtuple_row


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


def begin() -> None:
    """Let connections linger in this process; it must call `sweep` often, and `end`."""
    global _may_linger
    _may_linger = True


def end() -> None:
    global _may_linger
    _may_linger = False
    sweep(0.0)


def _pool() -> psycopg_pool.ConnectionPool[psycopg.Connection[Any]]:
    return connection.pool  # type: ignore[attr-defined, no-any-return]  # only PostgreSQL has one


def take() -> Line:
    """This thread's connection, or one from the pool."""
    held = _held.pop(threading.get_ident(), None)
    if held is not None and not held[0].raw.closed:
        return held[0]
    with connection.wrap_database_errors:
        raw = _pool().getconn()
    if not raw.autocommit:
        raw.autocommit = True
    return Line(raw)


def put(line: Line) -> None:
    """Keep the connection for a moment; a broken one goes back to the pool, which replaces it."""
    if _may_linger and not line.raw.closed:
        _held[threading.get_ident()] = (line, time.monotonic())
    else:
        _pool().putconn(line.raw)


def sweep(unused_s: float) -> None:
    """Return connections unused for this many seconds. Any thread may call it."""
    for thread, (_, since) in list(_held.items()):
        if time.monotonic() - since >= unused_s:
            held = _held.pop(thread, None)
            if held is not None:
                _pool().putconn(held[0].raw)
