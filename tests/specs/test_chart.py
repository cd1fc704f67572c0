"""The chart renders to what a cluster takes and to settings that Stroem knows; wrong values are
refused before anything is installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from runners.pod.config import PodConfig
from stroem_project import config
from tests.specs.chart import (
    CHART,
    GIVEN,
    ROOT,
    VARIANTS,
    WORKLOADS,
    helm,
    only,
    pods,
    refusal,
    rendered,
    worker_file,
)
from workers import config as worker_config

pytestmark = pytest.mark.helm
PODS = ("--set", "worker.kubernetes.enabled=true,worker.kubernetes.namespace=stroem-jobs")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_chart_renders_to_valid_kubernetes_objects(variant: str, tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(rendered(*VARIANTS[variant])), encoding="utf-8")

    validate = Path(sys.executable).with_name("kubernetes-validate")
    answer = subprocess.run(
        [str(validate), "--strict", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_chart_passes_its_linter() -> None:
    answer = helm("lint", str(CHART), *GIVEN)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("missing", ["STROEM__DB__URL", "STROEM__BROKER__URL", "STROEM_KEYS"])
def test_the_chart_has_no_default_for_a_secret(missing: str) -> None:
    needed = {"STROEM__DB__URL", "STROEM__BROKER__URL", "STROEM_KEYS"}
    given = [part for name in needed - {missing} for part in ("--set", f"secretEnv.{name}=x")]

    assert missing in refusal(*given)


def test_the_server_settings_of_the_chart_are_settings_that_stroem_knows(tmp_path: Path) -> None:
    documents = rendered(
        *GIVEN,
        "--set",
        "server.config.workspaces.ops.type=folder,server.config.workspaces.ops.path=/w",
    )
    file = tmp_path / "server-config.yaml"
    file.write_text(
        only(documents, "ConfigMap", "stroem-server")["data"]["server-config.yaml"],
        encoding="utf-8",
    )

    loaded = config.load({"STROEM_CONFIG": str(file)})

    assert set(loaded.workspaces) == {"ops"}


def test_the_switches_give_the_worker_its_section_its_tag_and_its_rights(tmp_path: Path) -> None:
    documents = rendered(*VARIANTS["everything"])
    file = tmp_path / "worker-config.yaml"
    file.write_text(worker_file(documents), encoding="utf-8")

    settings = worker_config.load(file, {}, data_dir=tmp_path)

    assert settings.tags == ("docker", "kubernetes")
    assert settings.kubernetes and settings.kubernetes["namespace"] == "stroem-jobs"
    assert settings.docker and settings.docker["host"] == "tcp://127.0.0.1:2376"
    assert settings.runner_image == "registry.example.com/runner:1.2.3"
    roles = {one["metadata"]["namespace"] for one in documents if one["kind"] == "Role"}
    assert roles == {"stroem-jobs"}


def test_a_process_for_agents_runs_only_if_there_is_a_provider(tmp_path: Path) -> None:
    assert "agents" not in pods(rendered("--set", "existingSecret=stroem"))
    documents = rendered(*GIVEN, "--set", "agents.extraEnv[0].name=KEY,agents.extraEnv[0].value=k")
    (container,) = pods(documents)["agents"]["spec"]["containers"]
    given = {one["name"]: one for one in container["env"]}
    assert container["args"][0] == "agents" and given["KEY"]["value"] == "k"
    assert "STROEM_ADMIN_PASSWORD" not in given and "envFrom" not in container
    file = tmp_path / "server-config.yaml"
    data = only(documents, "ConfigMap", "stroem-server")["data"]
    file.write_text(data["server-config.yaml"], encoding="utf-8")
    assert set(config.load({"STROEM_CONFIG": str(file)}).agents.providers) == {"claude"}


def test_a_worker_without_pods_has_no_rights_and_no_token_in_the_cluster() -> None:
    documents = rendered(*GIVEN)
    assert not [one for one in documents if one["kind"] in {"Role", "RoleBinding"}]
    pod = only(documents, "Deployment", "stroem-worker")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False


def test_the_engine_beside_a_worker_sees_the_workspaces_under_the_same_path() -> None:
    pod = pods(rendered(*VARIANTS["docker runner"]))["worker"]["spec"]
    mounts = {
        container["name"]: {
            mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]
        }
        for container in pod["initContainers"] + pod["containers"]
    }
    assert mounts["dind"]["data"] == mounts["worker"]["data"]


# --- values


def levels(schema: dict[str, Any], values: Any, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each closed level of the schema, with the keys in which schema and values differ."""
    properties = schema.get("properties")
    if properties is None:
        return
    assert schema["additionalProperties"] is False, path
    yield path, set(properties) ^ set(values)
    for key, inner in properties.items():
        yield from levels(inner, values.get(key), f"{path}.{key}")


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    del schema["properties"]["global"], schema["properties"]["ingress"]["properties"]["hosts"]
    del values["ingress"]["hosts"]
    of_pods = schema["properties"]["worker"]["properties"]["kubernetes"]["properties"]
    del of_pods["networkPolicy"]["properties"]  # keys of Kubernetes' own, empty by default

    found = {path: keys for path, keys in levels(schema, values) if keys}

    assert found == {}


