"""Requests to MCP servers go to checked addresses only, whatever names and redirects say."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from engine.agents.servers import McpRules, Server
from runners.agents.services import Never
from runners.mcp import web
from runners.mcp.errors import ServerError
from runners.mcp.servers import Servers
from tests.client.test_tls import certificate

LOCAL = McpRules(private_networks=(ip_network("127.0.0.1/32"),))


@pytest.fixture(name="trap")
def running_trap() -> Iterator[HTTPServer]:
    server = HTTPServer(host="127.0.0.1", threaded=True)
    server.start()
    yield server
    server.stop()


def get(url: str, rules: McpRules = LOCAL, **options: Any) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        server = Server("shop", url=url, headers={"X-Key": "k"})
        async with web.client(server, web.Guarded(server, rules)) as client:
            return await client.get(url, **options)

    return asyncio.run(ask())


def names(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """What the name service says, one answer after the other."""
    left = list(answers)

    def look_up(host: str, port: int, *args: Any, **options: Any) -> Any:
        found = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found.split()
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "0", "[::1]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "[fd00:ec2::254]"],
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_called(trap: HTTPServer, host: str) -> None:
    with pytest.raises((ServerError, httpx2.HTTPError, httpx2.InvalidURL)):
        get(f"http://{host}:{trap.port}/mcp", McpRules())
    assert trap.log == []


def test_a_name_with_a_private_address_among_public_ones_is_not_called(
    trap: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, "1.1.1.1 127.0.0.1")
    with pytest.raises(ServerError, match=r"address 127\.0\.0\.1, which is not of the public"):
        get(f"http://shop.example.com:{trap.port}/mcp", McpRules())
    assert trap.log == []


def test_a_name_is_looked_up_once_for_check_and_connection(
    trap: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its second answer could lead elsewhere."""
    seen: list[Request] = []

    def respond(request: Request) -> Response:
        seen.append(request)
        return Response("ok")

    trap.expect_request("/mcp").respond_with_handler(respond)
    names(monkeypatch, "127.0.0.1", "10.9.9.9")

    assert get(f"http://shop.example.com:{trap.port}/mcp").text == "ok"
    assert seen[0].headers["Host"] == f"shop.example.com:{trap.port}"
    assert seen[0].headers["X-Key"] == "k"


def test_a_redirect_to_another_host_is_not_followed(trap: HTTPServer) -> None:
    there = f"http://localhost:{trap.port}/secret"
    trap.expect_request("/mcp").respond_with_response(
        Response(status=307, headers={"Location": there})
    )
    with pytest.raises(ServerError, match="sends us to another host, 'localhost'"):
        get(f"http://127.0.0.1:{trap.port}/mcp", follow_redirects=True)
    assert [request.path for request, _ in trap.log] == ["/mcp"]


def test_an_endless_answer_is_cut_off(trap: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LARGEST_ANSWER", 100_000)
    trap.expect_request("/mcp").respond_with_data("y" * 200_000)
    with pytest.raises(ServerError, match="more than 100,000 bytes"):
        get(f"http://127.0.0.1:{trap.port}/mcp")


def test_our_proxies_are_not_used(trap: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{trap.port}")
    with pytest.raises(ServerError, match="not of the public"):
        get("http://127.0.0.1:9/mcp", McpRules())
    assert trap.log == []


@pytest.mark.parametrize(("host", "is_known"), [("shop.example.com", True), ("other.org", False)])
def test_certificates_are_checked_against_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, is_known: bool
) -> None:
    files = certificate(tmp_path, "shop.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    with HTTPServer(host="127.0.0.1", ssl_context=context) as server:
        server.expect_request("/mcp").respond_with_data("ok")
        names(monkeypatch, "127.0.0.1")
        if is_known:
            assert get(f"https://{host}:{server.port}/mcp").text == "ok"
        else:
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                get(f"https://{host}:{server.port}/mcp")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Response("no", 401), "error response: HTTP 401"),
        (Response("<html>", content_type="text/html"), "Unexpected content type: text/html"),
        (Response("{bad", content_type="application/json"), "its answer is no message of MCP"),
        (Response(status=307, headers={"Location": "http://[::1]:9/"}), "Redirect to"),
    ],
)
def test_an_address_that_is_no_server_is_told(
    trap: HTTPServer, answer: Response, told: str
) -> None:
    trap.expect_request("/mcp").respond_with_response(answer)
    servers = Servers({"shop": Server("shop", url=trap.url_for("/mcp"))}, LOCAL, Never())
    with pytest.raises(ServerError, match=f"MCP server 'shop': .*{told}"):
        servers.tools("shop")
    servers.close()
