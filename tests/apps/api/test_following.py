"""What callers need to follow jobs: cursors, ETags, news, and jobs by the beginning of their id."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Role
from apps.jobs.models import Job
from tests.apps.api.callers import caller, error
from tests.apps.jobs.builders import DONE, Hand, failed, start, workspace

pytestmark = pytest.mark.django_db
FAMILY = """
actions: {work: {type: script, script: "true"}}
tasks:
  main:
    on_success: [{action: work}]
    flow: {call: {type: task, task: inner}}
  inner: {flow: {within: {action: work}}}
"""


def pages(client: APIClient, query: str = "") -> list[list[str]]:
    """The ids of each page of two, from the newest on."""
    found: list[list[str]] = []
    cursor = ""
    while True:
        page = client.get(f"/api/jobs?limit=2{query}{cursor}").json()
        found.append([item["job_id"] for item in page["items"]])
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def test_cursors_lead_through_all_jobs_once(shop: Any, operator: APIClient) -> None:
    jobs = [start(shop, name=str(number)) for number in range(5)]
    Job.objects.filter(pk__in=[job.pk for job in jobs[1:4]]).update(created_at=jobs[1].created_at)
    newest = Job.objects.order_by("-created_at", "-id").values_list("pk", flat=True)
    expected = [str(pk) for pk in newest]
    assert [one for page in pages(operator) for one in page] == expected
    assert pages(operator, "&status=completed") == [[]]
    first = operator.get("/api/jobs?limit=2").json()
    start(shop, name="new")
    second = operator.get(f"/api/jobs?limit=2&cursor={first['next']}").json()
    assert [item["job_id"] for item in second["items"]] == expected[2:4]
    assert second["total"] == 6


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("cursor=x", "cursor must be the `next` of an earlier answer"),
        ("cursor=1-2", "cursor must be the `next` of an earlier answer"),
        (f"cursor=1-{'0' * 32}&offset=2", "give cursor or offset, not both"),
        ("id_prefix=abc", "id_prefix must be 4 to 32 hexadecimal digits of a job's id"),
        ("id_prefix=wxyz", "id_prefix must be 4 to 32 hexadecimal digits of a job's id"),
    ],
)
def test_a_wrong_cursor_or_prefix_is_refused(operator: APIClient, query: str, text: str) -> None:
    answer = operator.get(f"/api/jobs?{query}")
    assert (answer.status_code, error(answer)) == (400, text)


def test_a_cursor_of_a_far_future_or_past_is_no_failure(operator: APIClient) -> None:
    for at in ("0", "9" * 17):
        assert operator.get(f"/api/jobs?cursor={at}-{'f' * 32}").status_code == 200


def test_jobs_are_found_by_the_beginning_of_their_id(shop: Any, operator: APIClient) -> None:
    jobs = [start(shop, name="x") for _ in range(3)]
    for job in jobs:
        for typed in (str(job.pk), job.pk.hex[:12], str(job.pk)[:13].upper()):
            items = operator.get(f"/api/jobs?id_prefix={typed}").json()["items"]
            assert [item["job_id"] for item in items] == [str(job.pk)]


def test_an_unchanged_job_is_304(shop: Any, operator: APIClient) -> None:
    job, hand = start(shop, name="x"), Hand()
    path = f"/api/jobs/{job.pk}"

    def ask(tag: str) -> tuple[int, str]:
        answer = operator.get(path, HTTP_IF_NONE_MATCH=tag)
        return answer.status_code, answer.headers["ETag"]

    tag = operator.get(path).headers["ETag"]
    assert ask(tag) == (304, tag)
    assert ask(f'"other", {tag}') == (304, tag)
    assert ask("") == (200, tag)
    seen = {tag}
    claim = hand.claim()
    assert claim is not None
    for move in (lambda: None, lambda: hand.finish(claim, failed()), lambda: None):
        move()
        status, tag = ask(tag)
        if tag not in seen:
            assert status == 200
        seen.add(tag)
    assert len(seen) == 3
    assert operator.get(f"{path}?steps=false").headers["ETag"] not in seen
    stranger = caller(Role.ADMIN, "other")
    assert stranger.get(path, HTTP_IF_NONE_MATCH=tag).status_code == 404


def test_a_job_is_shown_without_its_steps(shop: Any, operator: APIClient) -> None:
    job = start(shop, name="x")
    shown = operator.get(f"/api/jobs/{job.pk}?steps=false").json()
    assert (shown["steps"], shown["status"]) == ([], "running")
    answer = operator.get(f"/api/jobs/{job.pk}?steps=no")
    assert (answer.status_code, error(answer)) == (400, "steps must be true or false")


def test_attempts_are_shown_with_the_names_of_their_workers(shop: Any, operator: APIClient) -> None:
    job, hand = start(shop, name="x"), Hand(name="bench-1")
    claim = hand.claim()
    assert claim is not None
    hand.finish(claim, failed("Exit code: 3", 3))
    step = operator.get(f"/api/jobs/{job.pk}").json()["steps"][0]
    (attempt,) = step["attempts"]
    assert (attempt["worker"], attempt["status"], attempt["exit_code"]) == ("bench-1", "failed", 3)
    assert step["retry_history"][0]["error"] == attempt["error"] == "Exit code: 3"


def test_steps_come_in_pages_in_flow_order(tmp_path: Any, operator: APIClient) -> None:
    text = """