def test_the_guide_lists_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    guide = (ROOT / "docs" / "guides" / "kubernetes.md").read_text(encoding="utf-8")
    rows = guide.split("| Value | Default |")[1].split("\n\n")[0].splitlines()[2:]
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    for key, value in values.items():
        for name in value if isinstance(value, dict) else ():
            known = {key, f"{key}.{name}"} | ({f"*.{name}"} if key in WORKLOADS else set())
            assert known & listed, f"{key}.{name}"
        assert key in WORKLOADS or isinstance(value, dict) or key in listed, key
    assert {name.split(".")[0] for name in listed} - {"*"} <= set(values)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("sever.replicas=1", "'sever' not allowed"),
        ("worker.replica=1", "'replica' not allowed"),
        ("rbac.namespaces={team-a}", "'namespaces' not allowed"),
        ("worker.podDisruptionBudget.minAvailable=1", "'minAvailable' not allowed"),
        ("worker.replicas=two", "/worker/replicas': got string, want integer"),
        ("worker.kubernetes.enabled=yes", "/worker/kubernetes/enabled': got string, want boolean"),
        ("worker.kubernetes.namespace=Jobs", "/worker/kubernetes/namespace'"),
        ("worker.workspaceCache.sizeLimit=big", "/worker/workspaceCache/sizeLimit'"),
        ("worker.terminationGracePeriodSeconds=10", "minimum: got 10, want 30"),
        ("server.logLevel=info", "/server/logLevel'"),
        ("server.service.port=70000", "/server/service/port'"),
        ("server.baseUrl=s.example.com", "/server/baseUrl'"),
        ("imagePullSecrets={registry}", "/imagePullSecrets/0': got string, want object"),
        ("scheduler.extraEnv[0].value=a", "/scheduler/extraEnv/0': missing property 'name'"),
        ("secretEnv.STROEM_ADMIN_PASSWORD=1234567890", "got number, want string"),
        ("ingress.hosts[0].paths={/}", "missing property 'host'"),
    ],
)
def test_a_value_that_is_wrong_is_refused_with_its_path(value: str, complaint: str) -> None:
    assert complaint in refusal(*GIVEN, "--set", value)


# --- drains


@pytest.mark.parametrize(
    ("values", "drain_s"),
    [
        ("", 270),
        ("worker.terminationGracePeriodSeconds=36000", 35970),
        ("worker.terminationGracePeriodSeconds=40", 20),
        ("worker.config.drain_secs=5", 5),
        ("worker.config.drain_secs=0", 0),
    ],
)
def test_steps_get_the_grace_of_the_pod_to_end(values: str, drain_s: int, tmp_path: Path) -> None:
    file = tmp_path / "worker-config.yaml"
    file.write_text(worker_file(rendered(*GIVEN, "--set", values)), encoding="utf-8")

    assert worker_config.load(file, {}, data_dir=tmp_path).drain_secs == drain_s


def test_a_drain_that_would_outlast_the_pod_is_refused() -> None:
    said = refusal(*GIVEN, "--set", "worker.config.drain_secs=271")
    assert "worker.terminationGracePeriodSeconds (300) leaves 270" in said


@pytest.mark.parametrize("name", ["server", "worker"])
def test_a_disruption_budget_lets_the_only_pod_go(name: str) -> None:
    documents = rendered(
        *GIVEN, "--set", f"{name}.replicas=1,{name}.podDisruptionBudget.enabled=true"
    )
    budget = only(documents, "PodDisruptionBudget", f"stroem-{name}")["spec"]
    assert "minAvailable" not in budget
    assert budget["maxUnavailable"] == 1


# --- namespaces and rights


def test_the_chart_creates_the_namespace_of_its_pods_when_it_is_told_to() -> None:
    documents = rendered(
        *GIVEN, *PODS,
        "--set", "worker.kubernetes.createNamespace=true,worker.kubernetes.namespaceLabels.a=b",
    )  # fmt: skip
    namespace = only(documents, "Namespace", "stroem-jobs")
    assert namespace["metadata"]["labels"]["a"] == "b"
    role = only(documents, "Role", "stroem-worker")
    assert role["metadata"]["namespace"] == "stroem-jobs"


