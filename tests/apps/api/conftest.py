from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.hashing import PasswordHasher
from apps.accounts.models import Role
from tests.apps.api.callers import caller
from tests.apps.api.shop import SHOP
from tests.apps.jobs.builders import workspace


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual hasher at its lowest cost: these tests sign in a few hundred times."""
    for name, value in (("time_cost", 1), ("memory_cost", 8), ("parallelism", 1)):
        monkeypatch.setattr(PasswordHasher, name, value)


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    return workspace(tmp_path, SHOP, "shop")


@pytest.fixture
def operator() -> APIClient:
    return caller(Role.OPERATOR)
