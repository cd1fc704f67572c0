"""Where a request comes from: the socket's word, or that of a proxy that the settings name."""

from __future__ import annotations

import asyncio
import json
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Throttle
from apps.accounts.throttles import throttle_key
from apps.approvals.models import Record
from stroem_project.config import ConfigError, given
from stroem_project.proxies import MOST_HOPS, Proxies
from tests.apps.api.callers import PASSWORD
from tests.apps.approvals.gates import asked, gate, operator
from tests.apps.jobs.builders import until
from tests.house import House
from tests.security.test_requests import ask, free_port, status

TRUSTED = ("10.0.0.0/8", "192.0.2.7", "2001:db8:aaaa::/48")
MANY = ", ".join(["10.0.0.9"] * 3 * MOST_HOPS)


def caller(peer: str, *forwarded: str, trusted: tuple[str, ...] = TRUSTED) -> str:
    """What the application is told of a request from `peer` with these headers."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    scope = {"type": "http", "client": (peer, 5), "headers": headers}
    wrapped = Proxies(app, tuple(ip_network(one) for one in trusted))
    asyncio.run(wrapped(scope, None, None))  # type: ignore[arg-type]
    return seen[0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.5", ("1.2.3.4",), "203.0.113.5"),  # no proxy of ours
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("1.2.3.4",), "1.2.3.4"),
        ("10.0.0.1", ("9.9.9.9, 1.2.3.4",), "1.2.3.4"),  # the caller's own word before it
        ("10.0.0.1", ("9.9.9.9", "1.2.3.4"), "1.2.3.4"),
        ("10.0.0.1", ("9.9.9.9, 1.2.3.4, 10.9.9.9, 192.0.2.7",), "1.2.3.4"),
        ("10.0.0.1", ("10.0.0.3, 10.0.0.2",), "10.0.0.3"),  # all are ours
        ("10.0.0.1", ("1.2.3.4:5678",), "1.2.3.4"),
        ("10.0.0.1", ("[2001:db8::5]:5678",), "2001:db8::5"),
        ("10.0.0.1", ("2001:DB8:0::5",), "2001:db8::5"),
        ("10.0.0.1", ("fe80::1%eth0",), "fe80::1"),
        ("::ffff:10.0.0.1", ("::ffff:1.2.3.4",), "1.2.3.4"),
        ("2001:db8:aaaa::1", ("1.2.3.4",), "1.2.3.4"),
        ("10.0.0.1", ("1.2.3.4, <b>",), "10.0.0.1"),  # passed on unread: nobody's word
        ("10.0.0.1", ("1.2.3.4, unknown, 10.0.0.2",), "10.0.0.2"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", (", ,",), "10.0.0.1"),
        ("10.0.0.1", ("127.1",), "10.0.0.1"),
        ("10.0.0.1", ("0x7f.1",), "10.0.0.1"),
        ("10.0.0.1", (f"1.2.3.4, {MANY}",), "10.0.0.9"),
    ],
)
def test_only_a_trusted_proxy_says_who_calls(
    peer: str, forwarded: tuple[str, ...], expected: str
) -> None:
    assert caller(peer, *forwarded) == expected
    assert caller(peer, *forwarded, trusted=()) == peer


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("proxy.example.com", "trusted_proxies must list addresses or networks such as"),
        ("10.0.0.1/8", "not '10.0.0.1/8'"),
        ("0.0.0.0/0", "must not contain 0.0.0.0/0: anybody could then choose their address"),
        ("10.0.0.1, ::/0", "must not contain ::/0"),
        ("*", "not '*'"),
    ],
)
def test_what_would_trust_everybody_or_is_no_network_is_refused(value: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        given({"STROEM__TRUSTED_PROXIES": value})
    assert sentence in str(refused.value)


def test_networks_are_read_from_the_environment() -> None:
    found = given({"STROEM__TRUSTED_PROXIES": "10.0.0.0/8, ::1"}).trusted_proxies
    assert found == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


def post(port: int, path: str, forwarded: str, body: dict[str, Any], *headers: str) -> str:
    text = json.dumps(body)
    lines = [
        f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json",
        f"Content-Length: {len(text)}", f"X-Forwarded-For: {forwarded}", "Connection: close",
        *headers, "", text,
    ]  # fmt: skip
    return ask(port, "\r\n".join(lines).encode())


@pytest.mark.django_db(transaction=True)
def test_limits_record_and_log_name_the_caller_behind_a_proxy(
    tmp_path: Path, process_env: dict[str, str]
) -> None:
    job = asked(gate(tmp_path))
    me = operator()
    me.set_password(PASSWORD)
    me.save()
    port = free_port()
    house = House(tmp_path, {**process_env, "STROEM__TRUSTED_PROXIES": "127.0.0.1"})
    house.start("server", "--host", "127.0.0.1", "--port", str(port))

    def answers() -> bool:
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, 60)
        wrong = {"email": me.email, "password": "wrong"}
        assert status(post(port, "/api/auth/login", "6.6.6.6, 203.0.113.9", wrong)) == 401
        right = {"email": me.email, "password": PASSWORD}
        told = post(port, "/api/auth/login", "6.6.6.6, 203.0.113.9", right)
        access = json.loads(told.partition("\r\n\r\n")[2])["access_token"]
        bearer = f"Authorization: Bearer {access}"
        path = f"/api/jobs/{job.pk}/steps/gate/approve"
        assert status(post(port, path, "203.0.113.9", {"approved": True}, bearer)) == 200
    finally:
        house.close()
    keys = dict(Throttle.objects.values_list("key", "count"))
    assert keys[throttle_key("login-address", "203.0.113.9")] == 1
    record = Record.objects.filter(job_id=job.pk).latest("id")
    assert record.address == "203.0.113.9"
    assert "address=203.0.113.9" in (tmp_path / "server.log").read_text()
