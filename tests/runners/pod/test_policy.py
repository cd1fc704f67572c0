"""What an author may ask of a pod, judged on the merged pod."""

from __future__ import annotations

import random
from typing import Any

import pytest

from engine.errors import AuthorError
from engine.manifest import merge
from engine.orders import ImageWork, ScriptWork
from runners.pod.config import PodConfig
from runners.pod.manifest import build_plan
from runners.pod.policy import PodPolicy
from tests.runners.pod.independent_check import find_forbidden, find_foreign, find_usurped
from tests.runners.pod.orders import CONFIG, build_pod_order

IMAGE = ImageWork("node:20", cmd="npm test")

SEED_MANIFESTS: list[dict[str, Any]] = [
    {
        "metadata": {"annotations": {"iam.amazonaws.com/role": "my-role"}},
        "spec": {"serviceAccountName": "my-sa"},
    },
    {
        "spec": {
            "containers": [
                {
                    "name": "step",
                    "resources": {
                        "requests": {"memory": "256Mi", "cpu": "500m"},
                        "limits": {"memory": "512Mi"},
                    },
                }
            ]
        }
    },
    {
        "spec": {
            "nodeSelector": {"gpu": "true"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        }
    },
    {
        "spec": {
            "containers": [
                {
                    "name": "postgres-sidecar",
                    "image": "postgres:16",
                    "env": [{"name": "POSTGRES_PASSWORD", "value": "test"}],
                }
            ]
        }
    },
]


# what the operator has named, so that authors may refer to it
NAMED = PodPolicy(
    service_accounts=frozenset({"my-*"}),
    secrets=frozenset({"database", "registry"}),
    config_maps=frozenset({"settings"}),
    persistent_volume_claims=frozenset({"data"}),
)


def merge_pod(manifest: Any, policy: PodPolicy | None = None, work: Any = IMAGE) -> dict[str, Any]:
    config = PodConfig(namespace="stroem-jobs", owner="worker-1", policy=policy or PodPolicy())
    return build_plan(build_pod_order(work, manifest=manifest), config).pod


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def step(**fields: Any) -> dict[str, Any]:
    return spec(containers=[{"name": "step", **fields}])


def sidecar(**fields: Any) -> dict[str, Any]:
    return spec(containers=[{"name": "side", "image": "busybox", **fields}])


def init(**fields: Any) -> dict[str, Any]:
    return spec(initContainers=[{"name": "before", "image": "busybox", **fields}])


def volume(**source: Any) -> dict[str, Any]:
    return spec(volumes=[{"name": "extra", **source}])


@pytest.mark.parametrize("manifest", SEED_MANIFESTS)
@pytest.mark.parametrize("work", [IMAGE, None], ids=["pod", "script"])
def test_every_documented_example_is_allowed(manifest: dict[str, Any], work: Any):
    assert find_forbidden(merge_pod(manifest, NAMED, work)) == []


EVERYDAY = [
    volume(emptyDir={"medium": "Memory"}),
    volume(configMap={"name": "settings"}),
    volume(secret={"secretName": "database"}),
    volume(persistentVolumeClaim={"claimName": "data"}),
    step(
        volumeMounts=[{"name": "extra", "mountPath": "/data"}], securityContext={"runAsUser": 1000}
    ),
    step(
        env=[
            {
                "name": "PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}},
            }
        ]
    ),
    spec(
        affinity={"nodeAffinity": {}}, priorityClassName="batch", securityContext={"fsGroup": 1000}
    ),
    spec(imagePullSecrets=[{"name": "registry"}], dnsPolicy="Default"),
    sidecar(readinessProbe={"httpGet": {"path": "/", "port": 80}}),
    {"metadata": {"labels": {"team": "data"}}},
]


@pytest.mark.parametrize("manifest", EVERYDAY)
def test_everyday_wishes_are_allowed(manifest: dict[str, Any]):
    merge_pod(manifest, NAMED)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (spec(hostNetwork=True), "spec.hostNetwork"),
    (spec(hostPID=True), "spec.hostPID"),
    (spec(hostIPC="yes"), "spec.hostIPC"),
    (spec(nodeName="node-1"), "spec.nodeName"),
    (spec(runtimeClassName="fast"), "spec.runtimeClassName"),
    (spec(ephemeralContainers=[{"name": "debug"}]), "spec.ephemeralContainers"),
    (spec(restartPolicy="Always"), "spec.restartPolicy"),
    (spec(priorityClassName="system-node-critical"), "spec.priorityClassName"),
    (spec(automountServiceAccountToken=True), "automountServiceAccountToken"),
    (spec(securityContext={"sysctls": [{"name": "net.ipv4.ip_forward", "value": "1"}]}), "sysctls"),
    (spec(securityContext={"seccompProfile": {"type": "Unconfined"}}), "seccompProfile"),
    (spec(hostNetwork=None, HostNetwork=True), "spec.HostNetwork"),
    (spec(containers=[{"name": "side", "image": "x"}, {"name": "side", "image": "y"}]), "step"),
    (step(securityContext={"privileged": True}), "privileged"),
    (step(securityContext={"privileged": "true"}), "privileged"),
    (
        sidecar(securityContext={"privileged": True}),
        "spec.containers[side].securityContext.privileged",
    ),
    (
        init(securityContext={"privileged": True}),
        "spec.initContainers[before].securityContext.privileged",
    ),
    (step(securityContext={"allowPrivilegeEscalation": True}), "allowPrivilegeEscalation"),
    (step(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}), "SYS_ADMIN"),
    (sidecar(securityContext={"capabilities": {"add": "ALL"}}), "ALL"),
    (step(securityContext={"procMount": "Unmasked"}), "procMount"),
    (step(volumeDevices=[{"name": "extra", "devicePath": "/dev/sda"}]), "volumeDevices"),
    (step(ports=[{"containerPort": 80, "hostPort": 80}]), "hostPort"),
    (sidecar(livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}}), "host"),
    (volume(hostPath={"path": "/"}), "hostPath"),
    (volume(hostPath={"path": "/var/run/docker.sock"}), "hostPath"),
    (volume(secret={"items": {"hostUsers": True}}), "hostUsers"),
    (step(ports={"volumes": []}), "spec.containers[step].ports"),
    (step(env=[{"name": {"a": 1}, "value": "x"}]), "spec.containers[step].env"),
    (step(env=[{"value": "x"}]), "spec.containers[step].env"),
    (
        spec(securityContext={"seccompProfile": {"type": "RuntimeDefault", "hostPath": "/"}}),
        "seccompProfile.hostPath",
    ),
    (volume(nfs={"server": "x", "path": "/"}), "nfs"),
    (volume(csi={"driver": "x"}), "csi"),
    (
        volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}),
        "serviceAccountToken",
    ),
    (volume(secret={"secretName": "stroem-other-step"}), "stroem-other-step"),
    (step(envFrom=[{"secretRef": {"name": "stroem-other-step"}}]), "stroem-other-step"),
    (
        step(
            env=[
                {
                    "name": "X",
                    "valueFrom": {"secretKeyRef": {"name": "stroem-other-step", "key": "a"}},
                }
            ]
        ),
        "stroem-other-step",
    ),
    ({"metadata": {"namespace": "kube-system"}}, "metadata.namespace"),
    ({"metadata": {"name": "other"}}, "metadata.name"),
    ({"metadata": {"ownerReferences": []}}, "ownerReferences"),
    ({"metadata": {"finalizers": ["x/y"]}}, "finalizers"),
    ({"metadata": {"labels": {"stroem.io/attempt": "other"}}}, "stroem.io/attempt"),
    ({"metadata": {"labels": {"stroem.io/owner": None}}}, "stroem.io/owner"),
    (
        {
            "metadata": {
                "annotations": {"container.apparmor.security.beta.kubernetes.io/step": "unconfined"}
            }
        },
        "apparmor",
    ),
    ({"kind": "Deployment"}, "kind"),
    ({"status": {"phase": "Running"}}, "status"),
    ({"spec": None}, "spec"),
    ({"spec": {"containers": None}}, "spec.containers"),
    ({"spec": {"volumes": {"a": 1}}}, "spec.volumes"),
]


