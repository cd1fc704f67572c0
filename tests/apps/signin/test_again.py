"""Who came from a provider signs in there again, before a program gets a key."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apps.accounts import sessions
from tests.apps.accounts.test_fresh import age, led_to
from tests.apps.signin.provider import Company
from tests.apps.signin.test_sign_on import begin, path_of, said

pytestmark = pytest.mark.django_db
DEVICE = "/admin/device/"
HOUR = 3600


def arrive(company: Company, browser: Client, address: str, ago: int = 0) -> Any:
    return browser.get(path_of(company.answer("ada", address, ago)))


@pytest.fixture
def browser(company: Company) -> Client:
    company.person("ada")
    client = Client()
    arrive(company, client, begin(client))
    return client


def without_prompt(address: str) -> str:
    assert "&prompt=login" in address
    return address.replace("&prompt=login", "")


def is_fresh(browser: Client) -> bool:
    answer = browser.get(DEVICE)
    if answer.status_code == 302:
        assert led_to(answer).startswith(DEVICE)
    return bool(answer.status_code == 200)


def test_the_provider_is_to_ask_them_again(company: Company, browser: Client) -> None:
    assert is_fresh(browser)
    age(browser)
    assert not is_fresh(browser)
    address = begin(browser, DEVICE)
    assert "prompt=login" in address and "prompt" not in begin(Client())
    asked = company.answer("ada", address)  # it asks who they are, although they had signed in
    assert asked.startswith("/accounts/reauthenticate/?next=")
    back = arrive(company, browser, without_prompt(address))  # as it goes on after that
    assert back["Location"] == DEVICE and is_fresh(browser)


def test_a_sign_in_is_as_old_as_the_provider_says(company: Company, browser: Client) -> None:
    other = Client()
    assert arrive(company, other, begin(other), ago=HOUR).status_code == 302
    assert other.get("/admin/tasks/").status_code == 200 and not is_fresh(other)


def test_who_takes_the_request_to_ask_again_out_gains_nothing(
    company: Company, browser: Client
) -> None:
    age(browser)
    address = without_prompt(begin(browser, DEVICE))
    answer = arrive(company, browser, address, ago=HOUR)
    assert answer.status_code == 403
    assert "Company did not ask you to sign in again" in said(answer)
    assert browser.get("/admin/tasks/").status_code == 200 and not is_fresh(browser)


def test_a_time_to_come_makes_no_session_fresh_for_longer() -> None:
    session: dict[str, Any] = {}
    sessions.note_begun(session, 2**40)  # type: ignore[arg-type]  # of a session, only this
    assert session[sessions.AT] < 2**40
