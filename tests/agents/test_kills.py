"""SIGKILL at chosen moments: conversations are held at each of them when the process for agents
dies. No stored answer is asked for again, no tool is called twice, and every run ends."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from apps.accounts.models import User
from apps.agents.models import Call, Conversation, Spending, Turn
from apps.approvals import services as approvals
from apps.approvals.models import ApprovalRequest
from apps.approvals.transitions import Caller
from apps.jobs.models import Attempt, Job
from engine.agents.servers import McpRules
from engine.lifecycle import FINAL_JOB
from tests.agents.bench import known_providers, step_of
from tests.agents.mcp_service import HTTP_RULES, http_server
from tests.agents.provider import Seen, Service, call, refuse, say, service
from tests.apps.jobs.builders import Hand, fresh, output, start, until, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from tests.house import House, database_url

pytestmark = pytest.mark.django_db(transaction=True)
LEASE_S, SWEEP_S = 10, 5
SOON_S = LEASE_S + SWEEP_S + 45  # a busy machine starts a process and its libraries in that time
POINTS = ("before", "during", "after", "tool", "child", "person")
TOOLS = {
    "tool": "[{ mcp: shop }]",
    "child": "[{ task: look }]",
    "person": "[{ task: look, approval: always }]",
}
TASK = """
  {name}:
    input: {{ number: {{ type: integer, required: true }} }}
    flow:
      ask:
        type: agent
        provider: {provider}
        input: {{ number: "{{{{ input.number }}}}" }}
        prompt: "At {name} {{{{ input.number }}}}."
        tools: {tools}
"""
REST = """
  look: { flow: { go: { type: script, script: echo } } }
mcp_servers:
  shop: { transport: http, url: "%s" }
"""


def text(url: str) -> str:
    """A task for each point, and one that takes the only place of the narrow provider."""
    made = [
        TASK.format(
            name=name,
            provider="narrow" if name in ("before", "plug") else "openai",
            tools=TOOLS.get(name, "[]"),
        )
        for name in ("plug", *POINTS)
    ]
    return "tasks:" + "".join(made) + REST % url


class Model:
    """Holds requests where the test wants them, and notes each question whose answer is stored."""

    def __init__(self, service: Service, notes: Path) -> None:
        self.service, self.notes = service, notes
        self.repeated: list[str] = []
        self.asked: Counter[str] = Counter()
        self.dying = threading.Event()  # requests that were held are lost
        self.locked = threading.Event()  # the rows of the answers that get lost are locked
        service.script = self.script

    def begin(self) -> None:
        self.dying.clear()
        self.locked.clear()

    def script(self, seen: Seen) -> Any:
        found = re.search(r"At (\w+) (\d+)\.", seen.text)
        assert found is not None
        point, number = found[1], found[2]
        self._note_repeated(seen)
        is_first = self.asked[seen.key] == 0
        self.asked[seen.key] += 1
        if is_first and point in ("during", "plug"):
            self.dying.wait(60)
            return refuse(500)
        if is_first and point == "after":
            self.locked.wait(60)
        if point in TOOLS and seen.number == 0:
            given = {"file": str(self.notes / number), "line": "x"}
            return call("mcp_shop_note_and_wait", given) if point == "tool" else call(LOOK)
        return say("Done")

    def _note_repeated(self, seen: Seen) -> None:
        *_, conversation, seq = seen.key.split("-")
        with psycopg.connect(database_url()) as other:
            query = "SELECT 1 FROM agents_turn WHERE conversation_id = %s AND seq = %s"
            query += " AND answered_at IS NOT NULL"
            if other.execute(query, (conversation, seq)).fetchone():
                self.repeated.append(seen.key)


LOOK = "strom_task_look"
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND (
    query LIKE 'UPDATE "agents_turn"%answered_at%'
    OR query LIKE '%SELECT 1 FROM jobs_attempt WHERE id%FOR NO KEY UPDATE%'
)
"""


class Street:
    """A house whose process for agents dies."""

    def __init__(self, house: House, model: Model, url: str, folder: Path) -> None:
        self.house, self.model = house, model
        self.space = workspace(folder, text(url))
        self.process = house.start("agents", name="agents")
        self.count = 0

    def ask(self, point: str) -> Job:
        self.count += 1
        return start(self.space, point, number=self.count)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.model.dying.set()


@pytest.fixture(scope="module", name="url")
def running_server() -> Iterator[str]:
    with http_server() as url:
        yield url


@pytest.fixture(name="street")
def running_street(
    transactional_db: None, tmp_path: Path, settings: Any, url: str
) -> Iterator[Street]:
    known_providers(settings, McpRules(private_networks=HTTP_RULES))
    providers = settings.STROEM.agents.providers
    providers["narrow"] = providers["openai"]
    with service() as made:
        known = made.settings(max_retries=0)
        known["narrow"] = known["openai"] | {"concurrency": 1}
        env = os.environ | {
            "STROEM__DB__URL": database_url(),
            "STROEM__AGENTS__PROVIDERS": json.dumps(known),
            "STROEM__AGENTS__MCP__PRIVATE_NETWORKS": json.dumps([str(n) for n in HTTP_RULES]),
        }
        house = House(tmp_path, env, heartbeat_timeout_secs=LEASE_S, sweep_interval_secs=SWEEP_S)
        try:
            house.scheduler()
            yield Street(house, Model(made, tmp_path), url, tmp_path)
        finally:
            house.close()
            Conversation.objects.all().delete()
            ApprovalRequest.objects.all().delete()
            Spending.objects.all().delete()


