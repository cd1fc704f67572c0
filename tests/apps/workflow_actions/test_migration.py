"""Runs of actions of an older version become units and attempts, with their logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from apps.jobs.database.sql import fetch
from apps.jobs.ledger import Claim
from apps.jobs.models import Attempt, Step, Unit
from apps.workflow_actions.models import JobAction, Share
from tests.apps.jobs.builders import start, workspace
from tests.apps.workflow_actions.doing import log_of
from tests.apps.workflow_actions.hands import ActionHand, action, tries

pytestmark = pytest.mark.django_db(transaction=True)
OLD, NEW = ("workflow_actions", "0001_initial"), ("workflow_actions", "0004_delete_actionrun")
FLOW = """
actions: {do: {type: script, script: x}}
tasks:
  main:
    flow: {a: {action: do}}
    workflow_actions:
      - {name: once, trigger_type: on_workflow_start, action_type: run_commands, commands: [x]}
      - {name: each, trigger_type: on_worker_start, persistent: true, action_type: run_commands, commands: [x]}
      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands, commands: [x]}
      - {name: off, trigger_type: on_workflow_start, action_type: run_commands, commands: [x]}
"""
RUN = """
INSERT INTO workflow_actions_actionrun (action_id, job_id, session_id, bound_to, number, status,
    tag_set_id, fence, losses, worker_id, lease_until, due_at, command, exit_code, error, started_at,
    ended_at)
SELECT %(action)s, %(job)s, %(session)s, %(bound_to)s, %(number)s, %(status)s::text, id, %(fence)s,
    %(losses)s, %(worker)s, CASE WHEN %(fence)s > 0 THEN clock_timestamp() + interval '1 h' END,
    clock_timestamp() + make_interval(secs => %(due_s)s), %(command)s, %(exit_code)s, %(error)s,
    CASE WHEN %(fence)s > 0 THEN clock_timestamp() END,
    CASE WHEN %(status)s::text NOT IN ('ready', 'running') THEN clock_timestamp() END
FROM fleet_tagset WHERE key = 'script' RETURNING id
"""
LINE = """
INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, lines, line_count)
VALUES (current_date, %s, 1, %s, %s, 1)
"""


@pytest.fixture
def old() -> Iterator[None]:
    """The tables as they were; whatever happens, they are as they are now afterwards."""
    yield
    MigrationExecutor(connection).migrate([NEW])


def test_old_runs_are_units_with_attempts_and_logs(tmp_path: Path, old: None) -> None:
    job = start(workspace(tmp_path, FLOW))
    hand = ActionHand(name="host-7")
    Unit.objects.all().delete()
    MigrationExecutor(connection).migrate([OLD])

    def run(label: str, status: str, **values: object) -> int:
        given = {
            "action": action(job, label).pk, "job": job.pk, "session": None, "bound_to": None,
            "number": 1, "status": status, "fence": 0 if status == "ready" else 1, "losses": 0,
            "worker": hand.id, "due_s": 0, "command": None, "exit_code": None, "error": "",
        } | values  # fmt: skip
        return int(fetch(RUN, given)[0][0])

    lost = run("once", "lost", error="Worker host-7 was lost")
    bad = run("once", "failed", losses=1, exit_code=3, command=1, error="no")
    run("once", "ready", number=2, losses=1, due_s=3600)
    run("each", "succeeded", session=11, bound_to=hand.id, command=1, exit_code=0)
    run("each", "running", session=12, bound_to=uuid4())
    run("end", "ready")
    run("off", "cancelled", fence=0, error="Job cancelled")
    for number, text in ((lost, "first"), (bad, "second")):
        line = {"ts": "", "stream": "stdout", "step": "_action:once", "line": text}
        fetch(LINE, (-number, job.pk, json.dumps(line) + "\n"))
    MigrationExecutor(connection).migrate([NEW])

    once, each = tries(job, "once"), tries(job, "each")
    assert [(one.number, one.status, one.exit_code, one.command) for one in once] == [
        (1, "lost", None, None),
        (1, "failed", 3, 1),
        (2, "ready", None, None),
    ]
    assert once[0].worker == "host-7" and once[0].error == "Worker host-7 was lost"
    assert [(one.status, one.session_id) for one in each] == [("succeeded", 11), ("running", 12)]
    assert [one.status for one in tries(job, "off")] == ["cancelled"]
    assert log_of(job, "once") == ["first", "second"]
    waiting = Unit.objects.get(owner_id=action(job, "once").pk)
    assert (waiting.status, waiting.fence, waiting.attempts, waiting.losses) == ("pending", 2, 1, 1)
    assert waiting.retry_at is not None and waiting.name == f"action/{waiting.owner_id}"
    assert Share.objects.count() == 2 and Attempt.objects.count() == 4
    assert [step.name for step in Step.objects.all()] == ["a"]
    last = Unit.objects.get(owner_id=action(job, "end").pk)
    assert last.lasts and not waiting.lasts
    taken = hand.take_action()  # what waits can be done as ever
    assert isinstance(taken, Claim) and (taken.label, taken.step_id) == ("end", last.pk)
    hand.finish_action(taken)
    Unit.objects.filter(pk=waiting.pk).update(status="ready")
    again = hand.take_action()
    assert again is not None and (again.label, again.number, again.fence) == ("once", 2, 3)
    assert JobAction.objects.get(pk=waiting.owner_id).status == "running"
