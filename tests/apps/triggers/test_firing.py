"""One occasion, one job: keys, quiet times, ends of other jobs."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from apps.accounts.models import Role
from apps.jobs import services
from apps.jobs.models import Job
from apps.triggers import firing, roster, starts, transitions, waiting
from apps.triggers.errors import NotListed
from apps.triggers.models import Firing, Trigger
from apps.triggers.occasions import Occasion
from apps.workspaces.services import refresh
from engine.errors import Conflict, InputError
from tests.apps.api.callers import caller
from tests.apps.jobs.builders import Hand, failed, output, start, workspace
from tests.apps.triggers.builders import TASKS, jobs, outcomes, trigger

pytestmark = pytest.mark.django_db(transaction=True)
PUSH = (
    TASKS
    + """
triggers:
  push:
    type: webhook
    name: push
    task: main
    input: { day: "{{ body.day }}" }
"""
)


def delivery(key: str, day: str = "monday") -> Occasion:
    return Occasion(Firing.Cause.DELIVERY, {"body": {"day": day}}, key=key)


def push(tmp_path: Path, more: str = "") -> Trigger:
    workspace(tmp_path, PUSH + more)
    return trigger("push")


def test_a_repeated_delivery_brings_the_first_job(tmp_path: Path):
    row = push(tmp_path)
    first = firing.fire(row.pk, delivery("a"))
    again = firing.fire(row.pk, delivery("a", "tuesday"))
    assert first.pk == again.pk and first.status == "started" and first.job_id
    (job,) = jobs()
    assert job.input == {"day": "monday"} and job.source_type == "webhook"


def test_parallel_repeats_make_one_job(tmp_path: Path):
    row = push(tmp_path)
    found = set()

    def deliver() -> None:
        for _ in range(5):
            found.add(firing.fire(row.pk, delivery("same")).job_id)
        connections.close_all()

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1 == Job.objects.count()


def test_a_refused_delivery_is_kept_with_its_reason(tmp_path: Path):
    row = push(tmp_path)
    found = firing.fire(row.pk, Occasion(Firing.Cause.DELIVERY, {"body": {}}, key="a"))
    assert found.status == "refused" and "day" in found.reason
    assert trigger("push").failures == 1 and not jobs()
    firing.fire(row.pk, delivery("b"))
    assert (trigger("push").failures, trigger("push").last_error) == (0, "")


def test_the_same_idempotency_key_within_the_window_starts_one_job(tmp_path: Path):
    more = '    idempotency_key: "{{ body.day }}"\n    idempotency_window: 1h\n'
    row = push(tmp_path, more)
    firing.fire(row.pk, delivery("a"))
    second = firing.fire(row.pk, delivery("b"))
    firing.fire(row.pk, delivery("c", "tuesday"))
    assert second.status == "skipped" and "same idempotency_key" in second.reason
    assert second.job_id == jobs()[0].id and len(jobs()) == 2
    Firing.objects.update(created_at=transitions.database_now() - timedelta(hours=2))
    assert firing.fire(row.pk, delivery("d")).status == "started"


def test_a_debounced_trigger_starts_once_it_is_quiet(tmp_path: Path):
    row = push(tmp_path, "    debounce: 30s\n")
    for key in "abc":
        firing.fire(row.pk, delivery(key, key))
    assert outcomes("push") == [("superseded", "a"), ("superseded", "b"), ("waiting", "c")]
    now = transitions.database_now()
    assert waiting.go_on_due(now + timedelta(seconds=20)) == 0
    assert waiting.go_on_due(now + timedelta(seconds=40)) == 1
    (job,) = jobs()
    assert job.input == {"day": "c"}
    assert Firing.objects.get(status="started").sealed is None


def test_what_waits_is_encrypted(tmp_path: Path):
    row = push(tmp_path, "    debounce: 30s\n")
    found = firing.fire(row.pk, delivery("a", "canary-day"))
    assert found.sealed and b"canary-day" not in bytes(found.sealed)


def test_a_trigger_that_was_paused_while_it_waited_does_not_start(tmp_path: Path):
    row = push(tmp_path, "    debounce: 30s\n")
    firing.fire(row.pk, delivery("a"))
    roster.set_paused(row.pk, True, "ann")
    waiting.go_on_due(transitions.database_now() + timedelta(minutes=1))
    assert outcomes("push") == [("skipped", "a")] and not jobs()


def test_a_trigger_fires_by_hand_while_it_is_paused_but_not_when_it_is_gone(tmp_path: Path):
    row = push(tmp_path)
    roster.set_paused(row.pk, True, "ann")
    by_hand = Occasion(Firing.Cause.HAND, {"body": {"day": "x"}}, by="ann")
    assert firing.fire(row.pk, by_hand).status == "started"
    (Path(row.workspace.location) / "workflow.yaml").write_text(TASKS)
    refresh(row.workspace)
    with pytest.raises(NotListed, match="do not have trigger 'push' any more"):
        firing.fire(row.pk, by_hand)


CHAIN = """
secrets: { key: s3cret-value }
tasks:
  build: { flow: { work: { type: script, script: "true" } } }
  deploy:
    manual: false
    input: { what: { type: string }, status: { type: string } }
    flow: { work: { type: script, script: "true" } }
