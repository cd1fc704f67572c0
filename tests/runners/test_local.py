"""The local runner keeps the contract of all runners, and some promises of its own."""

from __future__ import annotations

import pytest

from runners import strays
from runners.base import Runner
from runners.guard import Guard
from runners.local import LocalConfig, LocalRunner
from tests.runners.contract import Leftovers, RunnerContract


@pytest.fixture(scope="module")
def guard():
    guard = Guard(lease_s=600, margin_s=8)
    guard.start()
    yield guard
    guard.close()


class TestLocalRunner(RunnerContract):
    @pytest.fixture
    def runner(self, guard: Guard, tmp_path) -> Runner:
        return LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)

    @pytest.fixture
    def leftovers(self) -> Leftovers:
        return lambda attempt: [str(strays.read_process(pid)) for pid in strays.find(attempt=attempt)]
