"""The list and the page of jobs: who sees what, and what it costs."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.jobs.models import Job, Step
from tests.apps.jobs.builders import Hand, failed, fresh, start, statuses, workspace

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
actions: { go: { type: script, script: "true" } }
tasks:
  main: { flow: { a: { action: go }, b: { action: go, depends_on: [a] } } }
"""
LIST = "/admin/jobs/job/"


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def person(role: Role | None = None, pattern: str = "*", **fields: Any) -> User:
    user = User.objects.create_user(f"{uuid4().hex}@example.org", **{"is_staff": True, **fields})
    if role:
        WorkspaceGrant.objects.create(user=user, pattern=pattern, role=role)
    return user


def page(job: Job, rest: str = "change/") -> str:
    return f"{LIST}{job.pk}/{rest}"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return start(workspace(tmp_path, FLOW))


def test_people_see_the_jobs_of_their_workspaces_only(job: Job) -> None:
    name = job.workspace.name
    for client, sees in (
        (client_of(person(Role.VIEWER, name)), True),
        (client_of(person(Role.ADMIN, "other")), False),
        (client_of(person()), False),
    ):
        listed = client.get(LIST)
        assert listed.status_code == 200
        assert (str(job.pk)[:8] in listed.content.decode()) is sees
        for rest in (
            "change/",
            "steps/",
            "timeline/",
            "details/",
            f"steps/{Step.objects.first().pk}/",
        ):  # type: ignore[union-attr]
            assert client.get(page(job, rest)).status_code == (200 if sees else 404), rest
        assert client.get(f"/admin/jobs/{job.pk}/log/").status_code == (200 if sees else 404)
        assert client.get(f"/admin/tasks/{name}/main/").status_code == (200 if sees else 404)
    outsider = client_of(person(Role.ADMIN, "*", is_staff=False))
    assert outsider.get(page(job)).status_code == 302
    assert outsider.get(f"/admin/jobs/{job.pk}/log/").status_code == 404


@pytest.mark.parametrize("rest", ["cancel/", "restart/"])
def test_only_operators_act_and_only_by_post(job: Job, rest: str) -> None:
    assert client_of(person(Role.VIEWER)).post(page(job, rest)).status_code == 403
    assert client_of(person(Role.OPERATOR, "other")).post(page(job, rest)).status_code == 404
    assert client_of(person(Role.OPERATOR)).get(page(job, rest)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(person(Role.OPERATOR))
    assert strict.post(page(job, rest)).status_code == 403
    assert fresh(job).status == "running"
    assert (
        client_of(person(Role.VIEWER)).post(f"/admin/tasks/{job.workspace.name}/main/").status_code
        == 403
    )
    assert Job.objects.count() == 1


def test_nobody_adds_changes_or_deletes_a_job_by_hand(job: Job) -> None:
    root = client_of(User.objects.create_superuser("root@example.org"))
    assert root.get(f"{LIST}add/").status_code == 403
    assert root.post(page(job, "delete/"), {"post": "yes"}).status_code == 403
    root.post(page(job), {"task_name": "other", "status": "completed"})
    assert (fresh(job).task_name, fresh(job).status) == ("main", "running")


def test_buttons_cancel_and_restart_in_the_name_of_the_user(job: Job) -> None:
    user = person(Role.OPERATOR)
    client = client_of(user)
    Hand().work({"a": failed()})
    answer = client.post(page(job, "restart/"), follow=True)
    assert "restarts from its failed steps" in answer.content.decode()
    assert statuses(job) == {"a": "ready", "b": "pending"}
    client.post(page(job, "cancel/"), {"reason": "no\x00 more"})
    assert fresh(job).cancel_reason == "no more"
    from apps.jobs.models import StepEvent

    assert user.email in set(
        StepEvent.objects.filter(job_id=job.pk).values_list("actor", flat=True)
    )
    again = client.post(page(job, "cancel/"), follow=True)
    assert "already in a terminal state" in again.content.decode()


@pytest.mark.slow
def test_the_page_of_a_job_of_10_000_steps_is_small_and_quick(tmp_path: Path) -> None:
    chain = [
        f"      link_{n}: {{ action: go, depends_on: [{f'link_{n - 1}' if n else ''}] }}"
        for n in range(400)
    ]
    steps = "\n".join(chain)
    text = f"""
actions: {{ go: {{ type: script, script: "true" }} }}
tasks:
  main:
    flow:
{steps}
      many: {{ action: go, for_each: "{{{{ input.items }}}}" }}
    input: {{ items: {{ type: string, multiple: true }} }}
"""
    job = start(workspace(tmp_path, text), items=[str(n) for n in range(9_600)])
    client = client_of(person(Role.VIEWER))
    client.get(page(job))
    began = time.perf_counter()
    answer = client.get(page(job))
    assert time.perf_counter() - began < 1
    assert len(answer.content) < 200_000
    assert len(re.findall(rb"<[a-z]", answer.content)) < 2_000
    began = time.perf_counter()
    found = client.get(page(job, "steps/?q=9599")).json()
    assert time.perf_counter() - began < 0.5
    assert [row["name"] for row in found["rows"]] == ["many[9599]"]
