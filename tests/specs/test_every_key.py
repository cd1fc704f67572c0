"""Every key has an effect, or something says that it has none: keys of workflow files, settings,
values of the chart, and environment variables."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.spec import model
from engine.spec.fields import ACTION_FIELDS, STEP_FIELDS, TASK_FIELDS, TOP_FIELDS
from stroem_project import config
from tests.engine.spec.builders import load
from tests.specs.chart import CHART, GIVEN, helm
from workers import config as worker_config

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "apps",
    "console",
    "engine",
    "runners",
    "standalone",
    "stroem",
    "stroem_project",
    "workers",
)
RENAMED = {"name": "title", "flow": "flow"}

# -- workflow files ------------------------------------------------------------------------------

# what is read while the files are, and nothing of it is left afterwards
AT_READING = {"type", "action", "on_success", "on_error", "on_cancel", "on_suspended"}
# without effect in this version: the file that uses the key, and what validate says
WITHOUT = {
    **dict.fromkeys(
        "provider model system_prompt prompt temperature max_tokens max_turns interactive tools".split(),
        ("actions: { a: { type: agent, provider: p, prompt: x } }", "agent actions"),
    ),
    "mode": (
        "tasks: { t: { mode: local, flow: { s: { type: script, script: x } } } }",
        "no effect",
    ),
    "mcp_servers": ("mcp_servers: { m: { transport: stdio, command: x } }", "MCP servers"),
    "triggers": (
        "tasks: { t: { flow: { s: { type: script, script: x } } } }\n"
        "triggers: { n: { type: scheduler, cron: '0 3 * * *', task: t } }",
        "triggers, which never fire",
    ),
}
# documentation for people and for agents, as the reference says
DOCUMENTS = {"output"}
KEYS = {*ACTION_FIELDS, *STEP_FIELDS, *TASK_FIELDS, *TOP_FIELDS}
OF_PARTS = {
    field.name
    for part in (model.InputField, model.Retry, model.Escalation, model.WorkflowAction, model.Hook)
    for field in dataclasses.fields(part)
} - {"place"}


@cache
def attributes_read(*left_out: str) -> frozenset[str]:
    """The names of attributes that our code reads, outside of the files that only declare them."""
    found: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if not any(str(path.relative_to(ROOT)).startswith(part) for part in left_out):
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                        found.add(node.attr)
                    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                        found.add(node.value)
    return frozenset(found)


@pytest.mark.parametrize("key", sorted((KEYS | OF_PARTS) - AT_READING - DOCUMENTS))
def test_a_key_of_a_workflow_file_is_used_or_validate_says_that_it_is_not(key: str) -> None:
    if key == "settings":
        pasted = "actions: { a: { type: script, script: 'echo {{ input.x }}' } }\n"
        assert not load(pasted).errors
        assert load(pasted + "settings: { unsafe_templates: refuse }").errors
    elif key in WITHOUT:
        text, said = WITHOUT[key]
        assert any(said in problem.message for problem in load(text).problems)
    else:
        used = attributes_read("engine/spec")
        assert RENAMED.get(key, key) in used or key in used


# -- settings ------------------------------------------------------------------------------------

SAID_BY_DOCTOR = {"libraries", "worker_token"}


def settings_of(kind: Any) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        yield field.name


PARTS = [
    thing
    for module in (config, worker_config)
    for thing in vars(module).values()
    if dataclasses.is_dataclass(thing) and thing.__module__ == module.__name__
]
SETTINGS = sorted({name for part in PARTS for name in settings_of(part)} - {"worker"})


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_read_or_doctor_says_that_it_is_not(name: str) -> None:
    if name in SAID_BY_DOCTOR:
        health = (ROOT / "console" / "health.py").read_text(encoding="utf-8")
        assert f'"{name}"' in health
    else:
        assert name in attributes_read("engine/settings")


# -- environment variables -----------------------------------------------------------------------

DOCUMENTED = sorted(
    {
        name
        for page in ("guides/authoring.md", "guides/inputs.md", "reference/configuration.md")
        for name in re.findall(
            r"\bSTROEM_(?!INPUT_(?!FILE))[A-Z]+(?:_[A-Z]+)*\b", (ROOT / "docs" / page).read_text()
        )
    }
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_variable_is_known_to_the_code(name: str) -> None:
    files = (path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    assert any(name in path.read_text(encoding="utf-8") for path in files)


# -- the chart -----------------------------------------------------------------------------------

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
