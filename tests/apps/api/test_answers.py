"""Shapes and messages of the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from apps.accounts.models import Role
from apps.jobs.models import Job
from apps.workspaces import revisions, services
from engine import VERSION
from tests.apps.api.callers import PASSWORD, caller, client_of, error, user
from tests.apps.api.shop import SHOP
from tests.apps.jobs.builders import Hand, failed, output, start, workspace

pytestmark = pytest.mark.django_db


# open routes and signing in


def test_the_server_says_that_it_is_well() -> None:
    assert APIClient().get("/healthz").json() == {"status": "ok", "db": "ok"}


def test_the_configuration_is_open_and_the_version_is_the_products() -> None:
    assert APIClient().get("/api/config").json() == {
        "auth_required": True,
        "acl_enabled": True,
        "oidc_providers": [],
        "has_internal_auth": True,
        "version": VERSION,
    }
    assert f'version = "{VERSION}"' in (django_settings.BASE_DIR / "pyproject.toml").read_text()


def test_signing_in_gives_a_bearer_token_and_a_cookie_for_refreshing() -> None:
    person = user(Role.VIEWER)
    client = APIClient()
    answer = client.post(
        "/api/auth/login", {"email": person.email, "password": PASSWORD}, format="json"
    )
    assert set(answer.json()) == {"access_token"}
    cookie = answer.cookies["stroem_refresh"]
    assert (cookie["path"], cookie["samesite"], cookie["httponly"], cookie["max-age"]) == (
        "/api/auth",
        "Strict",
        True,
        2592000,
    )
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access_token']}")
    me = client.get("/api/auth/me").json()
    assert (me["email"], me["is_admin"], me["groups"]) == (person.email, False, [])
    assert set(me) == {"user_id", "name", "email", "is_admin", "groups", "created_at"}
    first = cookie.value
    second = client.post("/api/auth/refresh").cookies["stroem_refresh"].value
    assert second != first
    assert client.post("/api/auth/logout").json() == {"status": "ok"}
    answer = APIClient().post("/api/auth/refresh", {"refresh_token": second}, format="json")
    assert (answer.status_code, error(answer)) == (401, "Invalid refresh token")


def test_a_refused_sign_in_is_uniform_and_limited() -> None:
    person = user()
    client = APIClient()
    for email in (person.email, "nobody@example.org"):
        answer = client.post(
            "/api/auth/login", {"email": email, "password": "wrong"}, format="json"
        )
        assert (answer.status_code, answer.json()) == (
            401,
            {"error": "Invalid email or password", "code": "unauthenticated"},
        )
    for _ in range(4):
        client.post("/api/auth/login", {"email": person.email, "password": "wrong"}, format="json")
    answer = client.post(
        "/api/auth/login",
        {"email": person.email, "password": "wrong"},
        format="json",
        HTTP_X_FORWARDED_FOR="9.9.9.9",
    )
    assert (answer.status_code, error(answer)) == (429, "Too many requests")
    assert answer.headers["Retry-After"] == str(answer.json()["retry_after_secs"])
    right = {"email": person.email, "password": PASSWORD}
    assert client.post("/api/auth/login", right, format="json").status_code == 200


def test_refreshing_without_a_token_is_refused() -> None:
    answer = APIClient().post("/api/auth/refresh")
    assert (answer.status_code, error(answer)) == (401, "No refresh token provided")


def test_keys_are_made_listed_used_and_revoked() -> None:
    client = client_of(user(Role.VIEWER))
    made = client.post(
        "/api/auth/api-keys", {"name": "ci", "expires_in_days": 7}, format="json"
    ).json()
    ours = {"name", "prefix", "expires_at", "previous_until", "scopes", "workspaces"}
    assert set(made) == {*ours, "key"}
    (listed,) = client.get("/api/auth/api-keys").json()
    assert set(listed) == {*ours, "created_at", "last_used_at"}
    assert made["key"] not in str(listed)
    program = APIClient()
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {made['key']}")
    assert program.get("/api/jobs").status_code == 200
    path = f"/api/auth/api-keys/{made['prefix']}"
    assert client_of(user()).delete(path).status_code == 404
    assert client.delete(path).json() == {"status": "ok"}
    assert program.get("/api/jobs").status_code == 401
    answer = client.delete(path)
    assert (answer.status_code, error(answer)) == (404, "API key not found")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Name is required"),
        ({"name": ""}, "Name is required"),
        ({"name": "x", "expires_in_days": 0}, "expires_in_days must be positive"),
        ({"name": "x", "expires_in_days": -1}, "expires_in_days must be positive"),
        ({"name": "x", "expires_in_days": "soon"}, "a whole number"),
        ({"name": "x" * 201}, "200"),
        ([], "must be an object"),
    ],
)
def test_a_key_that_cannot_be_made_is_one_sentence(body: Any, text: str) -> None:
    answer = caller().post("/api/auth/api-keys", body, format="json")
    assert answer.status_code == 400
    assert text in error(answer)


# bodies


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"", b"[1]", b'"x"', b"{'a': 1}", b'{"input": NaN}', b'{"input": Infinity}', b"\xff\xfe", b"[" * 100_000,
        b'{"input": {"a": "\\u0000"}}', b'{"input": {"\\u0000": 1}}', b'{"input": {"a": "\\ud800"}}', b'{"input": 7}',
        b'{"input": {"a": ' + b"9" * 5000 + b"}}",
    ],
)  # fmt: skip
def test_a_body_that_is_no_object_is_400(shop: Any, operator: APIClient, body: bytes) -> None:
    answer = operator.generic(
        "POST", "/api/workspaces/shop/tasks/main/execute", body, content_type="application/json"
    )
    assert answer.status_code == 400, answer.content
    assert error(answer)
    assert not Job.objects.exists()


@pytest.mark.parametrize("body", [b"[]", b"0", b"null", b"false", b'""', b'{"input": []}'])
def test_a_body_that_is_nearly_nothing_starts_nothing(
    tmp_path: Path, operator: APIClient, body: bytes
) -> None:
    workspace(tmp_path, "tasks: {main: {flow: {one: {type: script, script: 'true'}}}}", "bare")
    answer = operator.generic(
        "POST", "/api/workspaces/bare/tasks/main/execute", body, content_type="application/json"
    )
    assert answer.status_code == 400, answer.content
    assert not Job.objects.exists()


def test_no_body_at_all_is_no_input(tmp_path: Path, operator: APIClient) -> None:
    workspace(tmp_path, "tasks: {main: {flow: {one: {type: script, script: 'true'}}}}", "bare")
    assert operator.post("/api/workspaces/bare/tasks/main/execute").status_code == 200


TYPED = """tasks:
  main:
    input: {v: {type: string}, n: {type: number}}
    flow: {one: {type: script, script: 'true'}}
