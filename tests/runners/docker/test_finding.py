"""Where the engine is looked for. No engine is needed here."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.docker.errors import EngineGone
from runners.docker.finding import Certificates, find_endpoint, list_sockets


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user without any engine, but for the machine's own."""
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run"), "DOCKER_CONFIG": str(tmp_path / ".docker")}  # fmt: skip


def write_context(home: dict[str, str], name: str, url: str, *, has_tls: bool = False) -> Path:
    folder = Path(home["DOCKER_CONFIG"])
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / digest
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(
        json.dumps({"Name": name, "Endpoints": {"docker": {"Host": url, "SkipTLSVerify": False}}})
    )
    tls = folder / "contexts" / "tls" / digest / "docker"
    if has_tls:
        tls.mkdir(parents=True)
        for file in ("ca.pem", "cert.pem", "key.pem"):
            (tls / file).touch()
    return tls


def test_the_workers_own_setting_comes_first(home: dict[str, str]):
    home |= {"DOCKER_HOST": "tcp://a:1", "DOCKER_CONTEXT": "b"}
    assert find_endpoint("tcp://mine:2", home).url == "tcp://mine:2"
    assert find_endpoint(None, home).url == "tcp://a:1"


def test_certificates_are_those_of_the_docker_command(home: dict[str, str]):
    home |= {"DOCKER_HOST": "tcp://a:1", "DOCKER_CERT_PATH": "/c"}
    pems = [Path(f"/c/{name}.pem") for name in ("cert", "key", "ca")]
    assert find_endpoint(None, home).certificates == Certificates(*pems, is_verified=False)
    home["DOCKER_TLS_VERIFY"] = "1"
    assert find_endpoint(None, home).certificates == Certificates(*pems, is_verified=True)


@pytest.mark.parametrize("is_current", [True, False])
def test_a_context_names_the_engine(home: dict[str, str], is_current: bool):
    tls = write_context(home, "build", "tcp://build:2376", has_tls=True)
    if is_current:
        (Path(home["DOCKER_CONFIG"]) / "config.json").write_text('{"currentContext": "build"}')
    else:
        home["DOCKER_CONTEXT"] = "build"
    found = find_endpoint(None, home)
    assert str(found) == "tcp://build:2376 (from the Docker context 'build')"
    pems = [tls / f"{name}.pem" for name in ("cert", "key", "ca")]
    assert found.certificates == Certificates(*pems, is_verified=True)


def test_a_context_that_does_not_exist_and_one_over_ssh_say_so(home: dict[str, str]):
    home["DOCKER_CONTEXT"] = "away"
    with pytest.raises(EngineGone, match=r"'away' was chosen, but .*meta\.json does not describe"):
        find_endpoint(None, home)
    write_context(home, "away", "ssh://me@there")
    with pytest.raises(EngineGone, match=r"the Docker context 'away'.*ssh -nNT -L"):
        find_endpoint(None, home)


@pytest.fixture
def no_system_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own engines do not count."""
    known = list_sockets
    monkeypatch.setattr(
        "runners.docker.finding.list_sockets",
        lambda environ: (path for path in known(environ) if not path.is_relative_to("/run") and not path.is_relative_to("/var/run")),
    )  # fmt: skip


@pytest.fixture
def listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    yield


@pytest.mark.parametrize(
    "place",
    ["run/docker.sock", ".docker/desktop/docker.sock", ".docker/run/docker.sock", "run/podman/podman.sock"],
    ids=["rootless", "desktop on linux", "desktop on a mac", "podman"],
)  # fmt: skip
def test_sockets_of_other_engines_are_found(
    home: dict[str, str], tmp_path: Path, listen: None, no_system_socket: None, place: str
):
    (tmp_path / place).parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(place)
        engine.listen()
        assert find_endpoint(None, home).url == f"unix://{tmp_path / place}"


def test_without_any_the_sentence_says_what_was_looked_at(
    home: dict[str, str], tmp_path: Path, listen: None, no_system_socket: None
):
    dead = tmp_path / "run" / "docker.sock"
    dead.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind("run/docker.sock")
    with pytest.raises(EngineGone) as told:
        find_endpoint(None, home)
    sentence = str(told.value)
    assert f"{dead}: nothing listens there" in sentence
    assert f"{tmp_path}/run/podman/podman.sock: does not exist" in sentence
    for word in ("docker.host", "DOCKER_HOST", "Docker context"):
        assert word in sentence