@pytest.mark.parametrize(("manifest", "named"), REFUSED)
def test_what_reaches_beyond_the_pod_is_refused_with_its_path(manifest: dict[str, Any], named: str):
    with pytest.raises(AuthorError, match="Pod manifest override rejected: ") as refusal:
        merge_pod(manifest)
    assert named in str(refusal.value)


def test_the_container_that_holds_the_download_token_cannot_be_changed():
    manifest = spec(initContainers=[{"name": "workspace-init", "command": ["sh", "-c", "env"]}])
    with pytest.raises(AuthorError, match="workspace-init"):
        merge_pod(manifest, work=None)
    resources = {"limits": {"memory": "64Mi"}}
    pod = merge_pod(
        spec(initContainers=[{"name": "workspace-init", "resources": resources}]), work=None
    )
    assert pod["spec"]["initContainers"][0]["resources"]["limits"]["memory"] == "64Mi"


@pytest.mark.parametrize(
    ("policy", "manifest"),
    [
        (PodPolicy(privileged=True), step(securityContext={"privileged": True})),
        (
            PodPolicy(privilege_escalation=True),
            step(securityContext={"allowPrivilegeEscalation": True}),
        ),
        (
            PodPolicy(capabilities=frozenset({"SYS_PTRACE"})),
            step(securityContext={"capabilities": {"add": ["SYS_PTRACE"]}}),
        ),
        (PodPolicy(host_namespaces=True), spec(hostNetwork=True)),
        (PodPolicy(host_paths=("/data",)), volume(hostPath={"path": "/data/sets"})),
        (PodPolicy(fields=frozenset({"runtimeClassName"})), spec(runtimeClassName="gvisor")),
        (PodPolicy(service_accounts=frozenset({"my-sa"})), spec(serviceAccountName="my-sa")),
        (PodPolicy(secrets=frozenset({"database"})), volume(secret={"secretName": "database"})),
    ],
)
def test_the_operator_may_allow_more(policy: PodPolicy, manifest: dict[str, Any]):
    merge_pod(manifest, policy)


