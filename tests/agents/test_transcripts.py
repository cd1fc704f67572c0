"""The transcript of an agent step: complete in parts, masked, cut, with few queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.test import Client
from rest_framework.test import APIClient

from apps.accounts.models import User
from apps.agents import transcripts
from apps.agents.models import Call, Conversation, Turn
from apps.agents.transcripts import BRIEF, LISTED
from apps.approvals.models import ApprovalRequest
from apps.conductor import services as conductor
from apps.jobs.models import Job, Step
from engine.agents.limits import MOST_TURNS
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.provider import Service, call, say, service
from tests.apps.jobs.builders import Hand, output, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
LOOK = "strom_task_look"
FLOW = """
secrets: {{ token: hunter2-hunter2 }}
tasks:
  main:
    input: {{ key: {{ type: string, secret: true, default: correct-horse-9 }} }}
    flow:
      ask:
        type: agent
        provider: openai
        system_prompt: "Use {{{{ secret.token }}}}"
        prompt: "Look with {{{{ input.key }}}}"
        input: {{ key: "{{{{ input.key }}}}" }}
        tools: [{{ task: look }}]
        {more}
      plain: {{ type: script, script: echo, depends_on: [ask] }}
  look:
    input: {{ where: {{ type: string, required: true }} }}
    flow: {{ go: {{ type: script, script: echo }} }}
