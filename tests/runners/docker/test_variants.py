"""An image for several platforms in a real registry, and what an action's own `pull` and `platform`
make of it."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import ContainerWishes, ImageWork, StepOutcome, Verdict
from runners.docker.config import DockerConfig, Login
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.docker.test_images import LOGIN, pushed, registry

__all__ = ["pushed", "registry"]
pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
Finish = Callable[..., tuple[StepOutcome, Log]]


class Repository:
    """One repository of a registry, over its HTTP API."""

    def __init__(self, image: str) -> None:
        address, self._tag = image.rsplit(":", 1)
        host, _, name = address.partition("/")
        self._url = f"http://{host}/v2/{name}"

    def ask(self, path: str, data: bytes | None = None, method: str = "GET", **headers: str) -> Any:
        url = path if path.startswith("http") else f"{self._url}/{path}"
        login = base64.b64encode(f"{LOGIN['username']}:{LOGIN['password']}".encode()).decode()
        request = urllib.request.Request(url, data, method=method)
        for key, value in {"Authorization": f"Basic {login}", **headers}.items():
            request.add_header(key.replace("_", "-"), value)
        return urllib.request.urlopen(request, timeout=30)

    def read(self, path: str, kind: str = MANIFEST) -> bytes:
        with self.ask(path, Accept=kind) as answer:
            return bytes(answer.read())

    def put_blob(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        with self.ask("blobs/uploads/", b"", "POST") as answer:
            place = answer.headers["Location"]
        joint = "&" if "?" in place else "?"
        kind = "application/octet-stream"
        self.ask(f"{place}{joint}digest={digest}", content, "PUT", Content_Type=kind).close()
        return digest

    def put_manifest(self, reference: str, manifest: dict[str, Any], kind: str) -> dict[str, Any]:
        """What a list says of it."""
        content = json.dumps(manifest).encode()
        self.ask(f"manifests/{reference}", content, "PUT", Content_Type=kind).close()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {"mediaType": kind, "size": len(content), "digest": digest}

    def spread(self, *architectures: str) -> None:
        """Let the tag's image exist for these, each of which says its name. The program in it is
        this machine's, so all of them run."""
        manifest = json.loads(self.read(f"manifests/{self._tag}"))
        config = json.loads(self.read(f"blobs/{manifest['config']['digest']}", "*/*"))
        variants = []
        for name in architectures:
            config["architecture"] = name
            config["config"]["Entrypoint"] = ["/busybox", "echo", name]
            content = json.dumps(config).encode()
            manifest["config"] |= {"size": len(content), "digest": self.put_blob(content)}
            about = self.put_manifest(name, manifest, MANIFEST)
            variants.append(about | {"platform": {"os": "linux", "architecture": name}})
        every = {"schemaVersion": 2, "mediaType": LIST, "manifests": variants}
        self.put_manifest(self._tag, every, LIST)


@pytest.fixture
def own(docker_engine: docker.DockerClient) -> str:
    """The engine's architecture."""
    return str(docker_engine.version()["Arch"])


@pytest.fixture
def other(own: str) -> str:
    return "arm64" if own == "amd64" else "amd64"


@pytest.fixture
def image(pushed: str, own: str, other: str) -> Iterator[str]:
    Repository(pushed).spread(other, own)
    yield pushed


@pytest.fixture
def finish(config: DockerConfig, registry: str, tmp_path: Path) -> Finish:
    """Runs an image, with one runner for all calls of the same configuration."""
    runners: dict[str, DockerRunner] = {}

    def run(image: str, default: str = "missing", **wishes: Any) -> tuple[StepOutcome, Log]:
        log = Log()
        changed = replace(config, pull=default, registries={registry: Login(**LOGIN)})
        runner = runners.setdefault(default, DockerRunner(changed))
        work = {"work": ImageWork(image), "container": ContainerWishes(**wishes)}
        return runner.run(build_order(tmp_path, **work), log, Stop()), log

    return run


def said(found: tuple[StepOutcome, Log]) -> list[str]:
    outcome, log = found
    assert outcome.verdict is Verdict.SUCCEEDED, outcome.error
    return log.texts("stdout")


def test_each_step_gets_the_image_for_its_platform(
    finish: Finish, image: str, own: str, other: str
) -> None:
    """One tag of the engine stands for one of them at a time; the next step must not get what an
    earlier one left there."""
    assert said(finish(image, platform=f"linux/{other}")) == [other]
    assert said(finish(image)) == [own]
    assert said(finish(image, platform=f"linux/{other}")) == [other]
    assert said(finish(image, platform=f"linux/{own}")) == [own]
    outcome, log = finish(image)
    assert (outcome.verdict, log.texts("server")) == (Verdict.SUCCEEDED, []), "it is here"


def test_an_image_for_another_platform_alone_is_used_as_it_is(
    finish: Finish, pushed: str, other: str
) -> None:
    """As with emulation: nobody has asked for anything else, and there is nothing else."""
    Repository(pushed).spread(other)
    assert said(finish(pushed, platform=f"linux/{other}")) == [other]
    assert said(finish(pushed, default="never")) == [other]
    assert said(finish(pushed)) == [other]


def test_a_platform_that_an_image_lacks_is_named(finish: Finish, image: str) -> None:
    outcome, _ = finish(image, platform="linux/s390x")
    assert outcome.verdict is Verdict.FAILED
    assert image in outcome.error and "linux/s390x" in outcome.error, outcome.error
    outcome, _ = finish(image, platform="linux/s390x", pull="never")
    assert f"{image!r} is not on this worker's engine for linux/s390x" in outcome.error


def test_an_action_pulls_as_it_says_whatever_the_worker_does_by_default(
    finish: Finish, image: str
) -> None:
    outcome, log = finish(image, default="always", pull="never")
    assert outcome.error is not None and "the action's `pull` is 'never'" in outcome.error
    for _ in range(2):
        outcome, log = finish(image, pull="always")
        assert outcome.verdict is Verdict.SUCCEEDED, outcome.error
        assert log.texts("server")[0] == f"Pulling image {image}"
    outcome, log = finish(image, default="always", pull="missing")
    assert (outcome.verdict, log.texts("server")) == (Verdict.SUCCEEDED, [])