@pytest.mark.parametrize(
    ("policy", "manifest"),
    [
        (PodPolicy(host_paths=("/data",)), volume(hostPath={"path": "/data/../etc"})),
        (PodPolicy(host_paths=("/data",)), volume(hostPath={"path": "/database"})),
        (
            PodPolicy(capabilities=frozenset({"SYS_PTRACE"})),
            step(securityContext={"capabilities": {"add": ["sys_admin"]}}),
        ),
        (PodPolicy(service_accounts=frozenset({"my-sa"})), spec(serviceAccountName="admin")),
        (PodPolicy(service_accounts=frozenset({"my-sa"})), spec(serviceAccount="admin")),
        (PodPolicy(secrets=frozenset({"database"})), volume(secret={"secretName": "other"})),
    ],
)
def test_what_the_operator_allows_allows_nothing_else(policy: PodPolicy, manifest: dict[str, Any]):
    with pytest.raises(AuthorError):
        merge_pod(manifest, policy)


def test_an_authors_own_container_gets_the_protections_it_does_not_speak_about():
    pod = merge_pod(sidecar())
    assert pod["spec"]["containers"][1]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SYS_CHROOT"]},
    }
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_wiping_a_protection_with_null_brings_it_back():
    pod = merge_pod(step(securityContext=None))
    assert pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


def test_a_named_service_account_brings_its_token():
    pod = merge_pod(spec(serviceAccountName="my-sa"), NAMED)
    assert pod["spec"]["automountServiceAccountToken"] is True


# 5,000 hostile manifests: whatever the policy lets pass, a second opinion lets pass too

_SEEDS = [*SEED_MANIFESTS, *EVERYDAY, *(manifest for manifest, _ in REFUSED)]
_NASTY: list[Any] = [
    None,
    True,
    False,
    "true",
    1,
    [],
    {},
    "ALL",
    ["ALL"],
    "/",
    {"path": "/"},
    "Unconfined",
    "Never",
]
_KEYS = [
    "hostNetwork", "hostPID", "privileged", "Privileged", "capabilities", "add", "hostPath", "securityContext",
    "allowPrivilegeEscalation", "containers", "initContainers", "ephemeralContainers", "volumes", "name", "procMount",
    "seccompProfile", "type", "hostPort", "ports", "nodeName", "ownerReferences", "namespace", "restartPolicy",
    "annotations", "labels", "csi", "serviceAccountToken", "projected", "sources", "volumeDevices", "hostUsers",
]  # fmt: skip


