"""Slurm ends an allocation: its steps are lost, whatever their exit codes say, and the reason is
told."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.jobs.models import Attempt, Step
from apps.workflow_actions.models import JobAction
from tests.apps.jobs.builders import start, until
from tests.slurm.site import Site, allocations, end_of, error_of, states, until_ended

pytestmark = pytest.mark.django_db(transaction=True)

BEGUN = "touch FOLDER/begun-$STROEM_STEP_NAME"
DEAF = f"trap 'exit 0' TERM; {BEGUN}; sleep 25 & wait; echo end"
ENDS = """
actions:
  plain: {type: script, script: "BEGUN; sleep 25; echo end"}
  deaf: {type: script, script: "DEAF"}
tasks:
  main:
    flow:
      plain_1: {action: plain}
      plain_2: {action: plain}
      deaf_1: {action: deaf}
      deaf_2: {action: deaf}
    workflow_actions:
      - {trigger_type: on_jobs_ready, job_name_regexes: [".*_[0-9]"], action_type: schedule_nodes,
         scheduler: SCHED, scheduler_type: slurm, num_allocations: 2, max_parallel_jobs: 2}
""".replace("DEAF", DEAF).replace("BEGUN", BEGUN)


def test_no_step_of_a_cancelled_allocation_is_completed(site: Site, tmp_path: Path) -> None:
    found = site.workspace(ENDS.replace("FOLDER", str(tmp_path)))
    site.scheduler()
    site.submitter()
    job = start(found)
    begun = lambda: len(list(tmp_path.glob("begun-*")))  # noqa: E731
    until(lambda: states(job) == ["active", "active"] and begun() == 4, within_s=60)
    site.cluster.run("scancel", *(row.slurm_job_id for row in allocations(job)))
    assert end_of(site, job).status == "failed", site.explain(job)
    until_ended(site, job)
    steps = Step.objects.filter(job_id=job.id)
    ends = Attempt.objects.filter(job_id=job.id, step_id__in=steps.values("id"))
    assert [row.status for row in ends] == ["lost"] * 4
    errors = Step.objects.filter(job_id=job.id).values_list("error", flat=True)
    assert all("Slurm ended the allocation" in error for error in errors)


@pytest.mark.slow
def test_a_step_can_save_its_work_before_the_walltime_ends(site: Site, tmp_path: Path) -> None:
    """TERM comes first, and as long before the end as the operator says."""
    text = """
        actions:
          work: {type: script, script: "trap 'touch FOLDER/saved; exit 0' TERM; sleep 600 & wait"}
        tasks:
          main:
            flow: {a: {action: work}}
            workflow_actions:
              - {trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm}
        """
    file = site.write_config("early.yaml", walltime_lead_secs=50)
    found = site.workspace(
        text.replace("FOLDER", str(tmp_path)), walltime="00:02:00", worker_config=str(file)
    )
    site.scheduler()
    site.submitter()
    job = start(found)
    assert end_of(site, job, within_s=110).status == "failed", site.explain(job)
    assert (tmp_path / "saved").exists()
    assert error_of(job, "a") == (
        "The walltime of 00:02:00 of its allocation ended; the step was told to end 50 s before"
    )


SESSIONS = """
actions:
  work: {type: script, script: "until [ -e FOLDER/go ]; do sleep 0.1; done; echo step >> FOLDER/said"}
tasks:
  main:
    flow: {a: {action: work}}
    workflow_actions:
      - {trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: SCHED,
         scheduler_type: slurm, num_allocations: 2, max_parallel_jobs: 1}
      - {trigger_type: on_worker_start, persistent: true, action_type: run_commands,
         commands: ['echo start >> FOLDER/said; until [ $(grep -c start FOLDER/said) = 2 ]; do sleep 0.1; done']}
      - {trigger_type: on_worker_complete, persistent: true, action_type: run_commands,
         commands: ['echo stop >> FOLDER/said']}
      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands,
         commands: ['echo end >> FOLDER/said']}
"""


def test_every_worker_that_comes_does_what_its_coming_sets_off_and_the_last_one_the_rest(
    site: Site, tmp_path: Path
) -> None:
    """Two allocations, one step: it begins when both workers have entered, and no other worker can
    run commands."""
    found = site.workspace(SESSIONS.replace("FOLDER", str(tmp_path)))
    site.scheduler()
    site.submitter()
    job = start(found)
    said = tmp_path / "said"
    until(lambda: said.exists() and said.read_text().count("start") == 2, within_s=60)
    (tmp_path / "go").touch()
    assert end_of(site, job).status == "completed", site.explain(job)
    until_ended(site, job)
    until(lambda: not JobAction.objects.filter(job_id=job.id, ended_at=None).exists(), within_s=30)
    lines = said.read_text().split()
    assert sorted(lines) == ["end", "start", "start", "step", "stop", "stop"]
    assert lines.index("step") > 1
