"""A database that the tests of one module share: commits are real; jobs go after each test, the
rest at the end.

For modules of many small tests: emptying the whole database after each would take ten times as long
as the test. A module takes part with

    from tests.apps.jobs.shared import _django_db_helper, shared_db
    pytestmark = pytest.mark.django_db(transaction=True)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections


@pytest.fixture(scope="module")
def shared_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False, reset_sequences=False)
        connections.close_all()


@pytest.fixture
def _django_db_helper(shared_db: None) -> Iterator[None]:
    """In place of pytest-django's, which rolls back or empties the database after each test: only
    the jobs go."""
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM jobs_attempt; DELETE FROM jobs_step; DELETE FROM jobs_job")
