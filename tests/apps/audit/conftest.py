from collections.abc import Iterator

import pytest

from apps.audit import services as audit


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """A command that a test calls says where its acts come from, and ends with the test."""
    with audit.during(audit.SERVER):
        yield
