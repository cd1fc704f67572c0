"""Agents use the platform through /mcp: the official client against two real server processes."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.utils import timezone
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from apps.accounts import tokens
from apps.accounts.models import Role, User
from apps.audit.models import Entry
from apps.jobs.models import Job
from tests.acceptance.house import free_port
from tests.acceptance.serving import Served
from tests.apps.api.callers import user
from tests.apps.jobs.builders import until, workspace
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)

TEXT = """
secrets: {pw: canary-4711}
tasks:
  greet:
    mcp: true
    description: Greets somebody
    input:
      who: {type: string, required: true, description: Whom to greet}
      times: {type: integer, default: 1}
      tone: {type: string, options: [kind, stern]}
      pin: {type: string, secret: true, default: "{{ secret.pw }}"}
    flow:
      say:
        type: script
        script: |
          echo "ERR" >&2
          echo "hello $STROEM_INPUT_WHO"
          echo 'OUTPUT: {"said": "hello"}'
  hidden: {flow: {a: {type: script, script: "true"}}}
  waits: {flow: {a: {type: script, script: sleep 60}}}
"""
FIXED = {
    "list_workspaces", "list_tasks", "get_task", "execute_task", "get_job_status", "wait_for_job",
    "get_job_logs", "search_job_logs", "list_jobs", "cancel_job",
}  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env | {"STROEM__MCP__ENABLED": "true"})
    yield found
    found.close()


@pytest.fixture
def port(house: House, tmp_path: Path) -> int:
    workspace(tmp_path / "files", TEXT, "shop")
    return Served(house).port


def key_of(person: User) -> str:
    return tokens.make_key(person, "agent")[0]


async def _talk(port: int, key: str, talk: Callable[[Client], Any]) -> Any:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60)
        )
        transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
        client = await stack.enter_async_context(Client(transport))
        return await talk(client)


def tools_of(port: int, key: str) -> dict[str, Any]:
    async def talk(client: Client) -> Any:
        return (await client.list_tools()).tools

    return {tool.name: tool for tool in asyncio.run(_talk(port, key, talk))}


def call(port: int, key: str, name: str, **arguments: Any) -> tuple[bool, Any]:
    """(is an error, what it says): JSON if it is JSON."""

    async def talk(client: Client) -> Any:
        return await client.call_tool(name, arguments)

    result = asyncio.run(_talk(port, key, talk))
    [content] = result.content
    try:
        return result.is_error, json.loads(content.text)
    except ValueError:
        return result.is_error, content.text


def raw(port: int, headers: dict[str, str], body: bytes = b"{}") -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/mcp", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_an_agent_lists_starts_and_follows_a_job_through_two_servers(
    house: House, port: int, tmp_path: Path
) -> None:
    other, key = free_port(), key_of(user(Role.OPERATOR))
    house.start("server", "--port", str(other), name="other")
    house.worker("only")
    until(lambda: _answers(other), within_s=30)

    tools = tools_of(port, key)
    assert set(tools) == FIXED | {"shop__greet"}
    assert tools["shop__greet"].description.startswith("Greets somebody (")
    assert tools["shop__greet"].input_schema == {
        "type": "object",
        "properties": {
            "who": {"type": "string", "description": "Whom to greet"},
            "times": {"type": "integer", "default": 1},
            "tone": {"type": "string", "enum": ["kind", "stern"]},
            "pin": {"type": "string"},
        },
        "required": ["who"],
        "additionalProperties": False,
    }
    assert call(port, key, "list_workspaces") == (False, [{"name": "shop", "task_count": 3}])

    is_error, started = call(port, key, "shop__greet", who="Ada")
    assert not is_error
    is_error, ended = call(other, key, "wait_for_job", **started, timeout_secs=60)
    assert not is_error and ended["status"] == "completed", ended
    assert ended["source_type"] == "mcp" and ended["output"] == {"say": {"said": "hello"}}
    assert [step["step_name"] for step in ended["steps"]] == ["say"]

    _, logs = call(other, key, "get_job_logs", **started, step="say")
    lines = [line[11:] for line in logs.splitlines()]
    assert {"[say] hello Ada", "[say] ERR: ERR"} <= set(lines)
    _, listed = call(port, key, "list_jobs", status="completed")
    assert (listed["count"], listed["jobs"][0]["job_id"]) == (1, started["job_id"])
    assert call(port, key, "cancel_job", **started)[1]["status"] == "already_terminal"


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.long
def test_rights_are_those_of_the_keys_owner(port: int) -> None:
    viewer, stranger = key_of(user(Role.VIEWER)), key_of(user(Role.OPERATOR, "other-*"))
    assert set(tools_of(port, viewer)) == FIXED, "a viewer is offered no task"
    asked = {"workspace": "shop", "task_name": "hidden"}
    assert call(port, viewer, "execute_task", **asked) == (True, "View-only access")
    assert call(port, viewer, "shop__greet", who="Ada")[0]
    assert call(port, stranger, "list_tasks") == (False, [])
    assert call(port, stranger, "get_task", **asked) == (True, "Workspace 'shop' not found")
    job = _start(port, key_of(user(Role.OPERATOR)))
    assert call(port, viewer, "cancel_job", job_id=job)[0]
    assert call(port, stranger, "get_job_status", job_id=job) == (True, "Job not found")
    assert list(Job.objects.values_list("cancel_requested_at", flat=True)) == [None]


def _start(port: int, key: str) -> str:
    is_error, started = call(port, key, "execute_task", workspace="shop", task_name="waits")
    assert not is_error, started
    return str(started["job_id"])


@pytest.mark.long
def test_waiting_ends_with_its_time_and_a_job_can_be_cancelled(port: int) -> None:
    key = key_of(user(Role.OPERATOR))
    job = _start(port, key)
    assert call(port, key, "wait_for_job", job_id=job, timeout_secs=1)[1]["status"] == "running"
    assert call(port, key, "cancel_job", job_id=job)[1] == {"status": "cancelled"}
    assert call(port, key, "get_job_status", job_id=job)[1]["status"] == "cancelled"
    noted = Entry.objects.filter(object=job).order_by("pk")
    assert [(row.act, row.via, row.address, row.key) for row in noted] == [
        (act, "mcp", "127.0.0.1", key[:12]) for act in ("job.start", "job.cancel")
    ]


MISTAKES = [
    ("nothing", {}, "There is no tool 'nothing'"),
    ("get_task", {"workspace": "shop"}, "get_task needs the parameter 'task_name'"),
    ("list_jobs", {"limt": 1}, "list_jobs has no parameter 'limt' (did you mean 'limit'?)"),
    ("list_jobs", {"limit": "many"}, "The parameter 'limit' must be a whole number"),
    ("list_jobs", {"limit": 1000}, "limit must be 1 to 100"),
    ("list_jobs", {"status": "gone"}, "status must be one of: "),
    ("list_jobs", {"workspace": "shoop"}, "Workspace 'shoop' not found"),
    ("list_jobs", {"workspace": "shop", "task_name": "great"}, "Task not found"),
    ("list_jobs", {"task_name": "great"}, "Task not found"),
    ("get_job_status", {"job_id": "x"}, "Invalid job ID"),
    ("wait_for_job", {"job_id": "x", "timeout_secs": 0}, "timeout_secs must be 1 to 60"),
    ("shop__greet", {}, "input 'who' is required"),
    ("shop__greet", {"who": "x", "whom": "y"}, "input 'whom' is not declared"),
    ("list_tasks", {"workspace": "a\x00b"}, "contains the character NUL"),
    (
        "execute_task",
        {"workspace": "shop", "task_name": "greet", "input": "{"},
        "`input` was a string but is not valid JSON",
    ),
    (
        "execute_task",
        {"workspace": "shop", "task_name": "greet", "input": "[1]"},
        "`input` must be a JSON object mapping task field names to values",
    ),
]


@pytest.mark.long
def test_a_mistake_is_an_answer_that_the_model_can_read(port: int) -> None:
    key = key_of(user(Role.OPERATOR))
    for tool, arguments, said in MISTAKES:
        is_error, text = call(port, key, tool, **arguments)
        assert is_error and said in text, (tool, text)


@pytest.mark.long
def test_only_api_keys_from_known_hosts_and_pages_are_let_in(port: int) -> None:
    person = user(Role.OPERATOR)
    key = {"Authorization": f"Bearer {key_of(person)}"}
    access = {"Authorization": f"Bearer {tokens.issue_access(person, timezone.now())}"}
    assert raw(port, {}) == (
        401,
        {"error": "The MCP server takes an API key: Authorization: Bearer strm_..."},
    )
    assert raw(port, access)[0] == 401
    assert raw(port, {"Authorization": "Bearer strm_0000"})[0] == 401
    assert raw(port, key | {"Host": "evil.example"})[0] == 403
    assert raw(port, key | {"Origin": "https://evil.example"})[0] == 403
    assert raw(port, key, b"x" * 2_000_000)[0] == 413
    json_only = {"Content-Type": "application/json", "Accept": "application/json"}
    assert raw(port, key | json_only, b"{")[0] == 400
    person.is_active = False
    person.save()
    assert raw(port, key)[0] == 401


@pytest.mark.long
def test_it_is_not_there_unless_it_is_enabled(tmp_path: Path, process_env: dict[str, str]) -> None:
    house = House(tmp_path, process_env)
    try:
        served = Served(house)
        status, _ = served.fetch("/mcp", {})
        assert status == 404
    finally:
        house.close()
