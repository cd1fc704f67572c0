"""Statements of the hot path: prepared on the server, plain tuples back. The ORM does everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import connection, transaction
from django.db.utils import OperationalError

RETRIES = 3


def fetch(statement: str, params: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of one statement, within the transaction that is open, else on its own."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement, params, prepare=True)
        return cursor.fetchall() if cursor.description else []


def fetch_one(statement: str, params: Sequence[Any] | dict[str, Any]) -> tuple[Any, ...] | None:
    rows = fetch(statement, params)
    return rows[0] if rows else None


def retried(function: Any) -> Any:
    """Run `function` in a transaction; deadlocks and serialisation failures are tried again, three times in all."""

    def call(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(1, RETRIES + 1):
            try:
                with transaction.atomic():
                    return function(*args, **kwargs)
            except OperationalError as error:
                cause = getattr(error.__cause__, "sqlstate", None)
                if attempt == RETRIES or cause not in ("40001", "40P01"):
                    raise
        raise AssertionError("unreachable")

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call
