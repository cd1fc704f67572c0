"""What the author of a workspace may set in a pod. Checks the merged pod, not the override.

An allow list: fields not listed here are refused with their path, including those of later
Kubernetes versions. The operator extends the list in the worker's configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

INIT_CONTAINER = "workspace-init"
STEP_CONTAINER = "step"
OUR_PREFIX = "stroem-"  # names of the secrets that the worker creates for attempts
OUR_LABELS = "stroem.io/"

Found = Iterator[str]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_METADATA = frozenset({"name", "namespace", "labels", "annotations"})
_SPEC = _words(
    """activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig
    dnsPolicy enableServiceLinks
    hostAliases hostname hostUsers imagePullSecrets initContainers nodeSelector
    priorityClassName resources
    restartPolicy securityContext serviceAccount serviceAccountName setHostnameAsFQDN
    shareProcessNamespace subdomain
    terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes hostNetwork
    hostPID hostIPC"""
)
_CONTAINER = _words(
    """name image imagePullPolicy command args env envFrom workingDir resources resizePolicy
    volumeMounts ports
    livenessProbe readinessProbe startupProbe lifecycle securityContext restartPolicy
    terminationMessagePath
    terminationMessagePolicy stdin stdinOnce tty"""
)
_POD_SECURITY = _words(
    """runAsUser runAsGroup runAsNonRoot fsGroup fsGroupChangePolicy supplementalGroups
    supplementalGroupsPolicy
    seccompProfile appArmorProfile"""
)
_CONTAINER_SECURITY = _words(
    """runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation
    privileged capabilities
    seccompProfile appArmorProfile procMount"""
)
_PROFILE = _words("type localhostProfile")
_VOLUMES = _words(
    "emptyDir configMap secret persistentVolumeClaim projected downwardAPI ephemeral hostPath"
)
_PROJECTED = _words("configMap secret downwardAPI")
# any key may stand below these
_FREE = _words("nodeSelector labels annotations env command args")
# Privileged field names: refused in any place and case, even where a server would ignore them.
_POWER = _words(
    """allowprivilegeescalation apparmorprofile capabilities cephfs csi ephemeralcontainers
    finalizers flexvolume
    glusterfs hostipc hostnetwork hostpath hostpid hostport hostusers iscsi nfs nodename
    ownerreferences privileged
    procmount rbd runtimeclassname schedulername seccompprofile selinuxoptions
    serviceaccounttoken sysctls
    volumedevices windowsoptions"""
)
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")


@dataclass(frozen=True, slots=True)
class PodPolicy:
    """What the worker's configuration allows in addition. None means "any"."""

    privileged: bool = False
    privilege_escalation: bool = False
    capabilities: frozenset[str] = frozenset()
    host_namespaces: bool = False
    host_paths: tuple[str, ...] = ()  # each allows itself and everything below it
    service_accounts: frozenset[str] | None = None
    secrets: frozenset[str] | None = None
    # further fields of the pod spec, e.g. runtimeClassName
    fields: frozenset[str] = field(default=frozenset())


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
    return list(_Judge(policy, generated).judge(pod))


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


