"""Why an allocation waits is seen; a controller that is away is waited for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.jobs import services
from apps.workflow_actions.models import JobAction
from tests.apps.jobs.builders import start, until
from tests.slurm.cluster import Cluster
from tests.slurm.site import Site, allocations, end_of, until_ended

pytestmark = pytest.mark.django_db(transaction=True)

FLOW = """
actions:
  do: {type: script, script: "true"}
tasks:
  main:
    flow: {a: {action: do}}
    workflow_actions:
      - {name: ask, trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: SCHED,
         scheduler_type: slurm}
"""


@pytest.fixture
def short(cluster: Cluster) -> Iterator[str]:
    """A partition whose time limit is one minute."""
    cluster.run("scontrol", "create", "PartitionName=short", "Nodes=ALL", "MaxTime=1", "State=UP")
    yield "short"
    cluster.run("scontrol", "delete", "PartitionName=short")


def test_an_allocation_that_can_never_start_says_why(site: Site, short: str) -> None:
    found = site.workspace(FLOW, partition=short)
    site.scheduler()
    site.submitter()
    job = start(found)
    until(lambda: [row.reason for row in allocations(job)] == ["PartitionTimeLimit"], within_s=60)
    services.cancel_job(job.id, actor="me")
    (row,) = until_ended(site, job)
    assert (row.status, row.reason) == ("complete", "")


def test_a_request_waits_for_a_controller_that_is_away(site: Site, cluster: Cluster) -> None:
    found = site.workspace(FLOW)
    site.scheduler()
    site.submitter()
    cluster.stop_controller()
    try:
        job = start(found)
        until(lambda: any(row.error for row in allocations(job)), within_s=100)
        assert JobAction.objects.get(job_id=job.id).status == "running"
    finally:
        cluster.start_controller()
    assert end_of(site, job, within_s=120).status == "completed", site.explain(job)
    (row,) = until_ended(site, job)
    assert (row.status, row.error) == ("complete", "")
