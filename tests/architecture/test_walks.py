"""How many files of the house a reader enters to follow one thought."""

from __future__ import annotations

import runpy
from pathlib import Path
from threading import Event, Thread

import pytest
from celery import Celery
from django.test import Client

from apps.jobs import bells, ledger
from apps.jobs.models import Job
from apps.jobs.services import start_job
from apps.workflow_actions import ledger as allocations
from apps.workspaces.ledger import archive, pass_for
from apps.workspaces.services import import_folder
from engine import VERSION, durations
from engine.lifecycle import JobStatus
from engine.slurm_script import Launch
from tests.apps.approvals.gates import asked, gate, operator, request_of, step_of
from tests.architecture.walks import Walk
from tests.standalone.processes import eventually
from tests.workers.conftest import celery_app as celery_app
from workers.assembly import assemble
from workers.config import WorkerConfig
from workers.door import Doors


@pytest.mark.django_db(transaction=True)
def test_a_person_decides_in_few_files(tmp_path: Path) -> None:
    workspace, client = gate(tmp_path), Client()
    client.force_login(operator())
    for _ in range(2):  # the first click may still import
        job = asked(workspace)
        request = request_of(job)
        with Walk() as walk:
            answer = client.post(
                f"/admin/approvals/approvalrequest/{request.pk}/decide/",
                {"decision": "approve", "shown": request.digest},
            )
    assert answer.status_code == 302
    assert step_of(job).output["approved"]
    assert len(walk.files) <= 15, f"{len(walk.files)} files\n{walk}"


FLOW = """
actions:
  greet:
    type: script
    input: {name: {type: string, required: true}}
    script: |
      echo "OUTPUT: {\\"greeting\\": \\"Hello $STROEM_INPUT_NAME\\"}"
tasks:
  main:
    input: {name: {type: string, default: World}}
    flow:
      hello: {action: greet, input: {name: "{{ input.name }}"}}
      shout:
        type: script
        depends_on: [hello]
        input: {message: "{{ hello.output.greeting }}"}
        script: echo "$STROEM_INPUT_MESSAGE"
"""
# with what guards a step, what judges a flow before it runs, and what follows its triggers
MOST_OF_A_STEP = 99


@pytest.mark.django_db(transaction=True)
def test_a_step_goes_from_yaml_to_finished_through_few_files(
    tmp_path: Path, celery_app: Celery
) -> None:
    """Reading and freezing the workspace, starting the job, and everything that a running worker
    does meanwhile, its polls and renewals included. Starting the worker is not part of it."""
    config = WorkerConfig("walker", tmp_path / "cache", max_concurrent=2)
    doors = Doors(ledger, allocations, bells, archive, pass_for, celery_app)
    launch = Launch(("stroem-worker",), str(tmp_path), None)
    assembly = assemble(config, doors, launch, lease_s=30.0, version=VERSION)
    try:
        with Walk() as walk:
            assert assembly.open(Event())
            for name in ("first", "second"):  # the first run may still import
                (tmp_path / name).mkdir()
                (tmp_path / name / "flow.yaml").write_text(FLOW)
                walk.forget()
                assert not import_folder(name, tmp_path / name).has_failed
                job = start_job(name, "main", {})
                eventually(lambda job=job: Job.objects.get(pk=job.pk).completed_at, 60)
        assert Job.objects.get(pk=job.pk).status == JobStatus.COMPLETED
    finally:
        assembly.worker.drain(0.0, Event())
        assembly.close()
    assert len(walk.files) <= MOST_OF_A_STEP, f"{len(walk.files)} files\n{walk}"


def test_a_walk_counts_what_is_called_in_every_thread_and_not_what_is_imported() -> None:
    with Walk() as walk:
        runpy.run_path(str(durations.__file__))
    assert walk.files == []
    with Walk() as walk:
        thread = Thread(target=durations.parse, args=("5m",))
        thread.start()
        thread.join()
    assert walk.files == ["engine/durations.py"]
    durations.describe(5)
    assert "describe" not in walk.calls["engine/durations.py"]
