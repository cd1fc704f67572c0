"""What a pod is like by default, what the operator adds, and what an action asks of its container."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import AuthorError
from engine.orders import ContainerWishes, ImageWork, Resources, ScriptWork
from runners.pod.config import PodConfig
from runners.pod.manifest import build_plan
from runners.pod.status import is_kept
from tests.runners.pod.fake_checks import check_object
from tests.runners.pod.orders import build_pod_order

IMAGE = ImageWork("company/tool:v2")
OPERATOR: dict[str, Any] = {
    "metadata": {"labels": {"team": "data"}, "annotations": {"iam.example.com/role": "batch"}},
    "spec": {
        "serviceAccountName": "steps",
        "automountServiceAccountToken": True,
        "nodeSelector": {"pool": "batch"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "low",
        "runtimeClassName": "gvisor",
        "activeDeadlineSeconds": 3600,
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {"fsGroup": 2000},
        "initContainers": [{"name": "workspace-init", "resources": {"limits": {"memory": "1Gi"}}}],
        "containers": [
            {
                "name": "step",
                "imagePullPolicy": "Always",
                "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "2", "memory": "1Gi"}},
            }
        ],
    },
}


def configure(**section: Any) -> PodConfig:
    return PodConfig.from_section({"namespace": "stroem-jobs", **section}, owner="w")


def build(work: Any = None, config: PodConfig | None = None, **changes: Any) -> dict[str, Any]:
    plan = build_plan(build_pod_order(work, **changes), config or configure())
    for pod in (plan.pod, plan.open_pod):
        check_object("pods", "stroem-jobs", pod)
    spec: dict[str, Any] = plan.pod["spec"]
    return spec


def offences(spec: dict[str, Any]) -> Iterator[str]:
    """What the Pod Security Standard `restricted` objects to, for Kubernetes 1.29."""
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        name, own = container["name"], container.get("securityContext", {})
        context = {**spec.get("securityContext", {}), **own}
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield f"{name}: may be root"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: may escalate"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            yield f"{name}: keeps capabilities"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name}: no seccomp profile"
    for volume in spec.get("volumes", []):
        if not volume.keys() <= {
            "name",
            "emptyDir",
            "configMap",
            "secret",
            "persistentVolumeClaim",
        }:
            yield f"volume {volume['name']}"


@pytest.mark.parametrize("mode", ["readonly", "copy"])
def test_the_pods_of_scripts_are_restricted(mode: Any):
    assert list(offences(build(ScriptWork(code="true", workspace_mode=mode)))) == []


def test_an_operator_makes_the_pods_of_images_restricted_too():
    assert list(offences(build(IMAGE))) == ["step: may be root", "step: keeps capabilities"]
    context = {"runAsNonRoot": True, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]}}
    manifest = {"spec": {"containers": [{"name": "step", "securityContext": context}]}}
    assert list(offences(build(IMAGE, configure(manifest=manifest)))) == []


def test_our_own_container_has_requests_and_limits():
    (init,) = build()["initContainers"]
    for kind in ("requests", "limits"):
        assert init["resources"][kind].keys() == {"cpu", "memory"}


def test_the_operators_manifest_is_in_every_pod():
    spec = build(config=configure(manifest=OPERATOR))
    for key in ("nodeSelector", "tolerations", "priorityClassName", "runtimeClassName"):
        assert spec[key] == OPERATOR["spec"][key]
    assert spec["activeDeadlineSeconds"] == 3600
    (step,) = spec["containers"]
    assert step["imagePullPolicy"] == "Always"
    assert step["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["initContainers"][0]["resources"]["limits"]["memory"] == "1Gi"
    plan = build_plan(build_pod_order(), configure(manifest=OPERATOR))
    assert plan.pod["metadata"]["labels"]["team"] == "data"


def test_what_an_action_asks_for_goes_above_the_operators_defaults():
    config = configure(manifest=OPERATOR)
    (step,) = build(IMAGE, config, resources=Resources(memory="4Gi"))["containers"]
    assert step["resources"]["limits"] == {"cpu": "2", "memory": str(4 << 30)}
    manifest = {"spec": {"nodeSelector": {"pool": "gpu"}}}
    assert build(IMAGE, config, manifest=manifest)["nodeSelector"] == {"pool": "gpu"}


@pytest.mark.parametrize("value", ["runc", None])
def test_what_only_the_operator_may_set_cannot_be_changed_by_an_author(value: Any):
    manifest = {"spec": {"runtimeClassName": value}}
    with pytest.raises(AuthorError, match="runtimeClassName is set by the operator"):
        build(config=configure(manifest=OPERATOR), manifest=manifest)


def test_what_the_operator_may_is_still_forbidden_to_authors():
    host = {"name": "data", "hostPath": {"path": "/data"}}
    config = configure(manifest={"spec": {"volumes": [host]}})
    assert host in build(config=config)["volumes"]
    with pytest.raises(AuthorError, match="hostPath volumes are not allowed"):
        other = {"name": "data", "hostPath": {"path": "/etc"}}
        build(config=config, manifest={"spec": {"volumes": [other]}})


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"manifest": {"specs": {}}}, "'specs'; did you mean 'spec'"),
        ({"manifest": {"spec": []}}, "must have a mapping in `spec`"),
        ({"manifest": {"metadata": {"labels": {"stroem.io/job": "x"}}}}, "which is the platform's"),
        ({"manifest": {"spec": {"containers": [{"image": "x"}]}}}, "containers with names"),
        ({"manifest": {"spec": {"initContainers": {"a": 1}}}}, "containers with names"),
        ({"manifest": "x"}, "kubernetes.manifest must be a mapping"),
        ({"volumes": {"workspace": {"emptyDir": {}}}}, "cannot have a volume 'workspace'"),
        ({"volumes": {"data": "claim"}}, "must say what 'data' is"),
    ],
)
def test_a_wrong_default_is_refused_with_a_sentence(section: dict[str, Any], named: str):
    with pytest.raises(AuthorError, match=named):
        configure(**section)


# what an action says of its container


def wish(config: PodConfig | None = None, work: Any = IMAGE, **wishes: Any) -> dict[str, Any]:
    return build(work, config, container=ContainerWishes(**wishes))


def step_of(spec: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = spec["containers"][0]
    return step


def test_shared_memory_is_a_volume_in_memory():
    spec = wish(shm_bytes=1 << 30)
    (volume,) = spec["volumes"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": str(1 << 30)}
    assert step_of(spec)["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]


@pytest.mark.parametrize(
    ("user", "expected"),
    [("1000", (1000, None, True)), ("1000:50", (1000, 50, True)), ("0", (0, None, False))],
)
def test_a_user_is_given_by_number(user: str, expected: Any):
    context = step_of(wish(user=user))["securityContext"]
    assert (context["runAsUser"], context.get("runAsGroup"), context["runAsNonRoot"]) == expected


def test_a_script_that_asks_for_root_gets_what_root_needs():
    context = step_of(wish(work=ScriptWork(code="true"), user="0"))["securityContext"]
    assert context["runAsUser"] == 0
    assert "ALL" not in context["capabilities"]["drop"]


def test_a_user_by_name_is_refused():
    with pytest.raises(AuthorError, match="user 'build' must be numbers in a pod"):
        wish(user="build")


def test_a_platform_selects_nodes():
    assert wish(platform="linux/arm64")["nodeSelector"] == {
        "kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64",
    }  # fmt: skip
    with pytest.raises(AuthorError, match="linux/arm64"):
        wish(platform="arm64")


@pytest.mark.parametrize(
    ("pull", "policy"), [("missing", "IfNotPresent"), ("always", "Always"), ("never", "Never")]
)
def test_a_pull_policy_is_clusters_word_for_it(pull: Any, policy: str):
    assert step_of(wish(pull=pull))["imagePullPolicy"] == policy


def test_a_volume_that_the_operator_has_named_is_mounted():
    claim = {"persistentVolumeClaim": {"claimName": "models"}}
    spec = wish(configure(volumes={"models": claim}), volumes={"models": "/models:ro"})
    assert spec["volumes"] == [{"name": "models", **claim}]
    assert step_of(spec)["volumeMounts"] == [
        {"name": "models", "mountPath": "/models", "readOnly": True}
    ]


def test_a_volume_that_nobody_has_named_is_refused():
    with pytest.raises(AuthorError, match=r"volume 'data' is not .* has: models"):
        config = configure(volumes={"models": {"emptyDir": {}}})
        wish(config, volumes={"data": "/data"})


# failed pods that stay


def failed_pod(
    code: int = 3, finished: str = "2026-01-01T00:00:00Z", **meta: Any
) -> dict[str, Any]:
    ended = {"exitCode": code, "finishedAt": finished}
    status = {"containerStatuses": [{"name": "step", "state": {"terminated": ended}}]}
    annotations = {"stroem.io/keep-failed-seconds": "60"}
    return {"metadata": {"annotations": annotations, **meta}, "status": status}


NOON = 1767225600.0  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("pod", "now", "stays"),
    [
        (failed_pod(), NOON + 59, True),
        (failed_pod(), NOON + 61, False),
        (failed_pod(0), NOON, False),
        (failed_pod(annotations={}), NOON, False),
        (failed_pod(deletionTimestamp="now"), NOON, False),
    ],
)
def test_a_failed_pod_stays_as_long_as_it_says(pod: dict[str, Any], now: float, stays: bool):
    assert is_kept(pod, now) is stays