"""


@pytest.mark.parametrize("typed", ["3.10", "12e45", "1e999"])
def test_a_number_for_a_text_field_is_taken_as_the_caller_wrote_it(
    tmp_path: Path, operator: APIClient, typed: str
) -> None:
    workspace(tmp_path, TYPED, "bare")
    body = f'{{"input": {{"v": {typed}, "n": 0.10}}}}'.encode()
    answer = operator.generic(
        "POST", "/api/workspaces/bare/tasks/main/execute", body, content_type="application/json"
    )
    assert answer.status_code == 200, answer.content
    assert Job.objects.get().input == {"v": typed, "n": 0.1}


@pytest.mark.parametrize("number", [b"0.12345678901234567891", b"1e999", b"9223372036854775808"])
def test_a_number_that_would_not_be_exact_is_400(
    tmp_path: Path, operator: APIClient, number: bytes
) -> None:
    workspace(tmp_path, TYPED, "bare")
    answer = operator.generic(
        "POST",
        "/api/workspaces/bare/tasks/main/execute",
        b'{"input": {"n": ' + number + b"}}",
        content_type="application/json",
    )
    assert answer.status_code == 400 and "input 'n'" in error(answer)
    assert not Job.objects.exists()


def test_a_backslash_before_u0000_is_text(shop: Any, operator: APIClient) -> None:
    body = {"input": {"name": "a\\u0000b"}}
    assert (
        operator.post("/api/workspaces/shop/tasks/main/execute", body, format="json").status_code
        == 200
    )


def test_a_body_over_a_megabyte_is_413(shop: Any, operator: APIClient) -> None:
    body = json.dumps({"input": {"name": "x" * 1_048_576}})
    answer = operator.generic(
        "POST", "/api/workspaces/shop/tasks/main/execute", body, content_type="application/json"
    )
    assert (answer.status_code, error(answer)) == (413, "The request body is larger than 1 MB")


def test_another_content_type_is_415(shop: Any, operator: APIClient) -> None:
    answer = operator.generic(
        "POST", "/api/workspaces/shop/tasks/main/execute", "a=b", content_type="text/plain"
    )
    assert answer.status_code == 415
    assert error(answer)


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/nothing", "/api/jobs/", "/api/workspaces/x/y/z"]
)
def test_unknown_paths_are_404_in_json(operator: APIClient, path: str) -> None:
    assert (operator.get(path).status_code, operator.get(path).json()) == (
        404,
        {"error": "Not found", "code": "not_found"},
    )


def test_a_broken_server_tells_nothing(
    operator: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.api import scope

    def broken(user: Any) -> None:
        raise RuntimeError("postgresql://secret")

    monkeypatch.setattr(scope, "jobs", broken)
    answer = operator.get("/api/jobs")
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "Internal server error", "code": "server_error"},
    )


# workspaces and tasks


def test_a_workspace_is_listed_with_its_counts(shop: Any, operator: APIClient) -> None:
    (item,) = operator.get("/api/workspaces").json()
    assert item.pop("problems") == [] and item.pop("warnings", []) == []
    assert item.pop("checked_at").endswith("Z")
    assert item == {
        "name": "shop",
        "tasks_count": 1,
        "actions_count": 2,
        "triggers_count": 1,
        "connections_count": 0,
        "revision": shop.current.digest,
        "state": "loaded",
        "source": "folder",
        "location": shop.location,
    }


def test_a_workspace_that_failed_to_load_says_where(shop: Any, operator: APIClient) -> None:
    Path(shop.location, "broken.yaml").write_text("tasks: [1\n")
    services.refresh(shop)
    (item,) = operator.get("/api/workspaces").json()
    assert item["error"].startswith("broken.yaml:")
    assert item["tasks_count"] == 1  # the last good revision is in force
    problem = item["problems"][0]
    assert (problem["file"], problem["severity"]) == ("broken.yaml", "error")
    assert problem["line"] >= 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("readers")
def test_refreshing_takes_the_newest_state_and_has_a_cooldown(shop: Any) -> None:
    Path(shop.location, "new.txt").write_text("x")
    admin = caller(Role.ADMIN)
    answer = admin.post("/api/workspaces/shop/refresh").json()
    assert (answer["workspace"], answer["refreshed"]) == ("shop", True)
    assert answer["revision"] != shop.current.digest
    again = admin.post("/api/workspaces/shop/refresh")
    assert again.status_code == 429
    assert error(again).startswith("Workspace refresh rate-limited; retry after ")


def test_tasks_are_listed(shop: Any, operator: APIClient) -> None:
    item = {
        "id": "main",
        "name": "Say hello",
        "description": "Greets somebody",
        "mode": "distributed",
        "folder": "demo/hello",
        "workspace": "shop",
        "has_triggers": True,
        "can_execute": True,
        "inputs": {
            "name": {"type": "string", "required": True},
            "times": {"type": "integer", "required": False},
            "password": {"type": "string", "required": False},
        },
    }
    assert operator.get("/api/tasks").json() == [item]
    assert operator.get("/api/workspaces/shop/tasks").json() == [item]
    assert caller(Role.VIEWER).get("/api/tasks").json() == [{**item, "can_execute": False}]


def test_a_task_is_described(shop: Any, operator: APIClient) -> None:
    task = operator.get("/api/workspaces/shop/tasks/main").json()
    assert task["input"]["name"] == {
        "type": "string", "description": "Whom", "required": True, "secret": False, "multiple": False, "order": 1,
    }  # fmt: skip
    assert task["input"]["password"]["default"] == "••••••"
    assert task["input"]["times"]["options"] == ["1", "2"]
    assert task["flow"]["loud"] == {
        "action": "shout", "depends_on": ["say"], "when": "{{ input.times }}", "continue_on_failure": True,
    }  # fmt: skip
    assert task["flow"]["say"]["retry"]["max_attempts"] == 2
    assert task["triggers"][0]["cron"] == "0 0 * * *"
    answer = operator.get("/api/workspaces/shop/tasks/none")
    assert (answer.status_code, error(answer)) == (404, "Task not found")


# secrets


def test_secrets_are_written_and_never_read(shop: Any) -> None:
    admin = client_of(user(Role.ADMIN))
    path = "/api/workspaces/shop/secrets/pw"
    answer = admin.put(path, {"value": "canary-stored"}, format="json")
    assert answer.json() == {"status": "ok"}
    listed = admin.get("/api/workspaces/shop/secrets")
    assert [set(item) for item in listed.json()] == [{"name", "updated_at", "updated_by"}]
    assert b"canary" not in listed.content
    assert revisions.secrets_of(shop.current_id)["pw"] == "canary-stored"
    assert admin.delete(path).json() == {"status": "ok"}
    assert (admin.delete(path).status_code, error(admin.delete(path))) == (
        404,
        "Secret 'pw' not found",
    )


@pytest.mark.parametrize(
    "body", [{}, {"value": "abc"}, {"value": None}, {"value": "long enough", "x": 1}, [], "x", 7]
)
def test_a_secret_that_cannot_be_kept_is_refused_without_repeating_it(shop: Any, body: Any) -> None:
    answer = caller(Role.ADMIN).put("/api/workspaces/shop/secrets/pw", body, format="json")
    assert answer.status_code == 400
    assert "long enough" not in error(answer)


# starting jobs


def execute(client: APIClient, **body: Any) -> Any:
    return client.post("/api/workspaces/shop/tasks/main/execute", body, format="json")


def test_executing_a_task_answers_with_the_job(shop: Any) -> None:
    person = user(Role.OPERATOR)
    answer = execute(client_of(person), input={"name": "E2E"})
    assert set(answer.json()) == {"job_id"}
    job = Job.objects.get(pk=answer.json()["job_id"])
    assert (job.source_type, job.source_id, job.started_by) == ("user", person.email, person)
    assert job.input["times"] == 2


def test_wrong_input_is_one_sentence_for_each_field(shop: Any, operator: APIClient) -> None:
    answer = execute(operator, input={"times": "many", "extra": 1})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"name", "times", "extra"}
    assert answer.json()["error"] == "; ".join(answer.json()["fields"].values())
    assert not Job.objects.exists()


def test_a_viewer_may_not_start_a_job(shop: Any) -> None:
    answer = execute(caller(Role.VIEWER), input={"name": "x"})
    assert (answer.status_code, error(answer)) == (403, "View-only access")


def test_a_job_may_be_run_again_with_what_nobody_may_see(shop: Any, operator: APIClient) -> None:
    first = execute(operator, input={"name": "x", "password": "typed-by-hand"}).json()["job_id"]
    shown = operator.get(f"/api/jobs/{first}").json()["raw_input"]
    assert shown["password"] == "••••••"
    again = execute(operator, input={**shown, "name": "y"}, source_job_id=first).json()["job_id"]
    detail = operator.get(f"/api/jobs/{again}").json()
    assert (detail["source_type"], detail["source_job_id"], detail["input"]["name"]) == (
        "rerun",
        first,
        "y",
    )
    from apps.jobs.flow.contexts import clear_input

    assert clear_input(Job.objects.get(pk=again))["password"] == "typed-by-hand"


def test_only_a_visible_job_of_the_same_task_may_be_run_again(
    shop: Any, operator: APIClient, tmp_path: Path
) -> None:
    other = start(workspace(tmp_path, SHOP, "other"), name="x")
    nowhere = "00000000-0000-0000-0000-000000000000"
    for client, source, text in (
        (operator, nowhere, f"Source job {nowhere} not found"),
        (operator, "x", "Invalid job ID"),
        (operator, str(other.pk), "Source job belongs to a different workspace"),
        (caller(Role.OPERATOR, "shop"), str(other.pk), f"Source job {other.pk} not found"),
    ):
        answer = execute(client, input={"name": "x"}, source_job_id=source)
        assert (answer.status_code, error(answer)) == (400, text)


# jobs


def test_a_job_is_shown_with_its_steps_in_the_order_of_the_flow(
    shop: Any, operator: APIClient
) -> None:
    job = start(shop, name="Ada", password="typed-by-hand")
    hand = Hand()
    hand.finish(hand.take("say"), output({"greeting": "hello"}))
    hand.work({"also": failed("Exit code: 1\nStderr: no")})
    detail = operator.get(f"/api/jobs/{job.pk}").json()
    assert (detail["job_id"], detail["workspace"], detail["task_name"]) == (
        str(job.pk),
        "shop",
        "main",
    )
    assert (detail["status"], detail["mode"], detail["max_retries"]) == ("failed", "distributed", 2)
    assert detail["input"] == {"name": "Ada", "times": 2, "password": "••••••"}
    assert detail["revision"] == shop.current.digest
    assert [step["step_name"] for step in detail["steps"]] == ["say", "also", "loud"]
    say, also, loud = detail["steps"]
    assert (say["action_name"], say["action_type"], say["runner"]) == ("greet", "script", "local")
    assert (say["output"], say["max_retries"], say["retry_attempt"]) == (
        {"greeting": "hello"},
        1,
        0,
    )
    assert (also["error_message"], also["status"]) == ("Exit code: 1\nStderr: no", "failed")
    assert (loud["depends_on"], loud["when_condition"]) == (["say"], "{{ input.times }}")
    assert set(say) == {
        "action_workspace",
        "action_revision",
        "action_with_secrets",
        "step_name", "action_name", "action_type", "action_image", "runner", "input", "output", "status", "worker_id",
        "started_at", "completed_at", "suspended_at", "error_message", "when_condition", "for_each_expr", "loop_source",
        "loop_index", "loop_total", "depends_on", "retry_attempt", "max_retries", "retry_history", "retry_at", "attempts",
    }  # fmt: skip
    assert detail["created_at"].endswith("Z")


def test_before_it_runs_a_step_shows_the_input_as_written(shop: Any, operator: APIClient) -> None:
    job = start(shop, name="Ada")
    say = operator.get(f"/api/jobs/{job.pk}").json()["steps"][0]
    assert (say["status"], say["input"]) == ("ready", {"name": "{{ input.name }}"})


def test_failed_attempts_stand_in_the_history(shop: Any, operator: APIClient) -> None:
    job = start(shop, name="Ada")
    hand = Hand()
    hand.finish(hand.take("say"), failed("first"))
    say = operator.get(f"/api/jobs/{job.pk}").json()["steps"][0]
    assert [(entry["attempt"], entry["error"]) for entry in say["retry_history"]] == [(0, "first")]
    assert say["retry_at"] is not None


def test_instances_of_a_loop_follow_it_by_index(tmp_path: Path, operator: APIClient) -> None:
    flow = """
    tasks: {main: {flow: {
      each: {type: script, script: "true", for_each: "{{ range(end=12) }}"},
      after: {type: script, script: "true", depends_on: [each]}}}}
    """
    job = start(workspace(tmp_path, flow, "loops"))
    Hand().work()
    steps = operator.get(f"/api/jobs/{job.pk}").json()["steps"]
    assert [step["step_name"] for step in steps] == [
        "each",
        *(f"each[{n}]" for n in range(12)),
        "after",
    ]
    assert (steps[3]["loop_source"], steps[3]["loop_index"], steps[3]["loop_total"]) == (
        "each",
        2,
        12,
    )
    assert steps[0]["for_each_expr"] == "{{ range(end=12) }}"


def test_jobs_are_filtered_and_paged(shop: Any, tmp_path: Path, operator: APIClient) -> None:
    other = workspace(tmp_path, SHOP, "other")
    jobs = [start(shop, name=str(n)) for n in range(3)] + [start(other, name="x")]
    operator.post(f"/api/jobs/{jobs[0].pk}/cancel")

    def ids(query: str) -> list[str]:
        return [item["job_id"] for item in operator.get(f"/api/jobs?{query}").json()["items"]]

    assert ids("") == [str(job.pk) for job in reversed(jobs)]
    assert ids("workspace=shop&limit=1&offset=1") == [str(jobs[1].pk)]
    assert ids("workspace=shop&task_name=main&status=cancelled") == [str(jobs[0].pk)]
    assert ids("search=MAI&source_type=api") == ids("")
    assert ids("search=%25") == []
    assert ids("search=nothing") == []
    assert operator.get("/api/jobs?limit=1").json()["total"] == 4
    assert set(operator.get("/api/jobs?limit=1").json()["items"][0]) == {
        "job_id", "workspace", "task_name", "mode", "status", "source_type", "source_id", "revision", "created_at",
        "started_at", "completed_at", "retry_of_job_id", "retry_job_id", "retry_attempt", "max_retries",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("task_name=main", "task_name filter requires workspace"),
        ("workspace=a&task_name=main&search=x", "Cannot use both task_name and search filters"),
        ("search=" + "x" * 201, "Search term must be 200 characters or fewer"),
        ("status=done", "Invalid status filter 'done'. Must be one of: "),
        ("source_type=me", "Invalid source_type filter 'me'. Must be one of: "),
        ("limit=x", "limit must be a whole number of at least 1"),
        ("limit=0", "limit must be a whole number of at least 1"),
        ("offset=-1", "offset must be a whole number of at least 0"),
        ("workspace=%00", "NUL"),
    ],
)
def test_a_filter_that_makes_no_sense_is_one_sentence(
    operator: APIClient, query: str, text: str
) -> None:
    answer = operator.get(f"/api/jobs?{query}")
    assert answer.status_code == 400
    assert text in error(answer)


def test_limit_is_capped(operator: APIClient) -> None:
    from apps.api import paging

    class Request:
        query_params = {"limit": "999999", "offset": "10"}

    assert paging.window(Request()) == slice(10, 510)  # type: ignore[arg-type]
    assert operator.get("/api/jobs?limit=999999&offset=999999999999").json()["items"] == []


@pytest.mark.parametrize("suffix", ["", "/logs", "/cancel", "/steps/say/logs"])
def test_an_id_that_is_none_is_400_and_an_unknown_one_404(operator: APIClient, suffix: str) -> None:
    call = operator.post if suffix == "/cancel" else operator.get
    for job_id in ("x", "1", "%00", "00000000-0000-0000-0000-00000000000g"):
        answer = call(f"/api/jobs/{job_id}{suffix}")
        assert (answer.status_code, error(answer)) == (400, "Invalid job ID")
    answer = call(f"/api/jobs/00000000-0000-0000-0000-000000000000{suffix}")
    assert (answer.status_code, error(answer)) == (404, "Job not found")


def test_cancelling_twice_is_a_conflict(shop: Any, operator: APIClient) -> None:
    job = start(shop, name="x")
    assert operator.post(f"/api/jobs/{job.pk}/cancel").json() == {"status": "cancelled"}
    answer = operator.post(f"/api/jobs/{job.pk}/cancel")
    assert (answer.status_code, error(answer)) == (409, "Job is already in a terminal state")
    answer = caller(Role.VIEWER).post(f"/api/jobs/{start(shop, name='x').pk}/cancel")
    assert (answer.status_code, error(answer)) == (
        403,
        "Insufficient permissions to cancel this job",
    )


def test_counts_by_status(shop: Any, operator: APIClient) -> None:
    start(shop, name="x")
    counts = operator.get("/api/stats").json()
    assert counts == {
        "pending": 0,
        "running": 1,
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "skipped": 0,
    }


# workers


def test_workers_are_listed_and_shown_with_their_steps(shop: Any, operator: APIClient) -> None:
    job = start(shop, name="x")
    hand = Hand("script", "gpu")
    assert hand.claim() is not None
    page = operator.get("/api/workers").json()
    (item,) = page["items"]
    assert page["total"] == 1
    assert (item["worker_id"], item["status"], item["capabilities"]) == (
        str(hand.id),
        "active",
        ["script"],
    )
    assert sorted(item["tags"]) == ["gpu", "script"]
    shown = operator.get(f"/api/workers/{hand.id}").json()
    assert {key: shown[key] for key in item} == item
    assert shown["steps"]["total"] == 1
    step = shown["steps"]["items"][0]
    assert (step["job_id"], step["workspace"], step["step_name"], step["status"]) == (
        str(job.pk),
        "shop",
        "say",
        "running",
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE fleet_worker SET heartbeat_at = heartbeat_at - interval '1 hour'")
    assert operator.get("/api/workers").json()["items"][0]["status"] == "inactive"
    answer = operator.get("/api/workers/x")
    assert (answer.status_code, error(answer)) == (400, "Invalid worker ID")


# cost


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/api/jobs", 6),
        ("/api/workspaces", 5),
        ("/api/tasks", 4),
        ("/api/workers", 3),
        ("/api/stats", 4),
    ],
)
def test_a_list_costs_the_same_however_long_it_is(
    tmp_path: Path, path: str, queries: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = caller(Role.VIEWER)
    for number in range(2):
        for item in range(3):
            start(workspace(tmp_path, SHOP, f"ws{number}-{item}"), name="x")
            Hand()
        client.get(path)  # definitions are cached per process
        with django_assert_num_queries(queries):
            assert client.get(path).status_code == 200


def test_a_job_costs_the_same_however_many_steps_it_has(
    tmp_path: Path, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = caller(Role.VIEWER)
    for count in (2, 40):
        steps = "".join(
            f"      s{n}: {{type: script, script: 'false', retry: {{max_attempts: 2}}}}\n"
            for n in range(count)
        )
        job = start(workspace(tmp_path, f"tasks:\n  main:\n    flow:\n{steps}", f"ws{count}"))
        Hand().work({f"s{n}": failed() for n in range(count)})
        client.get(f"/api/jobs/{job.pk}")
        with django_assert_num_queries(11):  # two of them begin and end a transaction
            assert len(client.get(f"/api/jobs/{job.pk}").json()["steps"]) == count


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_steps_that_are_read_in_batches_are_one_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    text = (
        "actions: {work: {type: script, script: x, retry: {max_attempts: 2}}}\ntasks: {main: {flow:"
        " {z: {action: work, for_each: [1, 2]}, a: {action: work, depends_on: [z]}}}}\n"
    )
    job = start(workspace(tmp_path, text))
    Hand().work({"z": failed("first")})
    monkeypatch.setattr("apps.api.views.steps.BATCH", size)
    steps = caller(Role.VIEWER).get(f"/api/jobs/{job.pk}").json()["steps"]
    assert [step["step_name"] for step in steps] == ["z", "z[0]", "z[1]", "a"]
    assert [[run["error"] for run in step["retry_history"]] for step in steps] == [
        [],
        ["first"],
        ["first"],
        [],
    ]


def test_the_schema_is_made_offline_and_names_every_route(operator: APIClient) -> None:
    answer = operator.get("/api/schema")
    paths = answer.json()["paths"]
    assert "/api/jobs/{job}" in paths
    assert "/api/workspaces/{workspace}/tasks/{task}/execute" in paths
    assert {"bearer", "cookieAuth"} <= set(answer.json()["components"]["securitySchemes"])