actions: {work: {type: script, script: "true"}}
tasks:
  main:
    flow:
      all: {action: work, for_each: [a, b, c, d, e, f, g, h, i, j, k], max_parallel: 2}
      last: {action: work, depends_on: [all]}
"""
    job, hand = start(workspace(tmp_path, text, "own")), Hand()
    path = f"/api/jobs/{job.pk}"
    whole = [step["step_name"] for step in operator.get(path).json()["steps"]]
    assert whole == ["all", *(f"all[{n}]" for n in range(11)), "last"]
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = operator.get(f"{path}/steps?limit=4{cursor and f'&cursor={cursor}'}").json()
        assert page["total"] == 13
        found += [step["step_name"] for step in page["items"]]
        cursor = page["next"]
    assert found == whole
    assert hand.claim() is not None
    running = operator.get(f"{path}/steps?status=running").json()
    assert [step["step_name"] for step in running["items"]] == ["all", "all[0]"]
    for query in ("cursor=x", "cursor=1~2", "status=done"):
        assert operator.get(f"{path}/steps?{query}").status_code == 400


@pytest.mark.django_db(transaction=True)
def test_news_tell_of_all_jobs_that_one_set_off(tmp_path: Any, operator: APIClient) -> None:
    job, hand = start(workspace(tmp_path, FAMILY, "own")), Hand()
    path = f"/api/jobs/{job.pk}/news"
    claim = hand.claim()
    assert claim is not None
    news = operator.get(path).json()
    assert [one["parent_step"] for one in news["relatives"]] == ["call"]
    assert {(step["name"], step["status"]) for step in news["steps"]} >= {("within", "running")}
    assert news["has_ended"] is False
    hand.finish(claim, DONE)
    hook = hand.claim()
    assert hook is not None
    news = operator.get(f"{path}?after={news['next']}").json()
    assert [one["source_type"] for one in news["relatives"]] == ["task", "hook"]
    assert news["has_ended"] is False
    hand.finish(hook, DONE)
    news = operator.get(path).json()
    assert news["has_ended"] is True
    told = [json.loads(line) for part in news["logs"] for line in part["logs"].splitlines()]
    assert all({"ts", "stream", "step", "line"} <= set(line) for line in told)


def test_news_leave_out_jobs_that_may_not_be_seen(tmp_path: Any) -> None:
    own, other = (workspace(tmp_path, FAMILY, name) for name in ("own", "other"))
    job, hidden = start(own), start(other)
    Job.objects.filter(pk=hidden.pk).update(parent_job_id=job.pk, parent_step_name="call")
    path = f"/api/jobs/{job.pk}/news"
    assert str(hidden.pk) in caller(Role.VIEWER).get(path).content.decode()
    assert str(hidden.pk) not in caller(Role.VIEWER, "own").get(path).content.decode()


@pytest.mark.parametrize("known", ["x", "1,,x", "1" * 19, ",".join(["1"] * 1001)])
def test_wrong_ids_of_known_actions_are_refused(shop: Any, operator: APIClient, known: str) -> None:
    job = start(shop, name="x")
    answer = operator.get(f"/api/jobs/{job.pk}/news?known={known}")
    assert (answer.status_code, error(answer)) == (
        400,
        "known must be at most 1000 ids with commas between them",
    )


def test_connections_are_named_without_their_values(tmp_path: Any, operator: APIClient) -> None:
    text = """
connection_types: {db: {host: {type: string}, password: {type: string, secret: true}}}
connections: {main: {type: db, host: h, password: canary-4711}}
tasks: {t: {flow: {s: {type: script, script: x}}}}
"""
    workspace(tmp_path, text, "own")
    answer = operator.get("/api/v1/workspaces/own/connections")
    (found,) = answer.json()
    assert (found["name"], found["type"], found["source"]) == ("main", "db", "files")
    assert "canary" not in answer.content.decode()
