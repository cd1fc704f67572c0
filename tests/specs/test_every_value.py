"""Every value of the chart changes what is installed, or is refused. The keys of workflow files, the
settings and the environment variables are in `test_effects*.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.specs.chart import CHART, GIVEN, helm

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
OWN_SECRET = {
    "STROEM__DB__URL": "postgresql://a/b",
    "STROEM__BROKER__URL": "redis://c",
    "STROEM_KEYS": "d",
}
# what the value needs around it
AROUND = {
    "worker.kubernetes.namespaceLabels": {
        "worker": {"kubernetes": {"enabled": True, "namespace": "steps", "createNamespace": True}}
    },
    "worker.kubernetes.allowReleaseNamespace": {
        "worker": {"kubernetes": {"enabled": True, "allowReleaseNamespace": True}}
    },
    "runner.image": {"runner": {"image": {"repository": "registry.example.com/runner"}}},
    "runner.startupScript": {"worker": {"kubernetes": {"enabled": True, "namespace": "steps"}}},
    "rbac": {"worker": {"kubernetes": {"enabled": True, "namespace": "steps"}}},
    "secretEnv": {"secretEnv": OWN_SECRET},
    "ingress": {"ingress": {"enabled": True, "hosts": [{"host": "s.example.com"}]}},
    "worker.kubernetes": {"worker": {"kubernetes": {"enabled": True, "namespace": "steps"}}},
    "worker.dind": {"worker": {"dind": {"enabled": True}}},
    "worker.autoscaling": {"worker": {"autoscaling": {"enabled": True}}},
    "worker.podDisruptionBudget": {"worker": {"podDisruptionBudget": {"enabled": True}}},
}
ITEMS = {
    "imagePullSecrets": [{"name": "registry"}],
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "v", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
    "initContainers": [{"name": "c", "image": "i"}],
    "extraContainers": [{"name": "c", "image": "i"}],
    "tolerations": [{"key": "k", "operator": "Exists"}],
    "hosts": [{"host": "other.example.com"}],
    "tls": [{"secretName": "s", "hosts": ["s.example.com"]}],
    "extraManifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}],
}
OTHER = {
    "server.image.pullPolicy": "Always",
    "worker.image.pullPolicy": "Always",
    "server.logLevel": "DEBUG",
    "worker.logLevel": "DEBUG",
    "server.service.type": "NodePort",
    "server.baseUrl": "https://s.example.com",
    "server.config.workspaces": {"a": {"type": "folder", "path": "/a"}},
    "worker.kubernetes.allowReleaseNamespace": False,
    "worker.kubernetes.manifest": {"metadata": {"labels": {"team": "data"}}},
    "worker.kubernetes.networkPolicy": {"policyTypes": ["Ingress"]},
    "worker.kubernetes.volumes": {"models": {"emptyDir": {}}},
    "worker.workspaceCache.sizeLimit": "6Gi",
    "secretEnv": {**OWN_SECRET, "STROEM_LOG_LEVEL": "DEBUG"},
    "runner.image.repository": "other.example.com/runner",
}
REFUSED = {
    "serviceMonitor.enabled": "makes no ServiceMonitor",
    "worker.kubernetes.allowReleaseNamespace": "Name another namespace",
}


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        at = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value and at not in OTHER and key != "podAnnotations":
            yield from leaves(value, at)
        else:
            yield at, value


SHAPED = {
    "worker.kubernetes.manifest": {"spec": {"nodeSelector": {"disk": "fast"}}},
    "worker.kubernetes.volumes": {"data": {"persistentVolumeClaim": {"claimName": "data"}}},
}


def another(path: str, value: Any) -> Any:
    if path in OTHER:
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if path in SHAPED:
        return SHAPED[path]
    if isinstance(value, list):
        return ITEMS.get(path.rsplit(".", 1)[-1], ["changed"])
    return {"changed": "x"} if isinstance(value, dict) else "changed"


def merged(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    inner = base.get(head)
    below = inner if isinstance(inner, dict) else {}
    return {**base, head: merged(below, rest, value) if rest else value}


def template(values: dict[str, Any], folder: Path) -> tuple[int, str]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    given = () if "secretEnv" in values else GIVEN
    answer = helm("template", "stroem", str(CHART), *given, "--values", str(file))
    return answer.returncode, answer.stdout or answer.stderr


LEAVES = [path for path, _ in leaves(VALUES) if path != "existingSecret"]


@pytest.mark.sample(6)
@pytest.mark.parametrize("path", LEAVES)
def test_a_value_of_the_chart_changes_what_is_installed_or_is_refused(
    path: str, tmp_path: Path
) -> None:
    around = next((value for part, value in AROUND.items() if path.startswith(part)), {})
    changed = another(path, dict(leaves(VALUES))[path])
    code, before = template({} if path.endswith("enabled") else around, tmp_path)
    assert code == 0, before
    code, after = template(merged(around, path, changed), tmp_path)
    if path in REFUSED:
        assert code != 0 and REFUSED[path] in after
    else:
        assert code == 0 and after != before, after[:500]
