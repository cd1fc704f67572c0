"""Judges a merged pod: one sentence per thing that its author may not set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runners.pod.allowed import (
    CONTAINER,
    CONTAINER_SECURITY,
    ENV_FROM,
    FILES_CONTAINER,
    HOST_NAMESPACES,
    INIT_CONTAINER,
    METADATA,
    OUR_LABELS,
    OUR_PREFIX,
    POD_SECURITY,
    PROFILE,
    PROJECTED,
    SPEC,
    STEP_CONTAINER,
    VALUE_FROM,
    VARIABLE,
    VOLUMES,
    Found,
    PodPolicy,
    as_list,
    as_object,
    find_power,
    find_probe_hosts,
    find_unknown,
    is_named,
)


class Judge:
    def __init__(self, policy: PodPolicy, generated: Mapping[str, Any]) -> None:
        self._policy = policy
        self._generated = generated

    def judge(self, pod: Mapping[str, Any]) -> Found:
        yield from find_unknown(pod, frozenset({"apiVersion", "kind", "metadata", "spec"}), "")
        for key in ("apiVersion", "kind"):
            if pod.get(key) != self._generated.get(key):
                yield f"{key} may not be changed"
        yield from self._metadata(as_object(pod.get("metadata")))
        spec = pod.get("spec")
        if not isinstance(spec, Mapping):
            yield "spec must be an object"
            return
        yield from self._spec(spec)
        for group in ("initContainers", "containers"):
            yield from self._containers(spec, group)
        yield from self._volumes(spec.get("volumes"))

    def _metadata(self, metadata: Mapping[str, Any]) -> Found:
        ours = as_object(self._generated.get("metadata"))
        yield from find_unknown(metadata, METADATA, "metadata")
        for key in ("name", "namespace"):
            if metadata.get(key) != ours.get(key):
                yield f"metadata.{key} is set by the worker and may not be overridden"
        for kind in ("labels", "annotations"):
            given, own = metadata.get(kind) or {}, as_object(ours.get(kind))
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
        own = as_object(self._generated.get("spec"))
        added = _without(spec, own)
        yield from self._fixed(spec, own)
        known = SPEC | self._policy.fields | own.keys()
        yield from find_unknown(added, known, "spec")
        for key in HOST_NAMESPACES:
            if added.get(key) not in (None, False) and not self._policy.host_namespaces:
                yield f"spec.{key} is not allowed"
        if spec.get("restartPolicy") != "Never":
            yield "spec.restartPolicy must stay Never"
        if added.get("hostUsers") not in (None, False):
            yield "spec.hostUsers is not allowed"
        if str(added.get("priorityClassName") or "").startswith("system-"):
            yield "spec.priorityClassName: the classes of the system are not allowed"
        for key in SPEC - {"containers", "initContainers", "volumes", "securityContext"}:
            yield from find_power(added.get(key), f"spec.{key}", key)
        yield from self._service_account(added)
        yield from self._pod_security(added.get("securityContext"))
        secrets = as_list(own.get("imagePullSecrets"))
        for index, entry in enumerate(as_list(spec.get("imagePullSecrets"))):
            if entry in secrets:
                continue
            yield from self._secret(as_object(entry).get("name"), f"spec.imagePullSecrets[{index}]")

    def _fixed(self, spec: Mapping[str, Any], own: Mapping[str, Any]) -> Found:
        """What only the operator may set, stays as the operator set it."""
        for key in sorted(own.keys() - SPEC - self._policy.fields):
            if spec.get(key) != own[key]:
                yield f"spec.{key} is set by the operator and may not be changed"

    def _service_account(self, spec: Mapping[str, Any]) -> Found:
        allowed = self._policy.service_accounts
        for key in ("serviceAccountName", "serviceAccount"):
            name = spec.get(key)
            if name is None:
                continue
            if not isinstance(name, str):
                yield f"spec.{key} must be a string"
            elif not is_named(name, allowed):
                yield f"spec.{key}: {_not_named('service account', name, 'service_accounts')}"
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
        yield from find_unknown(context, POD_SECURITY, "spec.securityContext")
        yield from self._profiles(context, "spec.securityContext")

    def _profiles(self, context: Mapping[str, Any], path: str) -> Found:
        for key in ("seccompProfile", "appArmorProfile"):
            profile = context.get(key)
            if profile is None:
                continue
            yield from find_unknown(as_object(profile), PROFILE, f"{path}.{key}")
            kind = as_object(profile).get("type")
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
            own = _find(as_object(self._generated.get("spec")).get(group), container["name"])
            yield from self._container(container, own, f"spec.{group}[{container['name']}]")
        if len(set(names)) != len(names):
            yield f"spec.{group} names a container twice"
        if group == "containers" and STEP_CONTAINER not in names:
            yield f"spec.containers must keep the container named {STEP_CONTAINER!r}"
        name = INIT_CONTAINER if group == "initContainers" else FILES_CONTAINER
        yield from self._our_container(containers, group, name)

    def _our_container(self, containers: list[Any], group: str, name: str) -> Found:
        """One that holds the token for files: the author may only set its resources."""

        def pick(items: Any) -> Any:
            found = [
                as_object(item) for item in as_list(items) if as_object(item).get("name") == name
            ]
            return [
                {key: value for key, value in item.items() if key != "resources"} for item in found
            ]

        if pick(containers) != pick(as_object(self._generated.get("spec")).get(group)):
            yield f"spec.{group}[{name}] belongs to the platform; only its resources may be set"

    def _container(self, whole: Mapping[str, Any], own: Mapping[str, Any], path: str) -> Found:
        container = _without(whole, own)
        yield from find_unknown(container, CONTAINER | own.keys(), path)
        context = whole.get("securityContext")
        if own and context == own.get("securityContext"):
            pass
        elif context is not None and not isinstance(context, Mapping):
            yield f"{path}.securityContext must be an object"
        else:
            yield from self._container_security(as_object(context), f"{path}.securityContext")
        for key in CONTAINER - {"securityContext", "ports"}:
            yield from find_power(container.get(key), f"{path}.{key}", key)
        ports = container.get("ports", [])
        if not isinstance(ports, list) or not all(isinstance(port, Mapping) for port in ports):
            yield f"{path}.ports must be a list of objects"
        for index, port in enumerate(as_list(ports)):
            rest = {key: value for key, value in as_object(port).items() if key != "hostPort"}
            yield from find_power(rest, f"{path}.ports[{index}]", "ports")
            if (
                as_object(port).get("hostPort") not in (None, 0)
                and not self._policy.host_namespaces
            ):
                yield f"{path}.ports[{index}].hostPort is not allowed"
        for key in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
            yield from find_probe_hosts(container.get(key), f"{path}.{key}")
        yield from self._environment(container, own, path)

    def _container_security(self, context: Mapping[str, Any], path: str) -> Found:
        yield from find_unknown(context, CONTAINER_SECURITY, path)
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
        yield from find_unknown(
            as_object(capabilities), frozenset({"add", "drop"}), f"{path}.capabilities"
        )
        if not isinstance(as_object(capabilities).get("drop", []), list):
            yield f"{path}.capabilities.drop must be a list"
        if not isinstance(capabilities, Mapping):
            yield f"{path}.capabilities must be an object"
        added = as_object(capabilities).get("add")
        for name in added if isinstance(added, list) else [added]:
            if name is not None and not (
                isinstance(name, str) and name in self._policy.capabilities
            ):
                yield f"{path}.capabilities.add: {name} is not allowed"

    def _environment(
        self, container: Mapping[str, Any], own: Mapping[str, Any], path: str
    ) -> Found:
        for key in ("env", "envFrom"):
            entries = container.get(key, [])
            if not isinstance(entries, list) or not all(
                isinstance(entry, Mapping) for entry in entries
            ):
                yield f"{path}.{key} must be a list of objects"
        for entry in _additions(container, own, "env"):
            if not isinstance(entry.get("name"), str):
                yield f"{path}.env must name each variable"
            yield from find_unknown(entry, VARIABLE, f"{path}.env")
            source = as_object(entry.get("valueFrom"))
            yield from find_unknown(source, VALUE_FROM, f"{path}.env.valueFrom")
            yield from self._references(source, "KeyRef", f"{path}.env")
        for entry in _additions(container, own, "envFrom"):
            yield from find_unknown(entry, ENV_FROM, f"{path}.envFrom")
            yield from self._references(entry, "Ref", f"{path}.envFrom")

    def _references(self, source: Mapping[str, Any], suffix: str, path: str) -> Found:
        """The secret and the config map that `source` refers to."""
        if f"secret{suffix}" in source:
            yield from self._secret(as_object(source[f"secret{suffix}"]).get("name"), path)
        if f"configMap{suffix}" in source:
            yield from self._config_map(as_object(source[f"configMap{suffix}"]).get("name"), path)

    def _secret(self, name: Any, path: str) -> Found:
        if isinstance(name, str) and name.startswith(OUR_PREFIX):
            yield f"{path}: the secret {name!r} belongs to the platform"
        else:
            yield from _check_name(name, self._policy.secrets, "secret", "secrets", path)

    def _config_map(self, name: Any, path: str) -> Found:
        yield from _check_name(name, self._policy.config_maps, "config map", "config_maps", path)

    def _claim(self, name: Any, path: str) -> Found:
        allowed = self._policy.persistent_volume_claims
        yield from _check_name(
            name, allowed, "persistent volume claim", "persistent_volume_claims", path
        )

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
            if volume == _find(
                as_object(self._generated.get("spec")).get("volumes"), volume["name"]
            ):
                continue
            yield from find_unknown(volume, VOLUMES | {"name"}, path)
            for key in VOLUMES:
                yield from find_power(volume.get(key), f"{path}.{key}", key)
            if volume.get("hostPath") is not None:
                yield from self._host_path(volume["hostPath"], path)
            if volume.get("secret") is not None:
                yield from self._secret(as_object(volume["secret"]).get("secretName"), path)
            if volume.get("configMap") is not None:
                yield from self._config_map(as_object(volume["configMap"]).get("name"), path)
            if volume.get("persistentVolumeClaim") is not None:
                claim = as_object(volume["persistentVolumeClaim"])
                yield from self._claim(claim.get("claimName"), path)
            yield from _find_copies(volume.get("ephemeral"), path)
            if volume.get("projected") is not None:
                yield from self._projected(as_object(volume["projected"]), path)

    def _host_path(self, source: Any, path: str) -> Found:
        wanted = as_object(source).get("path")
        plain = isinstance(wanted, str) and ".." not in wanted.split("/") and "//" not in wanted
        for allowed in self._policy.host_paths:
            base = allowed.rstrip("/")
            if plain and (wanted == base or str(wanted).startswith(base + "/")):
                return
        yield f"{path}: hostPath volumes are not allowed"

    def _projected(self, projected: Mapping[str, Any], path: str) -> Found:
        for source in as_list(projected.get("sources")):
            yield from find_unknown(as_object(source), PROJECTED, f"{path}.projected")
            if as_object(source).get("secret") is not None:
                yield from self._secret(
                    as_object(source["secret"]).get("name"), f"{path}.projected"
                )
            if as_object(source).get("configMap") is not None:
                yield from self._config_map(
                    as_object(source["configMap"]).get("name"), f"{path}.projected"
                )


def _check_name(name: Any, allowed: frozenset[str], what: str, key: str, path: str) -> Found:
    if not isinstance(name, str):
        yield f"{path}: a {what} is referred to by its name"
    elif not is_named(name, allowed):
        yield f"{path}: {_not_named(what, name, key)}"


def _not_named(what: str, name: str, key: str) -> str:
    return (
        f"the {what} {name!r} is not allowed: the worker's configuration names allowed ones"
        f" (`kubernetes.allow.{key}`)"
    )


def _find_copies(ephemeral: Any, path: str) -> Found:
    """A new volume must not begin as a copy of another one."""
    template = as_object(as_object(ephemeral).get("volumeClaimTemplate"))
    for key in ("dataSource", "dataSourceRef", "volumeName", "selector"):
        if as_object(template.get("spec")).get(key) is not None:
            yield f"{path}.ephemeral.volumeClaimTemplate.spec.{key} is not allowed"


def _additions(
    given: Mapping[str, Any], own: Mapping[str, Any], key: str
) -> list[Mapping[str, Any]]:
    """The entries of a list that are not ours."""
    ours = as_list(own.get(key))
    return [as_object(entry) for entry in as_list(given.get(key)) if entry not in ours]


def _without(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What of `given` is not ours."""
    return {key: value for key, value in given.items() if key not in own or own[key] != value}


def _find(items: Any, name: str) -> Mapping[str, Any]:
    return next((item for item in as_list(items) if as_object(item).get("name") == name), {})
