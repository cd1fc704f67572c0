"""What the tests of one module share: made once, in a transaction that the end of the module takes
back. Each test runs in a savepoint, so what it changes is gone after it.

For modules of many small tests on the same rows. A module takes part with

    from tests.apps.api.shared import _django_db_helper, shared_rows
    pytestmark = pytest.mark.django_db

and makes its rows in a fixture of the module that asks for `shared_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

__all__ = ["_django_db_helper", "shared_rows"]


@pytest.fixture(scope="module")
def shared_rows(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), transaction.atomic():
        with connection.cursor() as cursor:  # a busy machine may take long from test to test
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield
        transaction.set_rollback(True)


@pytest.fixture
def _django_db_helper(shared_rows: None) -> Iterator[None]:
    """In place of pytest-django's."""
    with transaction.atomic():
        yield
        if not connection.needs_rollback:
            connection.check_constraints()
        transaction.set_rollback(True)
