"""A request to a webhook: one job, a line in the list, and nothing for whoever proves nothing."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from apps.accounts.models import Role
from apps.jobs.models import Job
from apps.triggers import hooks, services
from apps.triggers.models import Delivery, Firing, Trigger
from apps.triggers.transitions import KEPT_DELIVERIES
from apps.workspaces.services import import_folder
from tests.apps.api.callers import user
from tests.apps.jobs.builders import workspace
from tests.apps.triggers.test_pages import person

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "canary-4711-hook"
TEXT = """
secrets: {hook: canary-4711-hook}
tasks:
  main:
    input: {ref: {type: string}, count: {type: integer}}
    flow: {a: {type: script, script: "true"}}
triggers:
  push:
    type: webhook
    name: push
    task: main
    secret: "{{ secret.hook }}"
    filter: "{{ body.ref is defined }}"
    input: {ref: "{{ body.ref }} by {{ method }} {{ query.env | default(value='none') }}", count: "{{ body.count | default(value=1) }}"}
  open: {type: webhook, name: open, task: main, verify: none, allow_get: true}
  closed: {type: webhook, name: closed, task: main}
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    workspace(tmp_path, TEXT, "shop")


def post(path: str = "/hooks/push", body: Any = None, secret: str = SECRET, **headers: str) -> Any:
    named = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    if secret:
        named["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
    data = {"ref": "main"} if body is None else body
    return Client().post(path, json.dumps(data), content_type="application/json", **named)


def outcomes() -> list[str]:
    return list(Delivery.objects.order_by("id").values_list("outcome", flat=True))


def test_a_delivery_starts_one_job_with_what_it_brought() -> None:
    answer = post("/hooks/shop/push?env=prod&secret=x", x_extra="1")
    assert answer.status_code == 200, answer.content
    job = Job.objects.get()
    assert answer.json() == {"job_id": str(job.pk), "trigger": "push", "task": "main"}
    assert (job.source_type, job.source_id) == ("webhook", "shop/push")
    assert job.input["ref"] == "main by POST prod" and job.input["count"] == 1
    assert job.input["body"] == {"ref": "main"} and job.input["query"] == {"env": "prod"}
    assert job.input["headers"]["x-extra"] == "1" and "authorization" not in job.input["headers"]
    row = Delivery.objects.get()
    assert (row.outcome, row.answer, row.method) == ("started", 200, "POST")
    kept = json.dumps([job.input, row.headers, row.query]) + row.reason
    assert "4711" not in kept


@pytest.mark.parametrize("path", ["/hooks/push", "/hooks/shop/push", "/hooks/closed"])
def test_nobody_is_let_in_without_the_secret(path: str) -> None:
    for secret in ("", "wrong", "canary-4711-hoo"):
        answer = post(path, secret=secret)
        assert (answer.status_code, answer.json()["error"]) == (401, "Invalid or missing secret")
    assert post(f"{path}?secret={SECRET}", secret="").status_code == 401
    assert not Job.objects.exists() and not Firing.objects.exists()
    assert set(outcomes()) == {"rejected"}


@pytest.mark.long
def test_a_flood_of_bad_requests_leaves_few_lines_and_pushes_no_real_one_out() -> None:
    post()
    for _ in range(KEPT_DELIVERIES + 10):
        post(secret="wrong")
    assert 1 <= outcomes().count("rejected") <= 10
    assert outcomes().count("started") == 1


@pytest.mark.long
@pytest.mark.parametrize("each", [15, pytest.param(125, marks=pytest.mark.slow)])
def test_replays_of_one_delivery_by_eight_senders_make_one_job(each: int) -> None:
    barrier = threading.Barrier(8)

    def replay(_: int) -> set[str]:
        barrier.wait()
        try:
            return {post(webhook_id="msg_1").json()["job_id"] for _ in range(each)}
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        found = set[str]().union(*pool.map(replay, range(8)))
    assert found == {str(Job.objects.get().pk)}
    assert Delivery.objects.count() == KEPT_DELIVERIES
    assert set(outcomes()) == {"repeated"}


def test_a_filter_that_is_false_starts_nothing_and_says_so() -> None:
    answer = post(body={"zen": "keep it simple"})
    assert answer.status_code == 200
    assert answer.json() == {
        "trigger": "push", "task": "main", "skipped": True, "reason": "the filter is false",
    }  # fmt: skip
    assert outcomes() == ["skipped"] and not Job.objects.exists()


def test_input_that_the_task_refuses_is_an_answer_and_a_note() -> None:
    answer = post(body={"ref": "main", "count": "many"})
    assert answer.status_code == 422
    assert "'count' must be a whole number" in answer.json()["error"]
    trigger = Trigger.objects.get(name="push")
    assert trigger.failures == 1 and "whole number" in trigger.last_error
    assert outcomes() == ["refused"]
    assert post(body={"ref": {"deep": "\x00"}}).status_code == 422


@pytest.mark.parametrize("body", ["{", "a=1", '{"ref": NaN}', "[" * 100_000])
def test_a_body_that_is_said_to_be_json_and_is_none_is_refused(body: str) -> None:
    def send(kind: str) -> Any:
        return Client().post(
            "/hooks/open", body, content_type=kind, HTTP_AUTHORIZATION=f"Bearer {SECRET}"
        )

    for kind in ("application/json", "application/vnd.shop+json; charset=utf-8"):
        answer = send(kind)
        assert answer.status_code == 400 and "the body is no JSON" in answer.json()["error"]
    assert outcomes() == ["refused", "refused"] and not Job.objects.exists()
    assert Trigger.objects.get(name="open").failures == 2
    assert send("text/plain").status_code == 200
    assert Job.objects.get().input["body"] == body


def test_get_is_taken_only_where_the_author_allows_it() -> None:
    assert Client().get("/hooks/open?a=b").status_code == 200
    assert Client().get("/hooks/open?a=%00").status_code == 400
    assert Client().get("/hooks/push", HTTP_AUTHORIZATION=f"Bearer {SECRET}").status_code == 405
    assert Client().delete("/hooks/open").status_code == 405
    assert Client().get("/hooks/nothing").status_code == 404
    assert Client().post("/hooks/shop/nothing").json() == {"error": "Webhook not found"}
    assert Client().post("/hooks/%00").status_code == 404


def test_a_name_that_two_workspaces_have_needs_the_longer_address(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    workspace(tmp_path / "b", TEXT, "other")
    assert post("/hooks/push").status_code == 409
    assert post("/hooks/other/push").status_code == 200
    assert Job.objects.get().workspace.name == "other"


def test_a_paused_or_removed_webhook_starts_nothing(tmp_path: Path) -> None:
    services.pause(Trigger.objects.get(name="push").pk, by="ops@example.org")
    assert post().json()["reason"] == "the trigger is paused"
    off = TEXT.replace("name: push", "name: push\n    enabled: false")
    (tmp_path / "shop" / "workflow.yaml").write_text(off)
    assert not import_folder("shop", tmp_path / "shop").has_failed
    assert post().status_code == 404
    assert not Job.objects.exists()


def test_the_status_of_its_jobs_is_shown_to_whoever_knows_the_secret() -> None:
    job = post().json()["job_id"]
    path = f"/hooks/push/jobs/{job}"
    known = {"HTTP_AUTHORIZATION": f"Bearer {SECRET}"}
    answer = Client().get(path, **known)
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert answer.json()["status"] == "running"
    assert Client().get(f"{path}?wait=true&timeout=1", **known).status_code == 202
    assert Client().get(path).status_code == 401
    assert Client().get("/hooks/push/jobs/x", **known).json() == {"error": "Invalid job ID"}
    assert Client().get(f"{path}?wait=true&timeout=0", **known).status_code == 400
    for asked, sentence in {
        "wait=yes": "wait must be true or false",
        "wait=": "wait must be true or false",
        "timeout=5": "timeout goes with wait=true",
        "wait=true&timeout=": "timeout must be 1 to 300 seconds",
        "waits=true": "Unknown query parameter; expected one of: wait, timeout, secret",
    }.items():
        refused = Client().get(f"{path}?{asked}", **known)
        assert (refused.status_code, refused.json()) == (400, {"error": sentence})
    strange = Client().get(f"/hooks/open/jobs/{job}")
    assert (strange.status_code, strange.json()) == (404, {"error": "Job not found"})


def test_a_delivery_is_sent_again_by_hand() -> None:
    post(webhook_id="msg_1")
    reply = hooks.send_again(Delivery.objects.get(), user())
    assert reply.status == 200 and Job.objects.count() == 2
    first, second = Job.objects.order_by("created_at")
    assert first.input["body"] == second.input["body"]


def test_the_page_lists_deliveries_and_sends_one_again() -> None:
    post(x_token="canary-4711-hook")
    post(secret="wrong")
    browser = person(Role.OPERATOR)
    trigger = Trigger.objects.get(name="push")
    page = f"/admin/triggers/trigger/{trigger.pk}/change/"
    shown = browser.get(page).content.decode()
    assert "Last deliveries" in shown and shown.count("Send again") == 1 and "4711" not in shown
    kept = Delivery.objects.get(outcome="started")
    act = f"/admin/triggers/trigger/{trigger.pk}/act/again/"
    browser.post(act, {"delivery": kept.pk})
    assert Job.objects.count() == 2
    for wrong in ("", "x", "999999", "9" * 40):
        assert (
            "not kept any more"
            in browser.post(act, {"delivery": wrong}, follow=True).content.decode()
        )
    assert person(Role.VIEWER).post(act, {"delivery": kept.pk}).status_code == 403
    assert Job.objects.count() == 2


@pytest.mark.long
def test_only_the_last_deliveries_are_kept() -> None:
    for number in range(KEPT_DELIVERIES + 5):
        post("/hooks/open", {"n": number}, secret="")
    assert Delivery.objects.count() == KEPT_DELIVERIES
