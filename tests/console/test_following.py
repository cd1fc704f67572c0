"""Whoever follows a job sees all that the job sets off."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from apps.jobs.models import Job
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
    ask = Follower._all_ended

    def end_one_and_ask(follower: Follower) -> bool:
        claim = hand.claim()
        if claim is not None:
            assert hand.finish(claim).accepted
        return ask(follower)

    monkeypatch.setattr(Follower, "_all_ended", end_one_and_ask)
    shown = io.StringIO()
    Follower(Database(), job.id, Screen(shown)).follow()

    assert dict(Job.objects.values_list("source_type", "status")) == {
        job.source_type: "completed",
        "hook": "completed",
    }
    assert "hook:" in shown.getvalue()
