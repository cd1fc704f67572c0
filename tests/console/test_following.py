"""Whoever follows a job sees all that the job sets off."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from apps.jobs.models import Job
from apps.workflow_actions import following
from console.database import Database
from console.follower import Follower
from console.screen import Screen
from tests.apps.jobs.builders import Hand, start, workspace

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
actions:
  work: {type: script, script: "true"}
tasks:
  main:
    flow: {only: {action: work}}
    on_success: [{action: work}]
"""


def test_hooks_are_waited_for_although_the_job_ends_in_the_midst_of_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, hand = start(workspace(tmp_path, FLOW)), Hand()
    find = following._family

    def find_and_end_one(*args: Any) -> list[following.Relative]:
        found = find(*args)
        claim = hand.claim()
        if claim is not None:
            assert hand.finish(claim).accepted
        return found

    monkeypatch.setattr(following, "_family", find_and_end_one)
    shown = io.StringIO()
    Follower(Database(), job.id, Screen(shown)).follow()

    assert dict(Job.objects.values_list("source_type", "status")) == {
        job.source_type: "completed",
        "hook": "completed",
    }
    assert "hook:" in shown.getvalue()
