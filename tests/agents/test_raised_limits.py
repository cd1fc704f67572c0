"""At a limit of a step, people may be asked whether the agent may go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.agents.models import Conversation
from apps.approvals import services as approvals
from apps.approvals.models import ApprovalRequest
from apps.approvals.transitions import Caller
from apps.conductor import services as conductor
from apps.jobs import services as jobs
from apps.jobs.models import Attempt, Job, Step
from engine.agents.limits import Limits
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.provider import Service, call, say, service
from tests.apps.jobs.builders import Hand, fresh, output, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
LOOK = call("strom_task_look")


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings)
    with service() as made:
        made.answers(LOOK, LOOK, LOOK, say("Seen thrice"))
        yield made
    Conversation.objects.all().delete()


@pytest.fixture
def ann(transactional_db: None) -> Iterator[Caller]:
    user = User.objects.create_superuser("ann@example.com", "a-long-password")
    yield Caller(user, "api")
    ApprovalRequest.objects.all().delete()
    user.delete()


def ask(tmp_path: Path, limits: str, more: str = "") -> Job:
    text = f"""
    tasks:
      main:
        flow:
          ask:
            type: agent
            provider: openai
            prompt: "Look thrice"
            tools: [{{ task: look }}]
            limits: {limits}
            retry: {{ max_attempts: 3, delay: 1s }}
            {more}
      look: {{ flow: {{ go: {{ type: script, script: echo }} }} }}
    """
    return start(workspace(tmp_path, text))


def work(bench: Bench) -> None:
    """Until nothing is ready, neither for agents nor for workers."""
    while bench.work() + Hand().work({"go": output({"ok": True})}):
        pass


def the_request() -> ApprovalRequest:
    return ApprovalRequest.objects.get(status="open")


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("limits", "told", "asked"),
    [
        ("{ turns: 2, at_limit: ask }", "2 of 2 turns are used", 1),
        ("{ turns: 1, at_limit: ask }", "1 of 1 turns are used", 3),
        ("{ tokens: 200, at_limit: ask }", "220 of 200 tokens are used", 1),
        ("{ cost: 0.0002, at_limit: ask }", "$0.0002 of $0.0002 are spent", 1),
    ],
)
def test_a_person_may_raise_a_limit(
    tmp_path: Path, service: Service, ann: Caller, limits: str, told: str, asked: int
) -> None:
    job, bench = ask(tmp_path, limits), Bench(service.settings())

    work(bench)

    request, seen = the_request(), len(service.seen)
    assert step_of(job).status == "suspended" and seen < 4
    assert not Attempt.objects.filter(step_id=step_of(job).pk, ended_at=None).exists()
    assert request.about == "limit" and told in request.message and told in request.summary
    for _ in range(asked):
        approvals.decide(the_request().pk, ann, approved=True)
        work(bench)

    assert fresh(job).status == "completed" and len(service.seen) == 4
    assert step_of(job).output["text"] == "Seen thrice"
    assert ApprovalRequest.objects.filter(status="approved").count() == asked
    assert Conversation.objects.get().raised == asked


@pytest.mark.long
def test_a_refusal_fails_the_step_with_its_words(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    job, bench = ask(tmp_path, "{ turns: 1, at_limit: ask }"), Bench(service.settings())
    work(bench)

    approvals.decide(the_request().pk, ann, approved=False, reason="Too dear")
    work(bench)

    error = step_of(job).error
    assert "1 of 1 turns are used" in error and error.endswith("refused to raise it: Too dear")
    assert fresh(job).status == "failed" and len(service.seen) == 1, "and is not tried again"


@pytest.mark.long
def test_nobody_raises_it_in_time(tmp_path: Path, service: Service, ann: Caller) -> None:
    job = ask(tmp_path, "{ turns: 1, at_limit: ask }", "ask_timeout: 1h")
    bench = Bench(service.settings())
    work(bench)
    step = step_of(job)
    Step.objects.filter(pk=step.pk).update(deadline_at=step.suspended_at)

    conductor.tick()
    work(bench)

    assert "Nobody raised it in time" in step_of(job).error


@pytest.mark.long
def test_limits_of_the_installation_cannot_be_raised(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    job = ask(tmp_path, "{ turns: 50, at_limit: ask }")
    bench = Bench(service.settings(), limits=Limits(turns=2))

    work(bench)

    assert not ApprovalRequest.objects.exists()
    assert "2 of 2 turns are used" in step_of(job).error and fresh(job).status == "failed"


@pytest.mark.long
def test_a_cancelled_job_asks_no_more(tmp_path: Path, service: Service, ann: Caller) -> None:
    job, bench = ask(tmp_path, "{ turns: 1, at_limit: ask }"), Bench(service.settings())
    work(bench)

    jobs.cancel_job(job.id, actor="ann@example.com")

    assert fresh(job).status == "cancelled" and step_of(job).status == "cancelled"
    assert not ApprovalRequest.objects.filter(status="open").exists()


@pytest.mark.long
def test_the_pages_say_what_is_asked(tmp_path: Path, service: Service, ann: Caller) -> None:
    job, bench = ask(tmp_path, "{ turns: 1, at_limit: ask }"), Bench(service.settings())
    work(bench)
    page = Client()
    page.force_login(ann.user)

    shown = page.get(f"/admin/approvals/approvalrequest/{the_request().pk}/change/")
    on_job = page.get(f"/admin/jobs/job/{job.pk}/change/")

    assert "with as much again of all limits" in shown.content.decode()
    assert "The agent has reached a limit: <q>1 of 1 turns are used" in on_job.content.decode()
    address = f"/admin/approvals/approvalrequest/{the_request().pk}/decide/"
    decided = page.post(address, {"decision": "approve"}, follow=True)
    assert "the agent goes on, with as much again" in decided.content.decode()
