"""The guard's program reaches a cluster as its worker does, from another directory and without the
worker's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from runners import cleanup
from runners.catalog import CatalogConfig
from runners.pod.config import PodConfig
from tests.runners.pod.fake_api import TOKEN, FakeCluster
from workers.config import load

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[3]
NAME = "stroem-t-1-step"


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    fake = FakeCluster(None)
    yield fake
    fake.close()


def configure(folder: Path, kubeconfig: str) -> CatalogConfig:
    file = folder / "worker-config.yaml"
    section = {"namespace": "stroem-jobs", "kubeconfig": kubeconfig}
    file.write_text(yaml.safe_dump({"tags": ["kubernetes"], "kubernetes": section}))
    worker = load(file, {}, data_dir=folder)
    return CatalogConfig("w", kubernetes=worker.kubernetes)


def end_by_guard(config: CatalogConfig) -> None:
    """As the guard starts it: in /, with nothing in the environment."""
    told = f'{{"worker": {cleanup.describe(config)}, "attempts": {{"t-1": "pod"}}}}'
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from runners import cleanup; cleanup.main()"
    subprocess.run(
        [sys.executable, "-I", "-c", code], input=told, text=True, cwd="/", env={}, check=True
    )


def asked_to_delete(cluster: FakeCluster) -> bool:
    return cluster.count("DELETE", f"/pods/{NAME}") == 1


def test_a_relative_kubeconfig_counts_from_the_workers_configuration(
    cluster: FakeCluster, tmp_path: Path
):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    cluster.write_kubeconfig(folder / "cluster.yaml")
    config = configure(folder, "cluster.yaml")
    read = PodConfig.from_section(config.kubernetes or {}, owner="w")
    assert read.kubeconfig == folder / "cluster.yaml"
    end_by_guard(config)
    assert asked_to_delete(cluster)


def test_a_credential_plugin_gets_the_workers_environment(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plugin = tmp_path / "give-token"
    plugin.write_text(
        "#!/bin/sh\n"
        'printf \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        '"status":{"token":"%s"}}\' "$MY_CLOUD_TOKEN"\n'
    )
    plugin.chmod(0o755)
    write_plugin(cluster, tmp_path / "kubeconfig", "give-token")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MY_CLOUD_TOKEN", TOKEN)
    end_by_guard(configure(tmp_path, "kubeconfig"))
    assert asked_to_delete(cluster)


def write_plugin(cluster: FakeCluster, path: Path, command: str) -> None:
    config = yaml.safe_load(cluster.write_kubeconfig(path).read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command}
    config["users"][0]["user"] = {"exec": {**plugin, "interactiveMode": "Never"}}
    path.write_text(yaml.safe_dump(config))


def test_our_own_settings_and_the_variables_of_services_stay_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("STROEM__DB__URL", "postgresql://canary@db/stroem")
    for number in range(500):
        monkeypatch.setenv(f"SHOP_{number}_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"SHOP_{number}_PORT_8080_TCP", f"tcp://10.0.0.1:{number}")
    monkeypatch.setenv("AWS_PROFILE", "builder")
    told = cleanup.describe(configure(tmp_path, "kubeconfig"))
    assert json.loads(told)["environment"]["AWS_PROFILE"] == "builder"
    assert "canary" not in told
    assert "SHOP_" not in told
    assert len(told) < 60_000  # it goes through a pipe in one piece
