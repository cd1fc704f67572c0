"""MCP servers in containers of a real Docker engine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from apps.agents.models import Call, Conversation
from engine.agents.servers import McpRules
from runners.mcp import container
from tests.agents.bench import known_providers, step_of
from tests.agents.provider import Service, call, say, service
from tests.agents.test_mcp_tools import ask, bench_of
from tests.apps.jobs.builders import fresh
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = [
    pytest.mark.django_db(transaction=True), pytest.mark.docker, pytest.mark.timeout(180)
]  # fmt: skip
RULES = McpRules(images=("*",))
# The image has Python, but not the official library: the few messages by hand.
SERVER = """
import json, os, sys
print("a greeting", file=sys.stderr, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    answer = {"jsonrpc": "2.0", "id": asked.get("id")}
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        answer["result"] = {"protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}}, "serverInfo": {"name": "boxed", "version": "1"}}
    elif asked["method"] == "tools/list":
        answer["result"] = {"tools": [{"name": "look", "inputSchema": {"type": "object"}}]}
    elif asked["method"] == "tools/call":
        text = json.dumps([dict(os.environ), os.getuid(), open("/proc/self/status").read()])
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        answer["error"] = {"code": -32601, "message": "no"}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings, RULES)
    with service() as made:
        yield made
    Conversation.objects.all().delete()


def boxed(image: str, script: str = SERVER) -> str:
    args = json.dumps(["-c", script])
    return (
        f"{{ transport: stdio, image: '{image}', command: python3, args: {args}, env: {{ A: b }} }}"
    )


def left(engine: docker.DockerClient) -> list[Any]:
    return list(
        engine.containers.list(
            all=True, filters={"label": f"{container.OWNER}={container.owner()}"}
        )
    )


def test_a_container_gives_its_tools_to_the_model(
    tmp_path: Path, service: Service, base_image: str, docker_engine: docker.DockerClient
) -> None:
    service.answers(call("mcp_shop_look", {}), say("seen"))
    job = ask(tmp_path, boxed(base_image))

    bench_of(service, RULES).work()

    assert fresh(job).status == "completed", step_of(job).error
    environment, _, status = json.loads(Call.objects.get().result)
    assert environment["A"] == "b" and not [name for name in environment if "STROEM" in name]
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    assert left(docker_engine) == []


def test_a_container_that_says_nothing_of_use_is_an_error_of_the_step(
    tmp_path: Path, service: Service, base_image: str, docker_engine: docker.DockerClient
) -> None:
    job = ask(tmp_path, boxed(base_image, "import sys; sys.exit('no module shop')"))
    other = ask(tmp_path, boxed("no-such-image-4711:1"))

    bench_of(service, RULES).work()

    assert "its container ended, saying: no module shop" in step_of(job).error
    assert "its container cannot be started" in step_of(other).error
    assert left(docker_engine) == []


def test_what_a_dead_process_left_is_removed(
    tmp_path: Path, service: Service, base_image: str, docker_engine: docker.DockerClient
) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    label = f"{socket.gethostname()}:{int(dead.stdout)}:1.00"
    foreign = f"another-host:{int(dead.stdout)}:1.00"
    made = [
        docker_engine.containers.run(
            base_image, ["sleep", "60"], labels={container.OWNER: one}, detach=True
        )
        for one in (label, foreign)
    ]
    container._connection.cache_clear()
    service.answers(say("so"))
    ask(tmp_path, boxed(base_image))

    bench_of(service, RULES).work()

    ids = {one.id for one in docker_engine.containers.list(all=True)}
    assert made[0].id not in ids and made[1].id in ids
    made[1].remove(force=True)
