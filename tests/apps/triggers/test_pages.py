"""What people see of triggers, and the buttons: the admin, the API, the commands."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from apps.accounts.models import Role
from apps.triggers import clocks, services
from apps.triggers.models import Trigger
from tests.apps.api.callers import caller, user
from tests.apps.jobs.builders import workspace
from tests.apps.triggers.builders import HOUR, NOON, TASKS, jobs, set_to, trigger

pytestmark = pytest.mark.django_db(transaction=True)
SHOP = (
    TASKS
    + """
triggers:
  nightly: { type: scheduler, cron: "0 * * * *", timezone: Europe/Oslo, task: main, jitter: 2m }
  push: { type: webhook, name: push, task: main }
"""
)


def nightly(tmp_path: Path) -> Trigger:
    workspace(tmp_path, SHOP, "shop")
    return set_to(NOON)


def person(role: Role, pattern: str = "*") -> Client:
    client, who = Client(), user(role, pattern)
    who.is_staff = True
    who.save()
    client.force_login(who)
    return client


def page(row: Trigger, button: str = "") -> str:
    return f"/admin/triggers/trigger/{row.pk}/" + (f"act/{button}/" if button else "change/")


def test_the_list_and_the_page_say_what_it_does_and_what_became_of_it(tmp_path: Path):
    row = nightly(tmp_path)
    clocks.fire_due(NOON + timedelta(hours=10, minutes=30))
    viewer = person(Role.VIEWER)
    listed = viewer.get("/admin/triggers/trigger/").content.decode()
    assert "At the start of every hour" in listed or "every hour" in listed
    assert "A request to /hooks/shop/push" in listed
    shown = viewer.get(page(row)).content.decode()
    assert "9 runs" in shown and 'data-status="missed"' in shown
    assert shown.count("data-local") >= 5 and "Fire now" not in shown


def test_the_list_needs_the_same_queries_for_many(
    tmp_path: Path, django_assert_max_num_queries: Any
):
    nightly(tmp_path)
    many = "".join(
        f'  t{n}: {{ type: scheduler, cron: "0 * * * *", task: main }}\n' for n in range(30)
    )
    workspace(tmp_path, SHOP + many, "big")
    viewer = person(Role.VIEWER)
    with django_assert_max_num_queries(12):
        viewer.get("/admin/triggers/trigger/")


def test_an_operator_pauses_resumes_and_fires(tmp_path: Path):
    row, operator = nightly(tmp_path), person(Role.OPERATOR)
    operator.post(page(row, "pause"))
    assert services.state_of(trigger()) == "paused"
    operator.post(page(row, "resume"))
    assert services.state_of(trigger()) == "live"
    said = operator.post(page(row, "fire"), follow=True).content.decode()
    assert "started a job" in said and len(jobs()) == 1 and "by hand" in said


def test_a_viewer_and_a_stranger_press_no_button(tmp_path: Path):
    row = nightly(tmp_path)
    assert person(Role.VIEWER).post(page(row, "fire")).status_code == 403
    stranger = person(Role.ADMIN, "other")
    assert stranger.get(page(row)).status_code == 404
    assert stranger.post(page(row, "fire")).status_code == 404
    assert "nightly" not in stranger.get("/admin/triggers/trigger/").content.decode()
    assert not jobs()


def test_the_api_lists_triggers_with_their_next_runs(tmp_path: Path):
    nightly(tmp_path)
    operator = caller(Role.OPERATOR)
    found = operator.get("/api/triggers").json()
    first, second = found["items"]
    assert found["total"] == 2 and len(first["next_runs"]) == 5
    assert (first["state"], first["cron"], second["type"]) == ("live", "0 * * * *", "webhook")
    assert operator.get("/api/workspaces/shop/triggers").json()[0]["name"] == "nightly"
    fired = operator.post("/api/workspaces/shop/triggers/nightly/fire").json()
    assert fired["status"] == "started" and fired["cause"] == "hand"
    shown = operator.get("/api/workspaces/shop/triggers/nightly").json()
    assert shown["firings"][0]["job_id"] == fired["job_id"] == shown["trigger"]["last_job_id"]
    refused = operator.post("/api/workspaces/shop/triggers/push/fire")
    assert refused.status_code == 409 and "only a scheduler" in refused.json()["error"]


def test_an_idempotency_key_makes_a_repeated_request_harmless(tmp_path: Path):
    nightly(tmp_path)
    operator = caller(Role.OPERATOR)

    def execute(body: dict[str, Any], key: str) -> Any:
        path = "/api/workspaces/shop/tasks/main/execute"
        return operator.post(path, body, format="json", HTTP_IDEMPOTENCY_KEY=key)

    first, again = execute({"input": {"count": 1}}, "k"), execute({"input": {"count": 1}}, "k")
    assert first.json() == again.json() and again.headers["Idempotent-Replayed"] == "true"
    assert execute({"input": {"count": 2}}, "k").status_code == 409
    assert execute({"input": {"count": 2}}, "x" * 300).status_code == 400
    assert len(jobs()) == 1


def run(*command: str) -> str:
    out = StringIO()
    call_command("triggers", *command, stdout=out)
    return out.getvalue()


def test_the_command_lists_pauses_and_fires(tmp_path: Path):
    nightly(tmp_path)
    assert "nightly" in run() and "live" in run("list", "shop")
    (line,) = (one for one in run("next", "--json").splitlines() if "nightly" in one)
    assert len(json.loads(line)["next"]) == 5
    assert "is paused" in run("pause", "shop", "nightly")
    assert "paused" in run("list") and "fires again" in run("resume", "shop", "nightly")
    said = run("fire", "shop", "nightly").strip()
    (job,) = jobs()
    assert said == str(job.pk)
    with pytest.raises(CommandError, match="no trigger 'nightl'"):
        run("fire", "shop", "nightl")


def test_the_doctor_names_triggers_in_trouble(tmp_path: Path):
    nightly(tmp_path)
    found = dict(services.troubles())
    assert "has not started: is a scheduler running" in found["shop/nightly"]
    Trigger.objects.filter(name="push").update(task="elsewhere")
    assert dict(services.troubles())["shop/push"].startswith("its task 'elsewhere' is gone")
    set_to(NOON + 100_000 * HOUR)
    assert "shop/nightly" not in dict(services.troubles())
