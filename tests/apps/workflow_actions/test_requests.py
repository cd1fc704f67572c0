"""What a request for nodes does when Slurm is away, and when it will never be granted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from apps.fleet.models import Allocation
from apps.jobs.models import Job
from tests.apps.jobs.builders import start, workspace
from tests.apps.workflow_actions.doing import Doer, Sbatch, beside, log_of
from tests.apps.workflow_actions.hands import ActionHand, action, runs
from workers import actions
from workers.attempts import Stop

pytestmark = pytest.mark.django_db(transaction=True)

FLOW = """
slurm_schedulers: {big: {account: lab}}
actions: {do: {type: script, script: "true"}}
tasks:
  main:
    flow: {a: {action: do}}
    workflow_actions:
      - {name: ask, trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: big,
         scheduler_type: slurm, num_allocations: 3, MORE}
"""
AWAY = "Unable to contact slurm controller (connect failure)"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return start(workspace(tmp_path, FLOW.replace("MORE", "retry: {max_attempts: 3, delay: 1h}")))


def take() -> object:
    claim = ActionHand("slurm").take_action()
    assert claim is not None
    return claim


def test_what_slurm_will_never_grant_is_asked_for_once(
    job: Job, doer: Doer, sbatch: Sbatch
) -> None:
    sbatch.says('echo "error: Invalid partition name specified" >&2; exit 1')
    doer.perform(take())
    assert runs(job, "ask") == ["failed"]
    assert action(job, "ask").status == "failed"
    assert "Invalid partition name specified" in action(job, "ask").reason
    assert sbatch.calls == 3


def test_what_may_be_granted_later_is_tried_again(job: Job, doer: Doer, sbatch: Sbatch) -> None:
    sbatch.says('echo "error: Job violates accounting/QOS policy" >&2; exit 1')
    doer.perform(take())
    assert runs(job, "ask") == ["failed", "ready"]


@pytest.mark.long
def test_a_controller_that_is_away_is_waited_for(
    job: Job, doer: Doer, sbatch: Sbatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(actions.AWAY_WAITS_S) > 60 and actions.AWAY_S > 600
    monkeypatch.setattr(actions, "AWAY_WAITS_S", (0.0,))
    sbatch.says(f'[ $(calls) -gt 40 ] || {{ echo "{AWAY}" >&2; exit 1; }}; echo $(calls)')
    doer.perform(take())
    assert runs(job, "ask") == ["succeeded"]
    rows = Allocation.objects.filter(job_id=job.id).order_by("number")
    assert [(row.status, row.error) for row in rows] == [("pending", "")] * 3
    assert [row.slurm_job_id for row in rows] == ["41", "42", "43"]
    assert any("Slurm is away; it is asked again" in line for line in log_of(job, "ask"))


def test_one_that_was_taken_although_its_answer_was_lost_is_not_asked_for_twice(
    job: Job, doer: Doer, sbatch: Sbatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "AWAY_WAITS_S", (0.0,))
    sbatch.says('[ $(calls) != 1 ] || { echo "Socket timed out" >&2; exit 1; }; echo $(calls)')
    sbatch.queue('[[ "$*" == *--name=* ]] && echo 77')
    doer.perform(take())
    rows = Allocation.objects.filter(job_id=job.id).order_by("number")
    assert [row.slurm_job_id for row in rows] == ["77", "2", "3"]


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ("timeout: 1s, retry: {max_attempts: 1}", "failed"),
        ("retry: {max_attempts: 1}", "cancelled"),
    ],
)
def test_who_waits_for_slurm_ends_in_time(
    tmp_path: Path, doer: Doer, sbatch: Sbatch, more: str, end: str
) -> None:
    job = start(workspace(tmp_path, FLOW.replace("MORE", more)))
    stop = Stop()
    sbatch.says(f'echo "{AWAY}" >&2; exit 1')
    work: Callable[[], object] = lambda: doer.perform(take(), stop)  # noqa: E731
    doing = beside(work)
    if end == "cancelled":
        stop.set("cancel")
    doing.join(30)
    assert not doing.is_alive() and runs(job, "ask") == [end]
