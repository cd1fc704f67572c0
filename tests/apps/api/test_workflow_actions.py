"""Workflow actions over the API: progress, results, logs, and who may see them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from apps.accounts.models import Role
from apps.jobs import ledger as steps
from apps.jobs.ledger import Claim
from apps.jobs.models import Attempt, Job, Unit
from apps.jobs.upkeep.sweeps import due_steps
from apps.workflow_actions import allocations, ledger
from engine.masking import MASK
from engine.orders import Line, StepOutcome, Verdict
from engine.slurm_script import Launch
from tests.apps.api.callers import caller, error
from tests.apps.jobs.builders import DONE, failed, start, workspace
from tests.apps.workflow_actions.hands import ActionHand, reported, tries

pytestmark = pytest.mark.django_db(transaction=True)
#   fetch --> part-1, part-2, part-3 --> collect
FLOW = """
secrets: {pw: canary-4711-secret}
slurm_schedulers: {cpu: {account: lab, partition: debug, worker_config: /etc/worker.yaml}}
actions: {do: {type: script, script: "true"}}
tasks:
  main:
    flow:
      fetch: {action: do}
      part-1: {action: do, depends_on: [fetch]}
      part-2: {action: do, depends_on: [fetch]}
      part-3: {action: do, depends_on: [fetch]}
      collect: {action: do, depends_on: [part-1, part-2, part-3]}
    workflow_actions:
      - {trigger_type: on_workflow_start, action_type: run_commands, commands: ["echo canary-4711-secret"]}
      - name: nodes
        trigger_type: on_jobs_ready
        job_name_regexes: ["part-.*"]
        action_type: schedule_nodes
        scheduler: cpu
        scheduler_type: slurm
        num_allocations: 2
      - name: tidy
        trigger_type: on_jobs_complete
        jobs: [part-1, part-2, part-3]
        action_type: run_commands
        commands: ["false"]
        retry: {max_attempts: 2, delay: 1h}
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return start(workspace(tmp_path, FLOW, "shop"))


@pytest.fixture
def viewer() -> APIClient:
    return caller(Role.VIEWER)


def actions(client: APIClient, job: Job) -> dict[str, Any]:
    return {
        one["name"]: one for one in client.get(f"/api/jobs/{job.pk}").json()["workflow_actions"]
    }


def say(claim: Claim, *texts: str) -> None:
    assert steps.append(claim, 1, [Line(time.time(), "stderr", text) for text in texts])


def again() -> None:
    """Make everything that waits for another attempt due now."""
    Unit.objects.filter(status="pending").update(retry_at=timezone.now())
    due_steps()


def lines(answer: Any) -> list[str]:
    return [json.loads(line)["line"] for line in answer.json()["logs"].splitlines()]


def test_a_job_tells_how_far_its_actions_are(job: Job, viewer: APIClient) -> None:
    found = actions(viewer, job)
    assert list(found) == ["workflow_actions[0]", "nodes", "tidy"]
    assert [one["status"] for one in found.values()] == ["armed", "waiting", "waiting"]
    assert [one["progress"] for one in found.values()] == [None, "0 of 3 ready", "0 of 3 complete"]
    assert found["nodes"]["selected"] == ["part-1", "part-2", "part-3"]
    assert (found["nodes"]["action_types"], found["nodes"]["job_name_regexes"]) == (
        ["schedule_nodes"],
        ["part-.*"],
    )
    hand = ActionHand("script", "slurm:cpu")
    hand.finish(hand.take("fetch"))
    assert (actions(viewer, job)["nodes"]["status"], actions(viewer, job)["nodes"]["progress"]) == (
        "armed",
        "3 of 3 ready",
    )
    hand.finish(hand.take("part-2"))
    assert (actions(viewer, job)["tidy"]["reached"], actions(viewer, job)["tidy"]["required"]) == (
        1,
        3,
    )


def test_a_failed_action_is_shown_with_each_try_its_exit_code_and_its_error(
    job: Job, viewer: APIClient
) -> None:
    hand = ActionHand("script", "slurm:cpu", name="host-7")
    wrong = StepOutcome(
        Verdict.FAILED, exit_code=3, error="Exit code: 3\nStderr: no canary-4711-secret here"
    )
    hand.live_on({"tidy": wrong})
    again()
    hand.live_on({"tidy": wrong})
    tidy = actions(viewer, job)["tidy"]
    assert (tidy["status"], tidy["outcome"]) == ("failed", "completed")
    assert [(run["attempt"], run["status"], run["exit_code"]) for run in tidy["runs"]] == [
        (1, "failed", 3),
        (2, "failed", 3),
    ]
    first = tidy["runs"][0]
    assert (first["worker"], first["worker_id"]) == ("host-7", str(hand.id))
    assert first["error"] == f"Exit code: 3\nStderr: no {MASK} here"
    assert first["duration_secs"] >= 0 and first["started_at"] <= first["ended_at"]
    assert viewer.get(f"/api/jobs/{job.pk}").json()["status"] == "completed"
    assert "canary" not in Attempt.objects.get(pk=first["id"]).error


def test_secrets_are_masked_wherever_an_action_shows_them(job: Job, viewer: APIClient) -> None:
    answer = viewer.get(f"/api/jobs/{job.pk}")
    assert actions(viewer, job)["workflow_actions[0]"]["commands"] == [f"echo {MASK}"]
    assert b"canary-4711" not in answer.content


