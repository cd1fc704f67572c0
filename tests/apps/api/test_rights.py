"""Rights on folders and tasks through the API: what somebody must not see does not exist."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts import tokens
from apps.accounts.models import Role, User, WorkspaceGrant
from apps.agents.models import Spending
from apps.api import sockets
from apps.api.mcp.tools import Toolbox
from apps.artifacts.state.keeping import Writer
from apps.jobs.models import Job, Step
from apps.jobs.services import cancel_job
from apps.workspaces.models import Workspace
from apps.workspaces.rights import NO_INPUTS, NO_LOGS
from apps.workspaces.services import refresh
from engine.rights import Right
from engine.state import Change
from tests.apps.api.callers import client_of, user
from tests.apps.artifacts.builders import shelve
from tests.apps.artifacts.remembering import remember
from tests.apps.jobs.builders import Hand, failed, output, start, workspace

pytestmark = pytest.mark.django_db
FLOW = """
actions:
  work: {type: script, script: "true"}
  ask: {type: approval, message: "Ship {{ input.word }}?"}
  tell: {type: script, script: "true"}
tasks:
  open:
    mcp: true
    input: {word: {type: string, default: hello}}
    flow: {one: {action: work, input: {word: "{{ input.word }}"}}, gate: {action: ask, depends_on: [one], input: {}}}
  release:
    folder: deploy
    mcp: true
    input: {word: {type: string, default: hidden-canary}}
    flow: {one: {action: work}}
    on_error: [{action: tell}]
triggers:
  nightly: {type: scheduler, cron: "0 0 * * *", task: release}
  hourly: {type: scheduler, cron: "0 * * * *", task: open}
