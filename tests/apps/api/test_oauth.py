"""People let agents in at /mcp: what is refused, what is good once, and what ends a connection."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from allauth.idp.oidc.models import Client as Program
from allauth.idp.oidc.models import Token
from django.conf import settings as ours
from django.core import mail
from django.db import connections
from django.test import Client
from django.utils import timezone

from apps.accounts import alerts, connected, sessions
from apps.accounts.errors import TokenRefused
from apps.accounts.models import ConnectedAgent, SpentToken, Throttle, User
from apps.api.oauth import offer, views
from tests.apps.api.callers import client_of, user

pytestmark = pytest.mark.django_db
BACK = "http://127.0.0.1:5555/callback"
VERIFIER = "v" * 50
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
)


@pytest.fixture(autouse=True)
def enabled(settings: Any) -> None:
    settings.STROEM = replace(settings.STROEM, mcp=replace(settings.STROEM.mcp, enabled=True))


def register(**more: Any) -> Any:
    told = {"client_name": "Helper", "redirect_uris": [BACK]} | more
    told = {name: value for name, value in told.items() if value is not None}
    return Client().post("/oauth/register", told, content_type="application/json")


@dataclass
class Agent:
    """A program and the browser of the person whom it wants to act for."""

    person: User
    id: str = ""
    browser: Client = field(default_factory=lambda: Client(enforce_csrf_checks=True))

    def __post_init__(self) -> None:
        self.id = self.id or register(grant_types=list(offer.GRANTS)).json()["client_id"]
        self.browser.force_login(self.person)

    def asks(self, **more: Any) -> Any:
        """The page of its request."""
        query = {
            "response_type": "code", "client_id": self.id, "redirect_uri": BACK, "state": "s",
            "scope": "mcp", "resource": offer.resource(), "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        } | more  # fmt: skip
        query = {name: value for name, value in query.items() if value is not None}
        return self.browser.get(f"/oauth/authorize?{urlencode(query, doseq=True)}")

    def decide(self, page: Any, action: str = "grant", **more: Any) -> Any:
        text = page.content.decode()
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
        return self.browser.post("/oauth/authorize", fields | {"action": action} | more)

    def code(self) -> str:
        return told_by(self.decide(self.asks()))["code"]

    def exchange(self, **more: Any) -> Any:
        form = {"client_id": self.id, "resource": offer.resource()} | more
        return Client().post(
            "/oauth/token", {name: value for name, value in form.items() if value is not None}
        )

    def trade(self, code: str, **more: Any) -> Any:
        given = {"redirect_uri": BACK, "code_verifier": VERIFIER} | more
        return self.exchange(grant_type="authorization_code", code=code, **given)

    def refresh(self, token: str, **more: Any) -> Any:
        return self.exchange(grant_type="refresh_token", refresh_token=token, **more)

    def connect(self) -> dict[str, Any]:
        answer = self.trade(self.code())
        assert answer.status_code == 200, answer.content
        return dict(answer.json())


def told_by(answer: Any) -> dict[str, str]:
    """What a redirect to the program says."""
    assert answer.status_code == 302, answer.content
    assert answer["Location"].startswith(BACK), answer["Location"]
    return {name: texts[0] for name, texts in parse_qs(urlsplit(answer["Location"]).query).items()}


def owner(token: str, resource: str | None = None) -> User:
    return connected.user_of(token, resource or offer.resource(), timezone.now())


def is_good(token: str) -> bool:
    try:
        return bool(owner(token))
    except TokenRefused:
        return False


@pytest.fixture
def agent() -> Agent:
    return Agent(user())


def test_a_person_lets_an_agent_in(agent: Agent) -> None:
    page = agent.asks()
    text = page.content.decode()
    assert "Let “Helper” in?" in text and agent.person.email in text
    assert "http://127.0.0.1:5555</strong>" in text
    assert "form-action 'self' http://127.0.0.1:5555;" in page["Content-Security-Policy"]
    assert page["X-Frame-Options"] == "DENY"

    told = told_by(agent.decide(page))
    assert told["state"] == "s"
    answer = agent.trade(told["code"])
    tokens = answer.json()

    assert answer["Cache-Control"] == "no-store"
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 3600, "mcp")
    assert owner(tokens["access_token"]) == agent.person
    assert not ConnectedAgent.objects.filter(last_used_at=None).exists()
    assert tokens["access_token"] not in str(list(Token.objects.values())), "only a digest is kept"


def test_the_person_gets_a_mail_about_it(agent: Agent, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    given = agent.connect()
    assert alerts.send() == 1
    (found,) = mail.outbox
    assert found.to == [agent.person.email] and "act as you: “Helper”." in found.body
    assert not any(given[name] in found.body for name in ("access_token", "refresh_token"))


def test_an_old_session_lets_no_agent_in_before_it_signs_in_again(agent: Agent) -> None:
    page = agent.asks()
    session = agent.browser.session
    session[sessions.AT] -= sessions.FRESH_S
    session.save()
    for answer in (agent.asks(), agent.decide(page)):
        assert answer["Location"].startswith("/admin/login/?again=1&next=%2F")
    assert not ConnectedAgent.objects.exists()
    back = parse_qs(urlsplit(agent.asks()["Location"]).query)["next"][0]
    agent.browser.force_login(agent.person)
    assert "Let “Helper” in?" in agent.browser.get(back).content.decode()


def test_its_token_is_good_for_nothing_else(agent: Agent) -> None:
    token = agent.connect()["access_token"]

    answer = Client().get("/api/jobs", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 401


def test_a_person_can_refuse(agent: Agent) -> None:
    told = told_by(agent.decide(agent.asks(), "cancel"))

    assert told == {"error": "access_denied", "state": "s"}
    assert not Token.objects.exists() and not ConnectedAgent.objects.exists()


def test_nobody_decides_for_a_person(agent: Agent) -> None:
    """Without the form's own token, or signed in as nobody."""
    page = agent.asks()
    assert agent.decide(page, csrfmiddlewaretoken="x").status_code == 403

    agent.browser.logout()
    answer = agent.asks()

    assert answer.status_code == 302 and answer["Location"].startswith("/admin/login/?next=")
    assert agent.decide(page).status_code in (302, 403) and not Token.objects.exists()


