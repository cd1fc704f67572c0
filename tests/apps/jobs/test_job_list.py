"""The list of jobs: what waits for a person, numbers on the filters, cancelling several at once,
and who started a job."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.test import Client

from apps.accounts.models import Role, User
from apps.jobs.models import Job
from apps.jobs.pages.hub import job_state
from tests.apps.jobs.builders import Hand, failed, fresh, start, workspace
from tests.apps.jobs.test_admin import LIST, client_of, page, person

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
actions:
  go: { type: script, script: "true" }
  ask: { type: approval, message: Go? }
tasks:
  main: { flow: { a: { action: go }, b: { action: go, depends_on: [a] } } }
  asks: { flow: { gate: { action: ask } } }
  asks-beside: { flow: { gate: { action: ask }, a: { action: go } } }
  outer:
    flow:
      inner: { type: task, task: main }
  loop:
    flow:
      each: { action: go, for_each: [1, 2, 3], continue_on_failure: false }
"""


@pytest.fixture
def root() -> Client:
    return client_of(User.objects.create_superuser("root@example.org"))


def text(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def counts(listed: str) -> dict[str, str]:
    quick = re.search(r'<nav class="st-quick".*?</nav>', listed, re.DOTALL)
    assert quick
    found = re.findall(
        r">([a-z ]+)(?: <span class=\"st-quick-count\">([^<]+)</span>)?</a>", quick[0]
    )
    return dict(found)


def test_a_job_that_only_waits_for_a_person_is_marked_and_found(
    tmp_path: Path, root: Client
) -> None:
    held = workspace(tmp_path, FLOW)
    waiting, beside, runs = start(held, "asks"), start(held, "asks-beside"), start(held)
    listed = text(root, LIST)
    assert listed.count('data-status="suspended"') == 1
    found = text(root, f"{LIST}?status=waiting")
    assert str(waiting.pk) in found
    assert str(beside.pk) not in found and str(runs.pk) not in found


@pytest.mark.parametrize("address", ["/admin/", "/admin/tasks/", "/admin/tasks/{}/asks/"])
def test_it_is_marked_wherever_jobs_are_listed(tmp_path: Path, root: Client, address: str) -> None:
    held = workspace(tmp_path, FLOW)
    start(held, "asks")
    start(held, "asks-beside")
    assert text(root, address.format(held.name)).count('data-status="suspended"') == 1


def test_a_job_that_took_a_moment_is_in_the_chart_of_durations(
    tmp_path: Path, root: Client
) -> None:
    start(workspace(tmp_path, FLOW))
    assert "No job has completed" in text(root, "/admin/")
    Hand().work()
    assert "No job has completed" not in text(root, "/admin/")


def test_filters_say_how_many_jobs_they_hold(tmp_path: Path, root: Client) -> None:
    held = workspace(tmp_path, FLOW)
    start(held)
    Hand().work({"a": failed()})
    start(held, "asks")
    start(held)
    found = counts(text(root, LIST))
    assert (found["open"], found["waiting for a person"], found["running"]) == ("2", "1", "2")
    assert (found["failed"], found["completed"]) == ("1", "0")
    assert counts(text(root, f"{LIST}?status=failed")) == found
    assert set(counts(text(root, f"{LIST}?q=main")).values()) == {""}
    stranger = client_of(person(Role.VIEWER, "other"))
    assert counts(text(stranger, LIST))["open"] == "0"


def test_several_jobs_are_cancelled_after_a_question(tmp_path: Path) -> None:
    mine, theirs = workspace(tmp_path / "mine", FLOW), workspace(tmp_path / "theirs", FLOW)
    ended = start(mine)
    Hand().work({"a": failed()})
    first, second, foreign = start(mine), start(mine), start(theirs)
    user = person(Role.OPERATOR, mine.name)
    client = client_of(user)
    chosen = {
        "action": "cancel_chosen",
        "_selected_action": [str(job.pk) for job in (first, second, foreign, ended)],
    }
    asked = client.post(LIST, chosen).content.decode()
    assert "Cancel 2 jobs?" in asked and str(foreign.pk) not in asked
    assert "1 of the chosen jobs is not cancelled" in asked
    assert fresh(first).cancel_requested_at is None
    done = client.post(LIST, {**chosen, "confirmed": "1", "reason": "no\x00 more"}, follow=True)
    assert "Cancelling 2 jobs." in done.content.decode()
    assert [fresh(job).cancel_reason for job in (first, second)] == ["no more", "no more"]
    assert fresh(foreign).cancel_requested_at is None
    assert fresh(ended).status == "failed"


def test_a_viewer_is_not_offered_to_cancel_and_cannot(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, FLOW))
    client = client_of(person(Role.VIEWER))
    assert "cancel_chosen" not in text(client, LIST)
    client.post(
        LIST, {"action": "cancel_chosen", "_selected_action": [str(job.pk)], "confirmed": "1"}
    )
    assert fresh(job).cancel_requested_at is None


def test_a_job_started_by_a_job_links_to_it(tmp_path: Path, root: Client) -> None:
    outer = start(workspace(tmp_path, FLOW), "outer")
    child = Job.objects.get(parent_job_id=outer.pk)
    for shown in (text(root, f"{LIST}?q={str(child.pk)[:13]}"), text(root, page(child))):
        assert re.search(rf'task: <a href="{page(outer)}">[0-9a-f-]+</a>/inner', shown)


def test_the_state_of_a_failed_job_names_the_step_that_failed(tmp_path: Path) -> None:
    held = workspace(tmp_path, FLOW)
    job = start(held)
    assert job_state(fresh(job))["failed_step"] is None
    Hand().work({"a": failed()})
    step = job_state(fresh(job))["failed_step"]
    assert step is not None and step["name"] == "a"
    loop = start(held, "loop")
    Hand().work({"each[1]": failed()})
    assert job_state(fresh(loop))["failed_step"]["name"] == "each[1]"


def test_a_job_to_begin_with_that_is_not_there_is_told(tmp_path: Path, root: Client) -> None:
    job = start(workspace(tmp_path, FLOW, "shop"))
    said = "This task has no job with the id in the address: nothing is filled in."
    assert said not in text(root, f"/admin/tasks/shop/main/?from={job.pk}")
    for wrong in ("x", "00000000-0000-0000-0000-000000000000"):
        assert text(root, f"/admin/tasks/shop/main/?from={wrong}").count(said) == 1
    assert said in text(root, f"/admin/tasks/shop/asks/?from={job.pk}")
