"""`stroem-step` in containers: its pipes lead out of a read-only mount to the worker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.orders import HelperFolder, StepOutcome, Verdict
from engine.output import STATE
from runners.docker.config import DockerConfig
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log
from tests.runners.docker.conftest import Finish
from tests.workers.test_helper import DONE, Bench

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]
CODE = """
set -e
stroem-step state get count
stroem-step state set seen "$(id -u)"
stroem-step artifact get build site/a.bin /tmp/a.bin
wc -c </tmp/a.bin
touch /.stroem-step/x 2>/dev/null || echo read-only
"""


@pytest.mark.parametrize("user", [None, "12345:12345"])
def test_every_user_of_a_container_asks_its_worker(
    finish: Finish, config: DockerConfig, tmp_path: Path, user: str | None
) -> None:
    from engine.orders import ContainerWishes

    bench = Bench(tmp_path)
    outcome, log = finish(
        CODE,
        helper=bench.helper.folder,
        container=ContainerWishes(user=user),
        runner=DockerRunner(replace(config, sharing="bind")),
    )
    settled = bench.helper.settle(DONE)
    assert outcome.verdict is Verdict.SUCCEEDED, log.texts()
    assert log.texts() == ["7", "600000", "read-only"]
    assert settled.states == {STATE: {"seen": (user or "0").split(":")[0]}}


def test_an_engine_elsewhere_refuses_a_step_that_calls_it(
    finish: Finish, config: DockerConfig, tmp_path: Path
) -> None:
    def run(is_needed: bool) -> tuple[StepOutcome, Any]:
        folder = HelperFolder(tmp_path / "helper", is_needed)
        runner = DockerRunner(replace(config, sharing="copy"))
        outcome, log = finish("command -v stroem-step || echo none", helper=folder, runner=runner)
        assert isinstance(log, Log)
        return outcome, log.texts()

    outcome, _ = run(is_needed=True)
    assert outcome.verdict is Verdict.FAILED and "sees the worker's disk" in str(outcome.error)
    outcome, lines = run(is_needed=False)
    assert (outcome.verdict, lines) == (Verdict.SUCCEEDED, ["none"])