WRONG_REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"client_id": "mcp_unknown"}, "not registered"),
    ({"client_id": None}, "not registered"),
    ({"redirect_uri": "https://evil.example/"}, "did not register"),
    ({"redirect_uri": f"{BACK}?x=1"}, "did not register"),
    ({"redirect_uri": f"{BACK}#x"}, "did not register"),
    ({"redirect_uri": "http://me@127.0.0.1:5555/callback"}, "did not register"),
    ({"redirect_uri": "http://127.0.0.1.evil.example:5555/callback"}, "did not register"),
    ({"redirect_uri": None}, "did not register"),
    ({"redirect_uri": [BACK, BACK]}, "gives a parameter twice"),
    ({"resource": "https://other.example/mcp"}, "asks for another resource"),
    ({"resource": f"{offer.resource()}/x"}, "asks for another resource"),
    ({"prompt": "none"}, "`prompt`"),
    ({"prompt": "login"}, "`prompt`"),
]


@pytest.mark.parametrize(("wrong", "why"), WRONG_REQUESTS, ids=lambda value: str(value)[:60])
def test_a_request_that_could_lead_elsewhere_is_refused_on_our_page(
    agent: Agent, wrong: dict[str, Any], why: str
) -> None:
    answer = agent.asks(**wrong)

    assert answer.status_code == 400 and why in answer.content.decode()
    assert "Location" not in answer


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"response_type": "token"}, "unauthorized_client"),
        ({"response_type": "id_token"}, "unauthorized_client"),
        ({"response_type": "x"}, "unsupported_response_type"),
        ({"scope": "openid mcp"}, "invalid_scope"),
        ({"scope": "everything"}, "invalid_scope"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_other_mistakes_are_told_to_the_program(
    agent: Agent, wrong: dict[str, Any], error: str
) -> None:
    answer = agent.asks(**wrong)

    assert answer.status_code in (302, 400)
    if answer.status_code == 302:
        assert told_by(answer)["error"] == error
    assert not Token.objects.exists()


def test_a_program_of_this_computer_may_listen_on_any_port(agent: Agent) -> None:
    assert agent.asks(redirect_uri="http://127.0.0.1:6666/callback").status_code == 200


def test_what_is_left_out_means_what_there_is(agent: Agent) -> None:
    code = told_by(agent.decide(agent.asks(scope=None, resource=None)))["code"]

    tokens = agent.trade(code, resource=None).json()

    assert tokens["scope"] == "mcp" and owner(tokens["access_token"]) == agent.person


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"code_verifier": "w" * 50}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:5555/other"}, "invalid_request"),
        ({"client_id": "mcp_unknown"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
        ({"code_verifier": "x\x00"}, "invalid_request"),
        ({"resource": "https://other.example/mcp"}, "invalid_target"),
        ({"resource": "nonsense"}, "invalid_target"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_code_alone_is_worth_nothing(agent: Agent, wrong: dict[str, Any], error: str) -> None:
    answer = agent.trade(agent.code(), **wrong)

    assert (answer.status_code in (400, 401), answer.json()["error"]) == (True, error)
    assert not Token.objects.filter(type__in=["at", "rt"]).exists()


def test_a_code_of_another_program_is_worth_nothing(agent: Agent) -> None:
    other = Agent(agent.person)

    assert other.trade(agent.code()).json()["error"] == "invalid_grant"
    assert other.trade("unknown").json()["error"] == "invalid_grant"


@pytest.mark.parametrize("kind", ["password", "client_credentials", "x", ""])
def test_there_is_no_other_way_to_a_token(agent: Agent, kind: str) -> None:
    answer = agent.exchange(grant_type=kind, username=agent.person.email, password="x")

    assert answer.status_code in (400, 401) and not Token.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_code_is_good_once_and_its_second_use_ends_what_it_gave(agent: Agent) -> None:
    code = agent.code()
    tokens = agent.trade(code).json()

    again = agent.trade(code)

    assert again.status_code == 400 and again.json()["error"] == "invalid_grant"
    assert not is_good(tokens["access_token"])
    assert agent.refresh(tokens["refresh_token"]).status_code == 400


def test_a_code_lasts_five_minutes(agent: Agent) -> None:
    code = agent.code()
    Token.objects.filter(type="ac").update(expires_at=timezone.now() - timedelta(seconds=1))
    assert ours.IDP_OIDC_AUTHORIZATION_CODE_EXPIRES_IN == 300

    assert agent.trade(code).json()["error"] == "invalid_grant"


def test_a_refresh_token_is_good_once_and_its_second_use_ends_the_chain(agent: Agent) -> None:
    first = agent.connect()
    second = agent.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"] and is_good(second["access_token"])
    third = agent.refresh(second["refresh_token"]).json()

    again = agent.refresh(first["refresh_token"])

    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert not is_good(third["access_token"]) and not is_good(first["access_token"])
    assert agent.refresh(third["refresh_token"]).status_code == 400
    assert not ConnectedAgent.objects.exists() and not SpentToken.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_refresh_token_used_twice_at_once_gives_one_chain_at_most(agent: Agent) -> None:
    token = agent.connect()["refresh_token"]
    ready, seen = threading.Barrier(4), Counter[int]()

    def refresh() -> None:
        ready.wait()
        seen[agent.refresh(token).status_code] += 1
        connections.close_all()

    threads = [threading.Thread(target=refresh) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == {200: 1, 400: 3}
    assert not Token.objects.filter(type__in=["at", "rt"]).exists(), "reuse ends the chain"


def test_a_refresh_token_of_another_program_is_worth_nothing(agent: Agent) -> None:
    tokens = agent.connect()
    other = Agent(agent.person)

    assert other.refresh(tokens["refresh_token"]).status_code == 400
    assert agent.refresh(tokens["refresh_token"]).status_code == 200


def test_a_new_password_ends_what_was_let_in(agent: Agent) -> None:
    tokens = agent.connect()
    agent.person.set_password("another-long-password")
    agent.person.save()

    assert not is_good(tokens["access_token"])
    assert agent.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert not Token.objects.filter(type__in=["at", "rt"]).exists()


def test_an_account_that_is_off_ends_it_too(agent: Agent) -> None:
    tokens = agent.connect()
    User.objects.filter(pk=agent.person.pk).update(is_active=False)

    assert not is_good(tokens["access_token"])
    assert agent.refresh(tokens["refresh_token"]).status_code == 400


def test_a_token_for_another_address_of_ours_is_refused(agent: Agent) -> None:
    token = agent.connect()["access_token"]

    with pytest.raises(TokenRefused):
        owner(token, "https://new.example/mcp")


def test_an_administrator_revokes_it(agent: Agent) -> None:
    tokens = agent.connect()
    row = ConnectedAgent.objects.get()
    boss = User.objects.create_superuser("boss@example.com", "a-long-password")
    admin = Client()
    admin.force_login(boss)
    listed = admin.get("/admin/accounts/connectedagent/").content.decode()
    assert "Helper" in listed and agent.person.email in listed
    assert agent.browser.get("/admin/accounts/connectedagent/").status_code in (302, 403)

    admin.post(f"/admin/accounts/connectedagent/{row.pk}/delete/", {"post": "yes"})

    assert not ConnectedAgent.objects.exists() and not is_good(tokens["access_token"])
    assert agent.refresh(tokens["refresh_token"]).status_code == 400


def test_people_see_and_end_what_they_let_in(agent: Agent) -> None:
    tokens = agent.connect()
    mine, other = client_of(agent.person), client_of(user())
    (listed,) = mine.get("/api/auth/agents").json()
    assert (listed["name"], listed["client_id"]) == ("Helper", agent.id)
    assert other.get("/api/auth/agents").json() == []

    assert other.delete(f"/api/auth/agents/{listed['id']}").status_code == 404
    assert mine.delete("/api/auth/agents/x").status_code == 404
    assert is_good(tokens["access_token"])
    assert mine.delete(f"/api/auth/agents/{listed['id']}").status_code == 200

    assert not is_good(tokens["access_token"])
    assert agent.refresh(tokens["refresh_token"]).status_code == 400


def test_pages_of_the_library_are_not_shown() -> None:
    boss = User.objects.create_superuser("boss@example.com", "a-long-password")
    admin = Client()
    admin.force_login(boss)

    for page in ("account/emailaddress", "allauth_idp_oidc/client", "allauth_idp_oidc/token"):
        assert admin.get(f"/admin/{page}/").status_code == 404
    for page in ("accounts/login/", "identity/o/api/token", ".well-known/openid-configuration"):
        assert admin.get(f"/{page}").status_code == 404


def test_a_user_can_be_removed_with_what_they_let_in(agent: Agent) -> None:
    token = agent.connect()["access_token"]

    agent.person.delete()

    assert not is_good(token) and not Token.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"redirect_uris": None}, "redirect_uris"),
        ({"redirect_uris": []}, "redirect_uris"),
        ({"redirect_uris": "https://a.example/"}, "redirect_uris"),
        ({"redirect_uris": [1]}, "redirect_uris"),
        ({"redirect_uris": [BACK] * 6}, "1 to 5"),
        ({"redirect_uris": ["http://a.example/"]}, "must be https"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "must be https"),
        ({"redirect_uris": ["data:text/html,x"]}, "must be https"),
        ({"redirect_uris": ["file:///etc/passwd"]}, "must be https"),
        ({"redirect_uris": ["https://*.example/"]}, "plain ASCII"),
        ({"redirect_uris": ["https://a.example/#x"]}, "fragment"),
        ({"redirect_uris": ["https://me@a.example/"]}, "user"),
        ({"redirect_uris": ["https://a.example;x/"]}, "no valid host"),
        ({"redirect_uris": ["https://a.example:x/"]}, "no address"),
        ({"redirect_uris": ["https://[a/"]}, "no address"),
        ({"redirect_uris": ["https://a.example/\x00"]}, "plain ASCII"),
        ({"redirect_uris": ["https://a.example/\nx"]}, "redirect_uris"),
        ({"redirect_uris": ["https://a.example/" + "x" * 500]}, "plain ASCII"),
        ({"client_name": "x" * 101}, "client_name"),
        ({"client_name": "a\x00b"}, "client_name"),
        ({"client_name": "a\u202eb"}, "printable"),
        ({"client_name": "<b>"}, "client_name"),
        ({"grant_types": ["client_credentials"]}, "grant_types must be of"),
        ({"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"]}, "grant_types must be"),
        ({"grant_types": ["x"]}, "grant type"),
        ({"response_types": ["token"]}, "response_types must be of"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_program_that_may_not_register_is_told_why(wrong: dict[str, Any], why: str) -> None:
    answer = register(**wrong)

    assert answer.status_code == 400, answer.content
    assert answer.json()["error"] in ("invalid_client_metadata", "invalid_redirect_uri")
    assert why in answer.json()["error_description"] and not Program.objects.exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_a_registration_is_a_json_object(body: bytes) -> None:
    answer = Client().post("/oauth/register", body, content_type="application/json")

    assert answer.status_code == 400 and answer.json()["error"] == "invalid_client_metadata"


def test_every_program_is_registered_without_a_secret() -> None:
    told = register(
        token_endpoint_auth_method="client_secret_post", scope="openid email", skip_consent=True,
        jwks_uri="https://a.example", redirect_uris=["com.example.app:/back", "https://[::1]/x"],
    ).json()  # fmt: skip

    assert told["token_endpoint_auth_method"] == "none" and "client_secret" not in told
    assert told["scope"] == "mcp" and told["client_id"].startswith("mcp_")
    row = Program.objects.get()
    assert (row.type, row.skip_consent, row.owner) == ("public", False, None)
    assert set(row.data["client_metadata"]) == {
        "client_name", "redirect_uris", "scope", "token_endpoint_auth_method"
    }  # fmt: skip


def test_one_caller_registers_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "REGISTRATIONS", 2)
    assert [register().status_code for _ in range(3)] == [201, 201, 429]

    monkeypatch.setattr(views, "REGISTRATIONS", 100)
    monkeypatch.setattr(views, "MOST_REGISTRATIONS", 3)
    answer = [register() for _ in range(2)][-1]

    assert answer.status_code == 429 and int(answer["Retry-After"]) > 0
    assert answer.json()["error"] == "temporarily_unavailable"
    assert Throttle.objects.filter(key__startswith="oauth-register").count() == 2


def test_one_caller_asks_for_tokens_so_often_and_no_more(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "EXCHANGES", 2)

    assert [agent.trade("x").status_code for _ in range(3)] == [400, 400, 429]


def test_what_is_over_is_forgotten(agent: Agent) -> None:
    tokens = agent.connect()
    agent.refresh(tokens["refresh_token"])
    register()
    connected.forget_expired()
    assert (Program.objects.count(), ConnectedAgent.objects.count()) == (2, 1)

    long_ago = timezone.now() - timedelta(days=31)
    Program.objects.update(created_at=long_ago)
    connected.forget_expired()
    assert [row.pk for row in Program.objects.all()] == [agent.id]

    Token.objects.update(expires_at=long_ago)
    ConnectedAgent.objects.update(expires_at=long_ago)
    SpentToken.objects.update(used_at=long_ago)
    connected.forget_expired()
    for model in (Program, Token, ConnectedAgent, SpentToken):
        assert not model.objects.exists(), model


WELL_KNOWN = (
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-authorization-server",
)
ROUTES = {
    **{(address, "get"): {200} for address in WELL_KNOWN},
    ("/oauth/register", "post"): {400},
    ("/oauth/token", "post"): {400, 401},
    ("/oauth/authorize", "get"): {302, 400},
    ("/oauth/authorize", "post"): {302, 400, 403},
}


def test_every_address_and_method_is_as_open_as_it_must_be() -> None:
    callers = {"nobody": Client(), "viewer": Client(), "root": Client()}
    callers["viewer"].force_login(user())
    callers["root"].force_login(User.objects.create_superuser("root@example.com", "a-long-word"))
    for address in {address for address, _ in ROUTES}:
        for method in ("get", "post", "put", "patch", "delete"):
            expected = ROUTES.get((address, method), {405})
            for name, caller in callers.items():
                answer = getattr(caller, method)(address)
                assert answer.status_code in expected, (address, method, name)
    assert not Program.objects.exists() and not Token.objects.exists()


@pytest.mark.parametrize("more", [{"enabled": False}, {"oauth": False}])
def test_nothing_is_there_unless_it_is_enabled(settings: Any, more: dict[str, bool]) -> None:
    settings.STROEM = replace(settings.STROEM, mcp=replace(settings.STROEM.mcp, **more))

    for address, method in ROUTES:
        assert getattr(Client(), method)(address).status_code == 404, (address, method)
    assert offer.challenge("x") == "Bearer"


def test_the_addresses_say_what_they_take() -> None:
    resource = Client().get(WELL_KNOWN[1]).json()
    server = Client().get(WELL_KNOWN[2]).json()

    assert resource["resource"] == f"{ours.BASE_URL}/mcp"
    assert resource["authorization_servers"] == [server["issuer"]] == [ours.BASE_URL]
    assert server["code_challenge_methods_supported"] == ["S256"]
    assert json.dumps(server).count("openid") == 0
