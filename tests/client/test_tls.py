"""The client through TLS, to a server under another host name, by way of a proxy."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apps.accounts.models import Role
from tests.acceptance.serving import Served
from tests.apps.jobs.builders import workspace
from tests.client.laptop import Laptop, key_of
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)
HOST = "stroem.example.test"
FLOW = """
tasks: {main: {flow: {one: {type: script, script: "echo through TLS"}}}}
"""


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{host}.pem", folder / f"{host}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


class Proxy:
    """Answers CONNECT, whatever the name, with TLS of its own in front of one server."""

    def __init__(self, port: int, files: tuple[Path, Path]) -> None:
        self.asked: list[str] = []
        self._behind = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._speak, args=(connection,), daemon=True).start()

    def _speak(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # a client that trusts nothing hangs up
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1)
            self.asked.append(head.split()[1].decode())
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            inside = self._context.wrap_socket(connection, server_side=True)
            outside = socket.create_connection(("127.0.0.1", self._behind))
            threading.Thread(target=_copy, args=(outside, inside), daemon=True).start()
            _copy(inside, outside)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.close()


@pytest.fixture
def served(tmp_path: Path, process_env: dict[str, str]) -> Iterator[Served]:
    house = House(tmp_path, {**process_env, "STROEM__AUTH__BASE_URL": f"https://{HOST}"})
    workspace(tmp_path / "sources", FLOW, "shop")
    house.worker("bench")
    yield Served(house)
    house.close()


def laptop_behind(served: Served, folder: Path, host: str) -> tuple[Laptop, Proxy, Path]:
    files = certificate(folder, host)
    proxy = Proxy(served.port, files)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    env = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
    return Laptop(home, env), proxy, files[0]


@pytest.mark.long
def test_every_kind_of_command_goes_through_tls(served: Served, tmp_path: Path) -> None:
    laptop, proxy, trusted = laptop_behind(served, tmp_path, HOST)
    key = key_of(Role.ADMIN, "ann@example.org")
    said = laptop.lines("login", HOST, "--ca-file", str(trusted), given=key + "\n")
    assert said == [f"https://{HOST}: signed in as ann@example.org (profile default)"]
    lines = laptop.lines("run", "shop", "main", "--follow")
    assert "one | through TLS" in lines
    assert laptop.lines("logs", lines[-1]) == ["one | through TLS"]
    assert lines[-1] in laptop.lines("jobs")[1]
    laptop.lines("secrets", "set", "shop", "pw", given="long enough\n")
    assert set(proxy.asked) == {f"{HOST}:443"}
    proxy.close()


def test_a_certificate_that_is_not_trusted_gets_no_key(served: Served, tmp_path: Path) -> None:
    laptop, proxy, trusted = laptop_behind(served, tmp_path, HOST)
    key = key_of(Role.ADMIN, "ann@example.org") + "\n"
    said = laptop.complaint("login", HOST, given=key)
    assert said.startswith(
        f"error: https://{HOST} cannot be reached: its certificate is not trusted"
    )
    assert "STROEM_CA_FILE" in said
    other = "other.example.test"
    said = laptop.complaint("login", other, "--ca-file", str(trusted), given=key)
    assert "Hostname mismatch" in said
    proxy.close()


@pytest.mark.long
def test_no_proxy_is_heeded(served: Served, tmp_path: Path) -> None:
    laptop, proxy, trusted = laptop_behind(served, tmp_path, HOST)
    laptop.env |= {"NO_PROXY": "example.test", "STROEM_CA_FILE": str(trusted)}
    laptop.env |= {"STROEM_URL": f"https://{HOST}", "STROEM_TOKEN": "strm_" + "0" * 64}
    assert "cannot be reached" in laptop.complaint("jobs")
    assert proxy.asked == []
    proxy.close()
