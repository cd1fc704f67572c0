"""The inbox and the list of workers say how many rows each of their filters leads to."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from django.utils import timezone

from apps.fleet.models import Worker
from tests.apps.approvals.gates import approve, asked, gate, operator, viewer
from tests.apps.approvals.test_page import INBOX, signed_in
from tests.apps.jobs.test_job_list import counts, text

pytestmark = pytest.mark.django_db(transaction=True)
WORKERS = "/admin/fleet/worker/"


@pytest.mark.long
def test_the_inbox_counts_what_waits_for_me_and_what_i_may_see(tmp_path: Path) -> None:
    approver = viewer()
    held = gate(tmp_path, f"approvers: {{users: [{approver.email}]}}")
    first = asked(held)
    asked(held)
    client = signed_in(approver)
    before = {"waiting for me": "2", "all open": "2", "decided": "0", "all": "2"}
    assert counts(text(client, INBOX)) == before
    approve(first, approver)
    after = {"waiting for me": "1", "all open": "1", "decided": "1", "all": "2"}
    assert counts(text(client, INBOX)) == after
    assert counts(text(client, f"{INBOX}?box=all")) == after
    assert counts(text(signed_in(operator()), INBOX)) == after | {"waiting for me": "0"}
    assert set(counts(text(client, f"{INBOX}?q=gate")).values()) == {""}
    assert set(counts(text(client, f"{INBOX}?job={first.pk}")).values()) == {""}


def test_the_list_of_workers_counts_who_is_here_and_who_is_gone() -> None:
    now = timezone.now()
    for number, stopped in enumerate([None, None, now]):
        Worker.objects.create(
            id=uuid.uuid4(), name=f"w{number}", hostname="h", pid=1, tags=["script"], slots=1,
            heartbeat_at=now, started_at=now, stopped_at=stopped,
        )  # fmt: skip
    assert counts(text(signed_in(viewer()), WORKERS)) == {"here": "2", "gone": "1", "all": "3"}
