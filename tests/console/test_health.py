"""What `doctor` says about workspaces and settings."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.jobs import ledger
from apps.workspaces import services
from console import health
from engine.agents.providers import Provider
from engine.spec.tags import AGENTS
from runners.guard import offspring
from tests.architecture.house import ROOT

UNBUILT = """
on_success: [{action: common.tell}]
tasks: {main: {flow: {one: {type: script, script: "true"}}}}
"""


@pytest.mark.django_db
def test_what_is_not_built_is_a_warning_of_the_workspace_and_of_doctor(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(UNBUILT)
    found = services.import_folder("shop", tmp_path)
    told = (
        "this version does not carry out hooks with actions of other workspaces, with which no job"
        " starts: common.tell"
    )
    assert [problem["message"] for problem in found.problems] == [told]
    assert health.warning("workspaces", f"shop: {told}") in health._workspaces()


@pytest.mark.django_db
def test_agent_steps_without_a_process_for_agents_are_named(tmp_path: Path, settings: Any) -> None:
    (tmp_path / "flow.yaml").write_text(
        "tasks: { t: { flow: { s: { type: agent, provider: claude, prompt: x } } } }"
    )
    services.import_folder("shop", tmp_path)

    def told() -> list[tuple[str, str]]:
        found = health._workers()
        return [(one.level, one.sentence) for one in found if one.about == "agents"]

    assert told() == [
        ("warning", "no process for agents is alive, and shop has agent steps: name a provider in"
         " `agents.providers`, and start `manage.py agents`")
    ]  # fmt: skip
    here = {"claude": Provider("anthropic", api_key="x")}
    settings.STROEM = replace(
        settings.STROEM, agents=replace(settings.STROEM.agents, providers=here)
    )
    assert "and shop has agent steps: start `manage.py agents`" in told()[0][1]

    ledger.register(name="agents@here", tags=[AGENTS], slots=1, version="1")

    assert told() == [("ok", "alive: agents@here")]


@pytest.mark.skipif(offspring.find_parent() is None, reason="this user may make no cgroups")
def test_the_cgroup_of_a_doctor_that_was_killed_is_removed_by_the_next_one() -> None:
    code = (
        "import os, signal; from runners.guard import strays; from console import health\n"
        "strays.remove_cells = lambda root: os.kill(os.getpid(), signal.SIGKILL)\n"
        "print(os.getpid(), flush=True); list(health._cells())"
    )
    settings = {"DJANGO_SETTINGS_MODULE": "stroem_project.settings", "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    parent, left = str(offspring.find_parent()), f"stroem-{killed.stdout.strip()}-"
    assert any(name.startswith(left) for name in os.listdir(parent))
    assert [found.level for found in health._cells()] == ["ok"]
    assert not any(name.startswith(left) for name in os.listdir(parent))
    assert not any(name.startswith(f"stroem-{os.getpid()}-") for name in os.listdir(parent))
