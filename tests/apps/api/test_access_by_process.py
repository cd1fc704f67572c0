"""Rows of the table of `test_access` whose work is done by a process, which must see what this one
has committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.accounts.models import Role
from tests.apps.api.test_access import (
    HERE,
    RANK,
    ROWS,
    World,
    make_world,
    opens_to_a_role,
    opens_to_a_superuser,
)
from tests.house import database_url

pytestmark = pytest.mark.django_db(transaction=True)
ELSEWHERE = [row for row in ROWS if row not in HERE]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("STROEM__DB__URL", database_url())
    return make_world(tmp_path)


@pytest.mark.sample(6)
@pytest.mark.parametrize("role", RANK, ids=str)
@pytest.mark.parametrize("row", ELSEWHERE, ids=str)
def test_a_role_opens_what_the_table_says(
    world: World, row: tuple[str, str], role: Role | None
) -> None:
    opens_to_a_role(world, row, role)


@pytest.mark.long
@pytest.mark.parametrize("row", ELSEWHERE, ids=str)
def test_a_superuser_may_do_everything(world: World, row: tuple[str, str]) -> None:
    opens_to_a_superuser(world, row)


def test_there_are_such_rows() -> None:
    assert len(ELSEWHERE) == 3
