from collections.abc import Iterator

import pytest

from apps.accounts.hashing import PasswordHasher
from apps.audit import services as audit


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual hasher at its lowest cost."""
    for name, value in (("time_cost", 1), ("memory_cost", 8), ("parallelism", 1)):
        monkeypatch.setattr(PasswordHasher, name, value)


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """A command that a test calls says where its acts come from, and ends with the test."""
    with audit.during(audit.SERVER):
        yield
