"""What a manifest reaches in the cluster: only what the operator names. And what it cannot take off a
pod: its protections."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from engine.errors import AuthorError
from engine.orders import ImageWork, ScriptWork
from runners.pod.config import PodConfig
from runners.pod.manifest import build_plan
from runners.pod.policy import PodPolicy
from tests.runners.pod.orders import build_pod_order

IMAGE, SCRIPT = ImageWork("node:20", cmd="npm test"), ScriptWork(code="true")
PLACES = ("step", "side", "before")
ALLOWED = {
    "allow": {
        "secrets": ["db-*"],
        "config_maps": ["db-*"],
        "service_accounts": ["db-*"],
        "persistent_volume_claims": ["db-*"],
    }
}
ESCAPES: tuple[Any, ...] = (
    {"securityContext": None},
    {"securityContext": {}},
    {"securityContext": {"capabilities": None}},
    {"securityContext": {"capabilities": {}}},
    {"securityContext": {"capabilities": {"drop": []}}},
    {"securityContext": {"capabilities": {"drop": None}}},
    {"securityContext": {"capabilities": {"drop": [None]}}},
    {"securityContext": {"capabilities": {"drop": ["KILL"]}}},
    {"securityContext": {"allowPrivilegeEscalation": None}},
    {"securityContext": {"runAsNonRoot": None, "runAsUser": None, "seccompProfile": None}},
    {},
)


def make(given: Any, work: Any = IMAGE, **section: Any) -> dict[str, Any]:
    config = PodConfig.from_section({"namespace": "jobs", **section}, owner="w")
    return build_plan(build_pod_order(work, manifest=given), config).pod


def container(place: str, **fields: Any) -> dict[str, Any]:
    group = "initContainers" if place == "before" else "containers"
    image = {} if place == "step" else {"image": "busybox"}
    return {"spec": {group: [{"name": place, **image, **fields}]}}


def volume(**source: Any) -> dict[str, Any]:
    return {"spec": {"volumes": [{"name": "extra", **source}]}}


def references(name: Any) -> list[dict[str, Any]]:
    """Every way to an object of this name that a manifest has."""
    found = []
    for place in PLACES:
        for kind in ("secret", "configMap"):
            key = {"name": "X", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": "a"}}}
            found += [
                container(place, env=[key]),
                container(place, env=[{"name": "Y", "value": "1"}, key]),
                container(place, envFrom=[{f"{kind}Ref": {"name": name}}]),
                container(place, envFrom=[{"prefix": "P_", f"{kind}Ref": {"name": name}}]),
            ]
    projected = [{"secret": {"name": name}}, {"configMap": {"name": name}}]
    return [
        *found,
        volume(secret={"secretName": name}),
        volume(secret={"secretName": name, "optional": True}),
        volume(configMap={"name": name}),
        volume(persistentVolumeClaim={"claimName": name}),
        volume(persistentVolumeClaim={"claimName": name, "readOnly": True}),
        *(volume(projected={"sources": [one]}) for one in projected),
        volume(projected={"sources": [{"downwardAPI": {"items": []}}, projected[0]]}),
        {"spec": {"serviceAccountName": name}},
        {"spec": {"serviceAccount": name}},
        {"spec": {"serviceAccountName": name, "automountServiceAccountToken": True}},
        {"spec": {"imagePullSecrets": [{"name": name}]}},
    ]


@pytest.mark.parametrize("name", ["stroem", "default", "db", "xdb-1", "DB-1"])
@pytest.mark.parametrize("section", [{}, ALLOWED], ids=["nothing-named", "others-named"])
def test_no_way_leads_to_what_the_operator_did_not_name(name: str, section: Any) -> None:
    for manifest, work in itertools.product(references(name), (IMAGE, SCRIPT)):
        with pytest.raises(AuthorError, match=f"'{name}' is not allowed: the worker's"):
            make(manifest, work, **section)


def test_what_the_operator_names_by_pattern_can_be_used() -> None:
    for manifest in references("db-1"):
        make(manifest, **ALLOWED)
    for manifest in references("db-1"):
        with pytest.raises(AuthorError):
            make(manifest)


def test_not_even_a_pattern_for_all_names_the_secret_of_another_attempt() -> None:
    for manifest in references("stroem-other-step"):
        if "ecret" in str(manifest):
            with pytest.raises(AuthorError, match="belongs to the platform"):
                make(manifest, allow={"secrets": ["*"], "service_accounts": ["*"]})


@pytest.mark.parametrize(
    "manifest",
    [
        volume(secret={}),
        volume(secret="stroem"),
        volume(configMap={"items": []}),
        volume(persistentVolumeClaim={}),
        volume(persistentVolumeClaim="data"),
        volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}),
        volume(projected={"sources": [{"clusterTrustBundle": {"name": "x", "path": "t"}}]}),
        volume(projected={"sources": [{"secret": {}}]}),
        *(
            volume(ephemeral={"volumeClaimTemplate": {"spec": {key: value}}})
            for key, value in (
                ("dataSource", {"kind": "PersistentVolumeClaim", "name": "data"}),
                ("dataSourceRef", {"kind": "VolumeSnapshot", "name": "data"}),
                ("volumeName", "pv-1"),
                ("selector", {"matchLabels": {"a": "b"}}),
            )
        ),
        container("step", env=[{"name": "X", "valueFrom": {"secretKeyRef": "stroem"}}]),
        container("step", env=[{"name": "X", "valueFrom": {"fileKeyRef": {"path": "x"}}}]),
        container("step", env=[{"name": "X", "valuefrom": {"secretKeyRef": {"name": "x"}}}]),
        container("side", envFrom=[{"secretRef": {}}]),
        container("side", envFrom=[{"otherRef": {"name": "x"}}]),
        {"spec": {"imagePullSecrets": [{}]}},
        {"spec": {"automountServiceAccountToken": True}},
    ],
)
def test_a_reference_that_says_less_or_more_is_refused_too(manifest: dict[str, Any]) -> None:
    with pytest.raises(AuthorError, match="Pod manifest override rejected"):
        make(manifest, **ALLOWED)


@pytest.mark.parametrize("escape", ESCAPES, ids=str)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("work", [IMAGE, SCRIPT], ids=["image", "script"])
def test_nothing_that_a_manifest_leaves_empty_takes_a_protection_off(
    work: Any, place: str, escape: dict[str, Any]
) -> None:
    plain = make(None, work)["spec"]["containers"][0]["securityContext"]
    spec = make(container(place, **escape), work)["spec"]
    assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    for one in (*spec["containers"], *spec.get("initContainers", [])):
        context = one["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        dropped = set(context["capabilities"]["drop"])
        assert dropped >= {"ALL"} or dropped >= {"MKNOD", "NET_RAW", "SETFCAP", "SYS_CHROOT"}
        if one["name"] == "step":
            assert dropped >= set(plain["capabilities"]["drop"])
            rest = {key: value for key, value in plain.items() if key != "capabilities"}
            assert {key: context.get(key) for key in rest} == rest


@pytest.mark.parametrize(
    "spec",
    [
        {"securityContext": None},
        {"securityContext": {"seccompProfile": None}},
        {"enableServiceLinks": None},
        {"automountServiceAccountToken": None},
        {"hostUsers": None},
    ],
)
def test_nor_off_the_pod(spec: dict[str, Any]) -> None:
    operators = {"spec": {"hostUsers": False, "securityContext": {"runAsNonRoot": True}}}
    assert make({"spec": spec}, manifest=operators) == make(None, manifest=operators)


def test_what_the_operator_makes_stricter_stays_so() -> None:
    strict = {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    operators = {"spec": {"containers": [{"name": "step", "securityContext": strict}]}}
    for escape in ESCAPES:
        pod = make(container("step", **escape), manifest=operators)
        context = pod["spec"]["containers"][0]["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("place", PLACES)
def test_the_operator_may_allow_an_exception(place: str) -> None:
    policy = {"capabilities": ["NET_RAW"], "privilege_escalation": True}
    wish = {"capabilities": {"add": ["NET_RAW"]}, "allowPrivilegeEscalation": True}
    manifest = container(place, securityContext=wish)
    with pytest.raises(AuthorError):
        make(manifest)
    spec = make(manifest, allow=policy)["spec"]
    (context,) = (
        one["securityContext"]
        for one in (*spec["containers"], *spec.get("initContainers", []))
        if one["name"] == place
    )
    assert context["capabilities"]["add"] == ["NET_RAW"]
    assert "NET_RAW" not in context["capabilities"]["drop"]
    assert "MKNOD" in context["capabilities"]["drop"]
    assert context["allowPrivilegeEscalation"] is True


def test_by_default_a_worker_allows_nothing() -> None:
    assert PodConfig.from_section({"namespace": "jobs"}, owner="w").policy == PodPolicy()
    assert not PodPolicy().secrets and not PodPolicy().service_accounts