triggers:
  built:
    type: job
    on_job: { task: build }
    task: deploy
    input: { what: "{{ job.output.work.image }}", status: "{{ job.status }}" }
  broken:
    type: job
    on_job: { task: build, status: [failed, cancelled] }
    task: deploy
    input: { what: "{{ job.error_message }}", status: "{{ job.status }}" }
"""


def test_nobody_starts_by_hand_what_its_author_reserves_for_triggers(tmp_path: Path):
    found = workspace(tmp_path, CHAIN)
    given = {"input": {"what": "x", "status": "y"}}
    path = f"/api/workspaces/{found.name}/tasks/deploy/execute"
    answer = caller(Role.OPERATOR).post(path, given, format="json")
    assert answer.status_code == 409 and "manual: false" in answer.json()["error"], answer.content
    with pytest.raises(CommandError, match="manual: false"):
        call_command("trigger", found.name, "deploy")
    assert jobs() == []


def test_the_end_of_a_job_starts_another_task_once(tmp_path: Path):
    found = workspace(tmp_path, CHAIN)
    job = start(found, "build")
    Hand().work({"work": output({"image": "app:1"})})
    waiting.go_on_due()
    waiting.go_on_due()
    (started,) = jobs(task_name="deploy")
    assert started.input == {"what": "app:1", "status": "completed"}
    assert outcomes("built") == [("started", f"{job.id}:1")] and outcomes("broken") == []


def test_a_failure_starts_the_task_that_watches_failures(tmp_path: Path):
    start(workspace(tmp_path, CHAIN), "build")
    Hand().work({"work": failed("no disk")})
    waiting.go_on_due()
    (started,) = jobs(task_name="deploy")
    assert started.input == {"what": "Step 'work': no disk", "status": "failed"}


def test_a_secret_in_an_output_stays_hidden_in_the_next_job(tmp_path: Path):
    start(workspace(tmp_path, CHAIN), "build")
    Hand().work({"work": output({"image": "s3cret-value"})})
    waiting.go_on_due()
    (started,) = jobs(task_name="deploy")
    assert "s3cret-value" not in str(started.input) and started.input_sealed is not None


def test_a_paused_trigger_does_not_hear_of_an_end(tmp_path: Path):
    found = workspace(tmp_path, CHAIN)
    roster.set_paused(trigger("built").pk, True, "ann")
    start(found, "build")
    Hand().work({"work": output({"image": "app:1"})})
    waiting.go_on_due()
    assert not jobs(task_name="deploy") and outcomes("built") == []


def test_a_task_that_is_not_for_hands_is_not_started_by_hand(tmp_path: Path):
    found = workspace(tmp_path, CHAIN)
    with pytest.raises(Conflict, match="'deploy' is not started by hand"):
        services.start_job(found.name, "deploy", {"what": "x", "status": "y"})
    assert not jobs()


def test_an_idempotency_key_brings_the_same_job(tmp_path: Path):
    found = workspace(tmp_path, TASKS)

    def go() -> object:
        return services.start_job(found.name, "main", {}).pk

    first, was_there = starts.start_once("ann", "k", {"a": 1}, go)
    assert (starts.start_once("ann", "k", {"a": 1}, go), was_there) == ((first, True), False)
    assert starts.start_once("bob", "k", {"a": 1}, go)[0] != first
    with pytest.raises(Conflict, match="another body"):
        starts.start_once("ann", "k", {"a": 2}, go)
    with pytest.raises(InputError, match="printable ASCII"):
        starts.start_once("ann", "", {}, go)


def test_a_start_that_is_refused_leaves_its_key_free(tmp_path: Path):
    found = workspace(tmp_path, TASKS)

    def go(count: object) -> object:
        return services.start_job(found.name, "main", {"count": count}).pk

    with pytest.raises(InputError):
        starts.start_once("ann", "k", {}, lambda: go("no number"))
    assert starts.start_once("ann", "k", {}, lambda: go(1))[1] is False
