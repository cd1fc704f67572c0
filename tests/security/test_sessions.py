"""What a sign-in gave ends with the sign-out, and answers are kept by nobody on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts import tokens
from apps.accounts.models import Role, User
from apps.api.views import auth
from tests.apps.api.callers import PASSWORD, client_of, user
from tests.apps.jobs.builders import start, workspace
from tests.apps.jobs.test_admin import FLOW

pytestmark = pytest.mark.django_db(transaction=True)
ADDRESSES = ("/api/jobs", "/api/auth/me", "/api/workspaces", "/api/nothing", "/admin/jobs/job/")


def signed_in(person: User) -> tuple[APIClient, str]:
    client = APIClient()
    given = {"email": person.email, "password": PASSWORD}
    access = client.post("/api/auth/login", given, format="json").json()["access_token"]
    return client, access


def status(access: str) -> int:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {access}")
    return int(client.get("/api/auth/me").status_code)


def test_an_access_token_ends_with_the_sign_out_of_its_browser() -> None:
    person = user(Role.VIEWER)
    client, first = signed_in(person)
    _, elsewhere = signed_in(person)
    refreshed = client.post("/api/auth/refresh").json()["access_token"]
    assert [status(first), status(refreshed), status(elsewhere)] == [200] * 3
    client.post("/api/auth/logout")
    assert [status(first), status(refreshed), status(elsewhere)] == [401, 401, 200]


def test_an_access_token_alone_signs_out() -> None:
    _, access = signed_in(user(Role.VIEWER))
    program = APIClient()
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {access}")
    assert program.post("/api/auth/logout").status_code == 200
    assert status(access) == 401


def test_a_stolen_refresh_token_ends_access_tokens_too() -> None:
    client, access = signed_in(user(Role.VIEWER))
    stolen = client.cookies[auth.COOKIE].value
    client.post("/api/auth/refresh")
    client.cookies[auth.COOKIE] = stolen
    assert client.post("/api/auth/refresh").status_code == 401
    assert status(access) == 401


def test_a_signed_token_of_somebody_elses_chain_is_refused() -> None:
    other = tokens.begin_chain(user(), datetime.now(UTC))
    chain = tokens._chain(tokens._claims(other.access))
    assert status(tokens.issue_access(user(Role.VIEWER), datetime.now(UTC), chain)) == 401


def test_who_guesses_refresh_tokens_keeps_nobody_from_refreshing() -> None:
    client, _ = signed_in(user(Role.VIEWER))
    guesser = APIClient()
    told = [
        guesser.post("/api/auth/refresh", {"refresh_token": f"x{n}"}, format="json").status_code
        for n in range(auth.REFUSALS_A_MINUTE + 2)
    ]
    assert told == [401] * auth.REFUSALS_A_MINUTE + [429] * 2
    assert client.post("/api/auth/refresh").status_code == 200


@pytest.mark.parametrize("is_https", [True, False])
def test_nothing_is_kept_on_the_way_and_https_stays_https(
    tmp_path: Path, settings: Any, is_https: bool
) -> None:
    settings.IS_HTTPS = is_https
    job = start(workspace(tmp_path, FLOW))
    client = client_of(user(Role.VIEWER))
    for address in (*ADDRESSES, f"/api/jobs/{job.pk}", f"/api/jobs/{job.pk}/logs", "/healthz"):
        answer = client.get(address)
        assert "no-store" in answer.headers["Cache-Control"], address
        strict = answer.headers.get("Strict-Transport-Security")
        assert strict == ("max-age=31536000" if is_https else None), address
    assert APIClient().get("/api/jobs").headers["Cache-Control"] == "no-store"
