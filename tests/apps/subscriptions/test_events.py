"""What is told, to whom, and what it costs those whom nobody listens to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from apps.jobs import ledger
from apps.jobs import services as jobs
from apps.jobs.database import sql
from apps.jobs.models import Job, Step
from apps.jobs.upkeep import sweeps
from apps.subscriptions import services, transitions
from apps.subscriptions.models import Delivery, Subscription
from apps.subscriptions.services import Wanted
from apps.subscriptions.values import EVENTS
from apps.workspaces.models import Workspace
from apps.workspaces.removal import remove
from engine.orders import StepOutcome
from tests.apps.jobs.builders import DONE, Hand, failed, fresh, output, start, workspace
from tests.apps.subscriptions.receiver import subscribe

pytestmark = pytest.mark.django_db(transaction=True)
CANARY = "canary-4711-secret"
FLOW = f"""
secrets: {{pw: {CANARY}}}
actions:
  work: {{type: script, script: "true"}}
  ask: {{type: approval, message: "Deploy with {{{{ secret.pw }}}}?"}}
tasks:
  main: {{flow: {{a: {{action: work}}}}}}
  again: {{retry: {{max_attempts: 2}}, flow: {{a: {{action: work}}}}}}
  tries: {{flow: {{a: {{action: work, retry: {{max_attempts: 2}}}}}}}}
  tolerant: {{flow: {{a: {{action: work, continue_on_failure: true}}, b: {{action: work, depends_on: [a]}}}}}}
  loop: {{flow: {{a: {{action: work, for_each: [1, 2, 3]}}, b: {{action: work}}}}}}
  gate: {{flow: {{a: {{action: ask}}}}}}
  parent: {{flow: {{a: {{type: task, task: main}}}}}}
