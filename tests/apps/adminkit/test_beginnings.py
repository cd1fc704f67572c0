"""Lists that a page cuts say that there is more."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.adminkit import paging
from apps.approvals.models import ApprovalRequest
from apps.artifacts.state.keeping import Writer
from apps.hooks.models import HookRun
from apps.jobs.models import Job, Step
from engine.state import Change
from tests.apps.artifacts.remembering import remember
from tests.apps.jobs.builders import Hand, failed, start, workspace

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
actions:
  work: {type: script, script: "true"}
  ask: {type: approval, message: "Go on?"}
tasks:
  main:
    flow:
      one: {action: work}
      first: {type: task, task: inner}
      second: {type: task, task: inner}
      left: {action: ask}
      right: {action: ask}
  failing:
    flow: {fails: {action: work}}
    on_error: [{action: work}, {action: work}]
  inner: {flow: {within: {action: work}}}
"""
FIRST = "These are the first 1; there are more."
NEWEST = "These are the newest 1; there are more."


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.org"))
    return client


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return start(workspace(tmp_path, FLOW, "shop"))


def shown(root: Client, address: str) -> str:
    answer = root.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def test_events_child_jobs_and_requests_of_a_job(
    root: Client, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = reverse("admin:jobs_job_details", args=[job.pk])
    assert "there are more" not in shown(root, address)
    monkeypatch.setattr("apps.jobs.pages.job.MOST_EVENTS", 1)
    monkeypatch.setattr("apps.jobs.pages.job.ROWS", 1)
    monkeypatch.setattr("apps.approvals.admin.MOST_REQUESTS", 1)
    monkeypatch.setattr("apps.approvals.admin.MOST_CALLS", 1)
    found = shown(root, address)
    assert found.count(FIRST) >= 2
    for heading in ("Child jobs", "Approvals"):
        assert FIRST in found[found.index(heading) :].partition("</section>")[0], heading
    assert "1 more requests wait for a decision." in found


def test_events_of_a_step(root: Client, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand()
    hand.finish(hand.take("one"), failed())
    step = Step.objects.get(job_id=job.pk, name="one")
    address = reverse("admin:jobs_job_step", args=[job.pk, step.pk])
    assert "there are more" not in shown(root, address)
    monkeypatch.setattr("apps.jobs.pages.job.MOST_EVENTS", 1)
    assert FIRST in shown(root, address)


def test_hooks_of_a_job(root: Client, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = start(job.workspace, "failing")
    hand = Hand()
    hand.finish(hand.take("fails"), failed())
    assert HookRun.objects.filter(job_id=failing.pk).count() == 2
    address = reverse("admin:jobs_job_details", args=[failing.pk])
    assert "there are more" not in shown(root, address)
    monkeypatch.setattr("apps.hooks.admin.MOST", 1)
    assert FIRST in shown(root, address)


def test_the_record_of_a_request(root: Client, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ApprovalRequest.objects.filter(job_id=job.pk).order_by("pk")[0]
    address = reverse("admin:approvals_approvalrequest_change", args=[asked.pk])
    root.post(reverse("admin:approvals_decide", args=[asked.pk]), {"decision": "approve"})
    assert "there are more" not in shown(root, address)
    monkeypatch.setattr("apps.approvals.admin.MOST_RECORDS", 0)
    assert "These are the first 0; there are more." in shown(root, address)


def test_the_number_of_what_a_search_has_found(
    root: Client, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{reverse('admin:jobs_job_changelist')}?q=inner"
    assert "2 found" in shown(root, address)
    monkeypatch.setattr(paging, "MOST", 2)
    assert "2 or more found" in shown(root, address)


def test_versions_of_a_state(root: Client, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        remember(job.workspace_id, "main", Change(number, {"n": number}), Writer("upload", by="x"))
    address = reverse("state", args=["shop", "main"])
    assert "there are more" not in shown(root, address)
    monkeypatch.setattr("apps.artifacts.state.pages.LISTED", 1)
    assert NEWEST in shown(root, address)
