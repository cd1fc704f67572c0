"""The policy for pods: default protections, and what of an author's manifest is refused. Checks the
merged pod, not the override."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.manifest import drop_nulls, merge
from runners.pod.allowed import (
    FILES_CONTAINER,
    INIT_CONTAINER,
    OUR_LABELS,
    OUR_PREFIX,
    STEP_CONTAINER,
    PodPolicy,
    as_list,
    as_object,
)
from runners.pod.judge import Judge

__all__ = [
    "FILES_CONTAINER",
    "INIT_CONTAINER",
    "OUR_LABELS",
    "OUR_PREFIX",
    "STEP_CONTAINER",
    "PodPolicy",
    "find_violations",
    "harden",
]
DROPPED = ("AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SYS_CHROOT")
_USER = 10001  # of our containers: nobody's in particular, and not root
_GROUPS = ("initContainers", "containers")
# of a pod's spec: null leaves them as they are
_KEPT = ("securityContext", "hostUsers", "enableServiceLinks", "automountServiceAccountToken")


def build_security() -> dict[str, Any]:
    """For images of others, which may need to begin as root."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": list(DROPPED)}}


def build_restricted() -> dict[str, Any]:
    """For containers of ours: what the Pod Security Standard `restricted` asks for."""
    return {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def keep_protections(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """`manifest` without the nulls that would remove protections in a merge."""
    kept = dict(manifest)
    if isinstance(manifest.get("spec"), Mapping):
        spec = kept["spec"] = _keep(manifest["spec"])
        for group in _GROUPS:
            if isinstance(spec.get(group), (list, tuple)):
                spec[group] = [
                    _keep(one) if isinstance(one, Mapping) else one for one in spec[group]
                ]
    return kept


def _keep(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in given.items() if key not in _KEPT or value is not None}
    if "securityContext" in found:
        found["securityContext"] = drop_nulls(found["securityContext"])
    return found


def add_defaults(generated: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of our own pod in which every container has default protections where the operator
    sets none."""
    spec = dict(generated["spec"])
    for group in _GROUPS:
        if group in spec:
            spec[group] = [_protect(each) for each in spec[group]]
    return {**generated, "spec": spec}


def _protect(container: Mapping[str, Any]) -> dict[str, Any]:
    context = as_object(container.get("securityContext"))
    defaults = {} if context.get("privileged") else build_security()
    return {**container, "securityContext": merge(defaults, context)}


def harden(
    pod: Mapping[str, Any], generated: Mapping[str, Any], policy: PodPolicy
) -> dict[str, Any]:
    """A copy of the merged pod in which every container, including the author's, has at least the
    protections that it has in `generated`, or the default ones, where the author sets none."""
    hardened = dict(pod)
    if not isinstance(pod.get("spec"), Mapping):
        return hardened  # find_violations() reports it
    spec = hardened["spec"] = dict(pod["spec"])
    for group in _GROUPS:
        if isinstance(spec.get(group), list):
            ours = {one["name"]: one for one in as_list(generated["spec"].get(group))}
            spec[group] = [_harden_container(each, policy, ours) for each in spec[group]]
    if "automountServiceAccountToken" not in spec:
        spec["automountServiceAccountToken"] = bool(spec.get("serviceAccountName"))
    return hardened


def find_violations(
    pod: Mapping[str, Any], generated: Mapping[str, Any], policy: PodPolicy
) -> list[str]:
    """One sentence per violation in the merged `pod`; empty when it may be sent.

    `generated` is the pod before the author's manifest was merged into it: the platform's parts
    must be unchanged.
    """
    return list(Judge(policy, generated).judge(pod))


def _harden_container(
    container: Any, policy: PodPolicy, ours: Mapping[str, Mapping[str, Any]]
) -> Any:
    if not isinstance(container, Mapping):
        return container
    name = container.get("name")
    own = ours.get(name) if isinstance(name, str) else None
    given = container.get("securityContext", {})
    if not isinstance(given, Mapping) or given.get("privileged"):
        return container  # either refused, or allowed to have all
    floor = build_security() if own is None else own["securityContext"]
    context = merge(floor, given)
    capabilities = context.get("capabilities")
    if isinstance(capabilities, Mapping):
        least = as_list(as_object(floor.get("capabilities")).get("drop"))
        context["capabilities"] = _drop_at_least(least, capabilities, policy)
    return {**container, "securityContext": context}


def _drop_at_least(
    least: list[str], capabilities: Mapping[str, Any], policy: PodPolicy
) -> Mapping[str, Any]:
    """Add to what is dropped, except what the operator allows to add."""
    dropped = capabilities.get("drop", [])
    if not isinstance(dropped, list):
        return capabilities  # refused
    granted = [one for one in as_list(capabilities.get("add")) if one in [*policy.capabilities]]
    both: list[Any] = []
    for one in (*least, *dropped):
        if one not in granted and one not in both:
            both.append(one)
    return {**capabilities, "drop": ["ALL"] if "ALL" in both else both}