def offered(*values: str) -> list[str]:
    found: list[str] = yaml.safe_load(worker_file(rendered(*GIVEN, *values)))["tags"]
    return found


def test_a_worker_that_starts_pods_runs_no_steps_beside_its_credentials() -> None:
    assert offered() == ["script"]
    assert offered(*PODS) == ["kubernetes"]
    assert offered(*PODS, "--set", "worker.config.tags={script}") == ["script", "kubernetes"]


@pytest.mark.parametrize("values", ["worker.kubernetes.namespace=platform", "worker.kubernetes.namespace=", "worker.kubernetes.namespace=platform,worker.kubernetes.createNamespace=true"])  # fmt: skip
def test_the_chart_runs_no_pods_beside_the_platforms_secret(values: str) -> None:
    pods_there = (*GIVEN, "--set", f"worker.kubernetes.enabled=true,{values}")
    said = refusal("--namespace", "platform", *pods_there)
    assert "Name another namespace in worker.kubernetes.namespace" in said
    assert "in platform, the release's own" in said
    allowed = rendered(*pods_there, "--set", "worker.kubernetes.allowReleaseNamespace=true")
    assert only(allowed, "Role", "stroem-worker")["metadata"]["namespace"] == "platform"


def test_the_namespace_of_steps_has_the_quota_and_the_policy_of_the_values() -> None:
    documents = rendered(*VARIANTS["everything"])
    quota = only(documents, "ResourceQuota", "stroem-steps")
    assert quota["spec"] == {"hard": {"pods": 50}}
    policy = only(documents, "NetworkPolicy", "stroem-steps")
    selector = {"matchLabels": {"app": "stroem-step"}}
    assert policy["spec"] == {"podSelector": selector, "policyTypes": ["Ingress"]}
    assert {one["metadata"]["namespace"] for one in (quota, policy)} == {"stroem-jobs"}


def test_no_right_of_a_worker_reads_a_secret_or_reaches_the_releases_namespace() -> None:
    documents = rendered(*VARIANTS["everything"])
    for role in (one for one in documents if one["kind"] == "Role"):
        assert role["metadata"]["namespace"] == "stroem-jobs"
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"]
            if "secrets" in rule["resources"]:
                assert not {"get", "watch", "update", "patch"} & set(rule["verbs"])
    assert not [one for one in documents if one["kind"].startswith("ClusterRole")]


@pytest.mark.parametrize("values", ["worker.kubernetes.createNamespace=false", "worker.kubernetes.namespace=platform,worker.kubernetes.allowReleaseNamespace=true,worker.kubernetes.createNamespace=true"])  # fmt: skip
def test_the_chart_creates_no_other_namespace(values: str) -> None:
    documents = rendered(*GIVEN, *PODS, "--set", values)
    assert not [one for one in documents if one["kind"] == "Namespace"]


class Cluster:
    """As much of an API server as helm asks before it installs anything."""

    def __init__(self, server: HTTPServer, folder: Path, *namespaces: str) -> None:
        self.namespaces = namespaces
        self.verbs: set[str] = set()
        self.kubeconfig = folder / "kubeconfig"
        server.expect_request(re.compile(".*")).respond_with_handler(self.answer)
        named = {"name": "c"}
        self.kubeconfig.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{**named, "cluster": {"server": server.url_for("")}}],
            "users": [{**named, "user": {"token": "t"}}],
            "contexts": [{**named, "context": {"cluster": "c", "user": "c"}}],
        }))  # fmt: skip

    def answer(self, request: Request) -> Response:
        self.verbs.add(request.method)
        kind = {"name": "namespaces", "namespaced": False, "kind": "Namespace", "verbs": ["get"]}
        known: dict[str, dict[str, Any]] = {
            "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [kind]},
        }
        for name in self.namespaces:
            body = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}
            known[f"/api/v1/namespaces/{name}"] = body
        missing = {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404}
        found = known.get(request.path)
        return Response(
            json.dumps(found or missing),
            status=200 if found else 404,
            content_type="application/json",
        )

    def install(self, *arguments: str) -> str:
        """What helm says: nothing can be installed here."""
        answer = helm(
            "install", "stroem", str(CHART), "--namespace", "platform",
            "--kubeconfig", str(self.kubeconfig), *GIVEN, *PODS, *arguments,
        )  # fmt: skip
        assert answer.returncode != 0
        return answer.stderr


