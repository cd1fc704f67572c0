"""Fixtures of the chaos tests. STROEM_TEST_CHAOS_SCALE makes them larger; the gate runs them at
1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.witness import Witness
from tests.house import House


@pytest.fixture
def scale() -> int:
    return int(os.environ.get("STROEM_TEST_CHAOS_SCALE", "1"))


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "witness")


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str], scale: int) -> Iterator[House]:
    """At scale 1 with a shorter lease, so that the gate stays quick; larger ones keep the
    defaults."""
    recovery = {"heartbeat_timeout_secs": 10} if scale == 1 else {}
    found = House(tmp_path, process_env, **recovery)
    yield found
    found.close()
