"""Helm's answers about our chart, without a cluster."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "stroem"
WORKLOADS = ["server", "scheduler", "agents", "worker", "migrate"]
MODELS = (
    "--set", "server.config.agents.providers.claude.type=anthropic",
    "--set", "server.config.agents.providers.claude.api_key=${KEY}",
)  # fmt: skip
GIVEN = ("--set", "existingSecret=stroem", *MODELS)
VARIANTS = {
    "defaults": GIVEN,
    "kubernetes runner": (*GIVEN, "--set", "worker.kubernetes.enabled=true,worker.kubernetes.namespace=stroem-jobs"),
    "docker runner": (*GIVEN, "--set", "worker.dind.enabled=true"),
    "everything": (
        *GIVEN,
        "--set", "worker.kubernetes.enabled=true,worker.dind.enabled=true,worker.autoscaling.enabled=true",
        "--set", "worker.kubernetes.namespace=stroem-jobs,worker.kubernetes.createNamespace=true",
        "--set", "worker.kubernetes.namespaceLabels.istio-injection=disabled,imagePullSecrets[0].name=registry",
        "--set", "worker.kubernetes.quota.pods=50,worker.kubernetes.networkPolicy.policyTypes={Ingress}",
        "--set", "worker.podDisruptionBudget.enabled=true,ingress.enabled=true,ingress.hosts[0].host=s.example.com",
        "--set", "runner.image.repository=registry.example.com/runner,startupScript=echo hello,imageTag=1.2.3",
        "--set", "server.baseUrl=https://s.example.com,worker.initContainers[0].name=a,worker.initContainers[0].image=b",
        "--set", "server.extraEnv[0].name=A,server.extraEnv[0].value=b,server.nodeSelector.disk=ssd",
        "--set", "server.extraVolumes[0].name=flows,server.extraVolumes[0].persistentVolumeClaim.claimName=flows",
        "--set", "server.extraVolumeMounts[0].name=flows,server.extraVolumeMounts[0].mountPath=/workspaces",
        "--set-string", "worker.startupScript=true",
    ),
    "own secret": (
        "--set", "secretEnv.STROEM__DB__URL=postgresql://a/b,secretEnv.STROEM__BROKER__URL=redis://c",
        "--set", "secretEnv.STROEM_KEYS=d", *MODELS,
    ),
}  # fmt: skip


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("helm")
    if program is None:
        pytest.skip("helm is not on PATH")
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def rendered(*arguments: str) -> list[dict[str, Any]]:
    answer = helm("template", "stroem", str(CHART), "--namespace", "platform", *arguments)
    assert answer.returncode == 0, answer.stderr
    return [document for document in yaml.safe_load_all(answer.stdout) if document]


def refusal(*arguments: str) -> str:
    """What helm says about values that the chart does not take."""
    answer = helm("template", "stroem", str(CHART), *arguments)
    assert answer.returncode != 0, "the chart takes these values"
    return answer.stderr


def only(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in documents if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The templates of all pods, by what runs in them."""
    templates = [
        one["spec"]["template"] for one in documents if one["kind"] in ("Deployment", "Job")
    ]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in templates}


def worker_file(documents: list[dict[str, Any]]) -> str:
    data: dict[str, str] = only(documents, "ConfigMap", "stroem-worker")["data"]
    return data["worker-config.yaml"]
