"""Asking Slurm: what it grants is kept, what it refuses is asked again, what nobody needs is given
back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apps.jobs import services
from apps.jobs.models import Step
from apps.workflow_actions.models import JobAction
from tests.apps.jobs.builders import fresh, start, until
from tests.slurm.site import Site, allocations, end_of, error_of, states, until_ended

pytestmark = pytest.mark.django_db(transaction=True)

FLOW = """
actions:
  do: {type: script, script: "true"}
tasks:
  main:
    flow: {a: {action: do}}
    workflow_actions:
      - {name: ask, trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: SCHED,
         scheduler_type: slurm, num_allocations: COUNT, RETRY}
"""
REFUSES_THE_SECOND = """#!/bin/bash
echo x >> {folder}/calls
[ "$(wc -l < {folder}/calls)" = 2 ] && {{ echo "sbatch: error: Socket timed out" >&2; exit 1; }}
exec {sbatch} "$@"
"""


def flow(count: int, retry: str = "retry: {max_attempts: 3, delay: 2s}") -> str:
    return FLOW.replace("COUNT", str(count)).replace("RETRY", retry)


def program(folder: Path, text: str) -> str:
    """A folder for PATH with this text as `sbatch`."""
    place = folder / "bin"
    place.mkdir()
    (place / "sbatch").write_text(text.format(folder=folder, sbatch="/usr/bin/sbatch"))
    (place / "sbatch").chmod(0o755)
    return str(place)


def test_only_what_was_refused_is_asked_again_and_a_cancelled_job_gives_all_back(
    site: Site, tmp_path: Path
) -> None:
    found = site.workspace(flow(3), extra="--begin=now+1hour")
    site.env["PATH"] = f"{program(tmp_path, REFUSES_THE_SECOND)}:{site.env['PATH']}"
    site.scheduler()
    site.submitter()
    began = time.monotonic()
    job = start(found)
    until(lambda: JobAction.objects.get(job_id=job.id).status == "succeeded", within_s=60)
    rows = allocations(job)
    assert [row.status for row in rows] == ["pending"] * 3
    assert [row.tries for row in rows] == [1, 2, 1]
    assert (tmp_path / "calls").read_text().count("x") == 4
    assert sorted(row.slurm_job_id for row in rows) == sorted(
        number for number, _ in site.slurm_jobs()
    )
    # The step waits for nodes that are on their way for longer than a step that nobody may run
    # would be kept.
    until(lambda: time.monotonic() - began > 12)
    assert Step.objects.get(job_id=job.id).status == "ready"
    services.cancel_job(job.id, actor="me")
    assert [row.status for row in until_ended(site, job)] == ["complete"] * 3
    assert {state for _, state in site.slurm_jobs()} == {"CANCELLED"}
    assert fresh(job).status == "cancelled"


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_what_is_still_in_the_queue_when_the_job_ends_is_given_back(
    site: Site, tmp_path: Path, end: str
) -> None:
    gate = tmp_path / "gate"
    text = flow(2).replace('script: "true"', f'script: "until [ -e {gate} ]; do sleep 0.1; done"')
    found = site.workspace(text, extra="--exclusive --nodelist=n1")
    site.scheduler()
    site.submitter()
    job = start(found)
    until(lambda: sorted(states(job)) == ["active", "pending"], within_s=60)
    if end == "completed":
        gate.touch()
    else:
        services.cancel_job(job.id, actor="me")
    assert end_of(site, job).status == end
    assert [row.status for row in until_ended(site, job)] == ["complete", "complete"]
    assert sorted(state for _, state in site.slurm_jobs()) == ["CANCELLED", "COMPLETED"]


def test_nodes_that_cannot_come_are_an_error_that_says_why(site: Site, tmp_path: Path) -> None:
    open_file = site.write_config("open.yaml")
    open_file.chmod(0o644)
    broken = tmp_path / "broken.yaml"
    broken.write_text("worker: {tags: 5}\n")
    broken.chmod(0o600)
    once = "retry: {max_attempts: 1}"
    missing = site.workspace(flow(1, once), worker_config=str(tmp_path / "nowhere.yaml"))
    readable = site.workspace(flow(1, once), worker_config=str(open_file))
    refused = site.workspace(flow(1, once), partition="nowhere")
    failing = site.workspace(flow(1, once), worker_config=str(broken))
    site.scheduler()
    site.submitter()
    jobs = [start(found) for found in (missing, readable, refused, failing)]
    for job in jobs:
        assert end_of(site, job).status == "failed", site.explain(job)
    first, second, third, fourth = (error_of(job, "a") for job in jobs)
    head = f"No nodes of '{site.scheduler_name}' could run this step. "
    assert (
        first
        == f"{head}the worker_config {tmp_path}/nowhere.yaml cannot be read here: No such file or"
        " directory"
    )
    assert (
        second
        == f"{head}the worker_config {open_file} can be read by other users; set its mode to 0600"
        f" (chmod 600 {open_file})"
    )
    assert third.startswith(f"{head}Job submission failed: sbatch: error:") and "partition" in third
    assert fourth == f"{head}Slurm says FAILED: NonZeroExitCode"
    actions = [JobAction.objects.get(job_id=job.id) for job in jobs]
    assert [action.status for action in actions] == ["failed", "failed", "failed", "succeeded"]
    assert "cannot be read here" in actions[0].reason
    assert len(site.slurm_jobs()) == 1  # the fourth alone reached Slurm
