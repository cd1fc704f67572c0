"""The script for a real cluster, with the real kubectl: what it does is known to work before it
meets one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runners.docker.engine import need
from tests.runners.pod.fake_api import FakeCluster
from tests.runners.pod.fake_server import Handler

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]
SCRIPT = Path(__file__).with_name("on_a_real_cluster.sh")
NAMESPACES = "/api/v1/namespaces"
KIND = {
    "name": "namespaces", "singularName": "namespace", "namespaced": False, "kind": "Namespace",
    "verbs": ["create", "delete", "get", "list"], "shortNames": ["ns"],
}  # fmt: skip
DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [KIND]},
}


class WithNamespaces(Handler):
    """Namespaces, and what kubectl asks before it does anything."""

    there: dict[str, Any]
    gone: dict[str, Any]

    def _serve(self, method: str) -> None:
        path = self.path.partition("?")[0]
        if path in DISCOVERY:
            self._send(200, DISCOVERY[path])
        elif path == NAMESPACES or path.rpartition("/")[0] == NAMESPACES:
            self._serve_namespace(method, path.removeprefix(NAMESPACES).strip("/"))
        else:
            super()._serve(method)

    def _serve_namespace(self, method: str, name: str) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if method == "POST":
            name = body["metadata"]["name"]
            self.there[name] = body
        elif name not in self.there:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
            more = {"reason": "NotFound", "code": 404, "details": {"name": name}}
            self._send(404, {**status, **more, "message": f'namespaces "{name}" not found'})
            return
        elif method == "DELETE":
            self.gone[name] = self.there.pop(name)
            self._send(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
            return
        self._send(200, self.there[name])


@pytest.fixture
def namespaces(cluster: FakeCluster) -> dict[str, Any]:
    """Those of the cluster, by name; under `gone` those that were deleted."""
    gone: dict[str, Any] = {}
    there: dict[str, Any] = {}
    shared = {"cluster": cluster, "there": there, "gone": gone}
    cluster.server.RequestHandlerClass = type("ItsHandler", (WithNamespaces,), shared)
    return {"there": there, "gone": gone}


@pytest.fixture
def run(
    cluster: FakeCluster, base_image: str, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    need(shutil.which("kubectl"), "kubectl is needed for the script that uses it")
    given = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STROEM_", "PYTEST_", "DJANGO_"))
    }
    given |= {
        "KUBECONFIG_TEST": str(cluster.write_kubeconfig(tmp_path / "kubeconfig")),
        "RUNNER_IMAGE_TEST": base_image,
        "NAMESPACE_TEST": "stroem-jobs",
        "HOME": str(tmp_path),  # kubectl's cache
    }

    def call(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), *options], env=given, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip

    return call


def test_the_script_makes_a_namespace_runs_the_tests_there_and_removes_it(
    run: Callable[..., subprocess.CompletedProcess[str]],
    namespaces: dict[str, Any],
    cluster: FakeCluster,
) -> None:
    chosen = "beside_the_log or ask_for_root or non_zero_exit or nothing_of_these"
    done = run("-k", chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout, done.stdout
    assert namespaces["there"] == {}
    labels = namespaces["gone"]["stroem-jobs"]["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "baseline"}
    made = [path for method, path, _ in cluster.requests if method == "POST"]
    assert any(path.endswith("/namespaces/stroem-jobs/pods") for path in made)


def test_the_script_leaves_a_namespace_alone_that_exists(
    run: Callable[..., subprocess.CompletedProcess[str]], namespaces: dict[str, Any]
) -> None:
    namespaces["there"]["stroem-jobs"] = {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stroem-jobs"},
    }  # fmt: skip
    done = run()
    assert done.returncode == 2
    assert "The namespace stroem-jobs exists; name another in NAMESPACE_TEST" in done.stderr
    assert list(namespaces["there"]) == ["stroem-jobs"] and namespaces["gone"] == {}
