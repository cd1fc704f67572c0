"""A question of an agent, or a call that needs approval, wherever people look for work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.agents.asking import seen
from apps.agents.models import Call, Conversation
from apps.approvals import notices
from apps.approvals.models import ApprovalRequest
from apps.jobs.models import Job
from console.database import Database
from console.job_report import as_json, as_lines, span
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.provider import Service, call, say, service
from tests.apps.jobs.builders import fresh, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
secrets: { token: hunter2-hunter2 }
tasks:
  main:
    flow:
      ask:
        type: agent
        provider: openai
        prompt: "Deploy"
        interactive: true
        tools: [{ task: deploy, approval: always }]
        approvers: { groups: [support] }
  deploy:
    input: { where: { type: string, required: true } }
    flow: { go: { type: script, script: echo } }
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


@pytest.fixture
def vera() -> Iterator[User]:
    user = User.objects.create_user("vera@example.com", "a-long-password", is_staff=True)
    WorkspaceGrant.objects.create(user=user, pattern="*", role=Role.VIEWER)
    yield user
    user.delete()


def asking(tmp_path: Path, service: Service, *answers: Any) -> tuple[Job, Bench]:
    service.answers(*answers)
    job, bench = start(workspace(tmp_path, FLOW)), Bench(service.settings())
    bench.work()
    return job, bench


def asks(question: str) -> Any:
    return call("ask_user", {"question": question})


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.long
def test_a_job_in_the_terminal_says_who_is_asked_what(
    tmp_path: Path, service: Service, root: User
) -> None:
    job, _ = asking(tmp_path, service, asks("Which \x1b[31mtown?\nNorth or south?"))

    lines = "\n".join(as_lines(Database().job(job.pk)))

    assert "waits for the group support, asked 0." in lines
    assert "the agent asks: Which \\u001b[31mtown? North or south?" in lines
    assert "answer: approve JOB ask --input answer=TEXT" in lines and "\x1b" not in lines
    (told,) = json.loads(as_json(Database().job(job.pk)))["requests"]
    assert (told["step_name"], told["about"], told["needed"]) == ("ask", "question", 1)


@pytest.mark.long
def test_a_call_that_waits_is_told_with_its_arguments_masked(
    tmp_path: Path, service: Service, root: User
) -> None:
    wanted = call("strom_task_deploy", {"where": "hunter2-hunter2 prod"})
    job, _ = asking(tmp_path, service, wanted)

    lines = "\n".join(as_lines(Database().job(job.pk)))
    row = ApprovalRequest.objects.get()

    assert 'the agent wants to call strom_task_deploy {"where": "•••••• prod"}' in lines
    assert row.about == "call" and "hunter2" not in row.message + row.summary


def test_an_approval_step_is_told_too(tmp_path: Path, root: User) -> None:
    flow = """
    actions: { gate: { type: approval, message: "Publish **all** rows?", min_approvals: 2 } }
    tasks: { main: { flow: { gate: { action: gate } } } }
    """
    job = start(workspace(tmp_path, flow))

    lines = "\n".join(as_lines(Database().job(job.pk)))

    assert f"waits for the operators of {job.workspace.name}" in lines
    assert "0 of 2 approvals given" in lines and "Publish **all** rows?" in lines


def test_the_api_lists_what_a_job_waits_for(
    tmp_path: Path, service: Service, root: User, vera: User
) -> None:
    job, _ = asking(tmp_path, service, asks("Which town?"))
    client = APIClient()
    client.force_authenticate(vera)

    (told,) = client.get("/api/approvals", {"job": str(job.pk)}).json()["items"]

    assert (told["about"], told["summary"]) == ("question", "Which town?")
    assert (told["asked"], told["approvals"]) == ("the group support", 0)
    assert client.get("/api/approvals").json()["total"] == 0  # none is for her to decide
    (step,) = client.get(f"/api/jobs/{job.pk}/steps").json()["items"]
    assert list(step["approval_fields"]) == ["answer"] and "Which town?" in step["approval_message"]
    WorkspaceGrant.objects.filter(user=vera).delete()
    stranger = User.objects.get(pk=vera.pk)
    client.force_authenticate(stranger)
    assert client.get("/api/approvals", {"job": str(job.pk)}).status_code == 404


def test_the_page_of_the_job_takes_the_answer(tmp_path: Path, service: Service, root: User) -> None:
    job, bench = asking(tmp_path, service, asks("Which <b>town</b>?"), say("To Oslo"))
    client, row = signed_in(root), ApprovalRequest.objects.get()

    page = client.get(f"/admin/jobs/job/{job.pk}/change/").content.decode()
    assert "The agent asks: <q>Which &lt;b&gt;town&lt;/b&gt;?</q>" in page
    assert 'name="input-answer"' in page and row.digest in page
    form = {"decision": "approve", "shown": row.digest, "back": "job", "input-answer": "Oslo"}
    answer = client.post(f"/admin/approvals/approvalrequest/{row.pk}/decide/", form, follow=True)
    bench.work()

    (place, status), *_ = answer.redirect_chain
    assert status == 302 and place.startswith(f"/admin/jobs/job/{job.pk}/change/#step=")
    assert "Answered: the agent goes on." in answer.content.decode()
    assert fresh(job).status == "completed" and Call.objects.get().result == "Oslo"


@pytest.mark.long
def test_who_may_not_answer_gets_no_field(
    tmp_path: Path, service: Service, root: User, vera: User
) -> None:
    job, _ = asking(tmp_path, service, asks("Which town?"))

    page = signed_in(vera).get(f"/admin/jobs/job/{job.pk}/change/").content.decode()

    assert "Which town?" in page and "input-answer" not in page


@pytest.mark.long
def test_the_step_and_the_inbox_show_the_request(
    tmp_path: Path, service: Service, root: User
) -> None:
    job, _ = asking(tmp_path, service, asks("Which town?"))
    client, row = signed_in(root), ApprovalRequest.objects.get()
    address = f"/admin/approvals/approvalrequest/{row.pk}/change/"

    step = client.get(f"/admin/jobs/job/{job.pk}/steps/{step_of(job).pk}/").content.decode()
    inbox = client.get("/admin/approvals/approvalrequest/?box=open").content.decode()
    request = client.get(address).content.decode()

    assert address in step and "The agent asks: Which town?" in step and "Started" in step
    assert "The agent asks: Which town?" in inbox
    assert "Your answer" in request and "Refuse to answer?" in request


@pytest.mark.long
def test_refusing_says_what_becomes_of_it(tmp_path: Path, service: Service, root: User) -> None:
    job, bench = asking(tmp_path, service, asks("Which town?"), say("As you wish"))
    row = ApprovalRequest.objects.get()

    form = {"decision": "reject", "reason": "Nobody knows"}
    answer = signed_in(root).post(
        f"/admin/approvals/approvalrequest/{row.pk}/decide/", form, follow=True
    )
    bench.work()

    assert "the agent reads your reason and goes on" in answer.content.decode()
    assert fresh(job).status == "completed"


@pytest.mark.long
def test_what_nobody_would_see_is_written_out(tmp_path: Path, service: Service, root: User) -> None:
    turned = "strom_task_deploy"
    job, _ = asking(tmp_path, service, call(turned, {"where": "\u202etset\u202c \x07"}))
    row = ApprovalRequest.objects.get(job_id=job.pk)

    assert "\u202e" not in row.message + row.summary and "\\u202etset\\u202c" in row.message
    assert seen("a\r\nb\tc\x00é👨‍👩‍👧") == "a\nb\tc\\u0000é👨‍👩‍👧"


@pytest.mark.long
def test_a_page_with_many_requests_shows_the_open_ones_first(
    tmp_path: Path, service: Service, root: User
) -> None:
    job, _ = asking(tmp_path, service, asks("Which town?"))
    row = ApprovalRequest.objects.get()
    closed = {"status": "approved", "closed_at": row.created_at}
    for number in range(120):
        row.pk, row.fence = None, row.fence + 1 + number
        for name, value in (
            closed if number < 100 else {"status": "open", "closed_at": None}
        ).items():
            setattr(row, name, value)
        row.save(force_insert=True)
    client = signed_in(root)

    with CaptureQueriesContext(connection) as asked:
        page = client.get(f"/admin/jobs/job/{job.pk}/change/").content.decode()

    assert page.count("data-call") == 11 and "11 more requests wait for a decision" in page
    assert len(asked) < 60


@pytest.mark.long
def test_mail_asks_for_an_answer(
    tmp_path: Path, service: Service, root: User, settings: Any
) -> None:
    settings.MAIL_IS_CONFIGURED = True
    asking(tmp_path, service, asks("Which town?"))

    assert notices.send_mail() == 1
    (message,) = mail.outbox
    assert "Your answer is requested" in message.body and "    Which town?" in message.body


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0.4 s"), (61, "1 min 1 s"), (7384, "2 h 3 min"), (90_000, "1 d 1 h")],
)
def test_durations_have_two_units(seconds: float, told: str) -> None:
    assert span(seconds) == told
