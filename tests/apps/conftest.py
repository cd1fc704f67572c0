import pytest


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual hasher at its lowest cost: these tests make and sign in a thousand people."""
    from apps.accounts.hashing import PasswordHasher

    for name, value in (("time_cost", 1), ("memory_cost", 8), ("parallelism", 1)):
        monkeypatch.setattr(PasswordHasher, name, value)
