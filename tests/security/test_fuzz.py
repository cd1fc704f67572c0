"""Requests that nobody means, to every route: none of them breaks the server."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern, RoutePattern

from apps.accounts.models import Role, User
from apps.jobs.models import Step
from tests.apps.jobs.builders import start, workspace
from tests.apps.jobs.test_admin import FLOW, client_of, person

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("readers")]
SEED = 20261130
PARAMETERS = (
    "node", "sealed", "page", "status", "q", "after", "log", "limit", "offset", "job", "from",
    "pattern", "revision", "run", "p", "o", "e", "_changelist_filters", "_to_field", "_popup",
    "next", "all", "workspace", "task", "state", "id", "pk", "source_type", "app_label",
    "model_name", "field_name", "term", "confirmed", "shown", "to", "reason", "decision", "action",
    "_selected_action", "is_active__exact", "role__exact", "created_at__gte", "name__regex",
)  # fmt: skip
NASTY = (
    "", "\x00", "a\x00b", "\u00b2", "\u0663", "-1", "0", "1e9", "9" * 30, "x", "../..", "%", "%25",
    "'", '"', "<b>", "\ud7ff", "\U0001f600", "\n", "\r\nX: y", " ", "a" * 3000, "None", "null",
    "true", "[]", "{}", "{{ 1 }}", "1_0", "1.5", "NaN", "Infinity", "-", "_", "0" * 20, ";", "=",
    "\ufffd", "9223372036854775808", "-2147483649", "2026-13-45", "0001-01-01", "_3D", "_00", "_zz",
)  # fmt: skip
ENDS = ("logout", "logout/", "remove/")
BODIES = (
    "", "{", "[]", "null", "7", '"x"', "{}", '{"input": {"a": "\\u0000"}}', '{"input": 7}',
    '{"email": [], "password": {}}', '{"input": {"a": 1e400}}', '{"reason": "\\ud800"}',
    '{"failed": "x"}', '{"token": 7}', "[" * 5000, '{"name": "\\u0000", "value": null}', "\x00",
)  # fmt: skip
METHODS = ("get",) * 6 + ("post",) * 3 + ("put", "patch", "delete", "head", "options")
KINDS = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data", "x", "")


def routes(patterns: Any = None, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The patterns of each route, in order. Without those that end what the others need."""
    for one in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(one, URLResolver):
            yield from routes(one.url_patterns, (*before, one.pattern))
        elif isinstance(one, URLPattern) and not str(one.pattern).endswith(ENDS):
            yield (*before, one.pattern)


def address_of(
    route: tuple[Any, ...], fill: Callable[[str], str], rest_of_api: Callable[[], str]
) -> str:
    parts = []
    for pattern in route:
        if isinstance(pattern, RegexPattern):
            parts.append("api/" + quote(rest_of_api(), safe=""))
        elif isinstance(pattern, RoutePattern):
            text = str(pattern)
            while "<" in text:
                left, _, rest = text.partition("<")
                given, _, rest = rest.partition(">")
                text = left + quote(fill(given.rpartition(":")[2]), safe="") + rest
            parts.append(text)
    return "/" + "".join(parts)


class Fuzz:
    def __init__(self, seed: int, known: dict[str, str]) -> None:
        self.random = random.Random(seed)
        self.known = known
        self.routes = list(routes())

    def value(self) -> str:
        usual = self.random.random() < 0.3
        return self.random.choice(list(self.known.values()) if usual else NASTY)

    def filling(self, name: str) -> str:
        """What a route's parameter is given: often what is there, so that its view is reached."""
        there = [value for key, value in self.known.items() if name in key.split()]
        usual = self.random.random() < 0.75
        return self.random.choice(there or list(self.known.values())) if usual else self.value()

    def path(self) -> str:
        return address_of(self.random.choice(self.routes), self.filling, self.value)

    def query(self) -> str:
        names = self.random.sample(PARAMETERS, self.random.randint(0, 6))
        return "&".join(f"{name}={quote(self.value(), safe='')}" for name in names)

    def ask(self, clients: list[Client]) -> tuple[str, int]:
        method = self.random.choice(METHODS)
        address = f"{self.path()}?{self.query()}"
        options: dict[str, Any] = {}
        if method in ("post", "put", "patch", "delete"):
            kind = self.random.choice(KINDS)
            form = f"{self.query()}&{self.query()}"
            body = self.random.choice(BODIES) if kind == KINDS[0] else form
            options = {"data": body, "content_type": kind}
        number = self.random.choice((0, 1, 2, 2, 2))
        answer = getattr(clients[number], method)(address, **options)
        answer.close()
        return f"{number} {method} {address} {json.dumps(options)}", answer.status_code