def _mutate(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """A relative of `value`: parts swapped for nasty ones, foreign keys planted, lists doubled."""
    if rng.random() < 0.04:
        return rng.choice(_NASTY)
    if isinstance(value, dict):
        grown = {
            key: _mutate(item, rng, depth + 1) for key, item in value.items() if rng.random() > 0.05
        }
        while depth < 6 and rng.random() < 0.35:
            planted = rng.choice(_NASTY) if rng.random() < 0.6 else _dig(rng.choice(_SEEDS), rng)
            grown[rng.choice(_KEYS)] = planted
        return grown
    if isinstance(value, list):
        grown_list = [_mutate(item, rng, depth + 1) for item in value]
        if rng.random() < 0.15:
            grown_list.append(_dig(rng.choice(_SEEDS), rng))
        return grown_list
    return value


def _dig(value: Any, rng: random.Random) -> Any:
    while isinstance(value, (dict, list)) and value and rng.random() < 0.7:
        value = rng.choice(list(value.values()) if isinstance(value, dict) else value)
    return value


Leaks = list[tuple[Any, list[str]]]


def _pass_through(size: int, seed: int, policy: PodPolicy | None = None) -> tuple[int, Leaks]:
    """How many of so many hostile manifests passed, and those of them that should not have."""
    rng = random.Random(seed)
    works = (IMAGE, ScriptWork(code="true"))
    expected = [merge_pod(None, work=work) for work in works]
    passed, leaks = 0, []
    for number in range(size):
        manifest = _mutate(rng.choice(_SEEDS), rng)
        if not isinstance(manifest, dict):
            continue
        try:
            pod = merge_pod(manifest, policy, works[number % 2])
        except AuthorError:
            continue
        passed += 1
        if (
            forbidden := find_forbidden(pod)
            + find_foreign(pod)
            + find_usurped(pod, expected[number % 2])
        ):
            leaks.append((manifest, forbidden))
    return passed, leaks


@pytest.mark.long
def test_no_hostile_manifest_passes_that_a_second_check_forbids():
    passed, leaks = _pass_through(5000, seed=20)
    assert leaks == []
    assert passed > 300, "the generator must also make manifests that pass, or it proves nothing"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 108))
def test_none_of_many_more_hostile_manifests_passes_either(seed: int):
    passed, leaks = _pass_through(25_000, seed)
    assert leaks == []
    assert passed > 1500


@pytest.mark.long
@pytest.mark.parametrize(
    "lax",
    [
        PodPolicy(privileged=True),
        PodPolicy(host_namespaces=True),
        PodPolicy(host_paths=("/",)),
        PodPolicy(capabilities=frozenset({"ALL", "SYS_ADMIN"})),
    ],
)
def test_the_second_check_would_notice_a_policy_that_lets_things_pass(lax: PodPolicy):
    assert _pass_through(1500, 21, lax)[1]


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        (
            spec(initContainers=[{"name": "workspace-init", "image": "mine"}]),
            "spec.initContainers.workspace-init",
        ),
        ({"metadata": {"labels": {"stroem.io/attempt": "x"}}}, "stroem.io/attempt"),
        ({"metadata": {"labels": {"app": "x"}}}, "app"),
        (volume(secret={"secretName": "stroem-other-step"}), "spec.volumes.*.secret.secretName"),
        (volume(configMap={"name": "settings"}), "spec.volumes.*.configMap.name"),
        (spec(serviceAccountName="stroem"), "spec.serviceAccountName"),
        (
            step(envFrom=[{"secretRef": {"name": "stroem-other-step"}}]),
            "spec.containers.*.envFrom.*.secretRef.name",
        ),
        (
            sidecar(readinessProbe={"httpGet": {"host": "10.0.0.1", "port": 80}}),
            "spec.containers.*.readinessProbe.httpGet.host",
        ),
    ],
)
def test_the_second_check_sees_what_is_the_platforms_own(manifest: dict[str, Any], named: str):
    expected = merge_pod(None, work=ScriptWork(code="true"))
    pod = merge(expected, manifest)
    assert find_forbidden(pod) + find_foreign(pod) + find_usurped(pod, expected) == [named]


def test_a_plan_is_made_for_the_default_configuration():
    assert build_plan(build_pod_order(), CONFIG).name == "stroem-a1b2c3-step"
