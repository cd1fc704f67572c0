"""Single sign-on with a real provider: who comes in, as whom, with which groups, and until when."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import F
from django.test import Client
from django.utils import timezone

from apps.accounts import tokens
from apps.accounts.errors import TokenRefused
from apps.accounts.models import User, WorkspaceGrant
from apps.jobs.pages import live
from apps.signin import checks, sign_ons, wire
from apps.signin.models import SignOn
from apps.signin.protocol import Tokens
from tests.apps.jobs.builders import start, workspace
from tests.apps.jobs.test_admin import FLOW
from tests.apps.signin import provider
from tests.apps.signin.provider import Company

pytestmark = pytest.mark.django_db
BEGIN = "/admin/login/with/company/"
PASSWORD = "correct horse battery"


def begin(browser: Client, next_url: str = "/admin/tasks/") -> str:
    """The address of the provider that the button leads to."""
    answer = browser.get(BEGIN, {"next": next_url})
    assert answer.status_code == 302, answer.content[-600:]
    return str(answer["Location"])


def path_of(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}"


def arrive(company: Company, who: str, browser: Client | None = None) -> tuple[Client, Any]:
    browser = browser or Client()
    back = company.answer(who, begin(browser))
    return browser, browser.get(path_of(back))


def is_in(browser: Client) -> bool:
    return browser.get("/admin/tasks/").status_code == 200


def said(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def age(**by: float) -> None:
    """Time passes since the provider was asked."""
    SignOn.objects.update(checked_at=F("checked_at") - timedelta(**by))


# coming in


def test_somebody_signs_in_with_the_groups_that_are_known_here(company: Company) -> None:
    Group.objects.create(name="ops")
    company.person("ada", "ops", "canteen")
    browser, answer = arrive(company, "ada")
    assert answer["Location"] == "/admin/tasks/"
    assert is_in(browser)
    ada = User.objects.get(email="ada@example.org")
    assert [one.name for one in ada.groups.all()] == ["ops"]
    assert not Group.objects.filter(name="canteen").exists()
    assert not ada.has_usable_password()
    assert not ada.is_superuser
    again, _ = arrive(company, "ada")
    assert is_in(again) and User.objects.count() == 1
    assert not Client().login(username="ada@example.org", password="")


def test_the_request_has_state_pkce_and_nonce(company: Company) -> None:
    asked = parse_qs(urlsplit(begin(Client())).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert len(asked["code_challenge"][0]) == 43
    assert asked["state"] and asked["nonce"]
    assert asked["redirect_uri"] == ["http://127.0.0.1:8080/admin/login/with/company/callback/"]


def test_the_request_asks_for_the_scopes_of_the_settings(company: Company, offer: Any) -> None:
    offer(scopes=("openid", "email", "groups"))
    asked = parse_qs(urlsplit(begin(Client())).query)
    assert set(asked["scope"][0].split()) == {"openid", "email", "groups"}


@pytest.mark.parametrize("trusted", [True, False])
def test_addresses_count_as_verified_where_the_operator_says_so(
    company: Company, offer: Any, trusted: bool
) -> None:
    offer(trust_email=trusted)
    company.person("ivy", verified=False)
    browser, _ = arrive(company, "ivy")
    assert is_in(browser) is trusted


def test_groups_are_mapped_and_made(company: Company, offer: Any) -> None:
    offer(groups={"platform": "ops"}, admin_groups=("root",), default_groups=("people",))
    company.person("bea", "platform", "root", "ops-elsewhere")
    arrive(company, "bea")
    bea = User.objects.get(email="bea@example.org")
    assert {one.name for one in bea.groups.all()} == {"ops", "people"}
    assert bea.is_superuser
    company.person("bea", "platform")
    arrive(company, "bea")
    bea.refresh_from_db()
    assert not bea.is_superuser


def test_nobody_signs_up_by_default(company: Company, offer: Any) -> None:
    offer(allow_sign_up=False)
    company.person("eve")
    browser, answer = arrive(company, "eve")
    assert answer.status_code == 403
    assert "eve@example.org has no account here. Ask an administrator to make one." in said(answer)
    assert not is_in(browser)
    assert not User.objects.exists() and not SocialAccount.objects.exists()


@pytest.mark.parametrize("linking", [True, False])
@pytest.mark.parametrize("verified", [True, False])
def test_an_account_is_linked_by_a_verified_address_where_the_operator_says_so(
    company: Company, offer: Any, linking: bool, verified: bool
) -> None:
    offer(allow_sign_up=False, link_by_email=linking)
    known = User.objects.create_user("Fay@example.org", PASSWORD)
    company.person("fay", verified=verified)
    browser, answer = arrive(company, "fay")
    assert is_in(browser) is (linking and verified)
    assert SocialAccount.objects.filter(user=known).exists() is (linking and verified)
    if not linking:
        assert "Fay@example.org here is not linked to Company" in said(answer)
    elif not verified:
        assert "does not say that fay@example.org is your address" in said(answer)


def test_two_people_of_a_provider_are_never_one_account(company: Company, offer: Any) -> None:
    offer(link_by_email=True)
    User.objects.create_user("gus@example.org", PASSWORD)
    company.person("gus")
    arrive(company, "gus")
    company.person("mallory", email="gus@example.org")
    _, answer = arrive(company, "mallory")
    assert "linked to somebody else already" in said(answer)


@pytest.mark.parametrize("verified", [True, False])
def test_who_signs_up_has_a_verified_address(company: Company, verified: bool) -> None:
    company.person("hal", verified=verified)
    browser, _ = arrive(company, "hal")
    assert is_in(browser) is verified


def test_only_those_of_some_groups_may_come(company: Company, offer: Any) -> None:
    offer(required_groups=("staff",))
    company.person("ian", "guests")
    browser, answer = arrive(company, "ian")
    assert "none of the groups that may use this server" in said(answer)
    assert not is_in(browser) and not User.objects.exists()


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}])
def test_a_disabled_account_stays_closed(company: Company, change: dict[str, bool]) -> None:
    company.person("jo")
    arrive(company, "jo")
    User.objects.update(**change)
    browser, answer = arrive(company, "jo")
    assert answer.status_code == 403 and not is_in(browser)


# replays and forgeries


def test_an_answer_is_good_once(company: Company) -> None:
    company.person("kim")
    browser = Client()
    back = path_of(company.answer("kim", begin(browser)))
    assert browser.get(back).status_code == 302
    browser.logout()
    refused = browser.get(back)
    assert refused.status_code == 403
    assert "has ended already" in said(refused)


def test_a_code_is_good_once_whatever_its_state(company: Company) -> None:
    company.person("kim")
    browser = Client()
    code = parse_qs(urlsplit(company.answer("kim", begin(browser))).query)["code"][0]
    states = [parse_qs(urlsplit(begin(browser)).query)["state"][0] for _ in range(2)]
    callback = f"{BEGIN}callback/"
    for state in states:  # a code of another request fails for its PKCE, a used one as such
        assert browser.get(callback, {"code": code, "state": state}).status_code == 502
    assert not is_in(browser)


def test_an_answer_is_good_in_its_own_browser_only(company: Company) -> None:
    company.person("kim")
    back = path_of(company.answer("kim", begin(Client())))
    thief = Client()
    begin(thief)
    assert thief.get(back).status_code == 403
    assert not is_in(thief)


@pytest.mark.parametrize(
    "query",
    ["", "state=x", "code=x", "error=access_denied", "state=&code=", "error=server_error&state=x"],
)
def test_half_answers_are_refused(company: Company, query: str) -> None:
    assert Client().get(f"{BEGIN}callback/?{query}").status_code == 403


def test_who_says_no_at_the_provider_reads_so(company: Company) -> None:
    browser = Client()
    state = parse_qs(urlsplit(begin(browser)).query)["state"][0]
    answer = browser.get(f"{BEGIN}callback/", {"state": state, "error": "access_denied"})
    assert answer.status_code == 403 and "did not let you go on" in said(answer)


@pytest.mark.parametrize(
    "there", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_nobody_is_led_elsewhere(company: Company, there: str) -> None:
    company.person("kim")
    browser = Client()
    answer = browser.get(path_of(company.answer("kim", begin(browser, there))))
    assert answer["Location"] == "/admin/"


def test_an_unknown_provider_is_no_page(company: Company) -> None:
    assert Client().get("/admin/login/with/other/").status_code == 404


def test_a_provider_under_another_name_is_refused(company: Company, offer: Any) -> None:
    offer(issuer_url=company.url.replace("127.0.0.1", "localhost"))
    answer = Client().get(BEGIN)
    assert answer.status_code in (302, 502)  # it builds its name from the request
    offer(issuer_url=f"{company.url}/accounts")
    assert Client().get(BEGIN).status_code == 502


def test_a_provider_that_is_away_is_said_so(company: Company, offer: Any) -> None:
    offer(issuer_url="http://127.0.0.1:9")
    answer = Client().get(BEGIN)
    assert answer.status_code == 503 and "Company does not answer" in said(answer)


# how long it holds


def test_a_revoked_group_ends_sessions_and_tokens_within_a_minute(company: Company) -> None:
    Group.objects.create(name="ops")
    company.person("lea", "ops")
    browser, _ = arrive(company, "lea")
    lea = User.objects.get(email="lea@example.org")
    pair = tokens.begin_chain(lea, timezone.now())
    company.person("lea")
    assert is_in(browser)  # within the minute
    age(seconds=59)
    assert browser.get("/admin/tasks/")["Location"].startswith("/admin/login/")
    assert "Your session has ended" in said(browser.get("/admin/login/"))
    assert not User.objects.get(pk=lea.pk).groups.exists()
    with pytest.raises(TokenRefused):
        tokens.rotate(pair.refresh, timezone.now())
    again, _ = arrive(company, "lea")
    assert is_in(again)


def test_the_api_of_a_session_ends_as_well(company: Company) -> None:
    company.person("lea")
    browser, _ = arrive(company, "lea")
    assert browser.get("/api/auth/me").json()["email"] == "lea@example.org"
    company.person("lea", active=False, forget=True)
    age(seconds=59)
    assert browser.get("/api/auth/me").status_code == 401


@pytest.mark.parametrize("is_revoked", [True, False])
def test_a_stream_asks_by_itself(company: Company, tmp_path: Path, is_revoked: bool) -> None:
    Group.objects.create(name="root")
    job = start(workspace(tmp_path, FLOW))
    company.person("lea", "root")
    browser, _ = arrive(company, "lea")
    WorkspaceGrant.objects.create(user=User.objects.get(), pattern="*", role="viewer")
    ticket = live.Ticket(browser.session.session_key or "", job, None)
    assert live._may_still(ticket)
    if is_revoked:
        company.person("lea")
    age(seconds=30)
    assert live._may_still(ticket) is not is_revoked


def test_unchanged_groups_end_nothing_and_are_asked_for_once(company: Company) -> None:
    Group.objects.create(name="ops")
    company.person("lea", "ops")
    browser, _ = arrive(company, "lea")
    before = company.asked()
    for _ in range(3):
        assert is_in(browser)
    assert company.asked() == before
    age(seconds=59)
    for _ in range(3):
        assert is_in(browser)
    assert company.asked() == before + 1


def test_a_run_out_token_is_renewed(company: Company) -> None:
    company.person("lea")
    browser, _ = arrive(company, "lea")
    held = SignOn.objects.get()
    for _ in range(2):  # the provider gives a new refresh token each time
        age(seconds=59)
        SignOn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert is_in(browser)
    now = SignOn.objects.get()
    old, new = (Tokens.opened(one.tokens, None) for one in (held, now))
    assert old.access != new.access and old.refresh != new.refresh
    assert new.id_token
    assert now.expires_at is not None and now.expires_at > timezone.now()


def test_tokens_are_kept_sealed(company: Company) -> None:
    company.person("lea")
    arrive(company, "lea")
    row = SignOn.objects.get()
    held = Tokens.opened(row.tokens, None)
    assert held.access.encode() not in bytes(row.tokens)
    assert held.access not in repr(held) and not SocialAccount.objects.get().extra_data


def test_a_silent_provider_keeps_a_session_shut_and_does_not_end_it(
    company: Company, offer: Any
) -> None:
    company.person("lea")
    browser, _ = arrive(company, "lea")
    offer(issuer_url="http://127.0.0.1:9")
    age(seconds=50)
    assert is_in(browser)  # its last word is not a minute old
    age(seconds=10)
    answer = browser.get("/admin/tasks/")
    assert answer.status_code == 503 and answer["Retry-After"]
    assert "does not answer" in said(answer)
    assert browser.get("/api/auth/me").json()["code"] == "unavailable"
    offer()
    assert is_in(browser)


def test_groups_that_come_with_id_tokens_only_are_followed_too(
    company: Company, offer: Any
) -> None:
    offer(client_id=provider.LATE)
    Group.objects.create(name="ops")
    company.person("moe", "ops")
    browser, _ = arrive(company, "moe")
    moe = User.objects.get()
    assert moe.groups.exists() and SignOn.objects.get().by_refresh
    age(seconds=59)
    assert is_in(browser)
    company.person("moe")
    age(seconds=59)
    assert not is_in(browser)
    assert not moe.groups.exists()


@pytest.mark.parametrize("how", ["link", "provider", "sign-on", "required"])
def test_what_is_taken_away_ends_the_session(company: Company, offer: Any, how: str) -> None:
    company.person("lea")
    browser, _ = arrive(company, "lea")
    match how:
        case "link":
            SocialAccount.objects.all().delete()
        case "provider":
            from django.conf import settings

            settings.STROEM.auth.providers.clear()
        case "sign-on":
            SignOn.objects.all().delete()
        case "required":
            offer(required_groups=("staff",))
    age(seconds=59)
    assert not is_in(browser)
    assert not SignOn.objects.exists()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_requests_at_once_ask_the_provider_once(company: Company) -> None:
    company.person("lea")
    arrive(company, "lea")
    age(seconds=59)
    SignOn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    before, found = company.asked(), []
    row = SignOn.objects.get()

    def request() -> None:
        found.append(checks.standing(row.pk, row.user_id))
        connection.close()

    threads = [threading.Thread(target=request) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [checks.Standing.GOOD] * 6
    assert company.asked() == before + 2  # new tokens, and the data of the user


# leaving


def test_signing_out_leads_to_the_provider(company: Company) -> None:
    company.person("lea")
    browser, _ = arrive(company, "lea")
    answer = browser.post("/admin/logout/")
    page = said(answer)
    assert f"{company.url}/identity/o/logout?client_id=stroem" in page
    assert "id_token_hint=" in page
    assert not SignOn.objects.exists() and not is_in(browser)


def test_what_somebody_began_is_not_kept_for_long(company: Company) -> None:
    company.person("lea")
    browser = Client()
    back = company.answer("lea", begin(browser))
    assert browser.session.get_expiry_age() <= 600
    browser.get(path_of(back))
    assert browser.session.get_expiry_age() > 24 * 3600
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    sign_ons.forget_old()
    assert not Session.objects.exists()


def test_somebody_with_a_password_is_simply_signed_out() -> None:
    User.objects.create_user("ned@example.org", PASSWORD)
    browser = Client()
    browser.post("/admin/login/", {"username": "ned@example.org", "password": PASSWORD})
    assert is_in(browser)
    assert browser.post("/admin/logout/")["Location"] == "/admin/login/"
    assert not is_in(browser)


def test_old_sign_ons_are_forgotten(company: Company) -> None:
    company.person("lea")
    arrive(company, "lea")
    assert sign_ons.forget_old() == 0
    SignOn.objects.update(created_at=timezone.now() - timedelta(days=15))
    assert sign_ons.forget_old() == 1


def test_programs_read_which_providers_there_are(company: Company) -> None:
    told = Client().get("/api/config").json()["oidc_providers"]
    assert told == [{"id": "company", "display_name": "Company"}]


def test_keys_of_a_provider_are_asked_for_again_when_it_has_new_ones(company: Company) -> None:
    company.person("lea")
    arrive(company, "lea")
    address = next(one for one in wire._kept if "jwks" in one)
    wire._kept[address] = (wire._kept[address][0] - 20, {"keys": []})
    browser, _ = arrive(company, "lea")
    assert is_in(browser)