def test_allocations_stand_with_the_action_that_asked_for_them(job: Job, viewer: APIClient) -> None:
    hand = ActionHand("script", "slurm:cpu", "slurm")
    hand.finish(hand.take("fetch"))
    while (claim := hand.take_action()) is not None and claim.label != "nodes":
        reported(claim)
    assert claim is not None
    first, second = ledger.submissions(claim, 0, "/out", Launch(("python",), "/srv"))
    ledger.submitted(first.allocation_id, "4711")
    ledger.refused(second.allocation_id, "sbatch: error: no such partition")
    reported(claim, failed("1 of 2 allocations were not submitted"))
    allocations.observed(first.allocation_id, "RUNNING", nodes="node[1-2]")
    one, two = actions(viewer, job)["nodes"]["allocations"]
    assert (one["slurm_job_id"], one["status"], one["state"], one["nodes"]) == (
        "4711",
        "active",
        "RUNNING",
        "node[1-2]",
    )
    assert one["script"].startswith("#!") and one["scheduler"] == "cpu"
    assert (two["slurm_job_id"], two["status"], two["error"]) == (
        None,
        "requested",
        "sbatch: error: no such partition",
    )


def test_logs_are_those_of_all_runs_or_of_one(job: Job, viewer: APIClient) -> None:
    hand = ActionHand("script", "slurm:cpu")
    seen = {}
    while (claim := hand.take_action()) is not None or hand.work():
        if claim is None:
            continue
        seen[claim.label, claim.number] = claim.attempt_id
        say(claim, f"{claim.label} {claim.number}")
        reported(claim, failed() if claim.label == "tidy" else DONE)
        again()
    path = f"/api/jobs/{job.pk}/workflow-actions"
    whole = viewer.get(f"{path}/tidy/logs")
    assert lines(whole) == ["tidy 1", "tidy 2"]
    assert set(whole.json()) == {"logs", "next", "has_more"}
    assert lines(viewer.get(f"{path}/tidy/logs?after={whole.json()['next']}")) == []
    assert lines(viewer.get(f"{path}/tidy/logs?run={seen['tidy', 2]}")) == ["tidy 2"]
    assert lines(viewer.get(f"{path}/0/logs")) == ["workflow_actions[0] 1"]
    assert lines(viewer.get(f"{path}/workflow_actions[0]/logs")) == ["workflow_actions[0] 1"]
    record = json.loads(whole.json()["logs"].splitlines()[0])
    assert (record["stream"], record["step"]) == ("stderr", "_action:tidy")


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("rest", "code", "text"),
    [
        (
            "none/logs",
            404,
            "The job has no workflow action 'none'; it has workflow_actions[0], nodes, tidy",
        ),
        (
            "7/logs",
            404,
            "The job has no workflow action '7'; it has workflow_actions[0], nodes, tidy",
        ),
        ("tidy/logs?run=x", 400, "run must be the id of a run"),
        ("tidy/logs?run=9999999", 404, "The workflow action has no such run"),
        ("tidy/logs?after=x", 400, "after must be the `next` of an earlier answer"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    job: Job, viewer: APIClient, rest: str, code: int, text: str
) -> None:
    answer = viewer.get(f"/api/jobs/{job.pk}/workflow-actions/{rest}")
    assert (answer.status_code, error(answer)) == (code, text)


def test_who_does_not_see_the_workspace_sees_no_action_of_it(job: Job) -> None:
    stranger = caller(Role.ADMIN, "another")
    for path in (f"/api/jobs/{job.pk}", f"/api/jobs/{job.pk}/workflow-actions/tidy/logs"):
        answer = stranger.get(path)
        assert (answer.status_code, error(answer)) == (404, "Job not found")
        assert caller(None).get(path).status_code == 404


def test_a_run_of_another_job_is_not_read_through_this_one(
    job: Job, tmp_path: Path, viewer: APIClient
) -> None:
    other = start(workspace(tmp_path, FLOW, "other"))
    hand = ActionHand("script")
    while (claim := hand.take_action()) is not None:
        say(claim, str(claim.job_id))
        reported(claim)
    path = f"/api/jobs/{job.pk}/workflow-actions/0/logs"
    assert lines(viewer.get(path)) == [str(job.pk)]
    (run,) = [one.id for one in tries(other, "workflow_actions[0]")]
    assert viewer.get(f"{path}?run={run}").status_code == 404


def test_a_job_without_actions_has_an_empty_list(tmp_path: Path, viewer: APIClient) -> None:
    job = start(workspace(tmp_path, "tasks: {main: {flow: {a: {type: script, script: 'true'}}}}"))
    assert viewer.get(f"/api/jobs/{job.pk}").json()["workflow_actions"] == []
    assert viewer.get(f"/api/jobs/{job.pk}/workflow-actions/a/logs").status_code == 404


@pytest.mark.long
def test_a_job_costs_the_same_however_many_actions_it_has(
    tmp_path: Path, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = caller(Role.VIEWER)
    for count in (2, 30):
        one = (
            "{trigger_type: on_jobs_complete, jobs: [a], action_type: run_commands, commands:"
            " ['true']}"
        )
        more = "".join(f"      - {one}\n" for _ in range(count))
        text = (
            "tasks:\n  main:\n    flow: {a: {type: script, script: 'true'}}\n   "
            f" workflow_actions:\n{more}"
        )
        job = start(workspace(tmp_path, text, f"ws{count}"))
        ActionHand("script").live_on()
        client.get(f"/api/jobs/{job.pk}")
        with django_assert_num_queries(11):
            assert len(client.get(f"/api/jobs/{job.pk}").json()["workflow_actions"]) == count
