"""Messages go to addresses of the public internet, and where the operator lets them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from apps.subscriptions import sending, services
from apps.subscriptions.models import Delivery, Subscription
from apps.subscriptions.services import Wanted
from apps.subscriptions.transitions import Try
from apps.workspaces.models import Workspace
from engine.addresses import Network
from engine.errors import InputError
from stroem_project.config import Subscriptions
from tests.agents.test_mcp_web import names
from tests.apps.jobs.builders import workspace
from tests.apps.subscriptions.receiver import Receiver, allow, receiving, send, subscribe
from tests.client.test_tls import certificate

LOCAL: tuple[Network, ...] = (ip_network("127.0.0.1/32"),)
FLOW = 'tasks: {main: {flow: {a: {type: script, script: "true"}}}}'


@pytest.fixture(name="trap")
def running_trap() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def post(url: str, networks: tuple[Network, ...] = ()) -> Try:
    return sending.post(url, {"webhook-id": "msg_1"}, b"{}", networks)


HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "0", "[::1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1",
    "192.168.1.1", "[64:ff9b::7f00:1]", "224.0.0.1", "100.64.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_no_spelling_of_a_private_address_is_called(trap: Receiver, host: str) -> None:
    found = post(f"http://{host}:{trap.port}/")
    assert "which is not of the public internet" in found.error or "not known here" in found.error
    assert found.answer is None and trap.got == []


def test_a_name_with_a_private_address_among_public_ones_is_not_called(
    trap: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, "1.1.1.1 127.0.0.1")
    found = post(f"http://receiver.example.com:{trap.port}/")
    assert "has the address 127.0.0.1" in found.error and trap.got == []


def test_a_name_is_looked_up_once_for_check_and_connection(
    trap: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its second answer could lead elsewhere."""
    names(monkeypatch, "127.0.0.1", "10.9.9.9")
    assert post(f"http://receiver.example.com:{trap.port}/a?b=1", LOCAL).answer == 200
    assert trap.got[0].headers["host"] == f"receiver.example.com:{trap.port}"


def test_our_proxies_are_not_used(trap: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{trap.port}")
    assert "not of the public" in post("http://127.0.0.1:9/").error and trap.got == []


def test_an_unknown_host_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*args: Any, **options: Any) -> Any:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert (
        post("https://receiver.example/").error == "the host 'receiver.example' is not known here"
    )


@pytest.mark.parametrize("host", [".example.org", "a" * 70 + ".org", "a..b"])
def test_a_host_that_cannot_be_is_a_sentence(host: str) -> None:
    assert post(f"https://{host}/").error.endswith(("is not known here", "cannot be used"))


@pytest.mark.parametrize(
    ("host", "told"),
    [("receiver.example.com", ""), ("other.org", "the certificate is not valid: ")],
)
def test_certificates_are_checked_against_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, told: str
) -> None:
    files = certificate(tmp_path, "receiver.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    sending.trust.cache_clear()
    try:
        with HTTPServer(host="127.0.0.1", ssl_context=context) as server:
            server.expect_request("/hook", method="POST").respond_with_data("ok")
            names(monkeypatch, "127.0.0.1")
            found = post(f"https://{host}:{server.port}/hook", LOCAL)
            plain = post(f"https://{host}:{server.port}/hook")
    finally:
        sending.trust.cache_clear()
    assert found.error.startswith(told) and found.answer == (None if told else 200)
    assert "not of the public" in plain.error


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://example.org/", "must begin with https://; `subscriptions.allow_http`"),
        ("ftp://example.org/", "must begin with https://"),
        ("https://user:pw@example.org/", "must not hold a user or a password"),
        ("https://example.org/#x", "must not have a fragment"),
        ("https://example.org/a b", "must be an address such as"),
        ("https://example.org/\r\nX-Evil: 1", "must be an address such as"),
        ("https://exämple.org/", "must be an address such as"),
        ("https:///path", "must be an address such as"),
        ("https://[::1/", "is not an address"),
        ("https://example.org:99999/", "is not an address"),
        ("https://10.0.0.1/", "names the address 10.0.0.1, which is not of the public internet"),
        ("https://[::1]/", "names the address ::1, which is not of the public internet"),
        ("https://169.254.169.254/latest", "names the address 169.254.169.254"),
        ("", "must be an address such as"),
    ],
)
def test_a_wrong_address_is_refused_at_once(url: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        services.check("chat", Wanted(url, ["job.failed"]))
    assert error.value.problems["url"].startswith(f"url {told}")


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        services.check("Bad Name", Wanted("nowhere", ["job.ended"]))
    assert set(error.value.problems) == {"name", "url", "events"}
    assert "'job.ended' is no event: known are job.completed" in str(error.value)


@pytest.fixture(name="shop")
def workspace_of_tests(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, FLOW, "shop")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (Subscriptions(LOCAL), "the address must begin with https://"),
        (Subscriptions(allow_http=True), "the address names the address 127.0.0.1"),
    ],
)
def test_the_settings_count_when_a_message_is_sent(
    shop: Workspace,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    rules: Subscriptions,
    told: str,
) -> None:
    row, _ = subscribe(shop, receiver.url)
    services.ping(row, by="ada")
    allow(monkeypatch, rules)
    assert send() == 0 and receiver.got == []
    assert Delivery.objects.get().error.startswith(told)
    assert Subscription.objects.get().failures == 1
