"""Slurm takes nodes away and gives them back: what waits in its queue in vain is cancelled, what it
preempts is lost, and what it requeues goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.jobs.models import Attempt, Job, Step
from apps.workflow_actions.models import JobAction
from tests.apps.jobs.builders import start, statuses, until
from tests.slurm.site import Site, allocations, end_of, states, until_ended

pytestmark = pytest.mark.django_db(transaction=True)

HELD = """
actions:
  work:
    type: script
    script: "touch FOLDER/begun-$STROEM_STEP_NAME; until [ -e FOLDER/go ]; do sleep 0.1; done"
tasks:
  main:
    flow: {a: {action: work}, b: {action: work}}
    workflow_actions:
      - {trigger_type: on_jobs_ready, job_name_regexes: ["[ab]"], action_type: schedule_nodes,
         scheduler: SCHED, scheduler_type: slurm, num_allocations: 3, max_parallel_jobs: 1}
"""


def test_what_waits_in_the_queue_goes_as_soon_as_no_step_is_left_for_it(
    site: Site, tmp_path: Path
) -> None:
    """Two steps run on a node each; the third allocation is still in the queue."""
    text = HELD.replace("FOLDER", str(tmp_path))
    found = site.workspace(text, extra="--exclusive --nodelist=n1")
    site.scheduler()
    site.submitter()
    # one node: the first allocation has it, and two wait while a step is left for them
    job = start(found)
    until(lambda: sorted(states(job)) == ["active", "pending", "pending"], within_s=60)
    until(lambda: len(list(tmp_path.glob("begun-*"))) == 1, within_s=60)
    [step] = Step.objects.filter(job_id=job.id, status="running")
    assert sorted(state for _, state in site.slurm_jobs()) == ["PENDING", "PENDING", "RUNNING"]
    site.cluster.run("scontrol", "update", f"jobid={pending(job)[0]}", "ReqNodeList=n2")
    until(lambda: set(statuses(job).values()) == {"running"}, within_s=60)
    until(lambda: sorted(states(job)) == ["active", "active", "complete"], within_s=30)
    cancelled = [number for number, state in site.slurm_jobs() if state == "CANCELLED"]
    assert len(cancelled) == 1, site.explain(job)
    step.refresh_from_db()
    assert (step.status, Attempt.objects.filter(step_id=step.id).count()) == ("running", 1)
    (tmp_path / "go").touch()
    assert end_of(site, job).status == "completed"
    assert [row.error for row in until_ended(site, job)] == ["", "", ""]


def pending(job: Job) -> list[str]:
    return [row.slurm_job_id for row in allocations(job) if row.status == "pending"]


# The first attempt runs until it is ended, and then claims that all is well.
STUBBORN = """
actions:
  work:
    type: script
    script: |
      echo "$SLURM_JOB_ID" >> FOLDER/ran-$STROEM_STEP_NAME
      mkdir FOLDER/begun-$STROEM_STEP_NAME 2>/dev/null || exit 0
      trap 'exit 0' TERM
      until [ -e FOLDER/never ]; do sleep 0.1; done
tasks:
  main:
    flow:
      again: {action: work, on_worker_lost: retry}
      once: {action: work, continue_on_failure: true}
    workflow_actions:
      - {trigger_type: on_jobs_ready, jobs: [again, once], action_type: schedule_nodes,
         scheduler: SCHED, scheduler_type: slurm, max_parallel_jobs: 2}
      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands,
         commands: ["touch FOLDER/end"]}
"""


def begin(site: Site, folder: Path, **scheduler: str) -> Job:
    found = site.workspace(STUBBORN.replace("FOLDER", str(folder)), **scheduler)
    site.scheduler()
    site.submitter("login", "script")
    job = start(found)
    begun = lambda: len(list(folder.glob("begun-*"))) == 2  # noqa: E731
    until(lambda: states(job) == ["active"] and begun(), within_s=60)
    return job


def check(site: Site, job: Job, folder: Path) -> None:
    """The step that may be repeated was, the other one failed and says so, the action is done."""
    end_of(site, job, within_s=120)
    assert statuses(job) == {"again": "completed", "once": "failed"}, site.explain(job)
    assert len((folder / "ran-again").read_text().split()) == 2
    assert len((folder / "ran-once").read_text().split()) == 1
    until_ended(site, job)
    until(lambda: not JobAction.objects.filter(job_id=job.id, ended_at=None).exists(), within_s=30)
    assert (folder / "end").exists(), site.explain(job)


def test_a_preempted_allocation_loses_its_steps_and_others_take_over(
    site: Site, tmp_path: Path
) -> None:
    """A job of a partition with a higher priority takes the node; Slurm cancels ours."""
    job = begin(site, tmp_path, partition="spare", extra="--nodelist=n1")
    [first] = allocations(job)
    rival = site.cluster.run(
        *("sbatch", "--parsable", "--partition=urgent", "--nodelist=n1", "--exclusive"),
        *(f"--job-name={site.scheduler_name}", "--output=/dev/null", "--wrap=sleep 5"),
    )
    until(lambda: site.cluster.job(rival)["JobState"] in ("RUNNING", "COMPLETED"), within_s=60)
    assert site.cluster.job(first.slurm_job_id)["JobState"] == "PREEMPTED"
    check(site, job, tmp_path)
    first.refresh_from_db()
    assert (first.status, first.error) == ("failed", "Slurm says PREEMPTED"), first.error
    error = Step.objects.get(job_id=job.id, name="once").error
    assert "preemption" in error or "PREEMPTED" in error, error
    assert len(allocations(job)) == 2, "nodes were requested again"


def test_a_requeued_allocation_goes_on_with_what_may_be_repeated(
    site: Site, tmp_path: Path
) -> None:
    """Slurm starts the same job again: no other nodes are requested."""
    job = begin(site, tmp_path)
    [first] = allocations(job)
    site.cluster.run("scontrol", "requeue", first.slurm_job_id)
    until(lambda: states(job) == ["pending"], within_s=60)
    # Slurm gives a node two minutes before it uses it again
    site.cluster.run("scontrol", "update", f"jobid={first.slurm_job_id}", "StartTime=now")
    check(site, job, tmp_path)
    [row] = allocations(job)
    assert (row.slurm_job_id, row.status) == (first.slurm_job_id, "complete"), site.explain(job)
    ran = (tmp_path / "ran-again").read_text().split()
    assert ran == [first.slurm_job_id] * 2
    assert int(site.cluster.job(first.slurm_job_id)["Restarts"]) == 1
    error = Step.objects.get(job_id=job.id, name="once").error
    assert "Slurm ended the allocation" in error or "was lost: Slurm says" in error, error
