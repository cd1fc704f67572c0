"""The policy for pods: default protections, and what of an author's manifest is refused. Checks the
merged pod, not the override."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runners.pod.allowed import INIT_CONTAINER, OUR_LABELS, OUR_PREFIX, STEP_CONTAINER, PodPolicy
from runners.pod.judge import Judge

__all__ = [
    "INIT_CONTAINER",
    "OUR_LABELS",
    "OUR_PREFIX",
    "STEP_CONTAINER",
    "PodPolicy",
    "find_violations",
    "harden",
]


def harden(pod: Mapping[str, Any], policy: PodPolicy) -> dict[str, Any]:
    """A copy in which every container, including the author's, has default protections where it
    sets none."""
    hardened = dict(pod)
    if not isinstance(pod.get("spec"), Mapping):
        return hardened  # find_violations() reports it
    spec = dict(pod["spec"])
    for group in ("initContainers", "containers"):
        if isinstance(spec.get(group), list):
            spec[group] = [_harden_container(container, policy) for container in spec[group]]
    if "automountServiceAccountToken" not in spec:
        spec["automountServiceAccountToken"] = bool(spec.get("serviceAccountName"))
    hardened["spec"] = spec
    return hardened


def find_violations(
    pod: Mapping[str, Any], generated: Mapping[str, Any], policy: PodPolicy
) -> list[str]:
    """One sentence per violation in the merged `pod`; empty when it may be sent.

    `generated` is the pod before the author's manifest was merged into it: the platform's parts
    must be unchanged.
    """
    return list(Judge(policy, generated).judge(pod))


def _harden_container(container: Any, policy: PodPolicy) -> Any:
    if not isinstance(container, Mapping):
        return container
    context = container.get("securityContext")
    if context is None:
        context = {}
    if (
        isinstance(context, Mapping)
        and not policy.privilege_escalation
        and not context.get("privileged")
    ):
        context = {"allowPrivilegeEscalation": False, **context}
    return {**container, "securityContext": context} if context else dict(container)
