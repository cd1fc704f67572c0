"""Live logs over a WebSocket, from a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import websocket

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.jobs import ledger
from apps.jobs.models import Job
from engine.orders import Line
from tests.acceptance.serving import Served
from tests.apps.jobs.builders import DONE, Hand, start, workspace
from tests.client.laptop import key_of
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
tasks: {main: {flow: {one: {type: script, script: "true"}}}}
"""


@pytest.fixture
def served(tmp_path: Path, process_env: dict[str, str]) -> Iterator[Served]:
    house = House(tmp_path, process_env)
    yield Served(house)
    house.close()


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    return workspace(tmp_path / "sources", FLOW, "shop")


def opened(served: Served, job_id: object, query: str = "", **headers: str) -> websocket.WebSocket:
    address = f"ws://127.0.0.1:{served.port}/api/jobs/{job_id}/logs/stream{query}"
    return websocket.create_connection(address, timeout=60, header=headers)


def lines_of(socket: websocket.WebSocket, number: int) -> list[str]:
    found: list[str] = []
    while len(found) < number:
        frame = socket.recv()
        found += [json.loads(line)["line"] for line in frame.splitlines()]
    return found


def write(claim: ledger.Claim, seq: int, *texts: str) -> None:
    ledger.append(claim, seq, [Line(1.0, "stdout", text) for text in texts])


def test_stored_lines_come_first_then_new_ones_and_it_closes_after_the_end(
    served: Served, shop: Any
) -> None:
    job, hand = start(shop), Hand()
    claim = hand.claim()
    assert claim is not None
    write(claim, 1, "one", "two")
    key = key_of(Role.VIEWER, "vera@example.org", "shop")
    socket = opened(served, job.pk, f"?token={key}")
    late = opened(served, job.pk, "?skip_backfill=true", Authorization=f"Bearer {key}")
    assert lines_of(socket, 2) == ["one", "two"]
    write(claim, 2, "three")
    assert lines_of(socket, 1) == ["three"]
    assert lines_of(late, 1) == ["three"]
    hand.finish(claim, DONE)
    ended = Job.objects.get(pk=job.pk).completed_at
    Job.objects.filter(pk=job.pk).update(completed_at="2026-01-01T00:00Z")
    assert ended is not None
    code, _ = socket.recv_data()
    assert code == websocket.ABNF.OPCODE_CLOSE
    complete = opened(served, job.pk, f"?token={key}")
    assert lines_of(complete, 3) == ["one", "two", "three"]
    assert complete.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE


def test_who_may_not_read_is_refused_before_the_socket_opens(served: Served, shop: Any) -> None:
    job = start(shop)
    key = key_of(Role.VIEWER, "vera@example.org", "shop")
    stranger = key_of(Role.ADMIN, "eve@example.org", "other")
    for job_id, query, status, text in (
        (job.pk, "", 401, "Authentication required"),
        (job.pk, "?token=nothing", 401, "Invalid or expired token"),
        (job.pk, f"?token={stranger}", 404, "Job not found"),
        (uuid4(), f"?token={key}", 404, "Job not found"),
        ("x", f"?token={key}", 400, "Invalid job ID"),
        (
            job.pk,
            f"?token={key}&after=3",
            400,
            "Unknown query parameter 'after'; expected one of: token, skip_backfill",
        ),
        (job.pk, f"?token={key}&skip_backfill=maybe", 400, "skip_backfill must be true or false"),
    ):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            opened(served, job_id, query)
        assert refused.value.status_code == status
        assert json.loads(refused.value.resp_body or "{}")["error"] == text
    User.objects.filter(email="vera@example.org").update(is_active=False)
    WorkspaceGrant.objects.all().delete()
    with pytest.raises(websocket.WebSocketBadStatusException):
        opened(served, job.pk, f"?token={key}")


@pytest.mark.long
def test_other_sockets_are_not_found(served: Served) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(f"ws://127.0.0.1:{served.port}/api/jobs", timeout=60)
    assert refused.value.status_code == 404
