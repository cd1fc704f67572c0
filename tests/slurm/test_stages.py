"""Nodes are asked for when steps need them, and run exactly those."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.workflow_actions.models import JobAction
from tests.apps.jobs.builders import start, until
from tests.slurm.site import Site, allocations, end_of, states, until_ended, workers_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_allocations_run_the_steps_that_were_selected_and_no_others(site: Site) -> None:
    #   prepare --> train_1 .. train_4 (on nodes) --> report
    found = site.workspace(
        """
        actions:
          here: {type: script, script: "true"}
          train: {type: script, script: "echo $SLURM_JOB_ID; sleep 1"}
        tasks:
          main:
            flow:
              prepare: {action: here}
              train_1: {action: train, depends_on: [prepare]}
              train_2: {action: train, depends_on: [prepare]}
              train_3: {action: train, depends_on: [prepare]}
              train_4: {action: train, depends_on: [prepare]}
              report: {action: here, depends_on: [train_1, train_2, train_3, train_4]}
            workflow_actions:
              - trigger_type: on_jobs_ready
                action_type: schedule_nodes
                jobs: [train_1]
                job_name_regexes: ["train_[2-4]"]
                scheduler: SCHED
                scheduler_type: slurm
                num_allocations: 2
                max_parallel_jobs: 1
        """
    )
    site.scheduler()
    site.worker("plain", "script")
    site.submitter()
    job = start(found)
    assert end_of(site, job).status == "completed", site.explain(job)
    rows = until_ended(site, job)
    numbers = [row.slurm_job_id for row in rows]
    ran = workers_of(job)
    assert {ran["prepare"], ran["report"]} == {"plain"}
    assert {ran[f"train_{number}"] for number in range(1, 5)} == {f"slurm-{number}-0" for number in numbers}
    assert [row.status for row in rows] == ["complete", "complete"]
    assert sorted(site.slurm_jobs()) == sorted((number, "COMPLETED") for number in numbers)
    assert all(row.submitted_at <= row.started_at <= row.ended_at and row.nodes for row in rows)


def test_three_stages_ask_for_nodes_one_after_the_other(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    found = site.workspace(
        f"""
        actions:
          wait: {{type: script, script: "until [ -e {gate}/$STROEM_STEP_NAME ]; do sleep 0.1; done"}}
        tasks:
          main:
            flow:
              load_1: {{action: wait}}
              load_2: {{action: wait}}
              fit: {{action: wait, depends_on: [load_1, load_2]}}
              plot: {{action: wait, depends_on: [fit]}}
            workflow_actions:
              - {{name: first, trigger_type: on_workflow_start, action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm, max_parallel_jobs: 2}}
              - {{name: second, trigger_type: on_jobs_ready, jobs: [fit], action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm, max_parallel_jobs: 2}}
              - {{name: third, trigger_type: on_jobs_complete, jobs: [fit], action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm, max_parallel_jobs: 2}}
        """.replace("{action: wait", "{action: wait, scheduler: SCHED")
    )
    site.scheduler()
    site.submitter()
    job = start(found)

    def asked() -> dict[str, str]:
        names = dict(JobAction.objects.filter(job_id=job.id).values_list("id", "name"))
        return {names[row.action_id]: row.status for row in allocations(job)}

    until(lambda: asked() == {"first": "active"}, within_s=60)
    (gate / "load_1").touch()
    (gate / "load_2").touch()
    until(lambda: set(asked()) == {"first", "second"}, within_s=60)
    (gate / "fit").touch()
    until(lambda: set(asked()) == {"first", "second", "third"}, within_s=60)
    (gate / "plot").touch()
    assert end_of(site, job).status == "completed", site.explain(job)
    assert [row.status for row in until_ended(site, job)] == ["complete"] * 3


def test_the_next_stage_is_asked_for_when_no_allocation_is_left(site: Site) -> None:
    #   fit (nodes) --> check (no worker for it yet) --> plot (nodes)
    found = site.workspace(
        """
        actions:
          do: {type: script, script: "true"}
        tasks:
          main:
            flow:
              fit: {action: do}
              check: {action: do, depends_on: [fit], tags: [late]}
              plot: {action: do, depends_on: [check]}
            workflow_actions:
              - {name: first, trigger_type: on_jobs_ready, jobs: [fit], action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm, max_parallel_jobs: 1}
              - {name: second, trigger_type: on_jobs_ready, jobs: [plot], action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm, max_parallel_jobs: 1}
        """
    )
    site.env["STROEM__RECOVERY__UNMATCHED_STEP_TIMEOUT_SECS"] = "60"
    site.scheduler()
    site.submitter()
    job = start(found)
    # Its worker does not stay for `plot`: nodes of their own will come for that.
    until(lambda: states(job) == ["complete"], within_s=60)
    site.worker("late", "script", "late")
    assert end_of(site, job).status == "completed", site.explain(job)
    assert [row.status for row in until_ended(site, job)] == ["complete", "complete"]
    ran, rows = workers_of(job), allocations(job)
    assert [ran["fit"], ran["check"], ran["plot"]] == [
        f"slurm-{rows[0].slurm_job_id}-0", "late", f"slurm-{rows[1].slurm_job_id}-0",
    ]  # fmt: skip