@pytest.fixture
def ann(transactional_db: None) -> Iterator[Caller]:
    user = User.objects.create_superuser("ann@example.com", "a-long-password")
    yield Caller(user, "api")
    ApprovalRequest.objects.all().delete()
    user.delete()


@contextmanager
def locked_turns(jobs: list[Job]) -> Iterator[None]:
    """Keeps answers from being stored."""
    with psycopg.connect(database_url()) as other:
        found = other.execute(
            "SELECT t.id FROM agents_turn t JOIN agents_conversation c ON c.id = t.conversation_id"
            " WHERE c.job_id = ANY(%s) FOR UPDATE OF t",
            ([job.id for job in jobs],),
        )
        assert len(found.fetchall()) == len(jobs)
        yield
        other.rollback()


def waiting() -> int:
    """How many answers wait for the locks, or for a renewal of leases that does."""
    with connection.cursor() as cursor:
        cursor.execute(WAITING)
        return int(cursor.fetchone()[0])


def turns(jobs: list[Job], **more: Any) -> int:
    ids = [job.id for job in jobs]
    return Turn.objects.filter(conversation__job_id__in=ids, **more).count()


def asks(model: Model, jobs: list[Job]) -> list[int]:
    """How often the service saw the first question of each."""
    rows = Conversation.objects.filter(job_id__in=[job.id for job in jobs])
    return [model.asked[f"stroem-{row.job_id}-{row.pk}-1"] for row in rows]


def kill_at_all_points(street: Street, ann: Caller, *, each: int) -> None:
    """Bring `each` conversations to every point, kill the process, and let the next one go on."""
    model, hand = street.model, Hand()
    model.begin()
    plug = street.ask("plug")
    until(lambda: asks(model, [plug]) == [1], within_s=60)
    jobs = {point: [street.ask(point) for _ in range(each)] for point in POINTS}
    until(lambda: asks(model, jobs["after"]) == [1] * each, within_s=30)
    until(lambda: turns(jobs["before"]) == each)
    until(lambda: asks(model, jobs["during"]) == [1] * each)
    notes = [model.notes / str(job.input["number"]) for job in jobs["tool"]]
    until(lambda: all(note.exists() for note in notes))
    ids = [job.id for job in jobs["child"]]
    until(lambda: Job.objects.filter(parent_job_id__in=ids).count() == each)
    until(lambda: ApprovalRequest.objects.filter(status="open").count() == each)
    with locked_turns(jobs["after"]):  # last, and not for long: no lease is renewed meanwhile
        model.locked.set()
        until(lambda: waiting() == each)
        street.kill()

    assert asks(model, jobs["before"]) == [0] * each
    assert turns(jobs["after"], answered_at=None) == each
    for request in ApprovalRequest.objects.filter(status="open"):
        approvals.decide(request.pk, ann, approved=True)
    hand.work({"go": output({"ok": True})})
    street.process = street.house.start("agents", name="agents")
    every = [plug, *(job for some in jobs.values() for job in some)]

    def still_open() -> list[str]:
        hand.work({"go": output({"ok": True})})
        return [job.task_name for job in every if fresh(job).status not in FINAL_JOB]

    until(lambda: not still_open(), within_s=SOON_S, every_s=0.2)
    check(street, plug, jobs, notes)


def check(street: Street, plug: Job, jobs: dict[str, list[Job]], notes: list[Path]) -> None:
    model, each = street.model, len(notes)
    assert model.repeated == []
    ended = {point: {fresh(job).status for job in some} for point, some in jobs.items()}
    assert ended == {point: {"completed"} for point in POINTS} | {"tool": {"failed"}}
    assert fresh(plug).status == "completed"
    assert asks(model, jobs["before"]) == [1] * each
    assert asks(model, [*jobs["during"], *jobs["after"]]) == [2] * 2 * each
    assert asks(model, [*jobs["tool"], *jobs["child"], *jobs["person"]]) == [1] * 3 * each
    for job in jobs["tool"]:
        assert "whether the call had its effect is not known" in step_of(job).error
    assert [note.read_text() for note in notes] == ["x\n"] * each
    for job in (*jobs["child"], *jobs["person"]):
        assert Job.objects.filter(parent_job_id=job.id).count() == 1
        assert Call.objects.get(conversation__job_id=job.id).status == "done"
    assert not Attempt.objects.filter(ended_at=None).exists()


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_process_that_dies_at_any_point_repeats_nothing(street: Street, ann: Caller) -> None:
    kill_at_all_points(street, ann, each=1)

    stored = sum(row.answers for row in Spending.objects.all())
    assert stored == Turn.objects.exclude(answered_at=None).count(), "each answer is paid once"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_runs_survive_a_kill_at_their_point(street: Street, ann: Caller) -> None:
    for _ in range(20):
        kill_at_all_points(street, ann, each=2)
