"""Mistakes of callers, each with its one answer: what is wrong, and what to do instead."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from apps.accounts.models import Role, WorkspaceGrant
from apps.jobs import services
from apps.jobs.models import Job
from tests.apps.api.callers import PASSWORD, caller, client_of, user
from tests.apps.jobs.builders import Hand, failed, start, workspace

pytestmark = pytest.mark.django_db
FLOW = """
actions:
  work: {type: script, script: "true"}
  ask: {type: approval, message: "Go on?", input: {window: {type: string, required: true}}}
tasks:
  main:
    input: {name: {type: string, required: true}, times: {type: integer, default: 1}}
    flow: {one: {action: work}, gate: {action: ask}}
  short: {flow: {one: {action: work}}}
"""
DESCRIBED = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # the package's own
PARAMETERS = [
    (path, one["name"])
    for path, operations in DESCRIBED["paths"].items()
    for one in operations.get("get", {}).get("parameters", ())
    if one["in"] == "query"
]
# a place that was never reached, and a list of what is known
MEAN_THE_BEGINNING = {"cursor", "after", "known"}
NOBODY = "00000000-0000-0000-0000-000000000000"
MAIN, SECRET = "workspaces/shop/tasks/main/execute", "workspaces/shop/secrets/pw"
ASKED = "jobs/{open}/steps/gate"
# (method, path, body): the status and the sentence
MISTAKES: list[tuple[str, str, Any, int, str]] = [
    ("get", "job", None, 404, "Not found"),
    ("get", "jobs/{open}/cancel", None, 405, 'Method "GET" not allowed; use POST'),
    ("get", "jobs/42", None, 400, "Invalid job ID"),
    ("get", f"jobs/{NOBODY}", None, 404, "Job not found"),
    ("get", "jobs?statuss=failed", None, 400, "Unknown query parameter 'statuss'; did you mean 'status'?"),
    ("get", "jobs?xref=1", None, 400, "Unknown query parameter 'xref'; expected one of: workspace, task_name, status, source_type, search, id_prefix, limit, offset, cursor"),
    ("get", "jobs?status=done", None, 400, "Invalid status filter 'done'. Must be one of: pending, running, completed, failed, cancelled"),
    ("get", "jobs?status=failed&status=completed", None, 400, "The query parameter 'status' is given more than once"),
    ("get", "jobs?status=", None, 400, "The query parameter 'status' has no value; leave it out, or give one of: pending, running, completed, failed, cancelled"),
    ("get", "jobs?workspace=%20", None, 400, "The query parameter 'workspace' has no value; leave it out, or give the name of a workspace"),
    ("get", "jobs?id_prefix", None, 400, "The query parameter 'id_prefix' has no value; leave it out, or give the first characters of a job's id, at least 4"),
    ("get", "approvals?job=", None, 400, "The query parameter 'job' has no value; leave it out, or give the id of a job"),
    ("get", "audit?since=", None, 400, "The query parameter 'since' has no value; leave it out, or give a time with its zone: 2026-01-31T12:00:00Z"),
    ("get", "agents/costs?days=", None, 400, "The query parameter 'days' has no value; leave it out, or give a whole number between 1 and 366"),
    ("get", "jobs/{open}/logs/search?q=", None, 400, "q must be a text of at most 200 characters"),
    ("get", "jobs?source_type=cron", None, 400, "Invalid source_type filter 'cron'. Must be one of: api, user, trigger, webhook, hook, task, mcp, agent_tool, event_source, consumer, retry, upload, rerun, restart, cli, check"),
    ("get", "jobs?workspace=shoop", None, 404, "Workspace 'shoop' not found"),
    ("get", "jobs?workspace=shop&task_name=mian", None, 404, "Task not found"),
    ("get", "jobs/{open}/steps?status=done", None, 400, "Invalid status filter 'done'. Must be one of: pending, ready, running, suspended, completed, failed, skipped, cancelled"),
    ("get", "workers?presence=live", None, 400, "Invalid presence filter 'live'. Must be one of: here, gone, all"),
    ("get", "triggers?workspace=shoop", None, 404, "Workspace 'shoop' not found"),
    ("get", "agents/costs?workspace=shoop", None, 404, "Workspace 'shoop' not found"),
    ("get", f"approvals?job={NOBODY}", None, 404, "Job not found"),
    ("get", "jobs?limit=many", None, 400, "limit must be a whole number of at least 1"),
    ("get", "jobs?task_name=main", None, 400, "task_name filter requires workspace"),
    ("get", "jobs/{open}/logs?after=yesterday", None, 400, "after must be the `next` of an earlier answer"),
    ("get", "jobs/{open}/steps/two/logs", None, 404, "Step not found"),
    ("get", "workspaces/shoop/tasks", None, 404, "Workspace 'shoop' not found"),
    ("post", "workspaces/shop/tasks/mian/execute", {}, 404, "Task not found"),
    ("post", MAIN, {"inputs": {"name": "x"}}, 400, "Unknown key 'inputs'; did you mean 'input'?"),
    ("post", MAIN, {"input": {"nam": "x"}}, 400, "input 'name' is required; input 'nam' is not declared (did you mean 'name'?)"),
    ("post", MAIN, {"input": {"name": "x", "times": "twice"}}, 400, "input 'times' must be a whole number, not 'twice'"),
    ("post", MAIN, {"input": ["x"]}, 400, 'input must be an object, such as {"name": "value"}'),
    ("post", MAIN, {"input": {"name": "x"}, "source_job_id": "42"}, 400, "Invalid job ID"),
    ("post", "jobs/{ended}/cancel", None, 409, "Job is already in a terminal state"),
    ("post", "jobs/{open}/cancel?force=1", None, 400, "Unknown query parameter 'force'; none is accepted here"),
    ("post", "jobs/{ended}/restart", {"failed": True}, 409, "only a failed or cancelled job can be restarted; this one is completed"),
    ("post", "jobs/{failed}/restart", {"failed": "yes, please"}, 400, "failed must be true or false"),
    ("post", "jobs/{failed}/restart", {"from": "one"}, 400, "Unknown key 'from'; expected one of: failed"),
    ("post", f"{ASKED}/approve", {}, 400, "approved is required"),
    ("post", f"{ASKED}/approve", {"approved": True}, 400, "input 'window' is required"),
    ("post", f"{ASKED}/approve", {"approved": False, "reason": "no"}, 400, "Unknown key 'reason'; expected one of: approved, input, rejection_reason, shown"),
    ("post", f"{ASKED}/approve", {"approved": True, "input": {"window": "x"}, "rejection_reason": "no"}, 400, "rejection_reason belongs to a rejection: leave it out, or send approved: false"),
    ("post", "jobs/{open}/steps/one/approve", {"approved": True}, 409, "Step 'one' is not an approval or agent step (type: script)"),
    ("post", f"{ASKED}/delegate", {"to": "nobody@example.org"}, 400, "nobody with the e-mail nobody@example.org can see this task"),
    ("put", SECRET, {"values": "long enough"}, 400, 'the body must be {"value": ...}'),
    ("post", "auth/api-keys", {"expires_in_days": 3}, 400, "Name is required"),
    ("post", "auth/api-keys", {"name": "ci", "expires_in_days": -1}, 400, "expires_in_days must be positive"),
    ("post", "auth/login", {"user": "me"}, 400, "Unknown key 'user'; expected one of: email, password, code"),
    ("post", "auth/api-keys", {"name": "ci", "scopes": ["jobs:read", "all"]}, 400, "scopes[1]: 'all' is no scope: known are jobs:read, jobs:run, approvals:decide, admin"),
    ("post", "auth/api-keys", ["ci"], 400, "the body must be an object"),
    ("get", "audit?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", None, 400, "since must be before until"),
    ("get", "workers/42", None, 400, "Invalid worker ID"),
]  # fmt: skip


@pytest.fixture
def jobs(tmp_path: Path) -> dict[str, str]:
    shop = workspace(tmp_path, FLOW, "shop")
    opened = start(shop, name="x")
    hand = Hand()
    hand.finish(hand.take("one"))
    ended, broken = start(shop, "short"), start(shop, "short")
    hand.finish(hand.take("one"))
    hand.finish(hand.take("one"), failed())
    return {"open": str(opened.pk), "ended": str(ended.pk), "failed": str(broken.pk)}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"), MISTAKES, ids=lambda item: str(item)[:40]
)
def test_a_mistake_has_one_answer(
    jobs: dict[str, str], method: str, path: str, body: Any, status: int, sentence: str
) -> None:
    before = set(Job.objects.values_list("pk", "status"))
    address = "/api/" + path.replace("{open}", jobs["open"]).replace(
        "{ended}", jobs["ended"]
    ).replace("{failed}", jobs["failed"])
    client = caller(is_superuser=True)
    answer = getattr(client, method)(address, body, format="json")
    assert (answer.status_code, answer.json()["error"]) == (status, sentence)
    assert set(Job.objects.values_list("pk", "status")) == before


@pytest.mark.parametrize(
    "what", ["nonsense", "secret.sett", "secrets.set", "secret.", ".set", "Secret"]
)
@pytest.mark.parametrize("route", ["audit", "audit/export"])
def test_the_audit_log_knows_what_can_be_in_it(jobs: dict[str, str], route: str, what: str) -> None:
    answer = caller(is_superuser=True).get(f"/api/{route}?what={what}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"what: '{what}' is no")
    for known in ("secret", "secret.set", "job.cancel", "audit.expire"):
        assert caller(is_superuser=True).get(f"/api/{route}?what={known}").status_code == 200


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("jobs?workspace={}", "Workspace '{}' not found"),
        ("triggers?workspace={}", "Workspace '{}' not found"),
        ("agents/costs?workspace={}", "Workspace '{}' not found"),
        ("jobs?workspace=shop&task_name={}", "Task not found"),
    ],
)
def test_a_filter_tells_nobody_of_what_they_may_not_see(
    jobs: dict[str, str], tmp_path: Path, path: str, sentence: str
) -> None:
    """What is there and what is not are the same to them."""
    start(workspace(tmp_path, FLOW, "hidden"), "short")
    person = user()
    WorkspaceGrant.objects.create(user=person, pattern="shop", tasks="short", role=Role.VIEWER)
    client = client_of(person)
    for name in ("main" if "task_name" in path else "hidden", "nothing"):
        answer = client.get(f"/api/{path.format(name)}")
        assert (answer.status_code, answer.json()["error"]) == (404, sentence.format(name))
    assert client.get("/api/jobs?workspace=shop&task_name=short").json()["total"] == 2


def test_a_task_without_jobs_is_known_and_so_is_one_of_former_days(
    jobs: dict[str, str], tmp_path: Path
) -> None:
    client = caller(is_superuser=True)
    Job.objects.filter(pk=jobs["open"]).update(task_name="former")
    for task, total in (("main", 0), ("former", 1)):
        answer = client.get(f"/api/jobs?workspace=shop&task_name={task}&status=running")
        assert (answer.status_code, answer.json()["total"]) == (200, total), task
    answer = client.get("/api/jobs?workspace=shop&task_name=former&status=failed")
    assert (answer.status_code, answer.json()["total"]) == (200, 0)


@pytest.mark.parametrize(("path", "name"), PARAMETERS, ids=str)
def test_a_parameter_without_a_value_is_no_filter_that_lets_everything_pass(
    jobs: dict[str, str], path: str, name: str
) -> None:
    """A script whose variable is unset must not get what it did not ask for."""
    known = {"{job}": jobs["open"], "{workspace}": "shop", "{task}": "main", "{step}": "one"}
    for place, value in known.items():
        path = path.replace(place, value)
    client = caller(is_superuser=True)
    if name in MEAN_THE_BEGINNING:
        assert client.get(f"{path}?{name}=").status_code == client.get(path).status_code
        return
    for given in ("", "%20")[: 1 if name == "q" else 2]:  # a blank can be looked for
        answer = client.get(f"{path}?{name}={given}")
        assert answer.status_code == 400 and name in answer.json()["error"]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "sentence"),
    [
        ("text/plain", "a=b", 415, 'Unsupported media type "text/plain" in request; send application/json'),
        ("application/json", '{"input": {"name": "a", "name": "b"}}', 400, "The body is not valid JSON: the key 'name' appears twice"),
        ("application/json", '{"input": {"name": "a"}, "input": {}}', 400, "The body is not valid JSON: the key 'input' appears twice"),
        ("application/json", "{'a': 1}", 400, "The body is not valid JSON: Expecting property name enclosed in double quotes"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_says_why(
    jobs: dict[str, str], content_type: str, body: str, status: int, sentence: str
) -> None:
    answer = caller(is_superuser=True).generic("POST", f"/api/{MAIN}", body, content_type)
    assert answer.status_code == status and answer.json()["error"].startswith(sentence)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("", "Authentication required"),
        ("Bearer nothing", "Invalid or expired token"),
        ("Bearer strm_nothing", "Invalid API key"),
        ("Basic bWU6bWU=", "Authentication required"),
    ],
)
def test_who_is_not_signed_in_is_told_so(header: str, sentence: str) -> None:
    answer = APIClient().get("/api/jobs", headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.json()["error"]) == (401, sentence)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


METHODS = ("get", "post", "put", "patch", "delete", "options", "head", "trace")
PATHS = ("/api", "/api/", "/api/nothing", "/api/jobs/", "/api/jobs/x/y/z", "/api/auth/sign-in")


@pytest.mark.sample(5)
@pytest.mark.parametrize("who", ["nobody", "session", "token", "wrong token", "wrong session"])
def test_an_unknown_path_is_404_in_json_for_everybody_and_every_verb(who: str) -> None:
    client, headers = Client(enforce_csrf_checks=True), {}
    if who == "session":
        client.force_login(user(Role.ADMIN, is_superuser=True))
    elif who == "token":
        headers = {
            "Authorization": str(client_of(user(Role.ADMIN))._credentials["HTTP_AUTHORIZATION"])
        }
    elif who == "wrong token":
        headers = {"Authorization": "Bearer x"}
    elif who == "wrong session":
        client.cookies["sessionid"] = "nothing"
    for method, path in product(METHODS, PATHS):
        answer = getattr(client, method)(path, headers=headers)
        assert answer.status_code == 404, (method, path)
        assert answer.headers["Content-Type"] == "application/json", (method, path)
        if method != "head":
            assert answer.json() == {"error": "Not found", "code": "not_found"}


def test_a_job_is_restarted_from_its_failed_steps_or_anew(jobs: dict[str, str]) -> None:
    person = user(Role.OPERATOR)
    client = client_of(person)
    path = f"/api/jobs/{jobs['failed']}/restart"
    assert client.post(path, {"failed": True}, format="json").json() == {"job_id": jobs["failed"]}
    again = Job.objects.get(pk=jobs["failed"])
    assert (again.status, again.generation) == ("running", 2)
    new = client.post(f"/api/jobs/{jobs['ended']}/restart").json()["job_id"]
    row = Job.objects.get(pk=new)
    assert (str(row.rerun_of_id), row.started_by) == (jobs["ended"], person)
    answer = caller(Role.VIEWER).post(path)
    assert (answer.status_code, answer.json()["error"]) == (
        403,
        "Insufficient permissions to restart this job",
    )


def test_a_log_has_more_only_where_there_is_more(
    jobs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.jobs.transitions.moves import say

    job = services.start_job("shop", "short", {})
    for number in range(6):
        say(job.pk, f"line {number}", at=0.0)
    client = caller(Role.VIEWER)
    for size, pieces in ((2, 3), (3, 2), (6, 1), (7, 1)):
        monkeypatch.setattr("apps.jobs.log.cursors._MOST_CHUNKS", size)
        after, seen = "0", []
        while True:
            answer = client.get(f"/api/jobs/{job.pk}/logs?after={after}").json()
            seen.append(answer["logs"].count("\n"))
            after = answer["next"]
            if not answer["has_more"]:
                break
        assert (len(seen), sum(seen)) == (pieces, 6)


def test_ids_are_typed_and_401_and_400_are_documented(jobs: dict[str, str]) -> None:
    found = caller(Role.VIEWER).get("/api/schema").json()
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            assert "400" in operation["responses"], (method, path)
            is_open = {} in operation.get("security", [])
            assert ("401" in operation["responses"]) or is_open, (method, path)
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in ("job", "worker"):
                    assert parameter["schema"] == {"type": "string", "format": "uuid"}
    assert (
        found["components"]["schemas"]["ExecuteRequest"]["properties"]["source_job_id"]["format"]
        == "uuid"
    )
    assert PASSWORD not in str(found)
