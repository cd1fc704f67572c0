"""What the author of a workspace may set in a pod: the fields by name, and what the operator adds.

An allow list: fields not listed here are refused with their path, including those of later
Kubernetes versions. The operator extends the list in the worker's configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

INIT_CONTAINER = "workspace-init"
STEP_CONTAINER = "step"
FILES_CONTAINER = "stroem-artifacts"
OUR_PREFIX = "stroem-"  # names of the secrets that the worker creates for attempts
OUR_LABELS = "stroem.io/"

Found = Iterator[str]


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


METADATA = frozenset({"name", "namespace", "labels", "annotations"})
SPEC = words(
    """activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig
    dnsPolicy enableServiceLinks
    hostAliases hostname hostUsers imagePullSecrets initContainers nodeSelector
    priorityClassName resources
    restartPolicy securityContext serviceAccount serviceAccountName setHostnameAsFQDN
    shareProcessNamespace subdomain
    terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes hostNetwork
    hostPID hostIPC"""
)
CONTAINER = words(
    """name image imagePullPolicy command args env envFrom workingDir resources resizePolicy
    volumeMounts ports
    livenessProbe readinessProbe startupProbe lifecycle securityContext restartPolicy
    terminationMessagePath
    terminationMessagePolicy stdin stdinOnce tty"""
)
POD_SECURITY = words(
    """runAsUser runAsGroup runAsNonRoot fsGroup fsGroupChangePolicy supplementalGroups
    supplementalGroupsPolicy
    seccompProfile appArmorProfile"""
)
CONTAINER_SECURITY = words(
    """runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation
    privileged capabilities
    seccompProfile appArmorProfile procMount"""
)
PROFILE = words("type localhostProfile")
VOLUMES = words(
    "emptyDir configMap secret persistentVolumeClaim projected downwardAPI ephemeral hostPath"
)
PROJECTED = words("configMap secret downwardAPI")
VARIABLE = words("name value valueFrom")
VALUE_FROM = words("configMapKeyRef secretKeyRef fieldRef resourceFieldRef")
ENV_FROM = words("prefix configMapRef secretRef")
# any key may stand below these
FREE = words("nodeSelector labels annotations env command args")
# Privileged field names: refused in any place and case, even where a server would ignore them.
POWER = words(
    """allowprivilegeescalation apparmorprofile capabilities cephfs csi ephemeralcontainers
    finalizers flexvolume
    glusterfs hostipc hostnetwork hostpath hostpid hostport hostusers iscsi nfs nodename
    ownerreferences privileged
    procmount rbd runtimeclassname schedulername seccompprofile selinuxoptions
    serviceaccounttoken sysctls
    volumedevices windowsoptions"""
)
HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")


@dataclass(frozen=True, slots=True)
class PodPolicy:
    """What the worker's configuration allows in addition. Names of objects in the cluster may be
    patterns."""

    privileged: bool = False
    privilege_escalation: bool = False
    capabilities: frozenset[str] = frozenset()
    host_namespaces: bool = False
    host_paths: tuple[str, ...] = ()  # each allows itself and everything below it
    service_accounts: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    config_maps: frozenset[str] = frozenset()
    persistent_volume_claims: frozenset[str] = frozenset()
    # further fields of the pod spec, e.g. runtimeClassName
    fields: frozenset[str] = field(default=frozenset())


def is_named(name: str, allowed: frozenset[str]) -> bool:
    """Whether one of these names or patterns allows an object of this name."""
    return any(fnmatchcase(name, pattern) for pattern in allowed)


def find_unknown(value: Mapping[str, Any], known: frozenset[str], path: str) -> Found:
    for key in value:
        if key not in known:
            yield f"{path}.{key} is not allowed".lstrip(".")


def find_power(value: Any, path: str, key: str) -> Found:
    if key in FREE:
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            if str(name).lower() in POWER:
                yield f"{path}.{name} is not allowed"
            else:
                yield from find_power(item, f"{path}.{name}", str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find_power(item, f"{path}[{index}]", key)


def find_probe_hosts(value: Any, path: str) -> Found:
    """A probe with its own host makes the node send requests elsewhere than to the pod."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "host" and item is not None:
                yield f"{path}.host is not allowed"
            elif key != "httpHeaders":
                yield from find_probe_hosts(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from find_probe_hosts(item, path)


def as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
