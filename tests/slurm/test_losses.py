"""Nodes die, workers die, time runs out: everything ends or goes on, and no operator is needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from apps.fleet.models import Worker
from apps.jobs.models import Attempt, Step
from apps.workflow_actions.snapshots import runs_of
from tests.apps.jobs.builders import fresh, start, until
from tests.chaos.witness import Witness
from tests.slurm.cluster import Cluster
from tests.slurm.site import Site, allocations, end_of, error_of, states, until_ended, workers_of
from tests.slurm.test_submission import flow, program

pytestmark = pytest.mark.django_db(transaction=True)

DIES_BEFORE_IT_CAN_TELL = """#!/bin/bash
number=$({sbatch} "$@") || exit 1
[ -e {folder}/died ] || {{ touch {folder}/died; kill -KILL $PPID; }}
echo "$number"
"""


@pytest.fixture
def restored(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with every node back at the end."""
    yield cluster
    for node in ("n1", "n2", "n3", "n4"):
        if not cluster.is_node_up(node):
            cluster.start_node(node)
    until(lambda: cluster.states() == {"idle"}, within_s=60)


@pytest.mark.slow
def test_the_steps_of_a_dead_node_are_repeated_or_fail(
    site: Site, restored: Cluster, tmp_path: Path
) -> None:
    site.env["STROEM__RECOVERY__HEARTBEAT_TIMEOUT_SECS"] = "15"
    site.worker_config = site.write_config("quick.yaml")
    witness = Witness(tmp_path / "witness")
    script = witness.script(4).replace("\n", "\n              ")
    found = site.workspace(
        f"""
        actions:
          work:
            type: script
            script: |
              {script}
        tasks:
          main:
            flow:
              again_1: {{action: work, on_worker_lost: retry, continue_on_failure: true}}
              again_2: {{action: work, on_worker_lost: retry, continue_on_failure: true}}
              once_1: {{action: work, continue_on_failure: true}}
              once_2: {{action: work, continue_on_failure: true}}
              rest: {{action: work, depends_on: [again_1, again_2]}}
            workflow_actions:
              - {{trigger_type: on_jobs_ready, job_name_regexes: ["(again|once)_."], action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm, num_allocations: 2, max_parallel_jobs: 2}}
        """.replace("rest: {", "rest: {scheduler: SCHED, "),
        extra="--exclusive --no-requeue",
        worker_config=str(site.worker_config),
    )
    site.scheduler()
    site.submitter()
    job = start(found)
    until(lambda: states(job) == ["active", "active"] and witness.starts() == 4, within_s=60)
    worker = workers_of(job)["again_1"]
    number = worker.split("-")[1]
    site.cluster.node_dies(site.cluster.job(number)["NodeList"])
    end_of(site, job, within_s=100)
    rows = Attempt.objects.filter(job_id=job.id, worker_id=Worker.objects.get(name=worker).id)
    lost = set(rows.values_list("step_id", flat=True))
    assert len(lost) == 2 and set(rows.values_list("status", flat=True)) == {"lost"}, site.explain(
        job
    )
    for step in Step.objects.filter(job_id=job.id):
        if step.id in lost and step.name.startswith("once"):
            # by Slurm's word, or by the end of its lease if that came first
            assert step.status == "failed"
            assert step.error.startswith(f"Worker {worker} was lost"), step.error
        else:
            assert step.status == "completed", site.explain(job)
    assert witness.overlaps() == []
    found_rows = {row.slurm_job_id: row for row in until_ended(site, job)}
    dead = found_rows.pop(number)
    assert (dead.status, dead.error) == ("lost", "Slurm says NODE_FAIL: NodeDown")
    assert [row.status for row in found_rows.values()] == ["complete"]


@pytest.mark.slow
def test_a_worker_that_died_behind_sbatch_leaves_no_second_allocation(
    site: Site, tmp_path: Path
) -> None:
    found = site.workspace(
        flow(2, "retry: {max_attempts: 3, delay: 1s}"), extra="--begin=now+1hour"
    )
    site.env["PATH"] = f"{program(tmp_path, DIES_BEFORE_IT_CAN_TELL)}:{site.env['PATH']}"
    site.scheduler()
    first = site.submitter("first")
    job = start(found)
    until(lambda: first.poll() is not None, within_s=60)
    assert states(job) == ["requested", "requested"] and len(site.slurm_jobs()) == 1
    site.submitter("second")
    until(lambda: states(job) == ["pending", "pending"], within_s=100)
    assert sorted(row.slurm_job_id for row in allocations(job)) == sorted(
        number for number, _ in site.slurm_jobs()
    )
    until(
        lambda: [run.status for run in chain(*runs_of(job.id).values())] == ["lost", "succeeded"],
        within_s=30,
    )


@pytest.mark.slow
def test_steps_are_ended_in_time_when_the_allocation_s_is_over(site: Site, tmp_path: Path) -> None:
    text = flow(1, "retry: {max_attempts: 1}").replace('script: "true"', 'script: "sleep 600"')
    found = site.workspace(text, walltime="00:01:00")
    site.scheduler()
    site.submitter()
    job = start(found)
    assert end_of(site, job, within_s=110).status == "failed"
    [row] = until_ended(site, job)
    # it left before Slurm took the nodes back
    assert row.status == "complete" and row.state == "COMPLETED"
    assert error_of(job, "a") == (
        "The walltime of 00:01:00 of its allocation ended; the step was told to end 30 s before"
    )
    assert fresh(job).status == "failed"