@pytest.mark.parametrize("release", ["platform", "default"])
def test_a_missing_namespace_stops_the_installation_before_it_has_done_anything(
    release: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """Also where the namespace of the release is yet to be created."""
    cluster = Cluster(httpserver, tmp_path, release, "default")

    said = cluster.install()

    assert "There is no namespace stroem-jobs: create it, or set" in said
    assert cluster.verbs == {"GET"}


@pytest.mark.parametrize(
    ("there", "values"),
    [("stroem-jobs", ""), ("default", "worker.kubernetes.createNamespace=true")],
)
def test_a_namespace_that_is_there_or_will_be_stops_nothing(
    there: str, values: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    said = Cluster(httpserver, tmp_path, "platform", there).install("--set", values)

    assert "There is no namespace" not in said
    assert "unable to build kubernetes objects" in said  # it came this far


@pytest.mark.parametrize("may_read", [True, False])
def test_workers_may_read_why_a_pod_does_not_start(may_read: bool) -> None:
    documents = rendered(*GIVEN, *PODS, "--set", f"rbac.readEvents={str(may_read).lower()}")
    rules = only(documents, "Role", "stroem-worker")["rules"]
    verbs = [rule["verbs"] for rule in rules if "events" in rule["resources"]]
    assert verbs == ([["get", "list", "watch"]] if may_read else [])


def test_pods_of_steps_pull_their_images_with_the_same_secrets() -> None:
    pulls = ("--set", "imagePullSecrets[0].name=one,imagePullSecrets[1].name=two")
    section = yaml.safe_load(worker_file(rendered(*GIVEN, *PODS, *pulls)))["kubernetes"]
    assert section["image_pull_secrets"] == ["one", "two"]

    own = ("--set", "worker.config.kubernetes.image_pull_secrets={three}")
    section = yaml.safe_load(worker_file(rendered(*GIVEN, *PODS, *pulls, *own)))["kubernetes"]
    assert section["image_pull_secrets"] == ["three"]


def test_defaults_for_pods_of_steps_reach_the_worker() -> None:
    values = (
        "--set", "worker.kubernetes.manifest.spec.nodeSelector.pool=batch",
        "--set", "worker.kubernetes.volumes.models.persistentVolumeClaim.claimName=models",
        "--set", "worker.kubernetes.keepFailedSecs=600",
    )  # fmt: skip
    section = yaml.safe_load(worker_file(rendered(*GIVEN, *PODS, *values)))["kubernetes"]
    config = PodConfig.from_section(section, owner="w")
    assert config.manifest == {"spec": {"nodeSelector": {"pool": "batch"}}}
    assert config.volumes == {"models": {"persistentVolumeClaim": {"claimName": "models"}}}
    assert config.keep_failed_s == 600
    assert "specs" in refusal(*GIVEN, "--set", "worker.kubernetes.manifest.specs.x=y")


# --- what there is, and what stays


def test_the_scheduler_sees_the_workspaces_that_the_server_sees() -> None:
    own = ("--set", "scheduler.extraVolumes[0].name=more,scheduler.extraVolumeMounts[0].name=more")
    found = pods(rendered(*VARIANTS["everything"], *own))
    for name, volumes in (("server", {"flows"}), ("scheduler", {"flows", "more"})):
        spec = found[name]["spec"]
        assert volumes <= {volume["name"] for volume in spec["volumes"]}, name
        mounts = spec["containers"][0]["volumeMounts"]
        assert {"name": "flows", "mountPath": "/workspaces"} in mounts, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_stays_that_the_chart_has_made(variant: str) -> None:
    """Helm removes what belongs to the release; a hook does not."""
    for one in rendered(*VARIANTS[variant]):
        annotations = one["metadata"].get("annotations", {})
        assert annotations.get("helm.sh/resource-policy") != "keep"
        if "helm.sh/hook" in annotations:
            policies = annotations["helm.sh/hook-delete-policy"].split(",")
            assert "hook-succeeded" in policies, one["metadata"]["name"]
            if one["kind"] == "Job":
                assert one["spec"]["ttlSecondsAfterFinished"] <= 86400


@pytest.mark.parametrize("variant", ["defaults", "own secret"])
def test_the_migration_uses_nothing_that_comes_after_it(variant: str) -> None:
    documents = rendered(*VARIANTS[variant])
    hooks = [one for one in documents if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    early = {(one["kind"], one["metadata"]["name"]) for one in hooks}
    spec = pods(documents)["migrate"]["spec"]
    (source,) = spec["containers"][0]["envFrom"]
    secret = source["secretRef"]["name"]
    assert secret == "stroem" if variant == "defaults" else ("Secret", secret) in early
    maps = [one["configMap"]["name"] for one in spec["volumes"] if "configMap" in one]
    assert maps and all(("ConfigMap", name) in early for name in maps)


def test_nobody_asks_for_a_token_of_workers() -> None:
    assert "WORKER_TOKEN" not in json.dumps(rendered(*VARIANTS["everything"]))
