"""People in the loop: tool calls that need approval, and questions of the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import User
from apps.agents.models import Call, Conversation
from apps.approvals import services as approvals
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest
from apps.approvals.transitions import Caller
from apps.conductor import services as conductor
from apps.jobs import services as jobs
from apps.jobs.models import Attempt, Job, Step
from engine.errors import Conflict, InputError
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.provider import Service, call, say, service
from tests.apps.jobs.builders import Hand, fresh, output, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
TOOL = "strom_task_deploy"


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings)
    with service() as made:
        yield made
    Conversation.objects.all().delete()


@pytest.fixture
def ann() -> Iterator[Caller]:
    user = User.objects.create_superuser("ann@example.com", "a-long-password")
    yield Caller(user, "api")
    ApprovalRequest.objects.all().delete()
    user.delete()


def ask(tmp_path: Path, tool: str = "approval: always", more: str = "") -> Job:
    text = f"""
    secrets: {{ token: hunter2-hunter2 }}
    tasks:
      main:
        input: {{ careful: {{ type: boolean, default: true }} }}
        flow:
          ask:
            type: agent
            provider: openai
            prompt: "Deploy"
            input: {{ careful: "{{{{ input.careful }}}}" }}
            tools: [{{ task: deploy, {tool} }}]
            {more}
      deploy:
        input:
          where: {{ type: string, required: true, options: [test, prod] }}
          note: {{ type: string }}
        flow:
          go: {{ type: script, script: "echo" }}
    """
    return start(workspace(tmp_path, text))


def the_request() -> ApprovalRequest:
    return ApprovalRequest.objects.get(status="open")


def test_a_call_waits_for_approval_with_its_arguments(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    service.answers(
        call(TOOL, {"where": "prod", "note": "**bold** {{ secret.token }}"}), say("Done")
    )
    job, bench = ask(tmp_path), Bench(service.settings())

    bench.work()

    step, request = step_of(job), the_request()
    assert step.status == "suspended" and not Job.objects.filter(parent_job_id=job.id).exists()
    assert not Attempt.objects.filter(step_id=step.pk, ended_at=None).exists()
    assert '      "where": "prod"' in request.message and TOOL in request.message
    assert "hunter2" not in request.message and "{{ secret.token }}" in request.message
    assert set(request.fields) == {"where", "note"}

    approvals.decide(request.pk, ann, approved=True)
    assert step_of(job).status == "ready"
    bench.work()
    child = Job.objects.get(parent_job_id=job.id)
    assert (child.input["where"], child.input["note"]) == ("prod", "**bold** {{ secret.token }}")
    Hand().work({"go": output({"ok": True})})
    bench.work()

    assert step_of(job).output["text"] == "Done" and fresh(job).status == "completed"
    assert "approval_message" not in step_of(job).output
    assert Call.objects.get().approved_by == "ann@example.com" and len(service.seen) == 2


def test_the_approver_may_change_the_arguments(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    service.answers(call(TOOL, {"where": "prod", "note": "x"}), say("Done"))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()
    digest = Call.objects.get().digest

    with pytest.raises(InputError):
        approvals.decide(the_request().pk, ann, approved=True, given={"where": "moon"})
    approvals.decide(the_request().pk, ann, approved=True, given={"where": "test"})
    bench.work()

    child = Job.objects.get(parent_job_id=job.id)
    assert (child.input["where"], child.input["note"]) == ("test", "x")
    assert Call.objects.get().digest != digest


def test_the_model_reads_why_a_call_was_refused(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    service.answers(call(TOOL, {"where": "prod"}), say("As you wish"))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()

    approvals.decide(the_request().pk, ann, approved=False, reason="Not on Fridays")
    bench.work()

    assert "Not on Fridays" in service.seen[1].text
    assert not Job.objects.filter(parent_job_id=job.id).exists()
    assert fresh(job).status == "completed" and Call.objects.get().status == "refused"


def test_only_calls_that_match_the_condition_ask(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    rule = "approval: { when: \"{{ call.arguments.where == 'prod' and input.careful }}\" }"
    both = {"calls": [(TOOL, {"where": "test"}), (TOOL, {"where": "prod"})]}
    service.answers(both, say("Done"))
    job, bench = ask(tmp_path, rule), Bench(service.settings())

    bench.work()

    (child,) = Job.objects.filter(parent_job_id=job.id)
    assert child.input["where"] == "test" and step_of(job).status == "suspended"
    Hand().work()  # the first ends while the second still waits for a person
    assert step_of(job).status == "suspended" and bench.work() == 0
    approvals.decide(the_request().pk, ann, approved=True)
    bench.work()
    Hand().work()
    bench.work()
    assert fresh(job).status == "completed"


def test_a_broken_condition_asks(tmp_path: Path, service: Service, ann: Caller) -> None:
    service.answers(call(TOOL, {"where": "prod"}))
    job = ask(tmp_path, 'approval: { when: "{{ call.arguments.nothing.there > 3 }}" }')

    Bench(service.settings()).work()

    assert step_of(job).status == "suspended"


def test_nobody_decides_twice_and_no_call_is_made_twice(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    service.answers(call(TOOL, {"where": "prod"}), say("Done"))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()
    request = the_request()

    approvals.decide(request.pk, ann, approved=True)
    with pytest.raises(Conflict):
        approvals.decide(request.pk, ann, approved=True)
    claim = bench.claim()  # and dies
    assert claim is not None
    from apps.jobs.flow import finishing

    finishing.lose(claim.attempt_id)
    bench.work()
    bench.work()

    assert Job.objects.filter(parent_job_id=job.id).count() == 1


def test_separation_quorum_and_approvers_hold_for_tools(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    service.answers(call(TOOL, {"where": "prod"}), say("Done"))
    bob = User.objects.create_user("bob@example.com", "a-long-password")
    job = ask(tmp_path, more="separation: true\n            min_approvals: 2")
    Job.objects.filter(id=job.id).update(started_by=ann.user)
    bench = Bench(service.settings())
    bench.work()

    with pytest.raises(NotAllowed, match="somebody else must decide"):
        approvals.decide(the_request().pk, ann, approved=True)
    bob.is_superuser = True
    bob.save()
    decided = approvals.decide(the_request().pk, Caller(bob, "api"), approved=True)
    assert (decided.approvals, decided.needed) == (1, 2) and step_of(job).status == "suspended"
    ApprovalRequest.objects.all().delete()
    bob.delete()


def test_an_interactive_agent_asks_a_person(tmp_path: Path, service: Service, ann: Caller) -> None:
    service.answers(call("ask_user", {"question": "Which\n# town?"}), say("To Oslo"))
    job, bench = ask(tmp_path, "approval: never", "interactive: true"), Bench(service.settings())
    bench.work()

    request = the_request()
    assert "    Which\n    # town?" in request.message and list(request.fields) == ["answer"]
    assert step_of(job).output == {"approval_message": request.message}
    with pytest.raises(InputError):
        approvals.decide(request.pk, ann, approved=True)
    approvals.decide(request.pk, ann, approved=True, given={"answer": "Oslo"})
    bench.work()

    assert "Oslo" in service.seen[1].text and fresh(job).status == "completed"


def test_the_time_that_people_take_does_not_count(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    service.answers(call(TOOL, {"where": "prod"}), say("Done"))
    job, bench = ask(tmp_path, more="timeout: 1h"), Bench(service.settings())
    bench.work()
    row = Conversation.objects.get()
    assert row.asked_at is not None and step_of(job).deadline_at is None
    from datetime import timedelta

    Conversation.objects.update(
        asked_at=row.asked_at - timedelta(hours=5), created_at=row.created_at - timedelta(hours=5)
    )

    approvals.decide(the_request().pk, ann, approved=True)
    bench.work()
    Hand().work()
    bench.work()

    assert step_of(job).status == "completed", step_of(job).error
    assert Conversation.objects.get().waited_s > 17_000


def test_nobody_decides_in_time(tmp_path: Path, service: Service, ann: Caller) -> None:
    service.answers(call(TOOL, {"where": "prod"}), say("Then not"))
    job, bench = ask(tmp_path, more="ask_timeout: 1h"), Bench(service.settings())
    bench.work()
    step = step_of(job)
    assert step.deadline_at is not None
    Step.objects.filter(pk=step.pk).update(deadline_at=step.suspended_at)

    conductor.tick()
    bench.work()

    assert "Nobody decided in time" in service.seen[1].text
    assert ApprovalRequest.objects.get().status == "timed_out"
    assert fresh(job).status == "completed"


def test_a_cancelled_job_closes_the_question(tmp_path: Path, service: Service, ann: Caller) -> None:
    service.answers(call(TOOL, {"where": "prod"}))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()

    jobs.cancel_job(job.id, actor="ann@example.com")

    assert ApprovalRequest.objects.get().status == "cancelled"
    assert fresh(job).status == "cancelled"
    with pytest.raises(Conflict):
        approvals.decide(ApprovalRequest.objects.get().pk, ann, approved=True)


@pytest.mark.long
def test_the_page_shows_the_arguments_in_its_form_and_keeps_what_is_not_changed(
    tmp_path: Path, service: Service, ann: Caller
) -> None:
    from django.test import Client

    text = "{{ secret.token }} \ud83d \u0000 | _x_"
    service.answers(call(TOOL, {"where": "prod", "note": text}), say("Done"))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()
    client, request = Client(), the_request()
    client.force_login(ann.user)
    page = f"/admin/approvals/approvalrequest/{request.pk}/change/"

    content = client.get(page).content.decode()
    assert (
        "{{ secret.token }}" in content and "hunter2" not in content and "<em>x</em>" not in content
    )
    assert '<option value="prod" selected' in content
    form = {"decision": "approve", "shown": request.digest, "input-where": "test"}
    form["input-note"] = str(request.fields["note"]["default"])
    answer = client.post(f"/admin/approvals/approvalrequest/{request.pk}/decide/", form)
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    bench.work()

    child = Job.objects.get(parent_job_id=job.id)
    assert child.input["where"] == "test" and child.input["note"].startswith("{{ secret.token }}")
