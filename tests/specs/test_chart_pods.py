"""What the chart's pods are like: harmless, probed honestly, at ease beside the proxy of a mesh."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.apps.jobs.builders import until
from tests.house import ROOT, House
from tests.specs.chart import GIVEN, VARIANTS, WORKLOADS, pods, rendered

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"
RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip


# --- Pod Security


def offences(spec: dict[str, Any]) -> Iterator[str]:
    """What the Pod Security Standard `restricted` has against a pod."""
    whole = spec.get("securityContext", {})
    for volume in spec.get("volumes", []):
        yield from (f"volume {key}" for key in set(volume) - {"name"} - RESTRICTED_VOLUMES)
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))
    for container in spec["containers"] + spec.get("initContainers", []):
        name, own = container["name"], container.get("securityContext", {})
        both = {**whole, **own}
        if own.get("privileged"):
            yield f"{name}: privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation"
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            yield f"{name}: runAsNonRoot"
        capabilities = own.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{name}: capabilities"
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: seccompProfile"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name}: hostPort"


@pytest.mark.helm
@pytest.mark.parametrize("variant", ["defaults", "kubernetes runner", "own secret"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_is_restricted_and_writes_to_its_volumes_only(name: str, variant: str) -> None:
    spec = pods(rendered(*VARIANTS[variant]))[name]["spec"]
    assert list(offences(spec)) == []
    volumes = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
    for container in spec["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        for path in ("/tmp", "/var/lib/stroem"):
            assert mounts[path]["name"] in volumes
            assert not mounts[path].get("readOnly")


@pytest.mark.helm
def test_an_engine_beside_a_worker_is_all_that_is_not_restricted() -> None:
    found = pods(rendered(*VARIANTS["docker runner"]))
    assert {each for pod in found.values() for each in offences(pod["spec"])} == {
        "dind: privileged",
        "dind: allowPrivilegeEscalation",
        "dind: runAsNonRoot",
        "dind: capabilities",
    }


# --- beside other containers


@pytest.mark.helm
def test_an_engine_starts_before_its_worker_and_ends_after_it() -> None:
    spec = pods(rendered(*VARIANTS["docker runner"]))["worker"]["spec"]
    assert [one["name"] for one in spec["containers"]] == ["worker"]
    (engine,) = spec["initContainers"]
    assert (engine["name"], engine["restartPolicy"]) == ("dind", "Always")
    assert engine["startupProbe"]["exec"]["command"] == ["docker", "version"]


@pytest.mark.helm
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_takes_labels_and_annotations_and_a_native_sidecar_is_asked_for(
    name: str,
) -> None:
    ports = "traffic.sidecar.istio.io/excludeOutboundPorts"
    escaped = ports.replace(".", r"\.")
    documents = rendered(
        *GIVEN,
        "--set-string", rf"{name}.podAnnotations.{escaped}=5432\,6379",
        "--set-string", rf"{name}.podLabels.sidecar\.istio\.io/inject=false",
    )  # fmt: skip
    metadata = pods(documents)[name]["metadata"]
    assert metadata["annotations"][ports] == "5432,6379"
    assert metadata["annotations"]["sidecar.istio.io/nativeSidecar"] == "true"
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"


# --- probes

COMPOSED = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
PROBE = re.compile(
    r"find \$STROEM_HEALTH_DIR/(alive|ready) -newermt '(\d+) seconds ago' \| grep -q \."
)


def composed_probe(service: str) -> str:
    """The shell command by which compose probes a service."""
    kind, command = COMPOSED[service]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    return str(command).replace("$$", "$")


@pytest.mark.helm
@pytest.mark.parametrize("name", ["scheduler", "agents", "worker"])
def test_what_has_no_port_is_probed_by_files(name: str) -> None:
    (container,) = pods(rendered(*GIVEN))[name]["spec"]["containers"]
    assert {"name": "STROEM_HEALTH_DIR", "value": "/tmp/health"} in container["env"]
    asked = {}
    for kind in ("startup", "liveness", "readiness"):
        *shell, command = container[f"{kind}Probe"]["exec"]["command"]
        assert shell == ["sh", "-c"]
        found = PROBE.fullmatch(command)
        assert found, command
        asked[kind] = found[1]
    ready = {"scheduler": "alive", "agents": "ready", "worker": "ready"}[name]
    assert asked == {"startup": "alive", "liveness": "alive", "readiness": ready}


def passes(command: str, folder: Path) -> bool:
    answer = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | {"STROEM_HEALTH_DIR": str(folder)},
        capture_output=True,
        timeout=10,
        check=False,
    )
    return answer.returncode == 0


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["scheduler", "agents", "worker"])
def test_a_probe_tells_a_process_that_goes_on_from_one_that_does_not(
    name: str, tmp_path: Path, process_env: dict[str, str]
) -> None:
    folder, probe = tmp_path / "health", composed_probe(name)
    house = House(tmp_path, process_env | {"STROEM_HEALTH_DIR": str(folder)})
    try:
        assert not passes(probe, folder)
        starts = {
            "worker": lambda: house.worker("probed"),
            "scheduler": house.scheduler,
            "agents": lambda: house.start("agents"),
        }
        process = starts[name]()
        until(lambda: passes(probe, folder), within_s=60)
        if name != "scheduler":
            until((folder / "ready").exists, within_s=30)

        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        long_ago = time.time() - 61
        os.utime(folder / "alive", (long_ago, long_ago))
        assert not passes(probe, folder)
        process.send_signal(signal.SIGCONT)
        until(lambda: passes(probe, folder), within_s=30)
    finally:
        house.close()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_a_worker_without_its_database_is_alive_but_not_ready(
    tmp_path: Path, process_env: dict[str, str]
) -> None:
    """Restarting it would not help, and a rollout had better wait."""
    folder = tmp_path / "health"
    given = {"STROEM_HEALTH_DIR": str(folder), "STROEM__DB__URL": UNREACHABLE}
    house = House(tmp_path, process_env | given)
    try:
        house.start("worker")
        until(
            lambda: "waiting for the database" in (tmp_path / "worker.log").read_text(), within_s=60
        )
        until(lambda: passes(composed_probe("worker"), folder), within_s=30)
        assert not (folder / "ready").exists()
    finally:
        house.close()
