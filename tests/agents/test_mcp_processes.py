"""A real process for agents dies in the middle of a call of an MCP server's tool."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from apps.agents.models import Call, Conversation
from engine.agents.servers import McpRules
from engine.lifecycle import FINAL_JOB
from tests.agents.bench import known_providers, step_of
from tests.agents.mcp_service import SERVER
from tests.agents.provider import Service, call, service
from tests.agents.test_mcp_tools import ask, program
from tests.apps.jobs.builders import fresh, until
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from tests.house import House, database_url

pytestmark = pytest.mark.django_db(transaction=True)
COMMANDS = (f"{sys.executable} {SERVER}",)


@pytest.fixture(name="street")
def running_street(
    transactional_db: None, tmp_path: Path, settings: Any
) -> Iterator[tuple[House, Service]]:
    known_providers(settings, McpRules(commands=COMMANDS))
    with service() as made:
        env = os.environ | {
            "STROEM__DB__URL": database_url(),
            "STROEM__AGENTS__PROVIDERS": json.dumps(made.settings()),
            "TMPDIR": os.fspath(tmp_path),
            "STROEM__AGENTS__MCP__COMMANDS": json.dumps(COMMANDS),
        }
        house = House(tmp_path, env, heartbeat_timeout_secs=10, sweep_interval_secs=5)
        try:
            house.scheduler()
            yield house, made
        finally:
            house.close()
            Conversation.objects.all().delete()


@pytest.mark.long
def test_its_server_ends_with_it_and_the_call_is_not_made_again(
    street: tuple[House, Service], tmp_path: Path
) -> None:
    house, provider = street
    file = tmp_path / "notes"
    given = {"file": os.fspath(file), "line": "x"}
    provider.answers(call("mcp_shop_note_and_wait", given))
    process = house.start("agents", name="agents")
    job = ask(tmp_path, program())
    until(file.exists, within_s=60)
    started = psutil.Process(process.pid).children(recursive=True)
    assert any("mcp_server.py" in " ".join(one.cmdline()) for one in started)

    process.kill()
    process.wait(10)

    until(lambda: not any(lives(one) for one in started), within_s=20)
    assert not list(tmp_path.glob("stroem-mcp-*"))
    house.start("agents", name="agents")
    until(lambda: fresh(job).status in FINAL_JOB, within_s=60)
    assert "whether the call had its effect is not known" in step_of(job).error
    assert file.read_text() == "x\n" and Call.objects.get().status == "begun"
    assert len(provider.seen) == 1


def lives(process: psutil.Process) -> bool:
    try:
        # one that this process adopted, as an earlier test made it do, nobody reaps
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