class _Judge:
    def __init__(self, policy: PodPolicy, generated: Mapping[str, Any]) -> None:
        self._policy = policy
        self._generated = generated

    def judge(self, pod: Mapping[str, Any]) -> Found:
        yield from _unknown(pod, frozenset({"apiVersion", "kind", "metadata", "spec"}), "")
        for key in ("apiVersion", "kind"):
            if pod.get(key) != self._generated.get(key):
                yield f"{key} may not be changed"
        yield from self._metadata(_object(pod.get("metadata")))
        spec = pod.get("spec")
        if not isinstance(spec, Mapping):
            yield "spec must be an object"
            return
        yield from self._spec(spec)
        yield from self._pod_security(spec.get("securityContext"))
        for group in ("initContainers", "containers"):
            yield from self._containers(spec, group)
        yield from self._volumes(spec.get("volumes"))

    def _metadata(self, metadata: Mapping[str, Any]) -> Found:
        ours = _object(self._generated.get("metadata"))
        yield from _unknown(metadata, _METADATA, "metadata")
        for key in ("name", "namespace"):
            if metadata.get(key) != ours.get(key):
                yield f"metadata.{key} is set by the worker and may not be overridden"
        for kind in ("labels", "annotations"):
            given, own = metadata.get(kind) or {}, _object(ours.get(kind))
            if not isinstance(given, Mapping):
                yield f"metadata.{kind} must be an object"
                continue
            reserved = {
                key for key in {*given, *own} if key in own or str(key).startswith(OUR_LABELS)
            }
            for key in sorted(reserved):
                if given.get(key) != own.get(key):
                    yield f"metadata.{kind}: {key} belongs to the platform"
            if kind == "annotations":
                yield from self._annotations(given)

    def _annotations(self, annotations: Mapping[str, Any]) -> Found:
        for key, value in annotations.items():
            profile = (
                "apparmor.security" in str(key).lower() or "seccomp.security" in str(key).lower()
            )
            if profile and "unconfined" in str(value).lower() and not self._policy.privileged:
                yield f"metadata.annotations: {key} may not be unconfined"

    def _spec(self, spec: Mapping[str, Any]) -> Found:
        yield from _unknown(spec, _SPEC | self._policy.fields, "spec")
        for key in _HOST_NAMESPACES:
            if spec.get(key) not in (None, False) and not self._policy.host_namespaces:
                yield f"spec.{key} is not allowed"
        if spec.get("restartPolicy") != "Never":
            yield "spec.restartPolicy must stay Never"
        if spec.get("hostUsers") not in (None, False):
            yield "spec.hostUsers is not allowed"
        if str(spec.get("priorityClassName") or "").startswith("system-"):
            yield "spec.priorityClassName: the classes of the system are not allowed"
        for key in _SPEC - {"containers", "initContainers", "volumes", "securityContext"}:
            yield from _power_words(spec.get(key), f"spec.{key}", key)
        yield from self._service_account(spec)
        own = _list(_object(self._generated.get("spec")).get("imagePullSecrets"))
        for index, entry in enumerate(_list(spec.get("imagePullSecrets"))):
            if entry in own:
                continue
            yield from self._secret(_object(entry).get("name"), f"spec.imagePullSecrets[{index}]")

    def _service_account(self, spec: Mapping[str, Any]) -> Found:
        allowed = self._policy.service_accounts
        for key in ("serviceAccountName", "serviceAccount"):
            name = spec.get(key)
            if name is None:
                continue
            if not isinstance(name, str):
                yield f"spec.{key} must be a string"
            elif allowed is not None and name not in allowed:
                names = ", ".join(sorted(allowed)) or "none"
                yield f"spec.{key}: {name!r} is not allowed here (allowed: {names})"
        if spec.get("automountServiceAccountToken") not in (None, False) and not spec.get(
            "serviceAccountName"
        ):
            yield "spec.automountServiceAccountToken needs a serviceAccountName"

    def _pod_security(self, context: Any) -> Found:
        if context is None:
            return
        if not isinstance(context, Mapping):
            yield "spec.securityContext must be an object"
            return
        yield from _unknown(context, _POD_SECURITY, "spec.securityContext")
        yield from self._profiles(context, "spec.securityContext")

    def _profiles(self, context: Mapping[str, Any], path: str) -> Found:
        for key in ("seccompProfile", "appArmorProfile"):
            profile = context.get(key)
            if profile is None:
                continue
            yield from _unknown(_object(profile), _PROFILE, f"{path}.{key}")
            kind = _object(profile).get("type")
            if kind not in ("RuntimeDefault", "Localhost") and not self._policy.privileged:
                yield f"{path}.{key}.type must be RuntimeDefault or Localhost"

    def _containers(self, spec: Mapping[str, Any], group: str) -> Found:
        containers = spec.get(group)
        if containers is None and group == "initContainers":
            containers = []
        if not isinstance(containers, list):
            yield f"spec.{group} must be a list"
            return
        names = []
        for index, container in enumerate(containers):
            if not isinstance(container, Mapping) or not isinstance(container.get("name"), str):
                yield f"spec.{group}[{index}] must be an object with a name"
                continue
            names.append(container["name"])
            yield from self._container(container, f"spec.{group}[{container['name']}]")
        if len(set(names)) != len(names):
            yield f"spec.{group} names a container twice"
        if group == "containers" and STEP_CONTAINER not in names:
            yield f"spec.containers must keep the container named {STEP_CONTAINER!r}"
        if group == "initContainers":
            yield from self._our_init_container(containers)

    def _our_init_container(self, containers: list[Any]) -> Found:
        """The container that holds the download token: the author may only set its resources."""

        def pick(items: Any) -> Any:
            found = [
                _object(item)
                for item in _list(items)
                if _object(item).get("name") == INIT_CONTAINER
            ]
            return [
                {key: value for key, value in item.items() if key != "resources"} for item in found
            ]

        if pick(containers) != pick(_object(self._generated.get("spec")).get("initContainers")):
            yield (
                f"spec.initContainers[{INIT_CONTAINER}] belongs to the platform; only its resources"
                " may be set"
            )

    def _container(self, container: Mapping[str, Any], path: str) -> Found:
        yield from _unknown(container, _CONTAINER, path)
        context = container.get("securityContext")
        if context is not None and not isinstance(context, Mapping):
            yield f"{path}.securityContext must be an object"
        else:
            yield from self._container_security(_object(context), f"{path}.securityContext")
        for key in _CONTAINER - {"securityContext", "ports"}:
            yield from _power_words(container.get(key), f"{path}.{key}", key)
        ports = container.get("ports", [])
        if not isinstance(ports, list) or not all(isinstance(port, Mapping) for port in ports):
            yield f"{path}.ports must be a list of objects"
        for index, port in enumerate(_list(ports)):
            rest = {key: value for key, value in _object(port).items() if key != "hostPort"}
            yield from _power_words(rest, f"{path}.ports[{index}]", "ports")
            if _object(port).get("hostPort") not in (None, 0) and not self._policy.host_namespaces:
                yield f"{path}.ports[{index}].hostPort is not allowed"
        for key in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
            yield from _probe_hosts(container.get(key), f"{path}.{key}")
        yield from self._environment(container, path)

    def _container_security(self, context: Mapping[str, Any], path: str) -> Found:
        yield from _unknown(context, _CONTAINER_SECURITY, path)
        if context.get("privileged") not in (None, False) and not self._policy.privileged:
            yield f"{path}.privileged is not allowed"
        escalation = self._policy.privilege_escalation or self._policy.privileged
        if context.get("allowPrivilegeEscalation") is not False and not escalation:
            yield f"{path}.allowPrivilegeEscalation is not allowed"
        if context.get("procMount") not in (None, "Default"):
            yield f"{path}.procMount is not allowed"
        yield from self._profiles(context, path)
        capabilities = context.get("capabilities")
        if capabilities is None:
            return
        yield from _unknown(
            _object(capabilities), frozenset({"add", "drop"}), f"{path}.capabilities"
        )
        if not isinstance(capabilities, Mapping):
            yield f"{path}.capabilities must be an object"
        added = _object(capabilities).get("add")
        for name in added if isinstance(added, list) else [added]:
            if name is not None and not (
                isinstance(name, str) and name in self._policy.capabilities
            ):
                yield f"{path}.capabilities.add: {name} is not allowed"

    def _environment(self, container: Mapping[str, Any], path: str) -> Found:
        for key in ("env", "envFrom"):
            entries = container.get(key, [])
            if not isinstance(entries, list) or not all(
                isinstance(entry, Mapping) for entry in entries
            ):
                yield f"{path}.{key} must be a list of objects"
        for entry in _list(container.get("env")):
            if not isinstance(_object(entry).get("name"), str):
                yield f"{path}.env must name each variable"
            source = _object(_object(entry).get("valueFrom"))
            if "secretKeyRef" in source:
                yield from self._secret(_object(source["secretKeyRef"]).get("name"), f"{path}.env")
        for entry in _list(container.get("envFrom")):
            if "secretRef" in _object(entry):
                yield from self._secret(_object(entry["secretRef"]).get("name"), f"{path}.envFrom")

    def _secret(self, name: Any, path: str) -> Found:
        if not isinstance(name, str):
            yield f"{path}: a secret is referred to by its name"
        elif name.startswith(OUR_PREFIX):
            yield f"{path}: the secret {name!r} belongs to the platform"
        elif self._policy.secrets is not None and name not in self._policy.secrets:
            yield f"{path}: the secret {name!r} is not allowed here"

    def _volumes(self, volumes: Any) -> Found:
        if volumes is None:
            return
        if not isinstance(volumes, list):
            yield "spec.volumes must be a list"
            return
        for index, volume in enumerate(volumes):
            if not isinstance(volume, Mapping) or not isinstance(volume.get("name"), str):
                yield f"spec.volumes[{index}] must be an object with a name"
                continue
            path = f"spec.volumes[{volume['name']}]"
            yield from _unknown(volume, _VOLUMES | {"name"}, path)
            for key in _VOLUMES:
                yield from _power_words(volume.get(key), f"{path}.{key}", key)
            if volume.get("hostPath") is not None:
                yield from self._host_path(volume["hostPath"], path)
            if volume.get("secret") is not None:
                yield from self._secret(_object(volume["secret"]).get("secretName"), path)
            if volume.get("projected") is not None:
                yield from self._projected(_object(volume["projected"]), path)

    def _host_path(self, source: Any, path: str) -> Found:
        wanted = _object(source).get("path")
        plain = isinstance(wanted, str) and ".." not in wanted.split("/") and "//" not in wanted
        for allowed in self._policy.host_paths:
            base = allowed.rstrip("/")
            if plain and (wanted == base or str(wanted).startswith(base + "/")):
                return
        yield f"{path}: hostPath volumes are not allowed"

    def _projected(self, projected: Mapping[str, Any], path: str) -> Found:
        for source in _list(projected.get("sources")):
            yield from _unknown(_object(source), _PROJECTED, f"{path}.projected")
            if _object(source).get("secret") is not None:
                yield from self._secret(_object(source["secret"]).get("name"), f"{path}.projected")


def _unknown(value: Mapping[str, Any], known: frozenset[str], path: str) -> Found:
    for key in value:
        if key not in known:
            yield f"{path}.{key} is not allowed".lstrip(".")


def _power_words(value: Any, path: str, key: str) -> Found:
    if key in _FREE:
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            if str(name).lower() in _POWER:
                yield f"{path}.{name} is not allowed"
            else:
                yield from _power_words(item, f"{path}.{name}", str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _power_words(item, f"{path}[{index}]", key)


def _probe_hosts(value: Any, path: str) -> Found:
    """A probe with its own host makes the node send requests elsewhere than to the pod."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "host" and item is not None:
                yield f"{path}.host is not allowed"
            elif key != "httpHeaders":
                yield from _probe_hosts(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _probe_hosts(item, path)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
