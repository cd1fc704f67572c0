"""A webhook that waits at one server for a job whose end another server brings about."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.accounts import tokens
from apps.accounts.models import Role
from apps.jobs.models import Job
from tests.acceptance.house import free_port
from tests.apps.api.callers import user
from tests.apps.jobs.builders import fresh, until, workspace
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
tasks:
  release:
    flow: {go: {type: approval, message: Go?}}
triggers:
  release: {type: webhook, name: release, task: release, verify: none, mode: sync, timeout_secs: 60}
"""


@pytest.fixture
def servers(tmp_path: Path, process_env: dict[str, str]) -> Iterator[tuple[str, str]]:
    house = House(tmp_path, process_env)
    ports = (free_port(), free_port())
    for port in ports:
        house.start("server", "--host", "127.0.0.1", "--port", str(port), name=f"server{port}")
    urls = tuple(f"http://127.0.0.1:{port}" for port in ports)
    for url in urls:
        until(lambda url=url: _answers(url), within_s=60)
    yield urls[0], urls[1]
    house.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as found:
            return bool(found.status == 200)
    except OSError:
        return False


def _post(url: str, body: Any, token: str = "") -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=90) as found:
        return found.status, json.loads(found.read())


def test_a_webhook_is_answered_by_one_server_for_a_job_that_ends_through_another(
    servers: tuple[str, str], tmp_path: Path
) -> None:
    workspace(tmp_path, FLOW, "shop")
    first, second = servers
    answers: list[tuple[int, Any]] = []
    waiting = threading.Thread(
        target=lambda: answers.append(_post(f"{first}/hooks/shop/release", {}))
    )
    waiting.start()
    until(lambda: Job.objects.filter(status="running").exists(), within_s=30)
    job = Job.objects.get()
    assert answers == []
    key, _ = tokens.make_key(user(Role.OPERATOR), "ci")
    status, _ = _post(f"{second}/api/jobs/{job.pk}/steps/go/approve", {"approved": True}, key)
    assert status == 200
    waiting.join(60)
    ((status, said),) = answers
    assert (status, said["job_id"], said["status"]) == (200, str(job.pk), "completed")
    assert fresh(job).status == "completed"
