"""Programs of MCP servers run as a user of their own, who sees nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from apps.agents.models import Call, Conversation
from console.health import examine
from engine.agents.servers import McpRules
from runners.host.environment import find_user
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.provider import Service, call, say, service
from tests.agents.test_mcp_processes import lives
from tests.agents.test_mcp_tools import ask
from tests.apps.jobs.builders import until
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from tests.house import ROOT
from tests.runners.test_local import find_python_for_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]
# A server of few words: the library may lie where the other user cannot read.
SERVER = """
import json, os, subprocess, sys

def seen(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__

def may_end(pid):
    try:
        os.kill(pid, 0)
    except OSError as error:
        return type(error).__name__

def look(key, pid):
    open("mine", "w").write("x")
    stray = subprocess.Popen(["setsid", "sleep", "60"], stdout=subprocess.DEVNULL)
    return {
        "ids": [os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups())],
        "key": seen(key), "environ": seen(f"/proc/{pid}/environ"), "end": may_end(pid),
        "keeper": may_end(os.getppid()), "home": os.environ["HOME"], "stray": stray.pid,
    }

for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    method, params = asked["method"], asked.get("params", {})
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if method == "initialize":
        answer["result"] = {
            "protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
            "serverInfo": {"name": "shop", "version": "1"},
        }
    elif method == "tools/list":
        answer["result"] = {"tools": [{"name": "look", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        text = json.dumps(look(**params["arguments"]))
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        answer["error"] = {"code": -32601, "message": "unknown"}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings, McpRules(commands=("*",)))
    with service() as made:
        yield made
    Conversation.objects.all().delete()


@pytest.fixture
def homes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where programs have their folders, and another user may go."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def run(tmp_path: Path, service: Service, run_as: str) -> dict[str, Any]:
    """What the program of a server sees."""
    key = tmp_path / "key"
    key.write_text("sk-ours")
    key.chmod(0o600)
    command, args = json.dumps(find_python_for_all()), json.dumps(["-c", SERVER])
    server = f"{{ transport: stdio, command: {command}, args: {args} }}"
    given = {"key": str(key), "pid": os.getpid()}
    service.answers(call("mcp_shop_look", given), say("Seen"))
    job = ask(tmp_path, server)
    Bench(service.settings(), mcp=McpRules(commands=("*",), run_as=run_as)).work()
    assert step_of(job).status == "completed", step_of(job).error
    return dict(json.loads(Call.objects.get().result))


@pytest.mark.root
def test_a_program_runs_as_its_user_and_reads_nothing_of_ours(
    tmp_path: Path, service: Service, homes: Path
) -> None:
    nobody = find_user("nobody")

    found = run(tmp_path, service, "nobody")

    assert found["ids"] == [nobody.uid, nobody.uid, nobody.gid, sorted(nobody.groups)]
    denied = [found[name] for name in ("key", "environ", "end", "keeper")]
    assert denied == ["PermissionError"] * 4
    assert Path(found["home"]).parent == homes and not list(homes.iterdir())
    until(lambda: not is_there(found["stray"]))


def is_there(pid: int) -> bool:
    return psutil.pid_exists(pid) and lives(psutil.Process(pid))


@pytest.mark.root
def test_a_user_that_is_not_there_ends_the_step_and_keeps_the_process_from_starting(
    tmp_path: Path, service: Service, homes: Path, process_env: dict[str, str]
) -> None:
    job = ask(tmp_path, f"{{ transport: stdio, command: {json.dumps(sys.executable)} }}")
    Bench(service.settings(), mcp=McpRules(commands=("*",), run_as="nobody-here")).work()
    assert "the system user 'nobody-here' does not exist on this host" in step_of(job).error

    started = subprocess.run(
        [sys.executable, "manage.py", "agents"], cwd=ROOT, capture_output=True, text=True,
        env=process_env | {"STROEM__AGENTS__MCP__RUN_AS": "nobody-here"}, timeout=60, check=False,
    )  # fmt: skip

    assert started.returncode != 0 and "Traceback" not in started.stderr
    assert "agents.mcp.run_as: the system user 'nobody-here' does not exist" in started.stderr


def test_doctor_warns_of_programs_without_a_user_of_their_own(settings: Any) -> None:
    def said() -> bool:
        return any("agents.mcp.run_as" in one.sentence for one in examine())

    assert not said()
    for run_as, expected in ((None, True), ("nobody", False)):
        mcp = replace(settings.STROEM.agents.mcp, commands=("uvx *",), run_as=run_as)
        agents = replace(settings.STROEM.agents, mcp=mcp)
        settings.STROEM = replace(settings.STROEM, agents=agents)
        assert said() == expected
