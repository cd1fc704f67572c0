"""How many files of the house a reader enters to follow one thought."""

from __future__ import annotations

import runpy
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from celery import Celery
from django.test import Client

from apps.artifacts import ledger as artifacts
from apps.artifacts.state import ledger as states
from apps.jobs import bells, ledger
from apps.jobs.models import Job
from apps.jobs.services import start_job
from apps.triggers import ledger as events
from apps.workflow_actions import ledger as allocations
from apps.workspaces.ledger import archive, pass_for
from apps.workspaces.services import import_folder
from engine import VERSION, durations
from engine.lifecycle import JobStatus
from engine.orders import ScriptWork
from engine.slurm_script import Launch
from engine.spec import parser
from engine.spec.draft import Draft
from engine.spec.model import Workspace
from engine.spec.sites import find_sites
from tests.apps.approvals.gates import asked, gate, operator, request_of, step_of
from tests.architecture.house import ROOT
from tests.architecture.walks import Walk
from tests.standalone.processes import eventually
from tests.workers.conftest import celery_app as celery_app
from workers.assembly import assemble
from workers.config import WorkerConfig
from workers.door import Doors
from workers.lane import Lane


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
    # Two for the session: the person, whose password and groups it marks and whose grants count, and
    # whether it holds where it began.
    # Two for the rights on the task: who sees what, and the rule that decides.
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
# see docs/adr/0021-what-a-walk-counts.md
MOST_OF_A_STEP, MOST_RULES, MOST_VALUES = 48, 8, 3


def have_looked(lanes: list[Lane], polls_at: list[float]) -> bool:
    """Whether each lane has polled since, and is done with it."""
    return all(
        lane._polls_at > before and not lane.slots.busy
        for lane, before in zip(lanes, polls_at, strict=True)
    )


@pytest.mark.django_db(transaction=True)
def test_a_step_goes_from_yaml_to_finished_through_few_files(
    tmp_path: Path, celery_app: Celery
) -> None:
    """Reading and freezing the workspace, starting the job, and everything that a running worker
    does meanwhile, its polls included. Starting the worker is not part of it, nor is renewing
    leases, every few seconds. Every file entered counts, in one of the three groups of
    `Walk`."""
    config = WorkerConfig("walker", tmp_path / "cache", max_concurrent=2)
    doors = Doors(
        ledger, allocations, events, artifacts, bells, archive, pass_for, celery_app, states
    )
    launch = Launch(("stroem-worker",), str(tmp_path), None)
    assembly = assemble(config, doors, launch, lease_s=600.0, version=VERSION)
    lanes = [assembly.worker._steps, *assembly.worker._others]
    try:
        with Walk() as walk:
            assert assembly.open(Event())
            for name in ("first", "second"):  # the first run may still import
                (tmp_path / name).mkdir()
                (tmp_path / name / "flow.yaml").write_text(FLOW)
                walk.forget()
                assert import_folder(name, tmp_path / name).current is not None
                polls_at = [lane._polls_at for lane in lanes]
                job = start_job(name, "main", {})
                eventually(lambda job=job: Job.objects.get(pk=job.pk).completed_at, 60)
                # each lane looks for work at its own pace
                eventually(lambda before=polls_at: have_looked(lanes, before), 60)
        assert Job.objects.get(pk=job.pk).status == JobStatus.COMPLETED
    finally:
        assembly.worker.drain(0.0, Event())
        assembly.close()
    assert len(walk.path) <= MOST_OF_A_STEP, f"{len(walk.path)} files\n{walk}"
    assert len(walk.rules) <= MOST_RULES, walk.rules
    assert len(walk.values) <= MOST_VALUES, walk.values


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


def test_a_walk_tells_rules_and_values_from_the_path(tmp_path: Path) -> None:
    files = {"flow.yaml": FLOW}
    parser.load(files)
    with Walk() as walk:
        assert parser.load(files).workspace is not None
    assert "engine/spec/parser.py" in walk.path
    assert {"engine/spec/checks_flow.py", "engine/spec/sites.py"} <= set(walk.rules)
    with Walk() as walk:  # what a rule needs counts where others need it too
        find_sites(Draft(Workspace(), {}, {}, set(), {}, True, None, "", 0, False))
    assert walk.path == ["engine/spec/sites.py"]
    with Walk() as walk:
        assert ScriptWork("shell", code=":") and JobStatus.COMPLETED.is_final
    assert (walk.path, walk.values) == ([], ["engine/lifecycle.py", "engine/orders.py"])


def test_a_file_that_comes_in_is_seen_in_its_group() -> None:
    """Planted among the files of the house by name only: nothing is written."""
    planted = {
        "apps/jobs/flow/planted.py": "def enter(inner=None):\n    return inner and inner()\n",
        "engine/spec/checks_planted.py": "def enter(inner):\n    return inner()\n",
        "engine/planted.py": "def enter():\n    pass\n",
    }
    enter = []
    for name, text in planted.items():
        space: dict[str, Any] = {}
        exec(compile(text, str(ROOT / name), "exec"), space)
        enter.append(space["enter"])
    in_flow, in_rule, in_engine = enter
    with Walk() as walk:
        in_flow()
        in_rule(in_engine)
    assert walk.path == ["apps/jobs/flow/planted.py"]
    assert walk.rules == ["engine/planted.py", "engine/spec/checks_planted.py"]
    with Walk() as walk:
        in_flow(in_engine)
    assert walk.path == ["apps/jobs/flow/planted.py", "engine/planted.py"]
