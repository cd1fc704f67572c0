"""Somebody connects an agent in the browser: the OAuth client of the official SDK against a real
server process, from the first refusal at /mcp to a job."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from apps.accounts.models import ConnectedAgent, Role, User
from apps.jobs.models import Job
from tests.acceptance.house import free_port
from tests.apps.api.callers import PASSWORD, user
from tests.apps.jobs.builders import until, workspace
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)
BACK = "http://localhost:8765/callback"
TEXT = """
tasks: {greet: {mcp: true, flow: {say: {type: script, script: "true"}}}}
"""


class Memory:
    """Where the program keeps what it got."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.info: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.info = client_info


class Browser:
    """Signs in and lets the program in, by the pages alone."""

    def __init__(self, person: User) -> None:
        self.person, self.asked = person, 0
        self.result: AuthorizationCodeResult | None = None

    async def open(self, address: str) -> None:
        self.asked += 1
        async with httpx2.AsyncClient(follow_redirects=True) as web:
            page = await web.get(address)
            assert "/admin/login/" in str(page.url)
            form = fields(page.text) | {"username": self.person.email, "password": PASSWORD}
            headers = {"Referer": str(page.url)}
            page = await web.post(page.url, data=form, headers=headers)
            assert "Let “SDK” in?" in page.text, page.text[-500:]
            headers = {"Referer": str(page.url)}
            answer = await web.post(
                urljoin(str(page.url), "/oauth/authorize"),
                data=fields(page.text) | {"action": "grant"},
                headers=headers,
                follow_redirects=False,
            )
        assert answer.headers["Location"].startswith(BACK)
        told = parse_qs(urlsplit(answer.headers["Location"]).query)
        self.result = AuthorizationCodeResult(code=told["code"][0], state=told["state"][0])

    async def come_back(self) -> AuthorizationCodeResult:
        assert self.result is not None
        return self.result


def fields(page: str) -> dict[str, str]:
    return {
        name: unescape(found[1])
        for tag in re.findall(r'<input type="hidden"[^>]*>', page)
        if (found := re.search(r'value="([^"]*)"', tag))
        and (name := (re.search(r'name="([^"]*)"', tag) or ["", ""])[1])
    }


@pytest.fixture
def url(tmp_path: Path, process_env: dict[str, str]) -> Iterator[str]:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    house = House(
        tmp_path, process_env | {"STROEM__MCP__ENABLED": "true", "STROEM__AUTH__BASE_URL": base}
    )
    workspace(tmp_path / "files", TEXT, "shop")
    house.start("server", "--port", str(port))

    def answers() -> bool:
        try:
            return httpx2.get(f"{base}/healthz").status_code == 200
        except httpx2.HTTPError:
            return False

    try:
        until(answers, within_s=60, every_s=0.1)
        yield f"{base}/mcp"
    finally:
        house.close()


def call(url: str, memory: Memory, browser: Browser, tool: str) -> Any:
    """Call a tool as the SDK does it: with what it has, or what the browser gets."""
    told = OAuthClientMetadata(client_name="SDK", redirect_uris=[BACK])  # type: ignore[list-item]
    known = OAuthClientProvider(
        url, told, memory, redirect_handler=browser.open, callback_handler=browser.come_back
    )

    async def talk() -> Any:
        async with httpx2.AsyncClient(auth=known, timeout=60) as http:
            transport = streamable_http_client(url, http_client=http)
            async with Client(transport) as client:
                return await client.call_tool(tool, {})

    result = asyncio.run(talk())
    [content] = result.content
    assert not result.is_error, content.text
    return json.loads(content.text)


@pytest.mark.long
def test_an_agent_is_let_in_works_and_is_shut_out(url: str) -> None:
    person = user(Role.OPERATOR)
    User.objects.filter(pk=person.pk).update(is_staff=True)
    memory, browser = Memory(), Browser(person)

    started = call(url, memory, browser, "shop__greet")

    job = Job.objects.get(pk=started["job_id"])
    assert (job.source_type, job.started_by_id) == ("mcp", person.pk)
    first = memory.tokens
    assert first is not None and browser.asked == 1
    assert call(url, memory, browser, "list_workspaces")[0]["name"] == "shop"
    assert browser.asked == 1, "the token is kept"

    first.expires_in = -1  # as the program sees it: it asks for a new one by itself
    memory.tokens = first.model_copy(update={"access_token": "over"})
    refreshed = renew(url, memory)
    assert refreshed["refresh_token"] != first.refresh_token
    memory.tokens = OAuthToken(**refreshed)
    call(url, memory, browser, "list_workspaces")
    assert browser.asked == 1

    ConnectedAgent.objects.all().delete()
    call(url, memory, browser, "list_workspaces")
    assert browser.asked == 2, "shut out, it must ask again"


def renew(url: str, memory: Memory) -> dict[str, Any]:
    assert memory.tokens is not None and memory.info is not None
    answer = httpx2.post(
        urljoin(url, "/oauth/token"),
        data={
            "grant_type": "refresh_token",
            "refresh_token": memory.tokens.refresh_token,
            "client_id": memory.info.client_id,
            "resource": url,
        },
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.long
def test_the_refusal_at_the_door_says_where_to_go(url: str) -> None:
    base = url.removesuffix("/mcp")
    known = f'resource_metadata="{base}/.well-known/oauth-protected-resource/mcp", scope="mcp"'

    bare = httpx2.post(url, json={})
    wrong = httpx2.post(url, json={}, headers={"Authorization": "Bearer nonsense"})

    assert (bare.status_code, bare.headers["WWW-Authenticate"]) == (401, f"Bearer {known}")
    assert (wrong.status_code, wrong.headers["WWW-Authenticate"]) == (
        401, f'Bearer error="invalid_token", {known}'
    )  # fmt: skip
