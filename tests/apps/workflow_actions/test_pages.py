"""What the page of a job knows of its workflow actions, who sees it, what it costs, and what
becomes an event."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.http import Http404
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.jobs import ledger as steps
from apps.jobs.flow.blueprints import load
from apps.jobs.ledger import Claim
from apps.jobs.log import tails
from apps.jobs.models import Job, StepEvent
from apps.jobs.pages import hub, live, pictures
from apps.workflow_actions import allocations, ledger
from apps.workflow_actions.snapshots import actions_of
from console.database import Database
from console.job_report import as_lines
from engine.masking import MASK
from engine.orders import Line, StepOutcome, Verdict
from engine.slurm_script import Launch
from tests.apps.jobs.builders import fresh, start, workspace
from tests.apps.workflow_actions.hands import ActionHand, action, actions, reported, tries

pytestmark = pytest.mark.django_db(transaction=True)
#   fetch --> north, south --> collect
FLOW = """
secrets: {pw: canary-4711-secret}
slurm_schedulers: {cpu: {account: lab, worker_config: /etc/worker.yaml}}
actions: {do: {type: script, script: "true"}}
tasks:
  main:
    flow:
      fetch: {action: do}
      north: {action: do, depends_on: [fetch]}
      south: {action: do, depends_on: [fetch]}
      collect: {action: do, depends_on: [north, south]}
    workflow_actions:
      - {name: begin, trigger_type: on_workflow_start, barrier: true, action_type: run_commands,
         commands: ["echo canary-4711-secret"]}
      - {name: tidy, trigger_type: on_jobs_complete, jobs: [north, south], barrier: true, action_type: run_commands,
         commands: ["false"]}
      - {name: nodes, trigger_type: on_jobs_ready, jobs: [collect], action_type: schedule_nodes, scheduler: cpu,
         scheduler_type: slurm}
      - {name: hello, trigger_type: on_worker_start, action_type: run_commands, commands: ["true"]}
      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands, commands: ["true"]}
