"""Bodies and connections that would fill disk, memory or the table of open files."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from stroem_project import bodies
from stroem_project.bodies import LINGER_BYTES, MOST_ELSEWHERE, Bodies
from stroem_project.connections import BoundedConnection
from tests.apps.jobs.builders import until
from tests.house import House

GB = 1_073_741_824
CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20)


def post(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def answer(link: socket.socket) -> str:
    """Until the server closes."""
    parts = []
    try:
        while part := link.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts).decode()


def status(text: str) -> int:
    return int(text.split(" ", 2)[1]) if text else 0


def ask(port: int, request: bytes) -> str:
    with dial(port) as link:
        link.sendall(request)
        return answer(link)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path, process_env: dict[str, str]) -> Iterator[int]:
    port = free_port()
    house = House(tmp_path, process_env)
    house.start("server", "--host", "127.0.0.1", "--port", str(port))

    def answers() -> bool:
        try:
            return status(ask(port, HEALTH)) == 200
        except OSError:
            return False

    try:
        until(answers, within_s=60)
        yield port
    finally:
        house.close()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_bodies_are_refused_before_they_are_stored(server: int) -> None:
    for path in ("/no/such/page", "/admin/login/", "/api/auth/login"):
        told = ask(server, post(path, f"Content-Length: {GB}"))  # and not a byte of it
        assert status(told) == 413, path
        assert "The request body is larger than " in told, path
        with dial(server) as link:
            link.sendall(post(path, "Transfer-Encoding: chunked"))
            sent = 0
            try:
                while sent < 20 * LINGER_BYTES:
                    link.sendall(CHUNK)
                    sent += len(CHUNK)
            except OSError:
                pass
            assert sent < 4 * LINGER_BYTES, path  # what the kernels of both sides buffer
    assert '{"error": ' in ask(server, post("/api/auth/login", f"Content-Length: {GB}"))
    headers = ("Content-Type: application/json", "Content-Length: 2", "Connection: close")
    assert "This field is required" in ask(server, post("/api/auth/login", *headers) + b"{}")
    form = b"username=a&password=b"
    told = ask(server, post("/admin/login/", f"Content-Length: {len(form)}", "Connection: close")
               + form)  # fmt: skip
    assert status(told) == 403  # no CSRF token: the form was read


@pytest.mark.django_db(transaction=True)
def test_half_open_connections_make_room(server: int) -> None:
    with ExitStack() as held:
        oldest = held.enter_context(dial(server))
        for number in range(BoundedConnection.most + 100):
            link = held.enter_context(dial(server))
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: " if number % 2 else b"")
        for _ in range(5):
            assert status(ask(server, HEALTH)) == 200
        assert status(answer(oldest)) in (408, 503)


@contextmanager
def serving(app: Any, **limits: Any) -> Iterator[int]:
    """The server's own connections, with other limits, around `app`."""
    protocol = type("Quick", (BoundedConnection,), {**limits, "_waiting": {}})
    config = uvicorn.Config(
        app, port=0, lifespan="off", http=protocol, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body."""
    message = await receive()
    assert not message["more_body"]
    text = str(len(message["body"])).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def test_headers_have_a_deadline_also_on_a_connection_that_was_used() -> None:
    with serving(echo, headers_s=0.3) as port:
        with dial(port) as link:
            link.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT")
            told = answer(link)
        assert told.startswith("HTTP/1.1 200")
        assert "HTTP/1.1 408" in told
        assert "The request's headers did not arrive within 0.3 seconds" in told
        with dial(port) as link:
            assert status(answer(link)) == 408


def test_a_request_at_work_is_not_ended_by_the_deadline_for_headers() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)  # longer than the deadline below
        await echo(scope, receive, send)

    with serving(slow, headers_s=0.1) as port:
        assert status(ask(port, HEALTH)) == 200


def test_connections_that_are_all_at_work_are_kept_and_the_next_is_told() -> None:
    go, at_work = threading.Event(), []

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        at_work.append(scope)
        while not go.is_set():
            await asyncio.sleep(0.01)
        await echo(scope, receive, send)

    with serving(wait, most=2) as port, dial(port) as first, dial(port) as second:
        first.sendall(HEALTH)
        second.sendall(HEALTH)
        until(lambda: len(at_work) == 2)
        told = ask(port, b"")
        go.set()
        assert status(told) == 503
        assert [status(answer(one)) for one in (first, second)] == [200, 200]


@pytest.mark.long
def test_bodies_have_a_deadline_and_share_a_limit() -> None:
    with serving(Bodies(echo, within_s=0.3)) as port:
        told = ask(port, post("/api/x", "Content-Length: 10") + b"12345")
        assert status(told) == 408
        assert "The request body did not arrive within 0.3 seconds" in told
    with serving(Bodies(echo, at_once=1000)) as port:
        told = ask(port, post("/api/x", "Content-Length: 1001") + b"x" * 1001)
        assert status(told) == 503
        assert "retry-after: 5" in told.lower()
        request = post("/api/x", "Content-Length: 1000", "Connection: close") + b"x" * 1000
        for _ in range(3):  # what was held is given back
            assert ask(port, request).endswith("1000")


def test_the_limit_of_a_body_is_exact() -> None:
    with serving(Bodies(echo)) as port:
        for length, expected in ((MOST_ELSEWHERE, 200), (MOST_ELSEWHERE + 1, 413)):
            head = post("/x", f"Content-Length: {length}", "Connection: close")
            assert status(ask(port, head + b"x" * length)) == expected


async def count(scope: Any, receive: Any, send: Any) -> None:
    """The same for a body that comes in pieces."""
    length = 0
    while (message := await receive())["type"] == "http.request":
        length += len(message["body"])
        if not message["more_body"]:
            break
    whole = {"body": b"x" * length, "more_body": False}

    async def once() -> dict[str, Any]:
        return whole

    await echo(scope, once, send)


@pytest.mark.long
def test_an_upload_of_state_may_be_large_and_is_bounded_like_any_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = "/api/v1/workspaces/shop/tasks/main/state"
    most = bodies.MOST_BYTES_OF_LARGE
    monkeypatch.setattr(bodies, "LARGE_PATIENCE", 1)
    with serving(Bodies(count, within_s=0.5, at_once=1000)) as port:
        head = post(path, "Content-Length: 3000000", "Connection: close")
        assert ask(port, head + b"x" * 3_000_000).endswith("3000000")
        told = ask(port, post(path, f"Content-Length: {most + 1}"))
        assert status(told) == 413 and "larger than 50 MB" in told
        told = ask(port, post(path, "Content-Length: 10") + b"12345")
        assert status(told) == 408 and "within 0.5 seconds" in told
        told = ask(port, post(path + "/versions", "Content-Length: 3000000"))
        assert status(told) == 413  # no other address
    monkeypatch.setattr(bodies, "MOST_BYTES_OF_LARGE", 100_000)
    with serving(Bodies(count, within_s=5)) as port:
        request = post(path, "Transfer-Encoding: chunked") + CHUNK * 2 + b"0\r\n\r\n"
        assert status(ask(port, request)) == 413
    monkeypatch.setattr(bodies, "MOST_LARGE", 0)
    with serving(Bodies(echo)) as port:
        assert status(ask(port, post(path, "Content-Length: 1") + b"x")) == 503