"""


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings)
    with service() as made:
        yield made
    Conversation.objects.all().delete()


@pytest.fixture
def root() -> Iterator[User]:
    user = User.objects.create_superuser("root@example.com", "a-long-password")
    yield user
    ApprovalRequest.objects.all().delete()
    user.delete()


def ask(tmp_path: Path, more: str = "") -> Job:
    return start(workspace(tmp_path, FLOW.format(more=more)))


def api_of(user: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def told(user: User, job: Job, step: str = "ask", **query: Any) -> Any:
    return api_of(user).get(f"/api/jobs/{job.pk}/steps/{step}/transcript", query)


def page_of(user: User, job: Job, **query: Any) -> Any:
    client = Client()
    client.force_login(user)
    step = step_of(job)
    return client.get(f"/admin/jobs/job/{job.pk}/steps/{step.pk}/transcript/", query)


def look_once(tmp_path: Path, service: Service, where: str = "there", result: Any = None) -> Job:
    service.answers(call(LOOK, {"where": where}, text="I look"), say("I have seen it"))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()
    Hand().work({"go": output(result or {"seen": True})})
    bench.work()
    return job


def test_a_transcript_has_all_that_was_said_and_what_it_took(
    tmp_path: Path, service: Service, root: User
) -> None:
    job = look_once(tmp_path, service)

    read = told(root, job).json()

    assert (read["step_name"], read["status"], read["run"], read["runs"]) == (
        "ask", "completed", 1, 1,
    )  # fmt: skip
    assert (read["provider"], read["model"]) == ("openai", "gpt-4o-mini")
    one, two = read["turns"]
    assert (one["turn"], one["text"], two["text"]) == (1, "I look", "I have seen it")
    (made,) = one["calls"]
    assert json.loads(made["arguments"]) == {"where": "there"}
    assert (made["tool"], made["status"]) == (LOOK, "done") and '"seen": true' in made["result"]
    assert made["child_job_id"] == str(Job.objects.get(parent_job_id=job.pk).pk)
    assert (one["tokens_in"], one["tokens_out"]) == (100, 10)
    assert one["cost"] == pytest.approx(0.00012) and read["spent"]["cost"] == pytest.approx(0.00024)
    assert (read["spent"]["turns"], read["spent"]["tool_calls"]) == (2, 1)
    assert not one["is_cut"] and read["next"] is None and read["asked_at"] is None


def test_no_secret_is_in_a_transcript(tmp_path: Path, service: Service, root: User) -> None:
    job = look_once(
        tmp_path, service, "correct-horse-9 hunter2-hunter2", {"echo": "it was correct-horse-9"}
    )

    shown = told(root, job).content.decode() + told(root, job, turn=1).content.decode()
    shown += page_of(root, job).content.decode() + page_of(root, job, turn=1).content.decode()

    assert "hunter2" not in shown and "correct-horse" not in shown and "••••••" in shown
    assert "correct-horse" not in service.seen[1].text.split('"role": "tool"')[1]
    assert "correct-horse" not in Call.objects.get().result


@pytest.mark.long
def test_long_texts_and_many_calls_are_cut_in_lists_and_whole_alone(
    tmp_path: Path, service: Service, root: User
) -> None:
    calls = [(LOOK, {"where": f"{number} " + "x" * 3000}) for number in range(30)]
    service.answers({"calls": calls, "text": "y" * 5000}, say("Done"))
    job, bench = ask(tmp_path, "limits: { tool_calls: 1 }"), Bench(service.settings())
    bench.work()
    Hand().work()
    bench.work()

    (one, _), (whole,) = told(root, job).json()["turns"], told(root, job, turn=1).json()["turns"]

    assert one["is_cut"] and len(one["text"]) == 2000
    assert (len(one["calls"]), one["calls_total"]) == (20, 30)
    assert len(one["calls"][0]["arguments"]) == 2000
    assert not whole["is_cut"] and len(whole["text"]) == 5000 and len(whole["calls"]) == 30
    brief = page_of(root, job).json()["transcript"]["turns"][0]
    assert brief["text"] == {"text": "y" * 300, "more": 4700}
    assert (len(brief["calls"]), brief["calls_total"], brief["calls_open"]) == (6, 30, 0)


@pytest.mark.long
def test_pages_of_turns_follow_each_other(tmp_path: Path, service: Service, root: User) -> None:
    job = look_once(tmp_path, service)
    say_more(40)

    seen, after = [], 0
    while after is not None:
        page = told(root, job, after=after, limit=15).json()
        seen += [turn["turn"] for turn in page["turns"]]
        after = page["next"]

    assert seen == list(range(1, 43)) and page["spent"]["turns"] == 42
    assert [
        turn["seq"] for turn in page_of(root, job, **{"from": 41}).json()["transcript"]["turns"]
    ] == [41, 42]


@contextmanager
def statements() -> Iterator[list[str]]:
    """Every statement that this process sends meanwhile, also beside Django's own cursors."""
    seen: list[str] = []
    send = psycopg.Cursor.execute

    def execute(cursor: Any, query: Any, *args: Any, **more: Any) -> Any:
        seen.append(str(query))
        return send(cursor, query, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", execute)
        yield seen


def say_more(count: int, text: str = "more") -> None:
    """Add turns to the only conversation."""
    row = Conversation.objects.get()
    seq = Turn.objects.filter(conversation=row).count()
    Turn.objects.bulk_create(
        Turn(conversation=row, seq=seq + 1 + at, answer={"text": text}, answered_at=row.created_at, cost=1)
        for at in range(count)
    )  # fmt: skip
    Call.objects.bulk_create(
        Call(conversation=row, seq=seq + 1 + at, index=index, tool="t", arguments={"a": text}, result=text)
        for at in range(count)
        for index in range(3)
    )  # fmt: skip


@pytest.mark.long
def test_a_long_conversation_takes_no_more_queries_and_few_bytes(
    tmp_path: Path, service: Service, root: User
) -> None:
    job = look_once(tmp_path, service)
    step = step_of(job)

    with statements() as few:
        transcripts.read(step.pk, BRIEF)
    say_more(MOST_TURNS - 2, "long " * 4000)
    with statements() as many:
        read = transcripts.read(step.pk, LISTED)

    assert len(few) == len(many) == 5 and read is not None and len(read.turns) == MOST_TURNS
    assert len(page_of(root, job).content) < 400_000


def test_the_page_of_a_job_without_agents_asks_nothing_about_them(
    tmp_path: Path, service: Service, root: User
) -> None:
    flow = "tasks: { main: { flow: { one: { type: script, script: echo } } } }"
    job, client = start(workspace(tmp_path, flow)), Client()
    client.force_login(root)

    with statements() as asked:
        client.get(f"/admin/jobs/job/{job.pk}/change/")
        client.get(f"/admin/jobs/job/{job.pk}/steps/{step_of(job, 'one').pk}/")

    assert asked and not [one for one in asked if "agents_" in one]


def test_each_move_of_a_conversation_leaves_another_mark(tmp_path: Path, service: Service) -> None:
    service.answers(call(LOOK, {"where": "a"}), say("Done"))
    job, bench = ask(tmp_path), Bench(service.settings())
    step, seen = step_of(job), []

    def note() -> None:
        seen.append(transcripts.marks([step.pk]).get(step.pk))

    note()
    bench.work()
    note()
    note()
    Hand().work()
    note()
    bench.work()
    note()
    none, parked, same, woken, ended = seen
    assert none is None and parked == same
    assert len({parked, woken, ended}) == 3


@pytest.mark.long
def test_every_run_of_a_step_has_its_own_transcript(
    tmp_path: Path, service: Service, root: User
) -> None:
    service.in_order(say(""), say(""), say("The second time"))
    job = ask(tmp_path, "retry: { max_attempts: 2, delay: 1s }")
    bench = Bench(service.settings(max_retries=0))
    bench.work()
    Step.objects.filter(pk=step_of(job).pk).update(retry_at=job.created_at)
    conductor.tick()
    bench.work()

    newest, first = told(root, job).json(), told(root, job, run=1).json()
    assert (newest["run"], newest["runs"], newest["turns"][0]["text"]) == (2, 2, "The second time")
    assert first["run"] == 1 and [turn["text"] for turn in first["turns"]] == [None, None]
    assert "the answer is empty" in first["turns"][1]["note"]
    assert told(root, job, run=3).status_code == 404


@pytest.mark.long
def test_what_there_is_not_is_said(tmp_path: Path, service: Service, root: User) -> None:
    job = ask(tmp_path)

    empty = told(root, job).json()
    assert (empty["run"], empty["runs"], empty["turns"], empty["spent"]) == (None, 0, [], None)
    assert page_of(root, job).json() == {"transcript": None}
    for query, status in (
        ({"turn": 1}, 404), ({"run": 1}, 404), ({"turn": "x"}, 400), ({"limit": 101}, 400),
        ({"after": -1}, 400), ({"what": 1}, 400),
    ):  # fmt: skip
        assert told(root, job, **query).status_code == status, query
    refused = told(root, job, "plain")
    assert (
        refused.status_code == 409
        and "is not an agent step (type: script)" in refused.json()["error"]
    )
    assert told(root, job, "nothing").status_code == 404


@pytest.mark.long
def test_a_stranger_sees_no_transcript(tmp_path: Path, service: Service, root: User) -> None:
    job = look_once(tmp_path, service)
    stranger = User.objects.create_user("stranger@example.com", "a-long-password", is_staff=True)

    assert told(stranger, job).status_code == page_of(stranger, job).status_code == 404
    other = Client().get(f"/admin/jobs/job/{job.pk}/steps/{step_of(job).pk}/transcript/")
    assert other.status_code == 302
    stranger.delete()