"""
TAGS = ("script", "slurm", "slurm:cpu")


def person(role: Role | None = None, pattern: str = "*") -> User:
    user = User.objects.create_user(f"{uuid4().hex}@example.org", is_staff=True)
    if role:
        WorkspaceGrant.objects.create(user=user, pattern=pattern, role=role)
    return user


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return start(workspace(tmp_path, FLOW, "shop"))


@pytest.fixture
def viewer() -> Client:
    return client_of(person(Role.VIEWER))


def data_of(client: Client, job: Job) -> Any:
    text = client.get(f"/admin/jobs/job/{job.pk}/change/").content.decode()
    found = re.search(
        r'<script id="job-data" type="application/json">(.*?)</script>', text, re.DOTALL
    )
    assert found
    return json.loads(found[1])


def page_of(job: Job, label: str) -> str:
    return f"/admin/jobs/{job.pk}/actions/{action(job, label).pk}/"


def test_the_page_of_a_job_knows_how_far_its_actions_are(job: Job, viewer: Client) -> None:
    hand = ActionHand(*TAGS, name="host-7")
    assert hand.do_actions() == ["begin"]
    hand.finish(hand.take("fetch"))
    hand.finish(hand.take("north"))
    found = {one["name"]: one for one in data_of(viewer, job)["actions"]}
    assert {name: (one["status"], one["progress"]) for name, one in found.items()} == {
        "begin": ("succeeded", ""),
        "tidy": ("waiting", "1 of 2 complete"),
        "nodes": ("waiting", "0 of 1 ready"),
        "hello": ("armed", ""),
        "end": ("waiting", ""),
    }
    (run,) = found["begin"]["runs"]
    assert (run["status"], run["exit_code"], run["worker"]) == ("succeeded", 0, "host-7")
    assert run["started"] <= run["ended"]


def test_actions_are_drawn_beside_the_steps_that_they_watch(job: Job) -> None:
    picture = pictures.draw(load(job.blueprint_id))
    names = [node.label for node in picture.nodes]
    drawn = {
        one.label: (
            [names[at] for at in one.behind],
            [names[at] for at in one.before],
            one.is_barrier,
        )
        for one in picture.actions
    }
    assert drawn == {
        "begin": ([], ["fetch"], True),
        "tidy": (["north", "south"], ["collect"], True),
        "nodes": ([], ["collect"], False),
        "hello": ([], [], False),
        "end": (["collect"], [], False),
    }


def test_an_action_of_very_many_nodes_is_drawn_without_lines(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    steps = "".join(f"      {letter}: {{type: script, script: 'true'}}\n" for letter in letters)
    one = (
        "{trigger_type: on_jobs_complete, job_name_regexes: ['.*'], action_type: run_commands,"
        " commands: ['true']}"
    )
    text = f"tasks:\n  main:\n    flow:\n{steps}    workflow_actions:\n      - {one}\n"
    picture = pictures.draw(load(start(workspace(tmp_path, text)).blueprint_id))
    assert [(drawn.behind, drawn.before) for drawn in picture.actions] == [((), ())]


def test_one_action_is_shown_with_what_it_watches_its_runs_and_its_error(
    job: Job, viewer: Client
) -> None:
    hand = ActionHand(*TAGS, name="host-7")
    wrong = StepOutcome(
        Verdict.FAILED, exit_code=3, error="Exit code: 3\nStderr: canary-4711-secret is wrong"
    )
    hand.live_on({"tidy": wrong})
    text = viewer.get(page_of(job, "tidy")).content.decode()
    for part in (
        "when all of its steps have ended",
        "2 of 2 complete",
        "north",
        "south",
        "host-7",
        "Exit code: 3",
    ):
        assert part in text, part
    (run,) = tries(job, "tidy")
    assert f'data-run="{run.id}"' in text
    assert f"{MASK} is wrong" in text
    first = viewer.get(page_of(job, "begin")).content.decode()
    assert f"echo {MASK}" in first
    assert "canary-4711" not in text + first


def until_nodes() -> Claim:
    """The claim of the action that asks for nodes, with all before it done."""
    hand = ActionHand(*TAGS)
    hand.do_actions()
    for name in ("fetch", "north", "south"):
        hand.finish(hand.take(name))
    while (claim := hand.take_action()) is not None and claim.label != "nodes":
        assert reported(claim)
    assert claim is not None
    return claim


def test_nodes_are_shown_with_their_number_and_state_in_slurm(job: Job, viewer: Client) -> None:
    claim = until_nodes()
    (one,) = ledger.submissions(claim, 0, "/out", Launch(("python",), "/srv"))
    ledger.submitted(one.allocation_id, "4711")
    allocations.observed(one.allocation_id, "RUNNING", nodes="node[1-2]")
    text = viewer.get(page_of(job, "nodes")).content.decode()
    for part in ("4711", "RUNNING", "node[1-2]", "#SBATCH"):
        assert part in text, part
    found = next(one for one in data_of(viewer, job)["actions"] if one["name"] == "nodes")
    assert [(one["slurm"], one["status"]) for one in found["allocations"]] == [("4711", "active")]


def test_who_does_not_see_the_workspace_sees_no_action_of_it(
    job: Job, tmp_path: Path, viewer: Client
) -> None:
    other = start(workspace(tmp_path, FLOW, "other"))
    assert viewer.get(page_of(job, "tidy")).status_code == 200
    for wrong in (
        f"/admin/jobs/{job.pk}/actions/{action(other, 'tidy').pk}/",
        f"/admin/jobs/{job.pk}/actions/{2**64}/",
    ):
        assert viewer.get(wrong).status_code == 404
    assert client_of(person(Role.ADMIN, "another")).get(page_of(job, "tidy")).status_code == 404
    assert Client().get(page_of(job, "tidy")).status_code == 302


@pytest.mark.long
def test_pages_cost_the_same_however_many_actions_there_are(tmp_path: Path, viewer: Client) -> None:
    costs = []
    for count in (2, 40):
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
        pages = [
            f"/admin/jobs/job/{job.pk}/change/",
            f"/admin/jobs/{job.pk}/actions/{action(job, 'workflow_actions[1]').pk}/",
        ]
        row = Job.objects.only(*hub.JOB_FIELDS).get(pk=job.pk)
        for page in pages:
            viewer.get(page)
        with CaptureQueriesContext(connection) as queries:
            for page in pages:
                assert viewer.get(page).status_code == 200
            assert (
                len(json.loads(hub.state_item(row).text.partition("data: ")[2])["actions"]) == count
            )
        costs.append(len(queries))
    assert costs[0] == costs[1] <= 45


def test_an_open_page_is_told_of_actions_when_something_has_changed(job: Job) -> None:
    told: dict[Any, Any] = {}

    def state() -> Any:
        row = Job.objects.only(*hub.JOB_FIELDS).get(pk=job.pk)
        return json.loads(hub.state_item(row, [], told=told).text.partition("data: ")[2])

    assert {one["name"]: one["status"] for one in state()["actions"]} == actions(job)
    assert "actions" not in state()
    assert ActionHand(*TAGS).do_actions() == ["begin"]
    assert state()["actions"][0]["status"] == "succeeded"


def test_a_page_stays_open_until_the_last_action_of_an_ended_job_is_over(job: Job) -> None:
    def is_over() -> bool:
        return hub.state_item(Job.objects.only(*hub.JOB_FIELDS).get(pk=job.pk)).is_over

    hand = ActionHand(*TAGS)
    hand.do_actions()
    while (claim := hand.claim()) is not None or hand.do_actions():
        if claim is not None:
            hand.finish(claim)
            if fresh(job).status == "completed":
                break
    assert actions(job)["end"] == "armed" and not is_over()
    hand.do_actions()
    assert is_over()


def test_an_action_is_not_read_through_another_job(job: Job, tmp_path: Path) -> None:
    other = Job.objects.only(*hub.JOB_FIELDS).get(pk=start(workspace(tmp_path, FLOW, "other")).pk)
    with pytest.raises(Http404):
        live._choice(other, f"action-{action(job, 'begin').pk}")


def test_a_reader_gets_the_lines_of_one_action_or_of_one_run(job: Job) -> None:
    claim = ActionHand("script").take_action()
    assert claim is not None and claim.label == "begin"
    steps.append(claim, 1, [Line(0.0, "stdout", "mine")])
    user = person(Role.VIEWER)
    row = Job.objects.only(*hub.JOB_FIELDS).get(pk=job.pk)
    id = action(job, "begin").pk
    for wanted in (f"action-{id}", f"action-{id}-{claim.attempt_id}"):
        choice = live._choice(row, wanted)
        assert choice is not None
        (chunk,) = tails.piece(job.pk, choice, 0)
        assert '"line": "mine"' in chunk.lines and choice.wants(chunk)
    silent = live._choice(row, f"action-{action(job, 'tidy').pk}")
    assert silent is not None and not silent.wants(chunk) and tails.piece(job.pk, silent, 0) == []
    for wrong in (
        "action-",
        "action-x",
        f"action-{id}-999999",
        "action-99999999",
        f"action-{id}-{claim.attempt_id}-1",
    ):
        with pytest.raises(Http404):
            live._choice(row, wrong)
    answer = client_of(user).get(f"/admin/jobs/{job.pk}/actions/{id}/")
    assert answer.status_code == 200


def test_every_firing_is_an_event_of_the_job(job: Job) -> None:
    hand = ActionHand(*TAGS, name="host-7")
    hand.live_on({"tidy": StepOutcome(Verdict.FAILED, exit_code=3, error="Exit code: 3")})
    rows = StepEvent.objects.filter(
        job_id=job.pk, step_id=None, kind__startswith="action_"
    ).order_by("id")
    found = [(row.kind, row.detail, row.actor) for row in rows]
    assert [row for row in found if row[1].startswith("tidy")] == [
        ("action_armed", "tidy", ""),
        ("action_running", "tidy", "host-7"),
        ("action_run_failed", "tidy, try 1: Exit code: 3", ""),
        ("action_failed", "tidy: Exit code: 3", ""),
    ]
    assert {label for kind, label, _ in found if kind == "action_succeeded"} == {
        "begin",
        "nodes",
        "end",
    }


def test_why_an_allocation_waits_is_told_wherever_it_is_shown(job: Job, viewer: Client) -> None:
    claim = until_nodes()
    (one,) = ledger.submissions(claim, 0, "/out", Launch(("python",), "/srv"))
    ledger.submitted(one.allocation_id, "4711", "mpp2")
    said = "PartitionTimeLimit (the walltime is longer than the partition allows)"
    for reason in ("Priority", "Priority", "PartitionTimeLimit"):
        allocations.observed(one.allocation_id, "PENDING", reason=reason)

    def shown() -> tuple[str, ...]:
        (live_one,) = next(
            action["allocations"]
            for action in data_of(viewer, job)["actions"]
            if action["name"] == "nodes"
        )
        (api_one,) = next(
            action["allocations"] for action in actions_of(fresh(job)) if action["allocations"]
        )
        report = "\n".join(as_lines(Database().job(job.pk)))
        return live_one["reason"], api_one["reason"] or "", report

    live_reason, api_reason, report = shown()
    page = viewer.get(page_of(job, "nodes")).content.decode()
    assert (live_reason, api_reason) == (said, said)
    assert said in page and "4711 on mpp2" in page
    assert f"cpu: Slurm job 4711 on cluster mpp2, PENDING: {said}" in report
    kinds = StepEvent.objects.filter(job_id=job.pk, kind="allocation_pending").order_by("id")
    assert list(kinds.values_list("detail", flat=True)) == [
        "cpu as Slurm job 4711",
        "cpu as Slurm job 4711: Priority",
        f"cpu as Slurm job 4711: {said}",
    ]
    allocations.observed(one.allocation_id, "RUNNING", nodes="node1")
    live_reason, api_reason, report = shown()
    assert (live_reason, api_reason, said in report) == ("", "", False)


def test_asking_slurm_again_is_no_event_when_nothing_has_changed(job: Job) -> None:
    claim = until_nodes()
    (one,) = ledger.submissions(claim, 0, "/out", Launch(("python",), "/srv"))
    ledger.submitted(one.allocation_id, "4711")
    for state in ("PENDING", "PENDING", "RUNNING", "RUNNING", "COMPLETED"):
        allocations.observed(one.allocation_id, state, nodes="" if state == "PENDING" else "node1")
    kinds = StepEvent.objects.filter(job_id=job.pk, kind__startswith="allocation_").order_by("id")
    assert list(kinds.values_list("kind", "detail")) == [
        ("allocation_pending", "cpu as Slurm job 4711"),
        ("allocation_active", "cpu as Slurm job 4711 on node1"),
        ("allocation_complete", "cpu as Slurm job 4711 on node1"),
    ]
