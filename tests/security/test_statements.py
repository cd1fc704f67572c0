"""What a request may cost the database, and what it answers when the database cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from apps.accounts.models import User
from stroem_project import web

DB = settings.DATABASES["default"]
ROOT = Path(__file__).resolve().parents[2]
SLEEPS = """
import asyncio, os
os.environ["DJANGO_SETTINGS_MODULE"] = "stroem_project.settings"
from stroem_project.asgi import application
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SHOW statement_timeout")
    print(cursor.fetchone()[0])
"""


def test_each_server_process_limits_its_statements() -> None:
    told = subprocess.run(
        [sys.executable, "-c", SLEEPS], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert told.stdout.strip() == f"{web.MOST_STATEMENT_S}s", told.stderr


@contextmanager
def impatient() -> Iterator[None]:
    """The database gives up soon, whichever of the pool's connections is asked."""
    usual = connection.settings_dict["OPTIONS"]["options"]
    _connect_anew(f"{usual} -c statement_timeout=300ms")
    try:
        yield
    finally:
        _connect_anew(usual)


def _connect_anew(options: str) -> None:
    connection.settings_dict["OPTIONS"]["options"] = options
    connection.close()
    connection.close_pool()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ["/admin/jobs/job/", "/api/workspaces"])
def test_a_statement_that_was_stopped_is_told_as_503(address: str) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("root@example.org"))
    connection.ensure_connection()
    with psycopg.connect(connection.connection.info.dsn, password=DB["PASSWORD"]) as other:
        other.execute("SET idle_in_transaction_session_timeout = 0")  # a page may take its time
        other.execute("LOCK TABLE accounts_user")
        with impatient():
            answer = client.get(address)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "try again in a moment" in answer.content.decode().lower()
    assert "statement" not in answer.content.decode()
