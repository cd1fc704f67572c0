"""The table of pages against reality: a route without a row fails, and so does a page that opens for
somebody who lacks its right, or stays shut for somebody who has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import URLResolver, get_resolver

from apps.accounts.models import (
    ApiToken,
    ConnectedAgent,
    Role,
    ServiceAccount,
    User,
    WorkspaceGrant,
)
from apps.accounts.people import add_service
from apps.approvals.models import ApprovalRequest, Record
from apps.approvals.transitions import record
from apps.artifacts.state.keeping import Writer
from apps.audit.models import Entry
from apps.jobs.models import Step
from apps.triggers.models import Trigger
from apps.workflow_actions.models import JobAction
from apps.workspaces import connections
from apps.workspaces.models import Library, Secret
from apps.workspaces.secrets import store_secret
from engine.rights import Right
from engine.state import Change
from tests.apps.api.test_access import FLOW, spellings
from tests.apps.artifacts.builders import shelve
from tests.apps.artifacts.remembering import remember
from tests.apps.jobs.builders import Hand, start, workspace
from tests.apps.jobs.test_admin import client_of
from tests.apps.subscriptions.receiver import subscribe
from tests.security.pages_table import JOB, NOBODY, OWN, PEOPLE, SUPERUSERS, TABLE, Needs

pytestmark = pytest.mark.django_db(transaction=True)  # live pages have connections of their own
OF_API = ("api/", "^api", "healthz", "metrics")
ENDING = ("admin/logout/",)  # would end what the other calls need


def addresses(patterns: Any = None, before: str = "") -> Iterator[str]:
    for one in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(one, URLResolver):
            yield from addresses(one.url_patterns, before + str(one.pattern))
        else:
            yield before + str(one.pattern)


def test_every_page_has_a_row_and_every_row_a_page() -> None:
    there = {one for one in addresses() if not one.startswith(OF_API) and one not in ENDING}
    assert there == {route for _, route in TABLE}


class Callers:
    """People by what they may; each is made once."""

    def __init__(self) -> None:
        self.known: dict[Any, Client] = {}

    def having(self, *rights: Right, denied: str = "", is_superuser: bool = False) -> Client:
        key = (rights, denied, is_superuser)
        if key not in self.known:
            email = f"p{len(self.known)}@example.org"
            made = User.objects.create_user(email, is_superuser=is_superuser)
            grant = {"user": made, "pattern": "*"}
            if rights:
                WorkspaceGrant.objects.create(**grant, role=Role.CUSTOM, rights=list(rights))
            if denied:
                WorkspaceGrant.objects.create(**grant, tasks=denied, role=Role.DENY)
            self.known[key] = client_of(made)
            self.known[key].raise_request_exception = False
        return self.known[key]

    def all_but(self, right: Right, denied: str = "") -> Client:
        others = [one for one in Right if one is not right]
        # whatever a grant gives, it shows: so who may not even see has none
        return self.having(*(() if right is Right.SEE else others), denied=denied)


@pytest.fixture
def names(tmp_path: Path) -> dict[str, str]:
    row = workspace(tmp_path, FLOW, "own")
    secret = store_secret(row, "pw", "canary-secret", by="x")
    connections.store(row, "main", "db", {"password": "canary-password"}, by="x")
    library = Library.objects.create(workspace=row, name="tools", pinned_at=row.created_at)
    told, _ = subscribe(row, "https://receiver.example.org/hook")
    job, hand = start(row), Hand()
    gate = ApprovalRequest.objects.get(job=job)
    record(gate, "open")
    (file,) = shelve(job, "one", {"f": b"bytes"})
    root = User.objects.create_user("root@example.org")
    group, _ = root.groups.get_or_create(name="ops")
    grant = WorkspaceGrant.objects.create(user=root, pattern="nothing", role=Role.VIEWER)
    key = ApiToken.objects.create(user=root, name="k", prefix="strm_0000000", digest="0")
    agent = ConnectedAgent.objects.create(
        user=root, grant="g", client_id="c", name="n", credential="", expires_at=job.created_at
    )
    service = ServiceAccount.objects.get(pk=add_service("ci", ()).pk)
    factor = Authenticator.objects.create(user=root, type="totp", data={})
    linked = SocialAccount.objects.create(user=root, provider="corp", uid="u")
    for task in ("main", ""):
        for number in range(2):
            remember(row.pk, task, Change(number, {"n": number}), Writer("step"))
    from apps.fleet.models import WorkerLimit

    limit = WorkerLimit.objects.create(workers="x*", workspaces=["own"])
    rows = {
        "accounts/user": root, "accounts/serviceaccount": service, "mfa/authenticator": factor,
        "socialaccount/socialaccount": linked, "audit/entry": Entry.objects.latest("pk"), "auth/group": group, "accounts/workspacegrant": grant,
        "accounts/apitoken": key, "accounts/connectedagent": agent, "fleet/workerlimit": limit,
        "workspaces/library": library, "workspaces/workspace": row, "workspaces/secret": secret, "jobs/job": job,
        "subscriptions/subscription": told, "triggers/trigger": Trigger.objects.get(),
        "approvals/approvalrequest": gate, "approvals/record": Record.objects.latest("id"),
    }  # fmt: skip
    found = {name: str(one.pk) for name, one in rows.items()}
    return found | {
        "fleet/worker": str(hand.id),
        "job_id": str(job.pk),
        "step_id": str(Step.objects.get(job_id=job.pk, name="one").pk),
        "action_id": str(JobAction.objects.get(job_id=job.pk).pk),
        "artifact_id": str(file.pk),
        "request_id": str(gate.pk),
        "workspace": "own",
        "name": "main",
        "kind": "db",
        "id": str(root.pk),
        "what": "pause",
        "content_type_id": "1",
    }


def path_of(route: str, names: dict[str, str]) -> str:
    of_model = "/".join(route.split("/")[1:3])
    for kind in ("path:", "int:", "str:", "slug:", "uuid:", ""):
        for name in ("object_id", "pk"):
            route = route.replace(f"<{kind}{name}>", names.get(of_model, "1"))
        for name, value in names.items():
            route = route.replace(f"<{kind}{name}>", value)
    return "/" + route.replace("(?P<url>.*)$", "nowhere")


def is_open(answer: HttpResponseBase) -> bool:
    away = answer.headers.get("Location", "").startswith(("/admin/login/", "/admin/?"))
    home = answer.headers.get("Location", "") == "/admin/"
    return answer.status_code < 400 and not away and not home


BODIES = {
    "admin/jobs/<uuid:job_id>/log/search/": {"q": "x"},
    "admin/approvals/approvalrequest/<int:request_id>/decide/": {"decision": "approve"},
    "admin/state/<slug:workspace>/restore/": {"version": "1"},
    "admin/state/<slug:workspace>/tasks/<path:name>/restore/": {"version": "1"},
}
ROWS = [row for row in TABLE if TABLE[row] != OWN]


@pytest.mark.long
def test_a_page_opens_for_those_who_have_its_right_and_for_nobody_else(
    names: dict[str, str],
) -> None:
    callers, wrong = Callers(), []
    nobody, stranger = Client(), callers.having()
    root = callers.having(is_superuser=True)
    everything_but_main = callers.having(*Right, denied="main")

    def look(client: Client, row: tuple[str, str], *, opens: bool, who: str) -> None:
        method, route = row
        answer = getattr(client, method)(path_of(route, names), BODIES.get(route))
        if is_open(answer) is not opens:
            wrong.append((method, route, who, answer.status_code))
        answer.close()

    for row in ROWS:
        who = TABLE[row]
        look(nobody, row, opens=False, who="nobody")
        if isinstance(who, Needs):
            look(callers.all_but(who.right), row, opens=False, who=f"all but {who.right}")
            if who.on_task and row[1].split("/")[1:3] != ["workspaces", "workspace"]:
                look(everything_but_main, row, opens=False, who="denied on the task")
            look(callers.having(who.right, *who.beside), row, opens=True, who=f"only {who}")
        else:
            look(stranger, row, opens=who == PEOPLE, who="stranger")
            look(root, row, opens=who != NOBODY, who="superuser")
    assert not wrong, "\n".join(map(str, wrong))


SPELT = (
    "admin/rights/", "admin/rights/matching/", f"{JOB}details/", "admin/jobs/<uuid:job_id>/log/",
    "admin/tasks/<slug:workspace>/<path:name>/", "admin/accounts/workspacegrant/",
)  # fmt: skip


def test_no_spelling_of_a_page_gets_around_the_check(names: dict[str, str]) -> None:
    client = Client(raise_request_exception=False)
    for route in SPELT:
        path = path_of(route, names).replace("/admin/", "/api/", 1)
        for spelling in spellings(path):
            words = (("api", "admin"), ("Api", "Admin"), ("API", "ADMIN"), ("%61pi", "%61dmin"))
            for before, after in words:
                spelling = spelling.replace(before, after, 1)
            assert not 200 <= client.get(spelling).status_code < 300, spelling


def test_nothing_of_a_denied_task_stands_on_any_page(names: dict[str, str]) -> None:
    client = Callers().having(*Right, denied="main")
    for method, route in TABLE:
        if method == "get" and TABLE[method, route] == PEOPLE:
            answer = client.get(path_of(route, names))
            text = b"" if answer.streaming else answer.content
            for word in (names["job_id"].encode(), b"nightly", b"Go on?"):
                assert word not in text, (route, word)
    assert Secret.objects.exists() and SUPERUSERS
