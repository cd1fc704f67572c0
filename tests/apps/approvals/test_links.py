"""Links lead one person to one page, once. They sign nobody in, and no GET decides anything."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.approvals import links
from apps.approvals.errors import NotAllowed
from apps.approvals.models import Link
from apps.approvals.services import Caller
from engine.errors import Conflict, InputError, NotFound
from tests.apps.approvals.gates import (
    approve,
    asked,
    gate,
    operator,
    person,
    records,
    request_of,
    step_of,
    viewer,
)

pytestmark = pytest.mark.django_db(transaction=True)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def path_of(url: str) -> str:
    return urlsplit(url).path


def test_a_link_leads_to_the_page_once_and_decides_nothing(tmp_path: Path) -> None:
    job, anna = asked(gate(tmp_path)), operator()
    path = path_of(links.make_link(request_of(job), anna))
    client = signed_in(anna)
    answer = client.get(path)
    page = f"/admin/approvals/approvalrequest/{request_of(job).pk}/change/"
    assert (answer.status_code, answer.headers["Location"]) == (302, page)
    assert client.get(path).status_code == 410
    assert step_of(job).status == "suspended"
    assert records(job) == [(anna.email, "open", "done"), (anna.email, "open", "refused")]


def test_a_preview_that_is_not_signed_in_spends_nothing(tmp_path: Path) -> None:
    job, anna = asked(gate(tmp_path)), operator()
    path = path_of(links.make_link(request_of(job), anna))
    for method in ("get", "head"):
        answer = getattr(Client(), method)(path)
        assert answer.status_code in (302, 405) and "/admin/login/" in answer.headers.get(
            "Location", "/admin/login/"
        )
    assert Link.objects.get().used_at is None
    assert signed_in(anna).get(path).status_code == 302
    assert Client().post(path).status_code == 405


def test_a_link_is_for_one_person_and_cannot_be_made_up(tmp_path: Path) -> None:
    job, anna, other = asked(gate(tmp_path)), operator(), operator()
    path = path_of(links.make_link(request_of(job), anna))
    assert signed_in(other).get(path).status_code == 403
    assert Link.objects.get().used_at is None
    for wrong in (
        path[:-1] + ("a" if path[-1] != "a" else "b"),
        "/approvals/link/x",
        "/approvals/link/a:b",
    ):
        assert signed_in(anna).get(wrong).status_code == 404
    assert records(job) == [(other.email, "open", "refused")]


def test_the_database_keeps_no_link_that_could_be_used(tmp_path: Path) -> None:
    token = path_of(links.make_link(request_of(asked(gate(tmp_path))), operator())).rsplit("/", 1)[
        1
    ]
    assert Link.objects.get().digest not in token and token.split(":")[0] not in str(
        Link.objects.values().get()
    )


def test_a_link_to_what_is_decided_or_no_longer_seen_leads_nowhere(tmp_path: Path) -> None:
    job, anna, bert = asked(gate(tmp_path)), operator(), operator()
    first, second = (path_of(links.make_link(request_of(job), user)) for user in (anna, bert))
    bert.grants.all().delete()
    assert signed_in(bert).get(second).status_code == 403
    approve(job, anna)
    assert signed_in(anna).get(first).status_code == 410


def test_who_makes_links_for_whom(tmp_path: Path) -> None:
    job, bot, anna = asked(gate(tmp_path)), operator(), viewer()
    request = request_of(job)
    links.link_for(request, Caller(bot, "api"), anna.email)
    links.link_for(request, Caller(anna, "api"))
    assert sorted(link.user.email for link in Link.objects.all()) == sorted(
        [anna.email, anna.email]
    )
    for maker, email, refusal in (
        (anna, bot.email, NotAllowed),
        (person(), "", NotFound),
        (bot, "nobody@example.org", InputError),
        (bot, person().email, InputError),
    ):
        with pytest.raises(refusal):
            links.link_for(request, Caller(maker, "api"), email)
    approve(job, bot)
    with pytest.raises(Conflict):
        links.link_for(request_of(job), Caller(bot, "api"))
    made = [outcome for _, what, outcome in records(job) if what == "link"]
    assert made == ["done", "done", "refused", "refused", "invalid", "invalid", "late"]
