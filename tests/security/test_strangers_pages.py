"""Every page, asked for by nobody and by somebody without a grant: it tells nothing of what is
there."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client

from apps.accounts.models import Role, User
from apps.jobs.models import Step
from tests.apps.jobs.builders import start, workspace
from tests.apps.jobs.test_admin import FLOW, client_of, person
from tests.security.test_fuzz import address_of, routes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]
NAME = "of-somebody-else-71"
METHODS = ("get", "post", "put", "delete", "patch", "head", "options")
OPEN = (
    "/healthz", "/static/", "/api/config", "/admin/login/", "/admin/forgotten/", "/admin/jsi18n/",
)  # fmt: skip


@pytest.fixture
def addresses(tmp_path: Path) -> list[str]:
    """Of every route that is not the API's, with the names and numbers of what is there."""
    job = start(workspace(tmp_path, FLOW, name=NAME))
    step = Step.objects.filter(job=job).earliest("id")
    root = User.objects.create_superuser("root-of-all@example.org")
    known = {
        "job": str(job.pk), "job_id": str(job.pk), "step_id": str(step.pk), "step": step.name,
        "workspace": NAME, "task": job.task_name, "action_id": str(step.pk),
    }  # fmt: skip
    found = set()
    for number in (str(job.pk), str(step.pk), str(root.pk), str(job.workspace_id)):
        for route in routes():
            found.add(
                address_of(route, lambda name, number=number: known.get(name, number), lambda: "x")  # type: ignore[misc]
            )
    return sorted(address for address in found if not address.startswith("/api/"))


def test_nobody_gets_a_page(addresses: list[str]) -> None:
    client = Client()
    client.raise_request_exception = False
    assert len(addresses) > 60
    for address in addresses:
        for method in METHODS:
            answer = getattr(client, method)(address)
            text = b"" if answer.streaming else answer.content
            assert NAME.encode() not in text.replace(address.encode(), b""), (method, address)
            if not address.startswith(OPEN) and method not in ("head", "options"):
                assert answer.status_code in (301, 302, 401, 403, 404, 405), (method, address)


def test_somebody_without_a_grant_learns_nothing(addresses: list[str]) -> None:
    job_page = [address for address in addresses if "/jobs/job/" in address]
    assert job_page
    stranger, viewer = client_of(person()), client_of(person(Role.VIEWER))
    for client in (stranger, viewer):
        client.raise_request_exception = False
    seen = 0
    for address in addresses:
        answer = stranger.get(address)
        text = b"" if answer.streaming else answer.content
        assert NAME.encode() not in text.replace(address.encode(), b""), address
        assert b"root-of-all@" not in text, address
        told = viewer.get(address)
        seen += not told.streaming and NAME.encode() in told.content
    assert seen > 3  # there is something to be told
