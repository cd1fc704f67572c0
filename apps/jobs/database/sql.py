"""Statements of the hot path: prepared on the server, plain tuples back. The ORM does everything
else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.utils import OperationalError
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from apps.jobs.database import lingering

Params = ParamSpec("Params")
Answer = TypeVar("Answer")
RETRIES = 3
_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
REPAIRED = "\ufffd"


def jsonb(value: Any) -> Jsonb:
    """`value` as a JSON parameter. What the database cannot hold is replaced: NUL and half
    characters by U+FFFD, NaN by null."""
    return Jsonb(value, dumps=_dump)


def _dump(value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_repaired(value))
    return json.dumps(_repaired(value)) if _UNSTORABLE.search(text) else text


def _repaired(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case list() | tuple():
            return [_repaired(item) for item in value]
        case dict():
            return {storable(key): _repaired(item) for key, item in value.items()}
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def storable(text: str) -> str:
    """`text` with what no database text can hold (NUL, half characters) as U+FFFD."""
    if text.isascii():
        return text.replace("\0", REPAIRED) if "\0" in text else text
    return (
        text.replace("\0", REPAIRED).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def fetch(statement: str, params: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of one statement, within the transaction that is open, else on its own."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement, params, prepare=True)
        return cursor.fetchall() if cursor.description else []


def fetch_one(statement: str, params: Sequence[Any] | dict[str, Any]) -> tuple[Any, ...] | None:
    rows = fetch(statement, params)
    return rows[0] if rows else None


def statement(module: str, name: str) -> str:
    """The text of `name`.sql beside the module whose `__file__` is given."""
    return Path(module).with_name(f"{name}.sql").read_text(encoding="utf-8")


def fetch_named(statement: str, params: Sequence[Any] | dict[str, Any]) -> list[Any]:
    """Like `fetch`, with rows whose columns have names."""
    connection.ensure_connection()
    with (
        connection.wrap_database_errors,
        psycopg.Cursor(connection.connection, row_factory=namedtuple_row) as cursor,
    ):
        cursor.execute(statement, params, prepare=True)
        return cursor.fetchall()


def fetch_alone(statement: str, params: Sequence[Any] | dict[str, Any]) -> Any:
    """The first row of a statement that is a transaction of its own, unless one is open; its
    columns have names."""
    if connection.in_atomic_block:
        rows = fetch_named(statement, params)
        return rows[0] if rows else None
    raw = lingering.take()
    try:
        with (
            connection.wrap_database_errors,
            psycopg.Cursor(raw, row_factory=namedtuple_row) as cursor,
        ):
            cursor.execute(statement, params, prepare=True)
            return cursor.fetchone()
    finally:
        lingering.put(raw)


def fetch_together(
    statements: Sequence[tuple[str, dict[str, Any]]], meanwhile: Callable[[], None] = lambda: None
) -> list[list[Any]]:
    """Rows of several statements that are one transaction, sent in one round trip; `meanwhile` is
    called while the database is at work. The columns of the last statement's rows have names."""
    here = connections[DEFAULT_DB_ALIAS]  # looked up once: `connection` does it at every use
    if here.in_atomic_block:
        meanwhile()
        return [fetch_named(statement, params) for statement, params in statements]
    raw = lingering.take()
    try:
        with here.wrap_database_errors, raw.pipeline():
            cursors = [psycopg.Cursor(raw) for _ in statements]
            cursors[-1].row_factory = namedtuple_row
            for cursor, (statement, params) in zip(cursors, statements, strict=True):
                cursor.execute(statement, params, prepare=True)
            meanwhile()
        return [cursor.fetchall() for cursor in cursors]
    finally:
        lingering.put(raw)


def retried(function: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """Run `function` in a transaction; deadlocks and serialisation failures are tried again, three
    times in all."""

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