@pytest.mark.long
@pytest.mark.parametrize("count", [1500, pytest.param(50_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(3600)
def test_no_request_breaks_the_server(
    count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = start(workspace(tmp_path, FLOW))
    root = User.objects.create_superuser("root@example.org")
    clients = [Client(), client_of(person(Role.VIEWER)), client_of(root)]
    for client in clients:
        client.raise_request_exception = False
    step = Step.objects.filter(job=job).earliest("id")
    known = {
        "job job_id object_id": str(job.pk),
        "step_id object_id action_id": str(step.pk),
        "step action": step.name,
        "task name url": job.task_name,
        "workspace": job.workspace.name,
        "object_id app_label": str(root.pk),
        "format prefix": "json",
    }
    fuzz = Fuzz(SEED, known)
    broken = [said for said, status in (fuzz.ask(clients) for _ in range(count)) if status >= 500]
    assert not broken, f"{len(broken)} of {count}\n" + "\n".join(broken[:40])


@pytest.mark.long
def test_nul_breaks_no_route(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, FLOW))
    client = client_of(User.objects.create_superuser("root@example.org"))
    client.raise_request_exception = False
    everything = "&".join(f"{name}=a%00b" for name in PARAMETERS)
    there = {"job": str(job.pk), "job_id": str(job.pk), "workspace": job.workspace.name}
    broken = []
    for route in routes():
        addresses = {
            address_of(route, lambda _: "a\x00b", lambda: "\x00"),
            address_of(route, lambda name: there.get(name, "a\x00b"), lambda: "\x00"),
            address_of(route, lambda name: there.get(name, "1"), lambda: "x") + "?" + everything,
        }
        for address in addresses:
            for call in (client.get, client.post):
                answer = call(address)
                answer.close()
                if answer.status_code >= 500:
                    broken.append(address)
    assert not broken


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/admin/jobs/job/%00/change/", 404),
        ("/api/workspaces/a%00b/tasks", 404),
        ("/api/jobs?workspace=a%00b", 400),
        ("/admin/tasks/?q=%00", 400),
        ("/admin/?%00=1", 400),
    ],
)
def test_no_address_holds_what_the_database_cannot(address: str, status: int) -> None:
    client = client_of(User.objects.create_superuser("root@example.org"))
    assert client.get(address).status_code == status


@pytest.mark.parametrize("address", ["/api/docs", "/api/v1/docs"])
def test_pages_are_not_asked_what_they_can(address: str) -> None:
    client = client_of(User.objects.create_superuser("root@example.org"))
    assert client.options(address).status_code == 405


@pytest.mark.parametrize("kind", ["auth/group", "accounts/user", "jobs/job", "accounts/apitoken"])
def test_an_empty_field_to_look_up_by_is_none(kind: str) -> None:
    client = client_of(User.objects.create_superuser("root@example.org"))
    answer = client.put(f"/admin/{kind}/main/change/?_to_field=")
    assert answer.status_code in (302, 404, 405)


@pytest.mark.parametrize("query", ["node=\u00b2", "node=\u0663", "page=\u00b2"])
def test_numbers_are_digits_of_ours(query: str, tmp_path: Path) -> None:
    job = start(workspace(tmp_path, FLOW))
    client = client_of(User.objects.create_superuser("root@example.org"))
    assert client.get(f"/admin/jobs/job/{job.pk}/steps/?{query}").status_code in (200, 400, 404)
