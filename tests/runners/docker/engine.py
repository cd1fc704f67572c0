"""A real Docker engine and the images that the tests run in; shared by the suites of docker and
pods.

The engine that runs already is used; else root starts one, and the last test process that used it
stops it. Images are built once on a machine: Debian comes from its package mirror, the runner image
from this repository's Dockerfile.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest
import uv

ROOT = Path(__file__).parents[3]
OF_WHOM = f"-{os.geteuid()}" if os.geteuid() else ""  # nobody else can write into root's
CACHE = Path(os.environ.get("STROEM_TEST_CACHE", f"/var/tmp/stroem-cache{OF_WHOM}"))
PACKAGES = "ca-certificates,curl,git,jq,openssh-client,procps,python3,python3-pip,python3-venv,unzip,iproute2,sqlite3"
VERSION = "2"  # of what _build_base does with the packages
BASE = f"stroem-test-base:{hashlib.sha256(f'{PACKAGES} {VERSION}'.encode()).hexdigest()[:12]}"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def need(condition: object, what: str) -> None:
    """Without `what` these tests cannot run: a failure where all of it is promised, else a skip."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """A client of an engine that answers."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with _share_engine():
        client = docker.from_env(timeout=120)
        yield client
        client.close()


@pytest.fixture(scope="session")
def base_image(docker_engine: docker.DockerClient) -> str:
    """A small Debian with the everyday tools; no language but shell and python3."""
    with locked("images"):
        if not has_image(docker_engine, BASE):
            _build_base(docker_engine)
    return BASE


@pytest.fixture(scope="session")
def runner_image(docker_engine: docker.DockerClient, base_image: str) -> str:
    """The runner image, built from images/runner/Dockerfile on the local base with the tools that
    registries have."""
    recipe = b"".join(path.read_bytes() for path in sorted((ROOT / "images" / "runner").iterdir()))
    tag = f"stroem-test-runner:{hashlib.sha256(base_image.encode() + recipe).hexdigest()[:12]}"
    with locked("images"):
        if not has_image(docker_engine, tag):
            tools = _build_tools(docker_engine)
            docker_engine.images.build(
                path=str(ROOT / "images" / "runner"),
                tag=tag,
                rm=True,
                buildargs={"BASE": base_image, "TOOLS": tools},
            )
    return tag


@contextmanager
def _share_engine() -> Iterator[None]:
    users = (CACHE / "dockerd.users").open("a+")
    with locked("dockerd"):
        fcntl.flock(users, fcntl.LOCK_SH)
        if not _answers():
            _start_engine()
    try:
        yield
    finally:
        with locked("dockerd"):
            fcntl.flock(users, fcntl.LOCK_UN)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another test process still uses it
            else:
                _stop_engine()
            users.close()


def _answers() -> bool:
    try:
        client = docker.from_env(timeout=10)
        client.ping()
        client.close()
    except (docker.errors.DockerException, OSError):
        return False
    return True


def _start_engine() -> None:
    need(
        os.geteuid() == 0 and shutil.which("dockerd"),
        "no Docker engine answers and none can be started here",
    )
    with (CACHE / "dockerd.log").open("ab") as log:
        process = subprocess.Popen(
            [
                "dockerd",
                "--data-root",
                str(CACHE / "docker"),
                "--pidfile",
                str(CACHE / "dockerd.pid"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + 30
    while not _answers():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = (CACHE / "dockerd.log").read_text(errors="replace")[-1500:]
            need(False, f"dockerd did not start: {tail}")
        time.sleep(0.05)


def _stop_engine() -> None:
    """Stop the engine that a test process started, whichever it was."""
    pid_file = CACHE / "dockerd.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    if b"dockerd" not in _read_command_line(pid):
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while b"dockerd" in _read_command_line(pid) and time.monotonic() < deadline:
        time.sleep(0.05)


def _read_command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def locked(name: str) -> Iterator[None]:
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def has_image(client: docker.DockerClient, tag: str) -> bool:
    try:
        client.images.get(tag)
    except docker.errors.ImageNotFound:
        return False
    return True


def _build_base(client: docker.DockerClient) -> None:
    rootfs = CACHE / f"rootfs-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]}.tar"
    if not rootfs.exists():
        need(
            shutil.which("mmdebstrap"),
            "mmdebstrap is needed to make the image that the tests run in",
        )
        part = rootfs.with_suffix(".part.tar")
        excludes = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"]
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=Acquire::Languages "none"']
            + [f"--dpkgopt=path-exclude={pattern}" for pattern in excludes]
            + [f"--include={PACKAGES}", "bookworm", str(part)],
            check=True,
            capture_output=True,
        )
        part.rename(rootfs)
    changes = [
        'CMD ["/bin/bash"]',
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8",
    ]
    client.api.import_image_from_file(
        str(rootfs), repository="stroem-test-rootfs", tag="1", changes=changes
    )
    # What the machine trusts, the image trusts; uv and bun want to be told.
    recipe = (
        "FROM stroem-test-rootfs:1\n"
        f"COPY ca.crt {HOST_CERTIFICATES}\n"
        f"ENV SSL_CERT_FILE={HOST_CERTIFICATES} NODE_EXTRA_CA_CERTS={HOST_CERTIFICATES}\n"
    )
    files = {"Dockerfile": (recipe.encode(), 0o644)}
    files["ca.crt"] = (HOST_CERTIFICATES.read_bytes(), 0o644)
    build_image(client, BASE, files)


def _build_tools(client: docker.DockerClient) -> str:
    """What the package registries have of the tools: uv and bun."""
    bun = CACHE / "npm" / "node_modules" / "bun" / "bin" / "bun.exe"
    if not bun.exists():
        subprocess.run(
            [
                "npm",
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(CACHE / "npm"),
                "bun",
            ],
            check=True,
        )
    files = {
        "Dockerfile": (b"FROM scratch\nCOPY uv bun /tools/\n", 0o644),
        "uv": (Path(uv.find_uv_bin()).read_bytes(), 0o755),
        "bun": (bun.read_bytes(), 0o755),
    }
    build_image(client, "stroem-test-tools:1", files)
    return "stroem-test-tools:1"


def build_image(client: docker.DockerClient, tag: str, files: dict[str, tuple[bytes, int]]) -> None:
    """Build an image from files in memory: name to content and mode, a Dockerfile among them."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