"""
URL = "https://receiver.example.org/hook"


@pytest.fixture(name="shop")
def workspace_of_tests(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, FLOW, "shop")


def bodies() -> list[dict[str, Any]]:
    return [
        json.loads(body) for body in Delivery.objects.order_by("id").values_list("body", flat=True)
    ]


def told() -> list[tuple[str, str]]:
    return [(body["type"], body["data"].get("step", body["data"]["task"])) for body in bodies()]


class Masking(Hand):
    """A worker that knows the secrets of its steps, as every worker does."""

    def finish(self, claim: ledger.Claim, outcome: StepOutcome = DONE) -> ledger.Finished:
        return ledger.finish(ledger.Report(claim, outcome, masks=(CANARY,)))


def run(shop: Workspace, task: str = "main", **outcomes: Any) -> Job:
    """A job to its end, retries included."""
    job = start(shop, task)
    hand = Masking()
    while hand.work(outcomes):
        Step.objects.exclude(retry_at=None).update(retry_at=Now())
        Job.objects.exclude(due_at=None).update(due_at=Now())
        sweeps.due_steps()
        sweeps.due_jobs()
    return fresh(job)


def test_the_end_of_a_job_is_told_to_those_who_asked_for_it(shop: Workspace) -> None:
    subscribe(shop, URL, "job.completed")
    subscribe(shop, URL, "job.failed", name="pager")
    job = run(shop, a=output({"n": 1}))
    (row,) = Delivery.objects.all()
    assert (row.subscription.name, row.event, row.job_id) == ("chat", "job.completed", job.pk)
    (body,) = bodies()
    assert body["type"] == "job.completed" and body["timestamp"] == body["data"]["completed_at"]
    said = body["data"]
    assert (said["workspace"], said["task"], said["job_id"]) == ("shop", "main", str(job.pk))
    assert said["status"] == "completed" and said["error"] is None
    assert said["url"].endswith(f"/admin/jobs/job/{job.pk}/change/")
    assert "output" not in said and "input" not in said
    run(shop, a=failed(f"lost {CANARY}"))
    assert told()[1:] == [("job.failed", "main")]
    assert bodies()[1]["data"]["error"].startswith("Step 'a': lost ")
    assert CANARY not in json.dumps(bodies())


def test_an_output_is_told_only_to_those_who_want_it_and_not_if_it_is_large(
    shop: Workspace,
) -> None:
    subscribe(shop, URL, with_output=True)
    subscribe(shop, URL, name="other")
    run(shop, a=output({"n": 1, "pw": CANARY}))
    rows = Delivery.objects.order_by("subscription__name")
    with_it, without = (json.loads(row.body)["data"] for row in rows)
    assert with_it["output"]["a"]["n"] == 1 and "output" not in without
    assert CANARY not in json.dumps(with_it)
    run(shop, a=output({"text": "x" * 70_000}))
    (large,) = (body["data"] for body in bodies()[2:] if "output" in body["data"])
    assert large["output"] is None and "it has 70," in large["output_left_out"]


def test_a_failed_step_is_told_once_however_it_failed(shop: Workspace) -> None:
    subscribe(shop, URL, "step.failed", "job.failed", "job.completed")
    run(shop, "tries", a=failed())
    assert told() == [("step.failed", "a"), ("job.failed", "tries")]
    run(shop, "tolerant", a=failed("no"))
    assert told()[2:] == [("step.failed", "a"), ("job.completed", "tolerant")]
    assert bodies()[2]["data"]["is_tolerated"] is True
    run(shop, "loop", a=failed())
    assert told()[4:] == [("step.failed", "a"), ("job.failed", "loop")]


def test_a_job_that_is_retried_has_not_ended_yet(shop: Workspace) -> None:
    subscribe(shop, URL, "job.failed", "job.completed")
    first = run(shop, "again", a=failed())
    assert first.status == "failed" and first.retry_job_id is not None
    assert told() == [("job.failed", "again")]
    assert bodies()[0]["data"]["job_id"] == str(first.retry_job_id)


def test_a_cancelled_job_is_told(shop: Workspace) -> None:
    subscribe(shop, URL, "job.cancelled")
    jobs.cancel_job(start(shop).pk, actor="ada@example.org", reason="no need")
    assert told() == [("job.cancelled", "main")]


def test_an_approval_is_told_with_its_page_and_without_secrets(shop: Workspace) -> None:
    subscribe(shop, URL, "approval.requested")
    job = start(shop, "gate")
    (body,) = bodies()
    said = body["data"]
    assert (body["type"], said["step"], said["job_id"]) == ("approval.requested", "a", str(job.pk))
    assert said["message"].startswith("Deploy with") and "/approvals/" in said["url"]
    assert CANARY not in json.dumps(body)


def test_child_jobs_are_jobs_and_name_their_parent(shop: Workspace) -> None:
    subscribe(shop, URL)
    job = run(shop, "parent")
    child, parent = sorted(bodies(), key=lambda body: body["data"]["task"])
    assert child["data"]["parent_job_id"] == str(job.pk)
    assert parent["data"]["parent_job_id"] is None


def test_nothing_is_told_of_what_did_not_happen(shop: Workspace) -> None:
    subscribe(shop, URL)
    job, hand = start(shop), Hand()
    claim = hand.claim()
    assert claim is not None and hand.start(claim)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        hand.finish(claim)
        raise ZeroDivisionError
    assert fresh(job).status == "running" and not Delivery.objects.exists()


def test_a_paused_or_deleted_subscription_is_told_nothing(shop: Workspace, tmp_path: Path) -> None:
    row, _ = subscribe(shop, URL)
    other = workspace(tmp_path, FLOW, "other")
    run(other)
    services.pause(row, by="ada")
    run(shop)
    assert not Delivery.objects.exists()
    services.resume(row, by="ada")
    run(shop)
    assert len(told()) == 1
    services.remove(row, by="ada")
    run(shop)
    assert not Delivery.objects.exists() and not Subscription.objects.exists()
    assert Workspace.objects.get(pk=shop.pk).announced == ""


def test_the_workspace_names_the_events_of_all_its_subscriptions(shop: Workspace) -> None:
    row, _ = subscribe(shop, URL, "job.completed", "step.failed")
    subscribe(shop, URL, "job.failed", name="other")
    assert Workspace.objects.get(pk=shop.pk).announced == "job.completed job.failed step.failed"
    services.change(row, Wanted(URL, ["job.failed"]), is_paused=False, by="ada")
    assert Workspace.objects.get(pk=shop.pk).announced == "job.failed"


def test_a_removed_workspace_takes_its_subscriptions_along(shop: Workspace) -> None:
    row, _ = subscribe(shop, URL)
    services.ping(row, by="ada")
    remove(shop)
    assert not Subscription.objects.exists() and not Delivery.objects.exists()


def statements(shop: Workspace, **outcomes: Any) -> list[str]:
    """What ends a job of one step."""
    start(shop)
    hand = Hand()
    claim = hand.claim()
    assert claim is not None and hand.start(claim)
    with CaptureQueriesContext(connection) as seen:
        hand.finish(claim, outcomes.get("a") or output(None))
    return [one["sql"] for one in seen]


@pytest.mark.parametrize("outcome", [output({"n": 1}), failed()])
def test_the_end_of_a_job_costs_one_statement_more_for_all_who_are_told(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch, outcome: Any
) -> None:
    """Without subscribers to the event: none."""
    written: list[str] = []
    fetch = sql.fetch
    monkeypatch.setattr(
        transitions, "fetch", lambda text, given: (written.append(text), fetch(text, given))[1]
    )
    nobody = len(statements(shop, a=outcome))
    others = tuple(event for event in EVENTS if not event.startswith(("job.c", "job.f", "step")))
    subscribe(shop, URL, *others)
    assert len(statements(shop, a=outcome)) == nobody and written == []
    for name in ("one", "two"):
        subscribe(shop, URL, "job.completed", "job.failed", name=name)
    statements(shop, a=outcome)
    assert len(written) == 1 and Delivery.objects.count() == 2
