from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Role
from tests.apps.api.callers import caller
from tests.apps.api.shop import SHOP
from tests.apps.jobs.builders import workspace


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    return workspace(tmp_path, SHOP, "shop")


@pytest.fixture
def operator() -> APIClient:
    return caller(Role.OPERATOR)
