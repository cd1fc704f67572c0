"""Statements of the hot path: prepared on the server, plain tuples back. Everything else uses the
ORM.

Their connections are outside Django's pool: taking one from it and returning it costs more than
some steps do, but a thread must not hold one while a step runs for an hour. So a thread that has
finished a step keeps its connection until `sweep_lines` returns those unused for a while, in case
the next step comes soon. Nothing lingers unless the process calls `let_linger`.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import select
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import psycopg
import psycopg_pool
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.utils import OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import RowMaker, namedtuple_row
from psycopg.types.json import Jsonb

Params = ParamSpec("Params")
Answer = TypeVar("Answer")
RETRIES = 3
_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
REPAIRED = "\ufffd"
_PARAMETER = re.compile(r"%\((\w+)\)s")
_LINE = "stroem_line"
# The server knows no prepared statement of this name, or a migration changed what it answers.
_STALE = frozenset({b"26000", b"0A000"})
_GOOD = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})


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


def fetch_alone(statement: str, params: dict[str, Any]) -> Any:
    """The first row, with named columns, of a statement that is its own transaction unless one is
    open."""
    rows = fetch_together([(statement, params)])[0]
    return rows[0] if rows else None


def fetch_together(
    statements: Sequence[tuple[str, dict[str, Any]]], meanwhile: Callable[[], None] = lambda: None
) -> list[list[Any]]:
    """Rows of several statements in one transaction and one round trip; `meanwhile` is called while
    the database works. The last statement's columns are named."""
    here = connections[DEFAULT_DB_ALIAS]  # `connection` looks it up at every use
    if here.in_atomic_block:
        meanwhile()
        return [fetch_named(statement, params) for statement, params in statements]
    line = take_line()
    try:
        with here.wrap_database_errors:
            return line.ask(statements, meanwhile)
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
    """A connection and its prepared statements. psycopg's own pipeline sends every statement by
    itself and waits between them; this one writes once and reads once."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.raw = raw
        self._statements: dict[str, _Statement] = {}
        self._reading, self._writing = select.poll(), select.poll()
        self._reading.register(raw.fileno(), select.POLLIN)
        self._writing.register(raw.fileno(), select.POLLIN | select.POLLOUT)

    def ask(
        self, statements: Sequence[tuple[str, dict[str, Any]]], meanwhile: Callable[[], None]
    ) -> list[list[Any]]:
        """See `fetch_together`. Raises psycopg.Error."""
        asked, results = self._exchange(statements, meanwhile)
        if any(result.error_field(DiagnosticField.SQLSTATE) in _STALE for result in results):
            # After a rollback elsewhere, psycopg makes the server forget all that is prepared.
            # Nothing has happened: the statements are one transaction.
            self._statements.clear()
            asked, results = self._exchange(statements)
        for result in results:
            _check(result, self.raw)
        last = len(asked) - 1
        return [
            statement.read(result, is_named=place == last)
            for place, (statement, result) in enumerate(zip(asked, results, strict=True))
        ]

    def _exchange(
        self,
        statements: Sequence[tuple[str, dict[str, Any]]],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> tuple[list[_Statement], list[PGresult]]:
        """Ask, and read all answers; a connection that has unread ones is closed."""
        server, asked = self.raw.pgconn, []
        for text, params in statements:
            statement = self._statements.get(text)
            if statement is None:
                statement = self._statements[text] = _Statement(self.raw, text)
            asked.append((statement, statement.adapt(params)))
        try:
            server.enter_pipeline_mode()
            for _, (name, values, formats) in asked:
                server.send_query_prepared(name, values, formats)
            server.pipeline_sync()
            meanwhile()
            results = [*(self._read_result() for _ in asked), *self._read_end()]
            server.exit_pipeline_mode()
        except BaseException:
            self.raw.close()
            raise
        return [statement for statement, _ in asked], results

    def _read_result(self) -> PGresult:
        result = self._next()
        if result is None or self._next() is not None:
            raise psycopg.OperationalError("the connection to the database was lost")
        return result

    def _read_end(self) -> Iterator[PGresult]:
        """The end of the transaction: nothing, or the error of a commit that failed."""
        end = self._next()
        if end is not None and end.status != ExecStatus.PIPELINE_SYNC:
            yield end
            self._next()
            end = self._next()
        if end is None:
            raise psycopg.OperationalError("the connection to the database was lost")

    def _next(self) -> PGresult | None:
        server = self.raw.pgconn
        while server.is_busy():
            # the socket may not have taken all at once
            (self._writing if server.flush() else self._reading).poll()
            server.consume_input()
        return server.get_result()


class _Statement:
    """One statement on one connection, and how its parameters and rows are adapted."""

    _numbers = itertools.count()

    def __init__(self, raw: psycopg.Connection[Any], text: str) -> None:
        self._raw = raw
        names: dict[str, int] = {}
        self._text = _PARAMETER.sub(
            lambda found: f"${names.setdefault(found[1], len(names) + 1)}", text
        ).encode()
        self._names = tuple(names)
        self._formats = (PyFormat.AUTO,) * len(names)
        self._adapter = Transformer(raw)
        self._prepared: dict[tuple[int, ...] | None, bytes] = {}
        self._make_named: RowMaker[Any] | None = None

    def adapt(self, params: dict[str, Any]) -> tuple[bytes, Sequence[Any], Any]:
        """Its name for parameters of these types, their values and formats."""
        adapter = self._adapter
        values = adapter.dump_sequence([params[name] for name in self._names], self._formats)
        name = self._prepared.get(adapter.types)
        return name or self._prepare(adapter.types), values, adapter.formats

    def _prepare(self, types: tuple[int, ...] | None) -> bytes:
        name = f"stroem_{next(self._numbers)}".encode()
        _check(self._raw.pgconn.prepare(name, self._text, types), self._raw)
        self._prepared[types] = name
        return name

    def read(self, result: PGresult, *, is_named: bool) -> list[Any]:
        self._adapter.set_pgresult(result)
        if not is_named:
            return self._adapter.load_rows(0, result.ntuples, tuple)
        if self._make_named is None:
            names = [(result.fname(place) or b"").decode() for place in range(result.nfields)]
            self._make_named = cast(Any, namedtuple)("Row", names, rename=True)._make
        return self._adapter.load_rows(0, result.ntuples, self._make_named)


def _check(result: PGresult, raw: psycopg.Connection[Any]) -> None:
    if result.status not in _GOOD:
        error = psycopg.errors.error_from_result(result, raw.info.encoding)
        # libpq's own words, about the connection, have no code
        raise error if error.sqlstate else psycopg.OperationalError(str(error))


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
    # the server knows a connection's statements as long as it lasts: so does the connection
    line: Line | None = getattr(raw, _LINE, None)
    if line is None:
        line = Line(raw)
        setattr(raw, _LINE, line)
    return line


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
