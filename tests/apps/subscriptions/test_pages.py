"""The pages and routes of subscriptions: for administrators of the workspace, and without secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.accounts.models import Role
from apps.subscriptions import services
from apps.subscriptions.models import Delivery, Subscription
from apps.workspaces.models import Workspace
from apps.workspaces.sealing import unseal
from console.health import _subscriptions
from tests.apps.api.callers import caller, error
from tests.apps.jobs.builders import Hand, start, workspace
from tests.apps.subscriptions.receiver import Receiver, fresh, let_time_pass, send, subscribe
from tests.apps.workspaces.test_admin import client_of, person

pytestmark = pytest.mark.django_db
FLOW = 'tasks: {main: {flow: {a: {type: script, script: "true"}}}}'
LIST = "/admin/subscriptions/subscription/"
API = "/api/workspaces/shop/subscriptions"
SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{20,}")
GIVEN: dict[str, Any] = {
    "name": "pager",
    "url": "https://pager.example.org/x",
    "events": ["job.failed"],
}


@pytest.fixture(name="shop")
def workspace_of_tests(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, FLOW, "shop")


def client(role: Role | None, pattern: str = "shop") -> Client:
    return client_of(person(role, pattern))


def act(who: Client, row: Subscription, what: str, **given: str) -> Any:
    return who.post(f"{LIST}{row.pk}/act/{what}/", given, follow=True)


def test_a_subscription_is_added_and_its_secret_shown_once(shop: Workspace) -> None:
    admin = client(Role.ADMIN)
    given = {**GIVEN, "workspace": shop.pk, "with_output": "on"}
    answer = admin.post(f"{LIST}add/", given)
    page = answer.content.decode()
    row = Subscription.objects.get()
    (secret,) = SECRET.findall(page.replace("&#x2B;", "+"))
    assert unseal(row.sealed_secret) == secret and "no-store" in answer["Cache-Control"]
    assert (row.events, row.with_output, row.workspace.announced) == (
        ["job.failed"], True, "job.failed",
    )  # fmt: skip
    for address in (LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/edit/"):
        found = admin.get(address)
        assert found.status_code == 200 and not SECRET.search(found.content.decode())
    assert secret not in repr(list(LogEntry.objects.values()))


def test_a_wrong_one_is_told_at_its_field(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = client(Role.ADMIN)
    given = {**GIVEN, "workspace": shop.pk, "url": "https://127.0.0.1/"}
    page = admin.post(f"{LIST}add/", given).content.decode()
    assert "names the address 127.0.0.1, which is not of the public internet" in page
    subscribe(shop, "https://pager.example.org/x", name="pager")
    page = admin.post(f"{LIST}add/", {**GIVEN, "workspace": shop.pk}).content.decode()
    assert "already exists" in page and Subscription.objects.count() == 1
    monkeypatch.setattr(services, "MOST", 1)
    page = admin.post(f"{LIST}add/", {**GIVEN, "name": "x", "workspace": shop.pk}).content.decode()
    assert "has 1 subscriptions at most" in page and Subscription.objects.count() == 1


def test_a_subscription_is_changed_paused_and_deleted(shop: Workspace) -> None:
    admin = client(Role.ADMIN)
    row, _ = subscribe(shop, "https://pager.example.org/x")
    given = {"url": "https://new.example.org/", "events": ["step.failed", "job.failed"]}
    assert admin.post(f"{LIST}{row.pk}/edit/", given).status_code == 302
    row = fresh(row)
    assert (row.url, row.events) == ("https://new.example.org/", ["job.failed", "step.failed"])
    act(admin, row, "pause")
    assert services.state_of(fresh(row)) == "paused"
    assert "is paused; resume it first" in act(admin, row, "ping").content.decode()
    act(admin, row, "resume")
    assert services.state_of(fresh(row)) == "live"
    admin.post(f"{LIST}{row.pk}/delete/", {"post": "yes"})
    assert not Subscription.objects.exists()
    assert Workspace.objects.get(pk=shop.pk).announced == ""


def test_the_page_lists_what_became_of_messages(shop: Workspace, receiver: Receiver) -> None:
    admin = client(Role.ADMIN)
    row, _ = subscribe(shop, receiver.url)
    receiver.answers = [500, 500, 500, 200]
    start(shop)
    Hand().work()
    for _ in range(3):
        send()
        let_time_pass()
    page = admin.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "the receiver answered 500" in page and "3 tries" in page
    page = admin.get(f"/admin/workspaces/workspace/{shop.pk}/change/").content.decode()
    assert "Subscriptions in trouble" in page and "3 tries failed in a row" in page
    assert [one.sentence for one in _subscriptions()] == [
        "shop/chat: 3 tries failed in a row: the receiver answered 500"
    ]
    viewer = client(Role.VIEWER)
    page = viewer.get(f"/admin/workspaces/workspace/{shop.pk}/change/").content.decode()
    assert "Subscriptions in trouble" not in page
    act(admin, row, "ping")
    assert send() == 2 and receiver.types[-2:] == ["job.completed", "ping"]
    done = Delivery.objects.filter(event="job.completed").get()
    assert "sent again" in act(admin, row, "again", delivery=str(done.pk)).content.decode()
    assert send() == 1 and receiver.types[-1] == "job.completed"
    answer = admin.post(f"{LIST}{row.pk}/act/rotate/")
    assert SECRET.search(answer.content.decode()) and "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize(
    ("role", "pattern"), [(None, "shop"), (Role.OPERATOR, "shop"), (Role.ADMIN, "other")]
)
def test_pages_are_for_administrators_of_the_workspace(
    shop: Workspace, role: Role | None, pattern: str
) -> None:
    row, _ = subscribe(shop, "https://pager.example.org/x")
    stranger = client(role, pattern)
    for address in (f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/edit/", f"{LIST}{row.pk}/delete/"):
        assert stranger.get(address).status_code in (302, 403, 404)
    for what in ("pause", "ping", "rotate", "again"):
        assert stranger.post(f"{LIST}{row.pk}/act/{what}/").status_code in (403, 404)
    stranger.post(f"{LIST}add/", {**GIVEN, "workspace": shop.pk})
    assert b"pager.example.org" not in stranger.get(LIST).content
    assert Subscription.objects.count() == 1 and not Delivery.objects.exists()
    assert fresh(row).paused_at is None and fresh(row).previous_until is None


def test_the_api_does_all_of_it(shop: Workspace, receiver: Receiver) -> None:
    admin = caller(Role.ADMIN)
    made = admin.post(API, {**GIVEN, "url": receiver.url}, format="json").json()
    assert SECRET.fullmatch(made["secret"]) and made["subscription"]["state"] == "live"
    (listed,) = admin.get(API).json()
    assert listed == made["subscription"]
    one = f"{API}/pager"
    changed = {"url": receiver.url, "events": ["job.completed"], "with_output": True}
    said = admin.put(one, {**changed, "paused": True}, format="json").json()
    assert (said["state"], said["with_output"]) == ("paused", True)
    assert error(admin.post(f"{one}/ping")) == "The subscription is paused; resume it first"
    assert admin.put(one, changed, format="json").json()["state"] == "live"
    ping = admin.post(f"{one}/ping").json()
    assert (ping["event"], ping["status"], ping["tries"]) == ("ping", "waiting", 0)
    send()
    page = admin.get(f"{one}/deliveries").json()
    (found,) = page["items"]
    assert (page["total"], found["status"], found["answer"]) == (1, "delivered", 200)
    assert found["message_id"] == receiver.got[0].headers["webhook-id"]
    again = admin.post(f"{one}/deliveries/{found['id']}/send-again").json()
    assert again["message_id"] == found["message_id"] and again["id"] != found["id"]
    rotated = admin.post(f"{one}/rotate").json()
    assert rotated["secret"] != made["secret"]
    assert rotated["subscription"]["previous_secret_until"] is not None
    for address in (API, one, f"{one}/deliveries"):
        assert b"whsec_" not in admin.get(address).content
    assert admin.delete(one).json() == {"status": "ok"}
    assert admin.get(one).status_code == 404


def test_mistakes_are_told(shop: Workspace) -> None:
    admin = caller(Role.ADMIN)
    answer = admin.post(API, {"name": "A B", "url": "x", "events": []}, format="json")
    assert answer.status_code == 400 and set(answer.json()["fields"]) == {"name", "url", "events"}
    assert "Unknown key 'secret'" in error(admin.post(API, {**GIVEN, "secret": "x"}, format="json"))
    admin.post(API, GIVEN, format="json")
    twice = admin.post(API, GIVEN, format="json")
    assert twice.status_code == 409 and "has a subscription 'pager' already" in error(twice)
    unknown = admin.post(f"{API}/pager/deliveries/77/send-again")
    assert unknown.status_code == 404
