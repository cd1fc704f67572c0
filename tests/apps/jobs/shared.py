"""A database that the tests of one module share: commits are real, and it is emptied at the module's end.

For modules of many small tests whose jobs do not touch each other: emptying the database after each of them would take
ten times as long as the test. A module takes part with

    from tests.apps.jobs.shared import _django_db_helper, shared_db
    pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("shared_db")]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections


@pytest.fixture(scope="module")
def shared_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)
        connections.close_all()


@pytest.fixture
def _django_db_helper(shared_db: None) -> None:
    """In place of pytest-django's, which rolls back or empties the database after each test."""