"""


@dataclass
class Place:
    row: Workspace
    open: Job
    release: Job


@pytest.fixture
def place(tmp_path: Path) -> Place:
    row = workspace(tmp_path, FLOW, "shop")
    return Place(row, start(row, "open"), start(row, "release"))


def granted(
    *rights: Right, tasks: str = "*", role: Role = Role.CUSTOM, to: User | None = None
) -> User:
    person = to or user()
    WorkspaceGrant.objects.create(
        user=person, pattern="*", tasks=tasks, role=role, rights=list(map(str, rights))
    )
    return User.objects.get(pk=person.pk)


def outsider() -> User:
    """Operates everything but the folder `deploy`, which is denied."""
    return granted(tasks="deploy/*", role=Role.DENY, to=granted(role=Role.OPERATOR))


def insider() -> User:
    """Operates the tasks without a folder, by a grant of these alone."""
    return granted(tasks="open", role=Role.OPERATOR)


@pytest.mark.parametrize("make", [outsider, insider])
def test_a_task_that_somebody_must_not_see_is_in_no_list(place: Place, make: Any) -> None:
    for task in ("release", "open"):
        Spending.objects.create(
            day=timezone.now().date(), workspace="shop", task_name=task, provider="p",
            **dict.fromkeys(("answers", "unpriced", "tokens_in", "tokens_out", "cached", "cost"), 1),
        )  # fmt: skip
    client = client_of(make())
    for path in (
        "/api/jobs", "/api/jobs?workspace=shop", "/api/jobs?search=rel", "/api/tasks", "/api/triggers",
        "/api/workspaces/shop/tasks", "/api/workspaces/shop/triggers", "/api/agents/costs?days=366",
        "/api/workspaces/shop/tasks/open", "/api/approvals", "/api/workspaces",
        f"/api/jobs?id_prefix={str(place.release.pk)[:8]}",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.content)
        for word in ("release", "nightly", "deploy", str(place.release.pk)):
            assert word not in answer.content.decode(), (path, word)
    assert client.get("/api/jobs").json()["total"] == 1
    assert sum(client.get("/api/stats").json().values()) == 1
    (listed,) = client.get("/api/workspaces").json()
    assert (listed["tasks_count"], listed["triggers_count"]) == (1, 1)


@pytest.mark.parametrize("make", [outsider, insider])
def test_it_is_answered_like_one_that_does_not_exist(place: Place, make: Any) -> None:
    client, job = client_of(make()), place.release.pk
    remember(place.row.pk, "release", Change(0, {"n": 1}), Writer("step"))
    shelve(place.release, "one", {"f": b"x"})
    task, none = "/api/workspaces/shop/tasks/release", "/api/workspaces/shop/tasks/never"
    for method, path, like in (
        ("get", task, none),
        ("post", f"{task}/execute", f"{none}/execute"),
        ("post", f"{task}/plan", f"{none}/plan"),
        ("get", f"{task}/stats", f"{none}/stats"),
        ("get", f"{task}/state", f"{none}/state"),
        ("get", f"{task}/state/history", f"{none}/state/history"),
        ("get", f"{task}/state/archive", f"{none}/state/archive"),
        ("post", f"{task}/state/versions/1/restore", f"{none}/state/versions/1/restore"),
        ("get", "/api/workspaces/shop/triggers/nightly", "/api/workspaces/shop/triggers/never"),
        ("post", "/api/workspaces/shop/triggers/nightly/fire", "/api/workspaces/shop/triggers/never/fire"),
    ):  # fmt: skip
        hidden, missing = getattr(client, method)(path), getattr(client, method)(like)
        assert (hidden.status_code, hidden.json()) == (404, missing.json()), path
    never = "00000000-0000-4000-8000-000000000000"
    for rest in (
        "", "/steps", "/logs", "/news", "/artifacts", "/artifacts.zip", "/artifacts/f", "/steps/one/logs",
        "/workflow-actions", "/steps/one/transcript", "/steps/one/approval",
    ):  # fmt: skip
        hidden, missing = (
            client.get(f"/api/jobs/{job}{rest}"),
            client.get(f"/api/jobs/{never}{rest}"),
        )
        assert (hidden.status_code, hidden.json()) == (404, missing.json()), rest
    for rest in ("/cancel", "/restart"):
        assert client.post(f"/api/jobs/{job}{rest}").status_code == 404


def test_agents_from_outside_see_no_more(place: Place) -> None:
    box = Toolbox(outsider())
    assert not [tool for tool in box.list_tools() if "release" in tool.name]
    for name, given in (
        ("list_tasks", {}), ("list_tasks", {"workspace": "shop"}), ("list_jobs", {}),
        ("list_workspaces", {}),
    ):  # fmt: skip
        assert "release" not in box.begin(name, given).text  # type: ignore[union-attr]
    for name, given in (
        ("get_task", {"workspace": "shop", "task_name": "release"}),
        ("execute_task", {"workspace": "shop", "task_name": "release"}),
        ("get_job_status", {"job_id": str(place.release.pk)}),
        ("get_job_logs", {"job_id": str(place.release.pk)}),
        ("cancel_job", {"job_id": str(place.release.pk)}),
        ("shop__release", {}),
    ):  # fmt: skip
        answer = box.begin(name, given)
        assert answer.is_error, name  # type: ignore[union-attr]
        assert "not found" in answer.text or "no tool" in answer.text  # type: ignore[union-attr]


def test_who_may_only_run_some_tasks_runs_these(place: Place) -> None:
    client = client_of(granted(Right.RUN, tasks="deploy/*", to=granted(role=Role.VIEWER)))
    tasks = {row["id"]: row["can_execute"] for row in client.get("/api/tasks").json()}
    assert tasks == {"open": False, "release": True}
    execute = "/api/workspaces/shop/tasks/{}/execute"
    refused = client.post(execute.format("open"), {"input": {}}, format="json")
    assert (refused.status_code, refused.json()["error"]) == (403, "View-only access")
    assert client.post(execute.format("release"), {"input": {}}, format="json").status_code == 200
    assert client.post(f"/api/jobs/{place.open.pk}/cancel").status_code == 403
    assert client.post(f"/api/jobs/{place.release.pk}/cancel").status_code == 200


def test_a_job_without_its_inputs_says_so_and_repeats_them_nowhere(place: Place) -> None:
    hand = Hand()
    claim = hand.claim()
    assert claim is not None
    hand.start(claim)
    hand.finish(claim, output({"word": "canary-out"}))
    shelve(place.open, "one", {"f": b"canary-file"})
    remember(place.row.pk, "open", Change(0, {"n": "canary-state"}), Writer("step"))
    client = client_of(granted(Right.SEE, Right.LOGS, Right.RUN))
    job = f"/api/jobs/{place.open.pk}"
    shown = client.get(job).json()
    assert (shown["input"], shown["raw_input"], shown["output"]) == (None, None, None)
    assert all((step["input"], step["output"]) == (None, None) for step in shown["steps"])
    assert shown["hidden"] == {"inputs": NO_INPUTS}
    assert client.get(f"{job}/steps").json()["hidden"] == {"inputs": NO_INPUTS}
    for path in (
        f"{job}/artifacts", f"{job}/artifacts.zip", f"{job}/artifacts/f", f"{job}/steps/one/transcript",
        "/api/workspaces/shop/tasks/open/state", "/api/workspaces/shop/tasks/open/state/archive",
        "/api/workspaces/shop/tasks/open/state/history",
    ):  # fmt: skip
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (403, NO_INPUTS), path
    (asked,) = client.get(f"/api/approvals?job={place.open.pk}").json()["items"]
    assert asked["message"] == NO_INPUTS
    for path in (job, f"{job}/steps", f"{job}/news", f"/api/approvals?job={place.open.pk}"):
        assert "hello" not in client.get(path).content.decode(), path
        assert "canary" not in client.get(path).content.decode(), path
    told = Toolbox(granted(Right.SEE)).begin("get_job_status", {"job_id": str(place.open.pk)})
    assert "right 'inputs' is missing" in told.text  # type: ignore[union-attr]


def test_logs_that_somebody_must_not_see_are_refused_not_empty(place: Place) -> None:
    hand = Hand()
    while (claim := hand.claim()) is not None:
        hand.start(claim)
        hand.finish(claim, failed("canary-error"))
    client = client_of(granted(Right.SEE, Right.INPUTS))
    job = f"/api/jobs/{place.open.pk}"
    logs = [f"{job}/logs", f"{job}/steps/one/logs", f"{job}/steps/_server/logs"]
    for path in (*logs, f"{job}/logs/search?q=canary"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (403, NO_LOGS), path
    shown = client.get(job)
    assert shown.json()["hidden"] == {"logs": NO_LOGS}
    news = client.get(f"{job}/news")
    assert (news.json()["logs"], bool(news.json()["hidden"])) == ([], True)
    for answer in (shown, news, client.get(f"{job}/steps")):
        assert "canary-error" not in answer.content.decode()
    for name in ("get_job_logs", "get_job_status", "wait_for_job"):
        told = Toolbox(granted(Right.SEE)).begin(name, {"job_id": str(place.open.pk)})
        assert "right 'logs' is missing" in told.text  # type: ignore[union-attr]
        assert "canary-error" not in told.text  # type: ignore[union-attr]


@pytest.mark.sample(6)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", ["jobs_log", "jobs_log_search"])
@pytest.mark.parametrize(("log", "status"), [("all", 403), ("", 403), ("none", 404)])
def test_no_page_gives_lines_of_it_either(
    place: Place, page: str, log: str, status: int, client: Client
) -> None:
    person = granted(Right.SEE, Right.INPUTS)
    User.objects.update(is_staff=True)
    client.force_login(person)
    address = reverse(page, args=[place.open.pk])
    assert client.get(address, {"log": log, "q": "e"}).status_code == status


def test_the_socket_of_a_log_is_refused_in_the_same_words(place: Place) -> None:
    for person, status, words in (
        (granted(Right.SEE), 403, NO_LOGS),
        (outsider(), 404, "Job not found"),
        (user(), 404, "Job not found"),
    ):
        token = tokens.issue_access(person, timezone.now())
        with pytest.raises(sockets._Refused, match=words) as refused:
            sockets._admit(sockets.Ticket(token, str(place.release.pk), True))
        assert refused.value.code == status


def test_an_etag_of_somebody_who_sees_less_is_another_one(place: Place) -> None:
    job = f"/api/jobs/{place.open.pk}"
    whole = client_of(granted(role=Role.VIEWER)).get(job).headers["ETag"]
    part = client_of(granted(Right.SEE)).get(job, HTTP_IF_NONE_MATCH=whole)
    assert (part.status_code, part.headers["ETag"] != whole) == (200, True)


def test_a_hooks_job_belongs_to_the_whole_workspace(place: Place) -> None:
    cancel_job(place.open.pk, actor="x")
    hand = Hand()
    while (claim := hand.claim()) is not None:
        hand.start(claim)
        hand.finish(claim, failed())
    hook = Job.objects.get(source_type="hook")
    assert client_of(granted(role=Role.VIEWER)).get(f"/api/jobs/{hook.pk}").status_code == 200
    for person in (outsider(), insider()):
        assert client_of(person).get(f"/api/jobs/{hook.pk}").status_code == 404


def test_rights_follow_the_folder_that_the_task_has_now(place: Place, tmp_path: Path) -> None:
    person = granted(tasks="deploy/*", role=Role.VIEWER)
    assert client_of(person).get(f"/api/jobs/{place.open.pk}").status_code == 404
    file = tmp_path / "shop" / "workflow.yaml"
    file.write_text(file.read_text().replace("    mcp: true\n", "    folder: deploy\n", 1))
    refresh(place.row)
    person = User.objects.get(pk=person.pk)
    assert client_of(person).get(f"/api/jobs/{place.open.pk}").status_code == 200


def test_a_task_that_has_left_the_files_keeps_its_folder(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "shop" / "workflow.yaml"
    text = file.read_text()
    file.write_text(text[: text.index("  release:")] + text[text.index("triggers:") :].replace(
        '  nightly: {type: scheduler, cron: "0 0 * * *", task: release}\n', ""
    ))  # fmt: skip
    assert not refresh(place.row).has_failed
    path = f"/api/jobs/{place.release.pk}"
    assert client_of(granted(tasks="deploy/*", role=Role.VIEWER)).get(path).status_code == 200
    assert client_of(outsider()).get(path).status_code == 404


def test_access_in_the_files_takes_rights_and_gives_none(tmp_path: Path) -> None:
    kept = "tasks:\n  open:\n    access: {run: {users: [Ann@example.org]}, inputs: {groups: [audit]}}\n"
    row = workspace(tmp_path, FLOW.replace("tasks:\n  open:\n", kept), "shop")
    job = start(row, "open")
    ann = User.objects.create_user("ann@example.org")
    path = "/api/workspaces/shop/tasks/open"
    assert client_of(ann).get(path).status_code == 404
    ann, bob = granted(role=Role.OPERATOR, to=ann), granted(role=Role.ADMIN)
    for person, may_run in ((ann, True), (bob, False)):
        client = client_of(person)
        assert client.get(path).json()["can_execute"] is may_run
        assert client.get("/api/workspaces/shop/tasks/release").json()["can_execute"]
        assert client.get(f"/api/jobs/{job.pk}").json()["hidden"] == {"inputs": NO_INPUTS}
    viewer = granted(role=Role.VIEWER, to=User.objects.create_user("cy@example.org"))
    assert not client_of(viewer).get(path).json()["can_execute"]
    root = user(is_superuser=True)
    assert client_of(root).get(path).json()["can_execute"]


def test_the_workspaces_secrets_and_state_are_for_those_with_the_whole_of_it(place: Place) -> None:
    remember(place.row.pk, "", Change(0, {"n": 1}), Writer("step"))
    part = client_of(granted(tasks="deploy/*", role=Role.ADMIN))
    secrets = client_of(granted(Right.SECRETS))
    assert part.get("/api/workspaces/shop/secrets").status_code == 403
    assert part.get("/api/workspaces/shop/state").status_code == 403
    assert part.post("/api/workspaces/shop/refresh").status_code == 403
    assert part.delete("/api/workspaces/shop/tasks/release/state").status_code == 200
    assert secrets.get("/api/workspaces/shop/secrets").status_code == 200
    assert secrets.get("/api/workspaces/shop/subscriptions").status_code == 403
    assert secrets.get("/api/workspaces/shop/state").status_code == 403


def test_problems_of_the_files_are_told_to_those_who_see_all_of_them(
    place: Place, tmp_path: Path
) -> None:
    file = tmp_path / "shop" / "workflow.yaml"
    file.write_text(file.read_text().replace("folder: deploy", "folder: 7"))
    assert refresh(place.row).has_failed
    (whole,) = client_of(granted(role=Role.VIEWER)).get("/api/workspaces").json()
    assert "release" in whole["error"]
    answer = client_of(insider()).get("/api/workspaces")
    assert answer.json()[0]["state"] == "failed"
    assert "release" not in answer.content.decode()


def queries(client: APIClient, path: str) -> int:
    with CaptureQueriesContext(connection) as caught:
        assert client.get(path).status_code == 200
    return len(caught)


@pytest.mark.long
def test_more_jobs_and_more_rules_cost_no_more_queries(place: Place, tmp_path: Path) -> None:
    person = outsider()
    paths = (
        "/api/jobs",
        "/api/tasks",
        "/api/stats",
        "/api/triggers",
        "/api/workspaces",
        "/api/approvals",
    )
    for path in paths:
        client_of(person).get(path)
    before = [queries(client_of(person), path) for path in paths]
    for number in range(3):
        other = workspace(tmp_path, FLOW, f"other{number}")
        for _ in range(3):
            start(other, "open")
        granted(Right.LOGS, tasks=f"deploy/{number}*", to=person)
        client_of(person).get("/api/tasks")
    assert [queries(client_of(person), path) for path in paths] == before


def test_steps_on_a_worker_are_those_of_visible_tasks(place: Place) -> None:
    hand = Hand()
    while (claim := hand.claim()) is not None:
        hand.start(claim)
    assert Step.objects.filter(worker_id=hand.id).count() == 2
    shown = client_of(outsider()).get(f"/api/workers/{hand.id}").json()["steps"]
    assert [row["task_name"] for row in shown["items"]] == ["open"]
